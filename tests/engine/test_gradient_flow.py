"""Whether gradients vanish or explode on their way from the root."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.asking import health, leaf, op


def flow(request: dict[str, Any]) -> tuple[str, Any]:
    """Return the verdict on the gradients of a graph, and the ratio that it rests on."""
    found = health(request)["gradient_flow"]
    return found["verdict"], found["ratio"]


def levels(request: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = health(request)["gradient_flow"]["levels"]
    return found


def chain(name: str, length: int, **attrs: Any) -> dict[str, Any]:
    ops = [op(f"h{i}", name, f"h{i - 1}" if i else "x", **attrs) for i in range(length)]
    return {"leaves": [leaf("x", [1.0, 2.0])], "ops": [*ops, op("out", "sum", f"h{length - 1}")]}


def test_vanishing_exploding_and_steady_gradients_are_told_apart() -> None:
    for factor, verdict in ((0.1, "vanishing"), (10.0, "exploding"), (1.0, "steady")):
        assert flow(chain("mul", 12, other=factor))[0] == verdict


@pytest.mark.parametrize(
    ("dtype", "factor"), [("float32", 1e10), ("float16", 300), ("float32", 1e38)]
)
def test_gradients_that_grow_beyond_their_dtype_explode(dtype: str, factor: float) -> None:
    request = chain("mul", 12, other=factor) | {"dtype": dtype}
    assert flow(request) == ("exploding", None)
    assert health(request)["nonfinite_grad"]["kind"] == "Infinity"


def given(*gradient: Any) -> dict[str, Any]:
    """Return a chain of depth 6 that passes the gradients on as they are."""
    request = chain("mul", 6, other=1)
    return request | {
        "ops": request["ops"][:-1],
        "backward": [{"node": "h5", "gradient": gradient}],
    }


def test_gradients_that_stay_what_they_are_are_steady_whatever_they_are() -> None:
    assert flow(given(0, 0))[0] == "steady"
    assert flow(given("Infinity", "Infinity"))[0] == "steady"
    complex64 = given([3e38, 3e38]) | {"leaves": [leaf("x", [[1, 1]])], "dtype": "complex64"}
    assert flow(complex64) == ("steady", 1.0)
    assert len(levels(complex64)) == 7


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
    assert flow(request) == ("steady", None)


def test_an_infinity_that_backward_started_with_deep_down_is_no_explosion() -> None:
    request = chain("mul", 12, other=1)
    infinite = {"node": "h2", "gradient": ["Infinity", "Infinity"]}
    assert flow(request | {"backward": [{"node": "out"}, infinite]}) == ("steady", 1.0)


def test_an_infinity_that_backward_started_with_and_that_is_masked_does_not_vanish() -> None:
    """What a mask lets through of it are the zeros, which no infinity shrank to."""
    ops = chain("mul", 12, other=1)["ops"][:-1]
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
    assert flow(request) == ("steady", None)


def test_what_grows_beside_an_infinity_that_backward_started_with_explodes() -> None:
    request = chain("mul", 12, other=10)
    request["ops"].pop()
    request["backward"] = [{"node": "h11", "gradient": ["Infinity", 1]}]
    assert flow(request) == ("exploding", pytest.approx(1e8))


def test_an_infinity_that_an_op_made_behind_such_a_root_is_its_own() -> None:
    """The mask ends the one that backward started with; the root of 0 makes another."""
    ops = chain("mul", 12, other=1)["ops"][:-1]
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
    assert flow(request) == ("exploding", None)


def test_a_deep_graph_of_nan_alone_is_not_called_shallow() -> None:
    assert flow(given("NaN", "NaN")) == ("steady", None)
    assert levels(given("NaN", "NaN")) == []


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(0.001, "steady"), (0.000999, "vanishing"), (1000, "steady"), (1001, "exploding")],
)
def test_a_thousandth_and_a_thousand_times_are_the_bounds(factor: float, verdict: str) -> None:
    names = ["neg", "neg", "mul", "neg", "neg", "sum"]
    ops = [op(f"h{i}", name, f"h{i - 1}" if i else "x") for i, name in enumerate(names)]
    ops[2]["attrs"] = {"other": factor}
    request = {"leaves": [leaf("x", [1.0, 2.0])], "ops": ops, "dtype": "float64"}
    assert flow(request) == (verdict, factor)


def test_a_level_tells_the_median_of_all_its_nodes_with_a_gradient() -> None:
    request = {
        "dtype": "float64",
        "leaves": [leaf("a", 1.0), leaf("b", 3.0), leaf("e", [], shape=[0])],
        "ops": [op("m", "mul", "a", "b"), op("s", "sum", "e"), op("out", "add", "m", "s")],
    }
    assert levels(request)[-1] == {"depth": 2, "nodes": 3, "grad_rms": 2.0}


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
    assert flow(request) == ("steady", 1.0)
    assert levels(request)[0] == {"depth": 0, "nodes": 1, "grad_rms": 1.0}


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
    assert flow(request)[0] == verdict


def test_single_numbers_are_looked_at_where_they_are_the_most() -> None:
    ops = [op("s", "sum", "x")]
    ops += [op(f"h{i}", "mul", f"h{i - 1}" if i else "s", other=0.1) for i in range(12)]
    request = {"leaves": [leaf("x", [1.0, 2.0])], "ops": ops}
    assert flow(request)[0] == "vanishing"
