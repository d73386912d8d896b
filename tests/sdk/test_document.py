"""The OpenAPI document passes the linters of those who write such documents for a living."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.conftest import missing
from tests.sdk.generate import DOCUMENT, OPENAPI, PACKAGE, ROOT

PROGRAMS = PACKAGE["typescript"] / "node_modules" / ".bin"
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


@pytest.mark.parametrize(
    "command",
    [
        ["spectral", "lint", "--fail-severity=hint", f"--ruleset={OPENAPI / 'spectral.yaml'}"],
        ["redocly", "lint", f"--config={OPENAPI / 'redocly.yaml'}"],
    ],
    ids=["spectral", "redocly"],
)
def test_a_linter_finds_nothing(command: list[str]) -> None:
    program = PROGRAMS / command[0]
    if not program.exists():
        missing(f"{command[0]}, which `make sdk` installs,")
    done = subprocess.run(
        [program, *command[1:], DOCUMENT],
        cwd=ROOT,
        env=os.environ | QUIET,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
