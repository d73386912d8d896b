"""Graphs that hang, crash or eat memory: each its right answer, and nobody else is touched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import long
from tests.faults.harness import NO_END, SEED, Crowd, metric, serving, trace, until_metric
from tests.web.harness import Served

LIMIT_S = 4
MEMORY_MB = 256


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(workers=2, time_limit_s=LIMIT_S, memory_limit_mb=MEMORY_MB) as running:
        yield running


@pytest.fixture(scope="module")
def patient_server() -> Iterator[Served]:
    """A server whose time limit no graph here reaches, however busy the machine is."""
    with serving(workers=2, time_limit_s=600, memory_limit_mb=MEMORY_MB) as running:
        yield running


def leaf(name: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"id": name, "value": value, **more}


def one(op: str, leaves: list[dict[str, Any]], **attrs: Any) -> dict[str, Any]:
    """Return a graph of one op on all of ``leaves``."""
    inputs = [each["id"] for each in leaves]
    return {
        "leaves": leaves,
        "ops": [{"id": "out", "op": op, "inputs": inputs, "attrs": attrs}],
        "backward": [],
    }


MIN = -(2**63)
BITS_64 = {"dtype": "int64"}
CRASHES: dict[str, dict[str, Any]] = {
    "INT_MIN / -1": one("div", [leaf("a", [MIN], **BITS_64)], other=-1, rounding_mode="trunc"),
    "lcm of INT64_MIN": one("lcm", [leaf("a", [MIN], **BITS_64), leaf("b", [3], **BITS_64)]),
    "pdist without rows": one(
        "nn.functional.pdist", [leaf("a", [], shape=[0, 3], requires_grad=True)]
    )
    | {"backward": [{"node": "out", "gradient": []}]},
    "grid_sample of NaN": one(
        "nn.functional.grid_sample",
        [leaf("a", [[[[1.0]]]]), leaf("b", [[[["NaN", "NaN"]]]])],
        padding_mode="border",
    ),
    "ctc_loss of label -1": one(
        "nn.functional.ctc_loss",
        [
            leaf("a", [[[0.0, 0.0]], [[0.0, 0.0]]]),
            leaf("b", [[-1]], **BITS_64),
            leaf("c", [2], **BITS_64),
            leaf("d", [1], **BITS_64),
        ],
    ),
    "svd_lowrank for ever": one("svd_lowrank", [leaf("a", [[1.0]])], niter=1_000_000),
    "matrix_power of -2**63": one("matrix_power", [leaf("a", [[1.0]])], n=MIN),
    "combinations of 1,000,000": one("combinations", [leaf("a", [1.0, 2.0])], r=1_000_000),
    "chunk of nothing": one("chunk", [leaf("a", [], shape=[0])], chunks=1_000_000),
}


@pytest.mark.parametrize("name", CRASHES)
def test_what_is_known_to_bring_pytorch_down_is_refused(patient_server: Served, name: str) -> None:
    server = patient_server
    with Crowd(server, clients=1) as bystander:
        status, problem = trace(server, CRASHES[name])
    assert (status, problem["code"]) == (422, "bad_arguments"), problem
    assert set(bystander.answers) == {"200"}
    assert metric(server, "gradtrace_crashes_total") == 0


def test_an_svd_past_the_deadline_is_killed_and_the_next_request_answered_at_once(
    server: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    with Crowd(server, clients=1) as bystander:
        status, problem = trace(server, NO_END)
        killed = time.perf_counter()
        assert trace(server, SEED)[0] == 200
        waited = time.perf_counter() - killed
    with capsys.disabled():
        print(f"\nfrom the answer time_limit to the next answer: {waited * 1e3:.0f} ms")
    assert (status, problem["code"]) == (504, "time_limit")
    assert "GRADTRACE_TIME_LIMIT_S" in problem["detail"]
    assert metric(server, 'gradtrace_kills_total{reason="time_limit"}') == 1
    assert set(bystander.answers) == {"200"}


ONE_ALLOCATION = one("outer", [], self={"ref": "a"}, vec2={"ref": "a"})
ONE_ALLOCATION["ops"].insert(
    0, {"id": "a", "op": "ones", "attrs": {"size": [8_000], "dtype": "float64"}}
)
MANY_STEPS: dict[str, Any] = {
    "ops": [{"id": "h0", "op": "ones", "attrs": {"size": [500_000]}}]
    + [{"id": f"h{i}", "op": "neg", "inputs": [f"h{i - 1}"]} for i in range(1, 201)],
    "backward": [],
}


LONG_TEXT: dict[str, Any] = {
    "ops": [{"id": "r", "op": "rand", "attrs": {"size": [8_000_000], "dtype": "float64"}}],
    "backward": [],
    "include": ["value"],
}
"""A tensor that fits, and its JSON, which does not."""


@pytest.mark.parametrize(
    "graph",
    [ONE_ALLOCATION, MANY_STEPS, LONG_TEXT],
    ids=["one allocation", "200 steps", "the answer's text"],
)
def test_too_much_memory_is_a_problem_and_the_worker_stays(
    patient_server: Served, graph: dict[str, Any]
) -> None:
    server = patient_server
    until_metric(server, 'gradtrace_workers{state="idle"}', 3)  # all are there
    spawned = metric(server, "gradtrace_spawned_total")
    with Crowd(server, clients=1) as bystander:
        status, problem = trace(server, graph)
    assert (status, problem["code"]) == (422, "memory_limit"), problem
    assert str(MEMORY_MB) in problem["detail"]
    assert set(bystander.answers) == {"200"}
    assert metric(server, "gradtrace_spawned_total") == spawned


@pytest.mark.parametrize(
    "body",
    [b"[" * 200_000, b'{"leaves":[{"id":"a","value":' + b"[" * 200_000 + b"]" * 200_000 + b"}]}"],
    ids=["open", "closed"],
)
def test_200_000_brackets_are_invalid_json(server: Served, body: bytes) -> None:
    status, problem = trace(server, body)
    assert (status, problem["code"]) == (400, "invalid_json")


def test_a_view_of_2_to_the_40_elements_is_refused(server: Served) -> None:
    graph = one("expand", [leaf("a", [1.0])], size=[2**40])
    graph["ops"].append({"id": "s", "op": "sum", "inputs": ["out"]})
    status, problem = trace(server, graph)
    assert (status, problem["code"]) == (422, "limit_exceeded")
    assert "GRADTRACE_MAX_ELEMENTS" in problem["detail"]


@long
def test_a_graph_of_100_000_nodes_is_answered_and_one_more_is_refused() -> None:
    leaves = [leaf("x", 1.0, requires_grad=True)]
    ops = [
        {"id": f"h{i}", "op": "neg", "inputs": [f"h{i - 1}" if i else "x"]} for i in range(99_999)
    ]
    with serving(workers=2, time_limit_s=100) as server, Crowd(server, clients=1) as bystander:
        status, answer = trace(server, {"leaves": leaves, "ops": ops})
        assert status == 200
        assert len(answer["nodes"]) == 100_000
        assert answer["nodes"][0]["grad"] == -1
        one_more = {"id": "one-more", "op": "neg", "inputs": ["x"]}
        status, problem = trace(server, {"leaves": leaves, "ops": [*ops, one_more]})
        assert (status, problem["code"]) == (422, "limit_exceeded")
        assert "GRADTRACE_MAX_NODES" in problem["detail"]
        bystander.__exit__()
    assert set(bystander.answers) == {"200"}
