"""A graph that came before is answered as one that is new: only the work of planning is saved."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine import known_graphs
from service.engine.job import JSON, Engine
from service.engine.known_graphs import KnownGraphs, key_of
from service.engine.plan import make_plan
from tests.engine.changes import Change, changed, changes
from tests.golden import CASES

SEED: dict[str, Any] = {
    "leaves": [{"id": "a", "value": [[1.0, 1.0], [1.0, 1.0]], "requires_grad": True}],
    "ops": [
        {"id": "b", "op": "add", "inputs": ["a"], "attrs": {"other": 2}},
        {"id": "c", "op": "pow", "inputs": ["b"], "attrs": {"exponent": 2}},
        {"id": "out", "op": "sum", "inputs": ["c"]},
    ],
}


def seed_with(**parts: Any) -> dict[str, Any]:
    return copy.deepcopy(SEED) | parts


def with_exponent(exponent: Any) -> dict[str, Any]:
    request = copy.deepcopy(SEED)
    request["ops"][1]["attrs"]["exponent"] = exponent
    return request


def said(engine: Engine, request: Any) -> tuple[int, Any]:
    answer = engine.trace(JSON, JSON, orjson.dumps(request))
    return answer.status, orjson.loads(answer.body)


def test_the_second_time_the_values_are_those_of_the_second_time() -> None:
    engine = Engine()
    said(engine, SEED)
    _, document = said(
        engine, seed_with(leaves=[{"id": "a", "value": [3.0], "requires_grad": True}])
    )
    assert [node["value"] for node in document["nodes"]] == [[3.0], [5.0], [25.0], 25.0]
    assert document["nodes"][0]["grad"] == [10.0]


@pytest.mark.parametrize(
    "leaf",
    [{"id": "a", "value": [1.0]}, {"id": "a", "value": [1], "dtype": "int64"}],
    ids=["untracked", "integers"],
)
def test_flags_and_dtypes_are_those_of_the_second_time(leaf: dict[str, Any]) -> None:
    engine = Engine()
    said(engine, seed_with(backward=[]))
    request = seed_with(leaves=[leaf], backward=[])
    assert said(engine, request) == said(Engine(), request)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(CASES)), changes)
def test_whatever_is_changed_in_a_known_graph_it_is_answered_as_a_new_one(
    name: str, changes: list[Change]
) -> None:
    engine = Engine()
    said(engine, CASES[name]["request"])
    request = changed(CASES[name]["request"], changes)
    assert said(engine, request) == said(Engine(), request)


def test_numbers_of_another_kind_make_another_graph() -> None:
    keys = {key_of(with_exponent(value)) for value in (1, 1.0, True, "1", [1], None, 0.0, -0.0)}
    assert len(keys) == 8
    assert None not in keys


@pytest.mark.parametrize(
    "other",
    [
        seed_with(retain_grad=True),
        seed_with(backward=[]),
        seed_with(backward=[{"node": "c"}]),
        seed_with(leaves=[{"id": "x", "value": 1.0}]),
    ],
    ids=["retain_grad", "forward only", "another root", "another leaf"],
)
def test_all_that_a_plan_depends_on_is_in_the_key(other: dict[str, Any]) -> None:
    assert key_of(other) not in (key_of(SEED), None)


def test_values_are_not_in_the_key_and_gradients_of_roots_are_not_kept() -> None:
    assert key_of(seed_with(leaves=[{"id": "a", "value": 7}])) == key_of(SEED)
    assert key_of(seed_with(backward=[{"node": "c", "gradient": [[1, 2], [3, 4]]}])) is None


@pytest.mark.parametrize("request_", [None, [], "x", {"leaves": 3}, {"leaves": [{}]}, {"ops": {1}}])
def test_what_is_no_request_has_no_key(request_: Any) -> None:
    assert key_of(request_) is None


def test_nothing_is_kept_of_a_leaf_but_its_id() -> None:
    known = KnownGraphs()
    known.keep(key_of(SEED), make_plan(SEED))
    plan = known.find(key_of(SEED))
    assert plan is not None
    assert not plan.leaves


def test_the_graph_that_is_longest_unused_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (with_exponent(exponent) for exponent in (1, 2, 3))
    monkeypatch.setattr(known_graphs, "MAX_BYTES", 2 * len(key_of(first) or b""))
    known = KnownGraphs()
    for request in (first, second):
        known.keep(key_of(request), make_plan(request))
    assert known.find(key_of(first)) is not None
    known.keep(key_of(third), make_plan(third))
    assert known.find(key_of(second)) is None
    assert known.find(key_of(first)) is not None
    assert known.find(key_of(third)) is not None


def test_a_graph_of_too_long_a_text_is_not_kept() -> None:
    known = KnownGraphs()
    few_ops = with_exponent(2)
    few_ops["ops"][0] = {
        "id": "b",
        "op": "getitem",
        "inputs": ["a"],
        "attrs": {"index": [[0] * known_graphs.MAX_BYTES]},
    }
    known.keep(key_of(few_ops), make_plan(few_ops))
    assert known.find(key_of(few_ops)) is None
