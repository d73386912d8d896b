"""The quick look says yes only where pydantic does, and says yes to the ordinary requests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service.contract.request import Leaf, Op, TraceRequest
from service.engine.quick_check import LEAF, OP, REQUEST, is_well_formed
from tests.engine.changes import ODD, Change, changed, changes
from tests.golden import CASES


def pydantic_takes(request: Any) -> bool:
    try:
        TraceRequest.model_validate(request)
    except ValidationError:
        return False
    return True


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(sorted(CASES)), changes)
def test_whatever_the_quick_look_lets_pass_pydantic_lets_pass(
    name: str, changes: list[Change]
) -> None:
    request = changed(CASES[name]["request"], changes)
    if is_well_formed(request):
        assert pydantic_takes(request)


@pytest.mark.parametrize("value", ODD)
def test_whatever_is_no_object_is_left_to_pydantic(value: Any) -> None:
    assert not is_well_formed(value) or pydantic_takes(value)


def test_the_ordinary_requests_pass_the_quick_look() -> None:
    passed = [name for name, case in CASES.items() if is_well_formed(case["request"])]
    assert len(passed) > len(CASES) / 2


def test_every_field_of_the_contract_has_its_check() -> None:
    for checks, model in ((REQUEST, TraceRequest), (LEAF, Leaf), (OP, Op)):
        assert checks.keys() == model.model_fields.keys()
