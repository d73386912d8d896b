"""Health: where a NaN was born, where gradients vanish, and which leaves get none."""

from __future__ import annotations

from typing import Any

from tests.engine.asking import leaf, op, trace


def health(request: dict[str, Any]) -> dict[str, Any]:
    plain = trace(request)
    answer = trace(request | {"include": ["value", "grad", "health"]})
    assert answer["nodes"] == plain["nodes"]
    found: dict[str, Any] = answer["health"]
    return found


NAN_THROUGH_WHERE = {
    "leaves": [leaf("x", [-1.0, 4.0]), leaf("zero", [0.0, 0.0], requires_grad=False)],
    "ops": [
        op("m", "gt", "x", other=0),
        op("s", "sqrt", "x"),
        op("w", "where", "m", "s", "zero"),
        op("out", "sum", "w"),
    ],
}


def test_a_value_is_traced_back_to_the_op_that_made_it() -> None:
    found = health(NAN_THROUGH_WHERE)["nonfinite_value"]
    assert (found["node"], found["op"], found["kind"]) == ("s", "sqrt", "NaN")
    assert found["producers"] == ["s"]
    assert found["propagators"] == []


def test_a_gradient_is_traced_back_to_the_backward_that_made_it() -> None:
    """`where` passes sqrt a zero, and 0 * inf of sqrt's own backward at -1 is NaN."""
    found = health(NAN_THROUGH_WHERE)["nonfinite_grad"]
    assert (found["node"], found["made_by"], found["op"], found["kind"]) == (
        "x",
        "s",
        "sqrt",
        "NaN",
    )


def test_an_op_without_a_gradient_is_nobodys_culprit() -> None:
    request = {
        "leaves": [leaf("x", [0.0, 1.0]), leaf("zero", [0.0, 0.0], requires_grad=False)],
        "ops": [
            op("root", "sqrt", "x"),
            op("mask", "gt", "x", other=0),
            op("w", "where", "mask", "root", "zero"),
            op("out", "sum", "w"),
        ],
    }
    assert health(request)["nonfinite_grad"]["made_by"] == "root"


def test_propagators_are_told_from_producers() -> None:
    request = {
        "leaves": [leaf("x", [0.0])],
        "ops": [op("l", "log", "x"), op("n", "mul", "l", other=2), op("out", "sum", "n")],
    }
    found = health(request)
    assert found["nonfinite_value"]["producers"] == ["l"]
    assert found["nonfinite_value"]["propagators"] == ["n", "out"]
    assert found["nonfinite_grad"]["made_by"] == "l"


def test_a_root_gradient_that_is_not_finite_is_nobodys_backward() -> None:
    request = {
        "leaves": [leaf("x", [1.0])],
        "ops": [op("h", "mul", "x", other=2)],
        "backward": [{"node": "h", "gradient": ["NaN"]}],
    }
    found = health(request)["nonfinite_grad"]
    assert (found["node"], found["made_by"]) == ("h", None)


def test_a_healthy_graph_has_nothing_to_tell() -> None:
    request = {"leaves": [leaf("x", [1.0])], "ops": [op("h", "exp", "x"), op("out", "sum", "h")]}
    found = health(request)
    assert found["nonfinite_value"] is None
    assert found["nonfinite_grad"] is None
    assert found["gradient_flow"]["verdict"] == "too_shallow"
    assert found["dead_relus"] == []
    assert found["leaves_without_grad"] == []


def chain(name: str, length: int, **attrs: Any) -> dict[str, Any]:
    ops = [op(f"h{i}", name, f"h{i - 1}" if i else "x", **attrs) for i in range(length)]
    return {"leaves": [leaf("x", [1.0, 2.0])], "ops": [*ops, op("out", "sum", f"h{length - 1}")]}


def test_vanishing_exploding_and_steady_gradients_are_told_apart() -> None:
    for factor, verdict in ((0.1, "vanishing"), (10.0, "exploding"), (1.0, "steady")):
        flow = health(chain("mul", 12, other=factor))["gradient_flow"]
        assert flow["verdict"] == verdict
        assert flow["levels"][0]["depth"] == 0


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
