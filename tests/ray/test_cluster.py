"""Gradtrace on a real cluster of two nodes, in a network namespace of its own.

The cluster lives once for all tests here: scenario.py runs its day and reports what happened.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.conftest import missing, require_program

ALONE = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
BOUND_S = 600
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray gives up on a proxy that takes more than 5 s to start, as it may on a busy machine.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "50",
}
Report = dict[str, Any]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    unshare = [require_program("unshare"), *ALONE]
    require_program("ip")
    if find_spec("ray") is None:
        missing("the extra gradtrace[ray]")
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        missing("the right to make a network namespace")
    path = tmp_path_factory.mktemp("ray") / "report.json"
    scenario = shlex.join([sys.executable, "-m", "tests.ray.scenario", str(path)])
    command = f"ip link set lo up && exec {scenario}"
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as short:  # for sockets
        alone = {**RAY, "RAY_TMPDIR": short, "PYTHONWARNINGS": "default"}
        done = subprocess.run(
            [*unshare, "sh", "-c", command],
            env=os.environ | alone,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=BOUND_S,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def test_the_golden_cases_hold(report: Report) -> None:
    assert report["golden"]["code"] == 0, report["golden"]["said"]


def test_a_problem_of_a_replica_reaches_the_client_as_it_is(report: Report) -> None:
    answer = report["problem"]

    assert (answer["status"], answer["type"]) == (422, "application/problem+json")
    assert answer["body"]["code"] == "unknown_op"
    assert answer["body"]["errors"][0]["pointer"] == "/ops/0/op"


def test_work_adds_a_replica_on_the_other_node_and_no_request_fails(report: Report) -> None:
    assert len(report["replicas_before"]) == 1
    assert len({replica["node"] for replica in report["replicas_under_load"]}) == 2
    assert set(report["while_scaling_up"]) == {"200"}


def test_a_stream_is_spread_over_the_replicas_and_answered_in_order(report: Report) -> None:
    stream = report["stream"]

    assert stream["indices"] == list(range(60))
    assert stream["traces"] == 60
    assert len(stream["answered"]) == 2
    assert all(stream["answered"])


def test_a_replica_killed_under_load_costs_no_client_anything(report: Report) -> None:
    kill = report["kill"]

    assert kill["outcomes"] == {"200": 500}
    assert kill["retries"] >= 1
    assert kill["victim"] not in kill["pids_after"]
    assert kill["pids_after"]


def test_more_than_the_queue_takes_is_refused_with_429(report: Report) -> None:
    overload = report["overload"]

    assert set(overload["outcomes"]) == {"200", "429"}
    assert overload["refused"]["type"] == "application/problem+json"
    assert overload["refused"]["body"]["code"] == "overloaded"
    assert int(overload["refused"]["retry_after"]) >= 1


def test_a_graph_without_end_is_stopped_and_the_next_one_is_answered(report: Report) -> None:
    assert report["time_limit"]["status"] == 504
    assert report["time_limit"]["body"]["code"] == "time_limit"
    assert report["after_time_limit"] == 200


def test_a_client_that_goes_away_takes_its_computation_with_it(report: Report) -> None:
    assert report["abandoned"] == 1


def test_rest_removes_a_replica(report: Report) -> None:
    assert len(report["replicas_at_rest"]) == 1
    assert report["at_rest"] == 200
