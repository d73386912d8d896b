"""The manifests: valid for a cluster, strict, and in step with the service's settings."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.settings import Settings
from tests.conftest import require_program

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDERS = ["base", "overlays/production"]
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
    assert limit_mb >= settings.workers * settings.memory_limit_mb + 1024


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


def test_the_compose_file_runs_it_with_no_rights_and_known_settings() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["gradtrace"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    known = {f"GRADTRACE_{name.upper()}" for name in Settings.model_fields}
    assert set(service["environment"]) <= known
    assert (DEPLOY / service["build"]["context"] / "Dockerfile").exists()
