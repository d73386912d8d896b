"""The manifests: valid for a cluster, strict, and in step with the service's settings."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service import __version__
from service.settings import Settings
from tests.conftest import require_program

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDERS = ["base", "overlays/production"]
IDLE_MB = 200
"""The web process, the fork server and its standby: PyTorch is in memory once."""
WORKER_MB = 70
"""What each worker has beside its request, the spare too: its own pages, kept answers (32 MiB)."""
ANSWER_MB = 310
"""The largest answer seen: 17,000,000 float64 as JSON, for which 1 GiB is just enough."""
STOP_S = 5
"""Seconds that the workers may take to go once the drain is over."""


def resources(folder: str) -> dict[str, dict[str, Any]]:
    kubectl = require_program("kubectl")
    built = subprocess.run(
        [kubectl, "kustomize", str(DEPLOY / "kubernetes" / folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return {resource["kind"]: resource for resource in yaml.safe_load_all(built.stdout)}


def most_mb(settings: Settings, tmp_mb: int) -> float:
    """Return what the container takes where everything that is limited is at its limit."""
    bodies = (settings.queue + settings.workers + 1) * settings.max_body_mb
    workers = settings.workers * settings.memory_limit_mb + (settings.workers + 1) * WORKER_MB
    return IDLE_MB + tmp_mb + bodies + workers + settings.workers * ANSWER_MB


def pod(folder: str) -> dict[str, Any]:
    spec: dict[str, Any] = resources(folder)["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_manifest_is_valid_without_an_unknown_field(folder: str) -> None:
    found = resources(folder)
    assert set(found) == {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
    }
    for resource in found.values():
        plain = json.loads(json.dumps(resource))
        kubernetes_validate.validate(plain, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_field_that_does_not_exist_would_be_found(folder: str) -> None:
    wrong = resources(folder)["Deployment"]
    wrong["spec"]["template"]["spec"]["nonsense"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_settings_are_settings_of_the_service(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = resources(folder)["ConfigMap"]["data"]
    known = {f"GRADTRACE_{name.upper()}" for name in Settings.model_fields}
    assert set(data) <= known
    for name, value in data.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    spec = pod(folder)
    stop = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] >= stop + settings.drain_s + STOP_S
    limit_mb = int(spec["containers"][0]["resources"]["limits"]["memory"].removesuffix("Gi")) * 1024
    tmp_mb = int(spec["volumes"][0]["emptyDir"]["sizeLimit"].removesuffix("Mi"))
    assert limit_mb >= most_mb(settings, tmp_mb)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_pod_runs_with_no_rights(folder: str) -> None:
    spec = pod(folder)
    container = spec["containers"][0]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        path = "/livez" if probe == "livenessProbe" else "/readyz"
        assert container[probe]["httpGet"]["path"] == path
    assert container["readinessProbe"]["timeoutSeconds"] > 1, "one slow answer is no failure"
    policy = resources(folder)["NetworkPolicy"]["spec"]
    assert "Egress" in policy["policyTypes"]
    assert not policy.get("egress")


@pytest.mark.parametrize("folder", FOLDERS)
def test_selectors_find_the_pods(folder: str) -> None:
    found = resources(folder)
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    for selector in (
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(
            spread["labelSelector"]["matchLabels"]
            for spread in pod(folder)["topologySpreadConstraints"]
        ),
    ):
        assert selector
        assert selector.items() <= labels


def test_the_compose_file_runs_it_with_no_rights_and_known_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["gradtrace"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    known = {f"GRADTRACE_{name.upper()}" for name in Settings.model_fields}
    assert set(service["environment"]) <= known
    for name, value in service["environment"].items():
        if name != "GRADTRACE_API_KEYS":
            monkeypatch.setenv(name, str(value))
    settings = Settings()
    (tmp,) = service["tmpfs"]
    tmp_mb = int(tmp.partition("size=")[2].removesuffix("m"))
    assert int(service["mem_limit"].removesuffix("g")) * 1024 >= most_mb(settings, tmp_mb)
    assert int(service["stop_grace_period"].removesuffix("s")) >= settings.drain_s + STOP_S
    assert (DEPLOY / service["build"]["context"] / "Dockerfile").exists()


def test_ports_keys_and_tags_are_those_of_the_service() -> None:
    for folder in FOLDERS:
        found = resources(folder)
        (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
        (port,) = container["ports"]
        assert port["containerPort"] == Settings.model_fields["port"].default
        assert found["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
        assert found["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] == port["name"]
        # A Service of this name would else be the variable GRADTRACE_PORT=tcp://...
        assert pod(folder)["enableServiceLinks"] is False
    assert container["image"].endswith(f":{__version__}")
    secret = (DEPLOY / "kubernetes" / "overlays" / "production" / "kustomization.yaml").read_text()
    references = [each["secretRef"]["name"] for each in container["envFrom"] if "secretRef" in each]
    assert [f"secret generic {name} " in secret for name in references] == [True]
