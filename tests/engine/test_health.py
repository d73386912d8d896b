"""Health: where a NaN was born, where gradients vanish, and which leaves get none."""

from __future__ import annotations

from typing import Any

import pytest

from service.engine.linked import link
from service.engine.report import describe
from service.engine.run import run_forward
from tests.conftest import long
from tests.engine.asking import ENGINE, leaf, op, trace


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


@pytest.mark.parametrize(
    ("dtype", "factor"), [("float32", 1e10), ("float16", 300), ("float32", 1e38)]
)
def test_gradients_that_grow_beyond_their_dtype_explode(dtype: str, factor: float) -> None:
    found = health(chain("mul", 12, other=factor) | {"dtype": dtype})
    flow = found["gradient_flow"]
    assert (flow["verdict"], flow["ratio"]) == ("exploding", None)
    assert found["nonfinite_grad"]["kind"] == "Infinity"


def given(*gradient: Any) -> dict[str, Any]:
    """Return a chain of depth 6 that passes the gradients on as they are."""
    request = chain("mul", 6, other=1)
    return request | {
        "ops": request["ops"][:-1],
        "backward": [{"node": "h5", "gradient": gradient}],
    }


def test_gradients_that_stay_what_they_are_are_steady_whatever_they_are() -> None:
    assert health(given(0, 0))["gradient_flow"]["verdict"] == "steady"
    assert health(given("Infinity", "Infinity"))["gradient_flow"]["verdict"] == "steady"
    complex64 = given([3e38, 3e38]) | {"leaves": [leaf("x", [[1, 1]])], "dtype": "complex64"}
    flow = health(complex64)["gradient_flow"]
    assert (flow["verdict"], flow["ratio"], len(flow["levels"])) == ("steady", 1.0, 7)


MIXING = [[1.0, 1.0], [1.0, -1.0]]
"""A matrix through which one element that is not finite reaches every other."""


@pytest.mark.parametrize("gradient", [["Infinity", 1], ["-Infinity", "Infinity"], ["NaN", 1]])
def test_an_infinity_that_backward_started_with_is_no_explosion(gradient: list[Any]) -> None:
    ops = [op(f"h{i}", "matmul", "m", f"h{i - 1}" if i else "x") for i in range(12)]
    request = {
        "leaves": [leaf("x", [1.0, 2.0]), leaf("m", MIXING, requires_grad=False)],
        "ops": ops,
        "backward": [{"node": "h11", "gradient": gradient}],
    }
    flow = health(request)["gradient_flow"]
    assert (flow["verdict"], flow["ratio"]) == ("steady", None)


def test_an_infinity_that_backward_started_with_deep_down_is_no_explosion() -> None:
    request = chain("mul", 12, other=1)
    infinite = {"node": "h2", "gradient": ["Infinity", "Infinity"]}
    flow = health(request | {"backward": [{"node": "out"}, infinite]})["gradient_flow"]
    assert (flow["verdict"], flow["ratio"]) == ("steady", 1.0)


def test_an_infinity_that_backward_started_with_and_that_is_masked_does_not_vanish() -> None:
    """What a mask lets through of it are the zeros, which no infinity shrank to."""
    ops = [op(f"h{i}", "mul", f"h{i - 1}" if i else "x", other=1) for i in range(12)]
    ops[5:6] = [op("h5", "where", "mask", "h4", "zero")]
    request = {
        "leaves": [
            leaf("x", [1.0, 2.0]),
            {"id": "mask", "value": [False, False], "dtype": "bool"},
            leaf("zero", [0.0, 0.0], requires_grad=False),
        ],
        "ops": ops,
        "backward": [{"node": "h11", "gradient": ["Infinity", "Infinity"]}],
    }
    flow = health(request)["gradient_flow"]
    assert (flow["verdict"], flow["ratio"]) == ("steady", None)


def test_what_grows_beside_an_infinity_that_backward_started_with_explodes() -> None:
    request = chain("mul", 12, other=10)
    request["ops"].pop()
    request["backward"] = [{"node": "h11", "gradient": ["Infinity", 1]}]
    flow = health(request)["gradient_flow"]
    assert (flow["verdict"], flow["ratio"]) == ("exploding", pytest.approx(1e8))


def test_an_infinity_that_an_op_made_behind_such_a_root_is_its_own() -> None:
    """The mask ends the one that backward started with; the root of 0 makes another."""
    ops = [op(f"h{i}", "mul", f"h{i - 1}" if i else "x", other=1) for i in range(12)]
    ops[4] = op("h4", "sqrt", "h3")
    ops += [op("w", "where", "mask", "h11", "zero"), op("s", "sum", "h11")]
    request = {
        "leaves": [
            leaf("x", [0.0, 0.0]),
            {"id": "mask", "value": [False, False], "dtype": "bool"},
            leaf("zero", [0.0, 0.0], requires_grad=False),
        ],
        "ops": ops,
        "backward": [{"node": "w", "gradient": ["Infinity", "Infinity"]}, {"node": "s"}],
    }
    flow = health(request)["gradient_flow"]
    assert (flow["verdict"], flow["ratio"]) == ("exploding", None)


