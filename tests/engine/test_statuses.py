"""Every grad_status, each in the smallest graph that shows it, by autograd's own graph."""

from __future__ import annotations

from typing import Any

import pytest

from service.contract.response import GradStatus
from service.engine.notes import note
from tests.engine.asking import leaf, nodes_of, op, problem, trace

X = leaf("x", [1.0, 2.0])


def statuses(*ops: dict[str, Any], **more: Any) -> dict[str, str]:
    nodes = nodes_of(
        {"leaves": [X, leaf("k", [1.0, 1.0], requires_grad=False)], "ops": list(ops)} | more
    )
    return {name: node["grad_status"] for name, node in nodes.items()}


def test_an_unused_output_of_several_is_not_on_the_path() -> None:
    found = statuses(op("u", "unbind", "x"), op("out", "sum", "u:0"))
    assert (found["u:0"], found["u:1"]) == ("not_retained", "not_on_path")


def test_a_retained_unused_output_has_no_gradient() -> None:
    found = statuses(op("u", "unbind", "x", retain_grad=True), op("out", "sum", "u:0"))
    assert (found["u:0"], found["u:1"]) == ("retained", "not_on_path")


def test_a_gradient_of_zeros_is_a_gradient() -> None:
    nodes = nodes_of({"leaves": [X], "ops": [op("f", "floor", "x"), op("out", "sum", "f")]})
    assert nodes["x"]["grad_status"] == "accumulated"
    assert nodes["x"]["grad"] == [0.0, 0.0]


def test_a_node_that_autograd_reaches_without_passing_it_a_gradient_is_not_on_the_path() -> None:
    found = statuses(
        op("h", "mul", "x", other=2, retain_grad=True),
        op("n", "norm", "h", p=0),
        op("out", "add", "n", "k"),
        backward=[{"node": "out", "gradient": [1, 1]}],
    )
    assert found["h"] == "not_on_path"


def test_detached_and_integer_results_are_non_differentiable() -> None:
    found = statuses(
        op("d", "detach", "x"),
        op("i", "argmax", "x"),
        op("c", "gt", "x", other=1),
        op("out", "sum", "x"),
    )
    assert {found[name] for name in ("d", "i", "c")} == {"non_differentiable"}


def test_what_is_computed_of_constants_is_constant_also_through_attrs() -> None:
    found = statuses(
        op("a", "add", "k", other={"ref": "k"}),
        op("b", "add", "k", other={"ref": "x"}),
        op("g", "gt", "k", other={"ref": "x"}),
        op("out", "sum", "b"),
    )
    assert (found["k"], found["a"], found["g"]) == ("constant", "constant", "non_differentiable")


def test_an_op_of_many_inputs_and_outputs_is_looked_at_once() -> None:
    """Time that grows with inputs times outputs would be most of a minute here."""
    names = [f"k{number}" for number in range(20_000)]
    request = {
        "leaves": [leaf(name, 1.0, requires_grad=False) for name in names],
        "ops": [op("b", "broadcast_tensors", *names)],
        "backward": [],
    }
    nodes = nodes_of(request)
    assert {node["grad_status"] for node in nodes.values()} == {"constant"}


def test_forward_only_leaves_no_gradient_anywhere() -> None:
    found = statuses(
        op("h", "mul", "x", other=2, retain_grad=True), op("out", "sum", "h"), backward=[]
    )
    assert (found["x"], found["h"], found["k"]) == ("no_backward", "no_backward", "constant")


def test_retain_grad_on_a_constant_is_no_error() -> None:
    found = statuses(op("c", "mul", "k", other=2, retain_grad=True), op("out", "sum", "x"))
    assert found["c"] == "constant"


def test_a_source_op_that_requires_grad_is_a_leaf() -> None:
    nodes = nodes_of(
        {"ops": [op("w", "ones", size=[2], requires_grad=True), op("out", "sum", "w")]}
    )
    assert nodes["w"]["is_leaf"] is True
    assert nodes["w"]["grad_fn"] is None
    assert nodes["w"]["grad_status"] == "accumulated"
    assert nodes["w"]["grad"] == [1.0, 1.0]


