"""What the fuzzer found that is no guard's affair: each of these was a 500 once."""

from __future__ import annotations

from typing import Any

import pytest

from service.engine.limits import Limits
from tests.engine.asking import leaf, nodes_of, op, problem, trace

HUGE = 2**62


@pytest.mark.parametrize(
    "request_of_a_huge_shape",
    [
        {"leaves": [leaf("x", [], shape=[HUGE, 0])]},
        {"leaves": [leaf("x", 0)], "ops": [op("y", "nonzero_static", "x", size=HUGE)]},
        {"leaves": [leaf("x", 0)], "ops": [op("y", "zeros", size=[3, HUGE, 0])]},
    ],
)
def test_empty_lists_count_as_elements_of_an_answer(
    request_of_a_huge_shape: dict[str, Any],
) -> None:
    told = problem({**request_of_a_huge_shape, "backward": []})
    assert told.code == "limit_exceeded"
    assert str(Limits().max_result_elements) in told.detail
    *_, last = trace({**request_of_a_huge_shape, "backward": [], "encoding": "base64"})["nodes"]
    assert (HUGE in last["shape"], last["value_base64"]) == (True, "")


def test_what_is_behind_a_size_of_0_has_no_lists() -> None:
    ops = [op("y", "zeros", size=[0, HUGE])]
    nodes = nodes_of({"leaves": [leaf("x", 0)], "ops": ops, "backward": []})
    assert (nodes["y"]["shape"], nodes["y"]["value"]) == ([0, HUGE], [])


def test_a_tensor_without_elements_is_answered_with_its_empty_lists() -> None:
    nodes = nodes_of({"leaves": [leaf("x", [], shape=[2, 3, 0, 5])], "backward": []})
    assert nodes["x"]["value"] == [[[], [], []], [[], [], []]]
