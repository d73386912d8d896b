"""The file that deploys to a cluster says what Ray and the application understand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from service.settings import Settings
from tests.conftest import long, missing

FOLDER = Path(__file__).parents[2] / "deploy" / "ray"
CHECK = """
import json, sys
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary as call
from ray.serve.schema import ServeDeploySchema
from service.ray import build
(app,) = ServeDeploySchema.model_validate(json.load(sys.stdin)).applications
made = call(build, {name: str(value) for name, value in app.args.items()})
compute = made._bound_deployment.init_args[0]._bound_deployment
scaling = compute._deployment_config.autoscaling_config
print(json.dumps({
    "workers": compute.ray_actor_options["num_cpus"],
    "ingress_replicas": made._bound_deployment.num_replicas,
    "min_replicas": scaling.min_replicas,
    "max_replicas": scaling.max_replicas,
}))
"""


def test_the_deployment_file_makes_the_application_that_it_says() -> None:
    if find_spec("ray") is None:
        missing("the extra gradtrace[ray]")
    deployed = yaml.safe_load((FOLDER / "serve.yaml").read_text())

    done = subprocess.run(
        [sys.executable, "-c", CHECK], input=json.dumps(deployed), capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    app = deployed["applications"][0]
    assert json.loads(done.stdout.splitlines()[-1]).items() >= app["args"].items()
    names = {f"GRADTRACE_{name.upper()}" for name in Settings.model_fields}
    assert set(app["runtime_env"]["env_vars"]) <= names


def test_every_argument_has_a_row_in_the_guide() -> None:
    if find_spec("ray") is None:
        missing("the extra gradtrace[ray]")
    code = "from service.ray.application import Arguments; print(*Arguments.model_fields)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    guide = (FOLDER / "README.md").read_text()

    assert done.returncode == 0, done.stderr
    assert [name for name in done.stdout.split() if f"`{name}`" not in guide] == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GRADTRACE_API_KEYS", "sesame,öpen"),
        pytest.param("GRADTRACE_QUEUE", "many", marks=long),
        pytest.param("GRADTRACE_LOG", "loud", marks=long),
    ],
)
def test_a_variable_that_makes_no_sense_is_named_and_never_its_value(
    variable: str, value: str
) -> None:
    if find_spec("ray") is None:
        missing("the extra gradtrace[ray]")
    code = "from service.ray.application import Arguments, build; build(Arguments())"
    environment = {**os.environ, variable: value}

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )

    assert done.returncode == 1
    assert f"SettingsRefused: {variable}: " in done.stderr
    assert "ValidationError" not in done.stderr
    for part in value.split(","):
        assert part not in done.stderr
