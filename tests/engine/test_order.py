"""Ops come in any order; a valid one is kept as it is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import REQUIRE_ALL
from tests.engine.asking import leaf, nodes_of, op, problem, trace


def test_the_answer_keeps_the_order_of_the_request() -> None:
    request = {
        "leaves": [leaf("x", 2.0)],
        "ops": [op("out", "mul", "b", other=3), op("b", "mul", "x", other=5)],
    }
    answer = trace(request | {"backward": [{"node": "out"}]})
    assert [node["id"] for node in answer["nodes"]] == ["x", "out", "b"]
    assert answer["nodes"][0]["grad"] == 15.0


def test_the_default_root_is_the_last_op_of_the_list_not_the_last_to_run() -> None:
    request = {
        "leaves": [leaf("x", 2.0)],
        "ops": [op("out", "mul", "b", other=3), op("b", "mul", "x", other=5)],
    }
    assert nodes_of(request)["x"]["grad"] == 5.0


def test_random_ops_run_in_the_earliest_possible_order() -> None:
    """`r1` waits for `m`, so `r2` and `m` come first: the generator's numbers say so."""
    late = op("r1", "bernoulli", "m")
    request: dict[str, Any] = {
        "ops": [late, op("r2", "rand", size=[8]), op("m", "mul", "r2", other=0.5)],
        "backward": [],
        "seed": 5,
    }
    in_order = {**request, "ops": [request["ops"][1], request["ops"][2], late]}
    assert nodes_of(request) == nodes_of(in_order)


def test_a_cycle_is_named() -> None:
    ops = [op("a", "relu", "c"), op("b", "relu", "a"), op("c", "relu", "b"), op("d", "relu", "x")]
    told = problem({"leaves": [leaf("x", 1.0)], "ops": ops})
    assert told.code == "cycle"
    assert "a -> b -> c -> a" in told.detail


def test_an_op_that_uses_itself_is_a_cycle() -> None:
    told = problem({"ops": [op("a", "relu", "a")]})
    assert told.code == "cycle"
    assert "a -> a" in told.detail


@pytest.mark.parametrize("length", [20_000 if REQUIRE_ALL else 5_000])
def test_a_long_chain_in_reverse_order_needs_no_recursion(length: int) -> None:
    ops = [op(f"h{i}", "neg", f"h{i - 1}" if i else "x") for i in range(length)]
    request = {"leaves": [leaf("x", 1.0)], "ops": ops[::-1], "include": ["grad"]}
    answer = trace(request | {"backward": [{"node": f"h{length - 1}"}]})
    assert answer["nodes"][0]["grad"] == 1.0
