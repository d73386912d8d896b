"""Whatever the OpenAPI document allows, and much that it does not, is answered as it says."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import long
from tests.faults.harness import SEED, metric, serving, trace
from tests.web.harness import ROOT

HERE = Path(__file__).parent
EXAMPLES = 60
SEEDS = [20260401, secrets.randbits(32)]
COMMAND = [sys.executable, "-m", "schemathesis.cli"]


@long
@pytest.mark.parametrize("seed", SEEDS, ids=["known seed", "new seed"])
def test_schemathesis_finds_nothing(seed: int, tmp_path: Path) -> None:
    hooks = {"SCHEMATHESIS_HOOKS": "tests.faults.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
    with serving(workers=2, time_limit_s=20) as server:
        done = subprocess.run(
            [
                *COMMAND,
                f"--config-file={HERE / 'schemathesis.toml'}",
                "run",
                f"{server.url}/openapi.json",
                "--checks=all",
                f"--max-examples={EXAMPLES}",
                f"--seed={seed}",
                "--continue-on-failure",
                "--suppress-health-check=all",
                "--generation-database=none",
                "--no-color",
            ],
            cwd=tmp_path,
            env={**os.environ, **hooks},
            capture_output=True,
            text=True,
            timeout=1200,
        )
        assert done.returncode == 0, f"seed {seed}\n{done.stdout}\n{done.stderr}"
        assert "11 selected / 11 total" in done.stdout, done.stdout
        assert metric(server, 'gradtrace_problems_total{code="internal"}') == 0
        assert trace(server, SEED)[0] == 200
