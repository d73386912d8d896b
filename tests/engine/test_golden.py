"""The golden cases through the engine: bit for bit in numbers, exact in every flag and status."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.asking import trace
from tests.engine.bits import bits
from tests.golden import CASES

FLAGS = ("shape", "dtype", "is_leaf", "requires_grad", "retains_grad", "grad_fn", "grad_status")


def as_tensor(value: Any, dtype: str) -> torch.Tensor:
    """Read nested lists with the three strings into ``dtype``; complex numbers are pairs."""
    real = {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
    array = np.array(value, dtype=object)
    floats = np.vectorize(lambda item: float(item) if isinstance(item, str) else item)(array)
    return torch.tensor(floats.tolist(), dtype=getattr(torch, real))


def same_bits(left: Any, right: Any, dtype: str) -> bool:
    if left is None or right is None:
        return left is right
    return bits(as_tensor(left, dtype)) == bits(as_tensor(right, dtype))


@pytest.mark.parametrize("name", CASES)
def test_the_engine_answers_a_golden_case_exactly(name: str) -> None:
    case = CASES[name]
    nodes = trace(case["request"])["nodes"]
    assert [node["id"] for node in nodes] == [node["id"] for node in case["nodes"]]
    for got, expected in zip(nodes, case["nodes"], strict=True):
        assert {flag: got[flag] for flag in FLAGS} == {flag: expected[flag] for flag in FLAGS}
        for field in ("value", "grad"):
            assert same_bits(got[field], expected[field], expected["dtype"]), (got, expected)