def test_a_deep_graph_of_nan_alone_is_not_called_shallow() -> None:
    flow = health(given("NaN", "NaN"))["gradient_flow"]
    assert (flow["verdict"], flow["ratio"], flow["levels"]) == ("steady", None, [])


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(0.001, "steady"), (0.000999, "vanishing"), (1000, "steady"), (1001, "exploding")],
)
def test_a_thousandth_and_a_thousand_times_are_the_bounds(factor: float, verdict: str) -> None:
    names = ["neg", "neg", "mul", "neg", "neg", "sum"]
    ops = [op(f"h{i}", name, f"h{i - 1}" if i else "x") for i, name in enumerate(names)]
    ops[2]["attrs"] = {"other": factor}
    request = {"leaves": [leaf("x", [1.0, 2.0])], "ops": ops, "dtype": "float64"}
    flow = health(request)["gradient_flow"]
    assert (flow["ratio"], flow["verdict"]) == (factor, verdict)


def test_a_level_tells_the_median_of_all_its_nodes_with_a_gradient() -> None:
    request = {
        "dtype": "float64",
        "leaves": [leaf("a", 1.0), leaf("b", 3.0), leaf("e", [], shape=[0])],
        "ops": [op("m", "mul", "a", "b"), op("s", "sum", "e"), op("out", "add", "m", "s")],
    }
    levels = health(request)["gradient_flow"]["levels"]
    assert levels[-1] == {"depth": 2, "nodes": 3, "grad_rms": 2.0}


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


@pytest.mark.parametrize(("batch", "root"), [(5, "mean"), (5_000, "mean"), (5_000, "sum")])
def test_a_loss_over_a_large_batch_is_no_vanishing_and_a_weight_no_explosion(
    batch: int, root: str
) -> None:
    """Each element of the batch gets a share of the loss's gradient, a weight the sum of it."""
    ops = [op("h0", "mul", "x", "w0")]
    ops += [op(f"h{layer}", "mul", f"h{layer - 1}", f"w{layer}") for layer in range(1, 6)]
    ops += [op("m", root, "h5"), op("t", "mul", "m", other=2), op("out", "add", "t", other=1)]
    request = {
        "leaves": [
            leaf("x", [1] * batch, requires_grad=False),
            *(leaf(f"w{layer}", 1) for layer in range(6)),
        ],
        "ops": ops,
    }
    flow = health(request)["gradient_flow"]
    assert (flow["verdict"], flow["ratio"]) == ("steady", 1.0)
    assert flow["levels"][0] == {"depth": 0, "nodes": 1, "grad_rms": 1.0}


@pytest.mark.parametrize(
    "numbers",
    [
        [3.0, -4.0, 0.5, 0.25],
        [0.0, -0.0],
        [3.0, "NaN", "-Infinity"],
        ["Infinity", "NaN"],
        ["NaN"],
        [1e300, -1e300],
        [5e-324, 0.0],
        [[3.0, -4.0], ["Infinity", "NaN"]],
        [[1.5e308, 1.5e308], ["NaN", 0.0]],
    ],
    ids=str,
)
def test_few_and_many_gradients_are_measured_alike(numbers: list[Any]) -> None:
    dtype = "complex128" if isinstance(numbers[0], list) else "float64"

    def measured(repeats: int) -> tuple[Any, Any]:
        one = [1.0, 0.0] if dtype == "complex128" else 1.0
        ones = leaf("x", [one] * len(numbers) * repeats)
        backward = [{"node": "out", "gradient": numbers * repeats}]
        request = {"dtype": dtype, "leaves": [ones], "ops": [op("out", "neg", "x")]}
        found = health(request | {"backward": backward})
        bad = found["nonfinite_grad"]
        sizes = [level["grad_rms"] for level in found["gradient_flow"]["levels"]]
        return sizes, bad and (bad["node"], bad["kind"])

    sizes, bad = measured(64)
    assert measured(1) == (pytest.approx(sizes, rel=1e-15, abs=0), bad)


@pytest.mark.parametrize(
    ("weight", "verdict"), [(0.3, "vanishing"), (1.0, "steady"), (3.0, "exploding")]
)
def test_a_weight_of_every_step_hides_no_vanishing_of_an_rnn(weight: float, verdict: str) -> None:
    """The gradient of the weight is that of all steps, also of the last, which is large."""
    ops = [op(f"h{step + 1}", "addmv", f"x{step}", "w", f"h{step}") for step in range(20)]
    request = {
        "leaves": [
            leaf("w", [[0.0, weight], [weight, 0.0]]),
            leaf("h0", [1.0, 1.0], requires_grad=False),
            *(leaf(f"x{step}", [1.0, 1.0], requires_grad=False) for step in range(20)),
        ],
        "ops": [*ops, op("out", "sum", "h20")],
    }
    assert health(request)["gradient_flow"]["verdict"] == verdict


def test_single_numbers_are_looked_at_where_they_are_the_most() -> None:
    ops = [op("s", "sum", "x")]
    ops += [op(f"h{i}", "mul", f"h{i - 1}" if i else "s", other=0.1) for i in range(12)]
    request = {"leaves": [leaf("x", [1.0, 2.0])], "ops": ops}
    assert health(request)["gradient_flow"]["verdict"] == "vanishing"


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
