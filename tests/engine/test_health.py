"""Health: dead relus, and the leaves that get no gradient."""

from __future__ import annotations

import pytest

from service.engine.linked import link
from service.engine.report import describe
from service.engine.run import run_forward
from tests.conftest import long
from tests.engine.asking import ENGINE, health, leaf, op, trace


def test_a_healthy_graph_has_nothing_to_tell() -> None:
    request = {"leaves": [leaf("x", [1.0])], "ops": [op("h", "exp", "x"), op("out", "sum", "h")]}
    found = health(request)
    assert found["nonfinite_value"] is None
    assert found["nonfinite_grad"] is None
    assert found["gradient_flow"]["verdict"] == "too_shallow"
    assert found["dead_relus"] == []
    assert found["leaves_without_grad"] == []


def test_a_relu_whose_unit_is_never_active_is_dead() -> None:
    request = {
        "leaves": [leaf("x", [[1.0, -1.0], [2.0, -3.0]])],
        "ops": [op("r", "relu", "x"), op("out", "sum", "r")],
    }
    assert health(request)["dead_relus"] == [
        {"node": "r", "units": 2, "dead_units": 1, "inactive_fraction": 0.5}
    ]


def test_every_leaf_without_gradient_has_its_reason() -> None:
    request = {
        "leaves": [
            leaf("x", 1.0),
            leaf("unused", 1.0),
            leaf("cut", 1.0),
            leaf("aside", 1.0),
            leaf("zero", 1.0),
        ],
        "ops": [
            op("d", "detach", "cut"),
            op("a", "sin", "aside"),
            op("f", "floor", "zero"),
            op("s", "add", "x", "d"),
            op("out", "add", "s", "f"),
        ],
    }
    found = {
        one["node"]: (one["reason"], one["cut_at"])
        for one in health(request)["leaves_without_grad"]
    }
    assert found == {
        "unused": ("unused", []),
        "cut": ("cut", ["d"]),
        "aside": ("leads_to_no_root", []),
        "zero": ("all_zeros", []),
    }


@pytest.mark.parametrize(
    "kind",
    [
        "relu",
        "nn.functional.relu",
        "nn.functional.relu6",
        "aten.relu.default",
        "aten.relu6.default",
    ],
)
def test_every_relu_of_the_catalogue_is_looked_at(kind: str) -> None:
    request = {"leaves": [leaf("x", [[-1.0]])], "ops": [op("r", kind, "x"), op("out", "sum", "r")]}
    assert [dead["node"] for dead in health(request)["dead_relus"]] == ["r"]


def test_only_a_cut_on_the_way_to_a_root_is_the_reason() -> None:
    request = {
        "leaves": [leaf("x", [1.0, 2.0]), leaf("z", [1.0, 2.0]), leaf("y", 1.0)],
        "ops": [
            op("i", "argmax", "x"),
            op("d", "detach", "z"),
            op("s", "sum", "d"),
            op("j", "argmax", "z"),
            op("out", "add", "y", "s"),
        ],
    }
    found = health(request)["leaves_without_grad"]
    assert [(one["node"], one["reason"], one["cut_at"]) for one in found] == [
        ("x", "leads_to_no_root", []),
        ("z", "cut", ["d"]),
    ]


def test_a_leaf_that_only_an_op_without_outputs_uses_is_used() -> None:
    request = {
        "leaves": [leaf("x", [], shape=[0, 2]), leaf("y", 1.0)],
        "ops": [op("u", "unbind", "x"), op("out", "neg", "y")],
    }
    [found] = health(request)["leaves_without_grad"]
    assert (found["node"], found["reason"]) == ("x", "leads_to_no_root")


def test_an_op_that_passes_no_gradient_is_told_of() -> None:
    """The root is computed from x, so the note may not say that nothing of it leads to a root."""
    request = {"leaves": [leaf("x", [1.0])], "ops": [op("out", "norm", "x", p=0)]}
    [found] = health(request)["leaves_without_grad"]
    assert "the ops between pass it no gradient" in found["note"]


def test_zeros_of_more_axes_than_pytorch_reduces_are_seen() -> None:
    request = {
        "ops": [op("w", "ones", size=[1] * 70, requires_grad=True), op("out", "mul", "w", other=0)]
    }
    [found] = health(request)["leaves_without_grad"]
    assert (found["node"], found["reason"]) == ("w", "all_zeros")


@long
def test_a_large_graph_in_which_all_is_wrong_is_diagnosed() -> None:
    """Time that grows with the square of the nodes would be minutes here."""
    count = 20_000
    numbers = range(count)
    ops = [op("d0", "add", "x0", "x1")]
    ops += [op(f"d{number}", "add", f"x{number}", f"d{number - 1}") for number in numbers[1:]]
    request = {
        "leaves": [*(leaf(f"x{number}", "NaN") for number in numbers), leaf("z", "NaN")],
        "ops": [*ops, op("out", "mul", "z", "z")],
        "include": ["health"],
    }
    found = trace(request)["health"]
    assert found["nonfinite_value"]["producers"] == [f"x{number}" for number in range(20)]
    assert [one["reason"] for one in found["leaves_without_grad"]] == ["leads_to_no_root"] * 20


def test_an_op_of_many_inputs_and_outputs_has_no_tie_for_each_pair() -> None:
    names = [f"x{number}" for number in range(50)]
    request = {
        "leaves": [leaf(name, 1.0) for name in names],
        "ops": [op("b", "broadcast_tensors", *names), op("out", "add", "b:0", "b:49")],
    }
    plan = ENGINE.plan(request)
    run = run_forward(plan, ENGINE.leaves(plan, "float32"), ENGINE.limits, 0)
    linked = link(plan, describe(run))
    assert [(len(op.reads), len(op.outputs)) for op in linked.ops] == [(50, 50), (2, 1)]
    assert linked.users == [[0]] * 50 + [[1], *[[]] * 48, [1], []]
    assert linked.maker == [-1] * 50 + [0] * 50 + [1]


def test_a_nan_is_not_dead() -> None:
    """The gradient of relu at NaN is 1, as where it is active."""
    request = {
        "leaves": [leaf("x", [["NaN", 1.0, -1.0]])],
        "ops": [op("r", "relu", "x"), op("out", "sum", "r")],
    }
    answer = trace(request | {"include": ["grad", "health"]})
    assert answer["nodes"][0]["grad"] == [[1.0, 1.0, 0.0]]
    [dead] = answer["health"]["dead_relus"]
    assert dead["dead_units"] == 1
    assert dead["inactive_fraction"] == pytest.approx(1 / 3)
