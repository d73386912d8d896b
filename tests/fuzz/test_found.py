"""What the fuzzer found that is no guard's affair: each of these was a 500 once."""

from __future__ import annotations

from typing import Any

import pytest

from service.engine.limits import Limits
from tests.engine.asking import leaf, nodes_of, op, problem

HUGE = 2**62


@pytest.mark.parametrize("encoding", ["json", "base64"])
@pytest.mark.parametrize(
    "request_of_a_huge_shape",
    [
        {"leaves": [leaf("x", [], shape=[HUGE, 0])]},
        {"leaves": [leaf("x", 0)], "ops": [op("y", "nonzero_static", "x", size=HUGE)]},
        {"leaves": [leaf("x", 0)], "ops": [op("y", "zeros", size=[3, HUGE, 0])]},
        {"leaves": [leaf("x", 0)], "ops": [op("y", "zeros", size=[0, HUGE])]},
    ],
)
def test_empty_lists_count_as_elements_of_an_answer(
    request_of_a_huge_shape: dict[str, Any], encoding: str
) -> None:
    told = problem({**request_of_a_huge_shape, "backward": [], "encoding": encoding})
    assert told.code == "limit_exceeded"
    assert str(Limits().max_result_elements) in told.detail


def test_a_tensor_without_elements_is_answered_with_its_empty_lists() -> None:
    nodes = nodes_of({"leaves": [leaf("x", [], shape=[2, 3, 0, 5])], "backward": []})
    assert nodes["x"]["value"] == [[[], [], []], [[], [], []]]
