"""Where a NaN or an infinity was born, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.asking import health, leaf, op

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
    """`where` passes sqrt a zero, and 0 * inf of sqrt's own backward at -1 is NaN; `gt` is idle."""
    found = health(NAN_THROUGH_WHERE)["nonfinite_grad"]
    assert (found["node"], found["made_by"], found["op"], found["kind"]) == (
        "x",
        "s",
        "sqrt",
        "NaN",
    )


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


def test_of_several_uses_the_one_whose_backward_made_it_is_blamed() -> None:
    """`exp` uses x as well, and later, but what it contributes is finite."""
    request = {
        "leaves": [leaf("x", [0.0, 1.0])],
        "ops": [
            op("s", "sqrt", "x"),
            op("e", "exp", "x"),
            op("a", "add", "s", "e"),
            op("out", "sum", "a"),
        ],
    }
    found = health(request)["nonfinite_grad"]
    assert (found["node"], found["made_by"], found["op"]) == ("x", "s", "sqrt")
    assert "the backward of sqrt (s) made it" in found["note"]


def test_an_op_that_passes_something_finite_is_no_giver() -> None:
    """`f` has an infinite gradient, of which `floor` passes zeros to h; `s` makes the one of h."""
    request = {
        "leaves": [leaf("x", [0.0])],
        "ops": [
            op("h", "mul", "x", other=1),
            op("s", "sqrt", "h"),
            op("f", "floor", "h"),
            op("r", "sqrt", "f"),
            op("out", "add", "s", "r"),
        ],
        "backward": [{"node": "out", "gradient": [1]}],
    }
    found = health(request)["nonfinite_grad"]
    assert (found["node"], found["made_by"]) == ("f", "r")
    assert found["producers"] == ["f", "h"]
    assert found["propagators"] == ["x"]


def test_a_root_that_is_also_used_has_its_own_gradient_to_blame() -> None:
    request = {
        "leaves": [leaf("x", 1.0)],
        "ops": [op("h", "mul", "x", other=2), op("m", "mul", "h", other=2)],
        "backward": [{"node": "h", "gradient": "NaN"}, {"node": "m"}],
    }
    found = health(request)["nonfinite_grad"]
    assert (found["node"], found["made_by"], found["op"]) == ("h", None, None)
    assert "backward started from" in found["note"]


def test_parts_that_only_together_are_infinite_are_nobodys_backward() -> None:
    request = {
        "leaves": [leaf("x", 1.0)],
        "ops": [op("h", "mul", "x", other=3e38), op("m", "mul", "x", other=3e38)],
        "backward": [{"node": "h"}, {"node": "m"}],
    }
    found = health(request)["nonfinite_grad"]
    assert (found["node"], found["made_by"], found["kind"]) == ("x", None, "Infinity")
    assert "not their sum" in found["note"]


def test_what_comes_through_a_gradient_is_blamed_on_it() -> None:
    """The second derivative of z^1.5 is infinite at 0, and `y` itself gets no gradient."""
    request = {
        "leaves": [leaf("x", 0.0)],
        "ops": [
            op("z", "mul", "x", other=1),
            op("y", "pow", "z", exponent=1.5),
            op("g", "autograd.grad", "y", "x"),
        ],
        "backward": [{"node": "g:0"}],
    }
    found = health(request)["nonfinite_grad"]
    assert (found["node"], found["made_by"], found["op"]) == ("z", "g:0", "autograd.grad")
    assert (found["producers"], found["propagators"]) == (["z"], ["x"])


def test_where_an_op_and_a_gradient_behind_it_may_both_be_to_blame_neither_is() -> None:
    """y = x^1.5 has the gradient 0 at 0 and an infinite second derivative; both come by y."""
    request = {
        "leaves": [leaf("x", 0.0)],
        "ops": [op("y", "pow", "x", exponent=1.5), op("g", "autograd.grad", "y", "x")],
        "backward": [{"node": "y"}, {"node": "g:0"}],
    }
    found = health(request)["nonfinite_grad"]
    assert (found["node"], found["op"], found["made_by"]) == ("x", None, None)
    assert "pow (y) made it of finite gradients, or that of an autograd.grad" in found["note"]


def test_of_two_that_contribute_the_one_that_gave_the_nan_is_blamed() -> None:
    """At 0 `mul` gives x -inf, and the backward of `log` 0 / 0."""
    request = {
        "leaves": [leaf("x", [0.0, 1.0])],
        "ops": [op("l", "log", "x"), op("m", "mul", "l", "x"), op("out", "sum", "m")],
    }
    found = health(request)["nonfinite_grad"]
    assert (found["node"], found["made_by"], found["kind"]) == ("x", "l", "NaN")


def test_a_gradient_that_has_nothing_to_do_with_a_node_is_not_blamed_for_it() -> None:
    request = {
        "leaves": [leaf("x", 1.0), leaf("u", 2.0)],
        "ops": [
            op("h", "mul", "x", other=3e38),
            op("m", "mul", "x", other=3e38),
            op("y", "pow", "u", exponent=3),
            op("g", "autograd.grad", "y", "u"),
        ],
        "backward": [{"node": "h"}, {"node": "m"}, {"node": "g:0"}],
    }
    found = health(request)["nonfinite_grad"]
    assert (found["node"], found["made_by"]) == ("x", None)
    assert "not their sum" in found["note"]


FILLED = "the first Infinity was made by masked_fill in s, which reads no node that is not finite"
OF_INFINITY = "the first NaN was made by softmax in p, which reads an Infinity"
OF_FINITE = "the first NaN was made by log in l, which reads no node that is not finite"


@pytest.mark.parametrize(
    ("ops", "note"),
    [
        ([op("p", "softmax", "s", dim=1), op("out", "sum", "p")], f"{FILLED}; {OF_INFINITY}."),
        (
            [op("l", "log", "x"), op("d", "sub", "l", "s"), op("out", "sum", "d")],
            f"{FILLED}; {OF_FINITE}.",
        ),
        ([op("p", "exp", "s"), op("out", "sum", "p")], f"{FILLED}."),
    ],
)
def test_an_infinity_that_is_meant_hides_no_nan(ops: list[dict[str, Any]], note: str) -> None:
    """Masks are filled with -inf; where a whole row is, softmax gives NaN."""
    mask = leaf("mask", [[True, True]], dtype="bool", requires_grad=False)
    request = {
        "leaves": [leaf("x", [[-1.0, 2.0]]), mask],
        "ops": [op("s", "masked_fill", "x", "mask", value="-Infinity"), *ops],
    }
    assert health(request)["nonfinite_value"]["note"] == note
