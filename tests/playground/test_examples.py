"""Every example of the page is a script that reads as a graph and traces to what it promises."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.jobs import create
from tests.playground.files import EXAMPLES

HANDLE = create({})
BY_ID = {example["id"]: example for example in EXAMPLES}


def answer(job: str, document: dict[str, Any]) -> dict[str, Any]:
    headers = {"job": job, "content-type": "application/json", "accept": "application/json"}
    answer = HANDLE(headers, json.dumps(document).encode())
    assert answer.status == 200, answer.body
    return dict(json.loads(answer.body))


def traced(name: str) -> dict[str, dict[str, Any]]:
    """Return the nodes of an example by id."""
    source = "\n".join(BY_ID[name]["source"]) + "\n"
    trace = answer("trace", answer("import_python", {"source": source}))
    return {node["id"]: node for node in trace["nodes"]}


@pytest.mark.parametrize("name", BY_ID)
def test_every_example_reads_and_traces(name: str) -> None:
    assert any(node["grad"] is not None for node in traced(name).values())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", BY_ID)
def test_every_example_is_a_script_that_python_runs(name: str) -> None:
    exec(compile("\n".join(BY_ID[name]["source"]), name, "exec"), {"print": lambda *_: None})  # noqa: S102


def test_the_lessons_two_tell_its_story() -> None:
    leaf_only, retained = traced("leaf_only"), traced("retained")
    assert leaf_only["a"]["grad"] == [[6.0, 6.0], [6.0, 6.0]]
    assert leaf_only["c"]["grad"] is None
    assert retained["c"]["grad"] == [[1.0, 1.0], [1.0, 1.0]]


def test_the_numbers_that_comments_promise_are_right() -> None:
    assert traced("micrograd")["x"]["grad"] == 46.0
    assert traced("fan_out")["a"]["grad"] == [3.0, -3.0, 7.0]
    assert traced("where_nan")["x"]["grad"][0] == "NaN"
    third = traced("higher_order")
    assert (third["first:0"]["value"], third["second:0"]["value"]) == (12.0, 12.0)
    assert third["x"]["grad"] == 6.0
