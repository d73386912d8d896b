"""Requests that are changed here and there, into something sensible or not."""

from __future__ import annotations

import copy
import itertools
from typing import Any

from hypothesis import strategies as st

PARTS = ("leaves", "ops", "backward")
FIELDS = [
    "id", "op", "inputs", "attrs", "retain_grad", "requires_grad", "seed", "value", "value_base64",
    "shape", "dtype", "leaves", "ops", "backward", "device", "encoding", "include", "other", "node",
    "gradient",
]  # fmt: skip
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 1.0, -0.0, 2**63, "", "a", "a b", "a\n", "x:0", "x:", "é",
    "a" * 201, "float32", "int64", "json", "base64", "value", "cpu", "cuda:0", [], ["x"], ["value"],
    [1], {}, {"a": 1}, {"other": 1}, {"other": 1.0}, {"other": True}, {"other": {"ref": "a"}},
    {"id": "q"}, [{"id": "q", "value": 1}], [{"id": "q", "op": "relu"}], [{"node": "a"}],
    [{"node": "a", "gradient": [1.0]}],
]  # fmt: skip

Change = tuple[int, str, Any, bool]

changes = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(FIELDS), st.sampled_from(ODD), st.booleans()),
    max_size=3,
)


def changed(request: dict[str, Any], changes: list[Change]) -> dict[str, Any]:
    """Return a copy of ``request`` with ``changes`` made, up to one that leaves it no graph."""
    request = copy.deepcopy(request)
    for number, field, value, drop in changes:
        lists = (request.get(key) or () for key in PARTS)
        parts = [request, *itertools.chain(*lists)]
        part = parts[number % len(parts)]
        if drop:
            part.pop(field, None)
        else:
            part[field] = copy.deepcopy(value)
        if not all(_is_list_of_objects(request.get(key)) for key in PARTS):
            break
    return request


def _is_list_of_objects(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and all(isinstance(item, dict) for item in value)
    )