@pytest.mark.parametrize(
    "bad",
    [
        op("w", "mul", "x", other=2, requires_grad=True),
        op("w", "argmax", "k", requires_grad=True),
        op("w", "detach", "x", requires_grad=True),
    ],
)
def test_requires_grad_is_refused_where_the_result_is_no_floating_leaf(bad: dict[str, Any]) -> None:
    told = problem({"leaves": [X, leaf("k", [1.0], requires_grad=False)], "ops": [bad]})
    assert (told.code, told.errors[0].node) == ("bad_arguments", "w")
    assert told.errors[0].pointer == "/ops/0/requires_grad"


def test_every_status_has_a_note_that_names_the_node() -> None:
    for status in GradStatus:
        for name in (None, "mul"):
            assert note(status, "n7", name, "float32", reads=True).startswith("n7 ")


def test_the_note_of_a_constant_asks_for_nothing_that_would_be_refused() -> None:
    request = {
        "leaves": [
            X,
            leaf("k", 1.0, requires_grad=False),
            leaf("i", 1, requires_grad=False, dtype="int64"),
        ],
        "ops": [
            op("o", "ones", size=[2]),
            op("r", "arange", end=3),
            op("c", "neg", "k"),
            op("out", "sum", "x"),
        ],
        "include": ["notes"],
    }
    notes = {name: node["note"] for name, node in nodes_of(request).items()}
    for name in ("i", "r"):
        assert "int64, which cannot require grad" in notes[name]
    for name in ("k", "o"):
        assert "set requires_grad to true" in notes[name]
    assert "on a floating leaf that it depends on" in notes["c"]
    assert "that it depends on" not in notes["o"]


def test_the_note_of_what_is_behind_a_cut_does_not_deny_the_leaf() -> None:
    """y depends on x, which requires grad: it is `detach` that has to go."""
    request = {
        "leaves": [X],
        "ops": [
            op("d", "detach", "x"),
            op("y", "mul", "d", other=2),
            op("a", "argmax", "x"),
            op("b", "add", "a", other=1),
            op("out", "sum", "x"),
        ],
        "include": ["notes"],
    }
    notes = {name: node["note"] for name, node in nodes_of(request).items()}
    assert notes["y"].startswith("y is computed by mul of nothing that requires grad")
    assert "go round what cuts such a leaf off" in notes["y"]
    assert "only a floating or complex result can have a gradient" in notes["b"]


def test_the_note_of_a_constant_gradient_does_not_blame_its_dtype() -> None:
    request = {
        "leaves": [X],
        "ops": [op("s", "sum", "x"), op("g", "autograd.grad", "s", "x"), op("out", "sum", "x")],
        "include": ["notes"],
    }
    assert "create_graph" in nodes_of(request)["g:0"]["note"]


def test_the_note_of_an_unretained_result_says_what_to_change() -> None:
    request = {"leaves": [X], "ops": [op("c", "mul", "x", other=2), op("out", "sum", "c")]}
    answer = trace(request | {"include": ["notes"]})
    [c] = [node for node in answer["nodes"] if node["id"] == "c"]
    assert "retain_grad" in c["note"]
    assert "not a leaf" in c["note"]
    assert "value" not in c
    assert "grad" not in c


def test_several_roots_and_a_root_given_twice_add_up() -> None:
    request: dict[str, Any] = {"leaves": [X], "ops": [op("s", "sum", "x"), op("m", "mean", "x")]}
    once = nodes_of(request | {"backward": [{"node": "s"}, {"node": "m"}]})
    twice = nodes_of(request | {"backward": [{"node": "s"}, {"node": "s"}]})
    assert once["x"]["grad"] == [1.5, 1.5]
    assert twice["x"]["grad"] == [2.0, 2.0]


def test_a_note_says_nothing_that_autograd_does_not_do() -> None:
    """`norm` with p 0 is on the way to its input, and passes it no gradient."""
    request = {
        "leaves": [leaf("x", [1.0, 2.0, 3.0])],
        "ops": [op("h", "mul", "x", other=1), op("n", "norm", "h", p=0)],
        "include": ["notes"],
    }
    notes = {name: node["note"] for name, node in nodes_of(request).items()}
    assert "passed" not in notes["h"]
    assert "the ops between pass it none" in notes["x"]
