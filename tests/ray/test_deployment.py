"""The file that deploys to a cluster says what Ray and the application understand."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import yaml

from service.settings import Settings
from tests.conftest import missing

FOLDER = Path(__file__).parents[2] / "deploy" / "ray"
CHECK = """
import json, sys
from ray.serve.schema import ServeDeploySchema
from service.ray.application import Arguments
(app,) = ServeDeploySchema.model_validate(json.load(sys.stdin)).applications
print(Arguments.model_validate(app.args).model_dump_json())
"""


def test_the_deployment_file_is_valid_and_names_settings_that_there_are() -> None:
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
