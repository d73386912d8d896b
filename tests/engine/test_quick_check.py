"""The quick look says yes only where pydantic does, and says yes to the ordinary requests."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service.contract.request import TraceRequest
from service.engine.quick_check import is_well_formed
from tests.golden import CASES

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 1.0, 2**63, "", "a", "a b", "a\n", "x:0", "x:", "é", "a" * 201,
    "float32", "json", "base64", "value", "cpu", "cuda:0", [], ["x"], ["value"], [1], {}, {"a": 1},
    {"id": "q"}, [{"id": "q", "value": 1}], [{"id": "q", "op": "relu"}],
]  # fmt: skip
FIELDS = [
    "id", "op", "inputs", "attrs", "retain_grad", "requires_grad", "seed", "value", "value_base64",
    "shape", "dtype", "leaves", "ops", "backward", "device", "encoding", "include", "other", "node",
    "gradient",
]  # fmt: skip
PARTS = ("leaves", "ops", "backward")


def pydantic_takes(request: Any) -> bool:
    try:
        TraceRequest.model_validate(request)
    except ValidationError:
        return False
    return True


@settings(max_examples=1500, deadline=None)
@given(
    st.sampled_from(sorted(CASES)),
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(FIELDS), st.sampled_from(ODD), st.booleans()),
        max_size=3,
    ),
)
def test_whatever_the_quick_look_lets_pass_pydantic_lets_pass(
    name: str, changes: list[tuple[int, str, Any, bool]]
) -> None:
    request = copy.deepcopy(CASES[name]["request"])
    for number, field, value, drop in changes:
        lists = (request["leaves"], request.get("ops"), request.get("backward"))
        parts = [request, *itertools.chain(*(one or () for one in lists))]
        part = parts[number % len(parts)]
        if drop:
            part.pop(field, None)
        else:
            part[field] = copy.deepcopy(value)
        if not all(isinstance(request.get(key) or [], list) for key in PARTS):
            break
        if not request.get("leaves") or not all(
            isinstance(one, dict) for key in PARTS for one in request.get(key) or []
        ):
            break
    if is_well_formed(request):
        assert pydantic_takes(request)


@pytest.mark.parametrize("value", ODD)
def test_whatever_is_no_object_is_left_to_pydantic(value: Any) -> None:
    assert not is_well_formed(value) or pydantic_takes(value)


def test_the_ordinary_requests_pass_the_quick_look() -> None:
    passed = [name for name, case in CASES.items() if is_well_formed(case["request"])]
    assert len(passed) > len(CASES) / 2
