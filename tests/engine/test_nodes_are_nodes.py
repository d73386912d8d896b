"""Flags, gradients and memory never leak between nodes, nor from one request to the next."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.engine.asking import ENGINE, leaf, nodes_of, op, problem, trace

RETURNS_ITS_INPUT: list[tuple[str, dict[str, Any]]] = [
    ("contiguous", {}),
    ("positive", {}),
    ("conj", {}),
    ("real", {}),
    ("resolve_conj", {}),
    ("resolve_neg", {}),
    ("to", {"dtype": "float32"}),
    ("float", {}),
    ("flatten", {}),
    ("atleast_1d", {}),
    ("nn.functional.dropout", {"training": False}),
    ("nn.functional.alpha_dropout", {"training": False}),
    ("nn.functional.feature_alpha_dropout", {"training": False}),
    ("sum_to_size", {"size": [2]}),
    ("expand", {"size": [2]}),
    ("view", {"size": [2]}),
    ("reshape", {"shape": [2]}),
    ("squeeze", {}),
    ("ravel", {}),
    ("narrow", {"dim": 0, "start": 0, "length": 2}),
    ("expand_as", {"other": {"ref": "k"}}),
    ("view_as", {"other": {"ref": "k"}}),
    ("conj_physical", {}),
]


@pytest.mark.parametrize(
    ("name", "attrs"), RETURNS_ITS_INPUT, ids=[name for name, _ in RETURNS_ITS_INPUT]
)
def test_an_op_that_may_return_its_input_is_a_node_of_its_own(
    name: str, attrs: dict[str, Any]
) -> None:
    """Only the result retains; h's flags stay off, and each gradient is that of its own node."""
    request = {
        "leaves": [leaf("x", [1.0, 2.0]), leaf("k", [1.0, 1.0], requires_grad=False)],
        "ops": [
            op("h", "mul", "x", other=3),
            {"id": "c", "op": name, "inputs": ["h"], "attrs": attrs, "retain_grad": True},
            op("z", "mul", "c", other=2),
            op("s", "add", "h", "z"),
            op("out", "sum", "s"),
        ],
    }
    nodes = nodes_of(request)
    assert nodes["h"]["retains_grad"] is False
    assert nodes["h"]["grad_status"] == "not_retained"
    assert nodes["c"]["grad"] == [2.0, 2.0]
    assert nodes["x"]["grad"] == [9.0, 9.0]


def test_the_same_input_twice_and_an_earlier_tensor_are_nodes_of_their_own() -> None:
    request = {
        "leaves": [leaf("x", [1.0, 2.0])],
        "ops": [
            op("b", "broadcast_tensors", "x", "x", retain_grad=True),
            op("m", "mul", "b:0", "b:1"),
            op("out", "sum", "m"),
        ],
    }
    nodes = nodes_of(request)
    assert nodes["b:0"]["grad"] == [1.0, 2.0]
    assert nodes["x"]["grad"] == [2.0, 4.0]


def test_requires_grad_on_a_view_of_a_constant_leaves_the_constant_alone() -> None:
    request = {
        "leaves": [leaf("k", [1.0, 2.0], requires_grad=False)],
        "ops": [
            op("v", "contiguous", "k", requires_grad=True),
            op("m", "mul", "v", "k"),
            op("out", "sum", "m"),
        ],
    }
    nodes = nodes_of(request)
    assert (nodes["k"]["requires_grad"], nodes["v"]["requires_grad"]) == (False, True)
    assert nodes["v"]["grad"] == [1.0, 2.0]


def test_batch_norm_leaves_its_running_statistics_as_they_were() -> None:
    request = {
        "leaves": [
            leaf("x", [[1.0, 2.0], [3.0, 5.0]]),
            leaf("mean", [0.0, 0.0], requires_grad=False),
            leaf("var", [1.0, 1.0], requires_grad=False),
        ],
        "ops": [
            op("n", "nn.functional.batch_norm", "x", "mean", "var", training=True),
            op("m", "add", "mean", "var"),
            op("q", "pow", "n", exponent=3),
            op("out", "sum", "q"),
        ],
    }
    nodes = nodes_of(request)
    assert (nodes["mean"]["value"], nodes["var"]["value"], nodes["m"]["value"]) == (
        [0.0, 0.0],
        [1.0, 1.0],
        [1.0, 1.0],
    )


def test_embedding_with_max_norm_leaves_the_weights_as_they_were() -> None:
    request = {
        "leaves": [
            leaf("i", [0, 1], requires_grad=False, dtype="int64"),
            leaf("w", [[3.0, 4.0], [0.1, 0.1]]),
        ],
        "ops": [op("e", "nn.functional.embedding", "i", "w", max_norm=1.0), op("out", "sum", "e")],
    }
    nodes = nodes_of(request)
    assert nodes["w"]["value"] == [[3.0, 4.0], [0.1, 0.1]]
    assert nodes["e"]["value"][0] == pytest.approx([0.6, 0.8], rel=1e-5)


def test_as_strided_sees_no_more_than_its_node() -> None:
    """A slice's storage goes on behind it; the node's does not."""
    request = {
        "leaves": [leaf("x", [1.0, 2.0, 3.0, 4.0])],
        "ops": [
            op("h", "narrow", "x", dim=0, start=0, length=2),
            op("s", "as_strided", "h", size=[2], stride=[1]),
            op("out", "sum", "s"),
        ],
    }
    assert nodes_of(request)["s"]["value"] == [1.0, 2.0]


def test_an_expanded_gradient_and_a_conjugate_are_read_as_numbers() -> None:
    request = {
        "dtype": "complex64",
        "leaves": [leaf("z", [[1.0, 2.0]])],
        "ops": [
            op("c", "conj", "z", retain_grad=True),
            op("i", "imag", "c"),
            op("out", "sum", "i"),
        ],
    }
    nodes = nodes_of(request)
    assert nodes["c"]["value"] == [[1.0, -2.0]]
    assert nodes["i"]["value"] == [-2.0]
    assert nodes["z"]["grad"] == [[0.0, -1.0]]


def state() -> dict[str, Any]:
    return {
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "anomaly": torch.is_anomaly_enabled(),
        "inference": torch.is_inference_mode_enabled(),
    }


def test_a_request_leaves_no_state_behind() -> None:
    before = state()
    random = {"ops": [op("r", "rand", size=[3])], "backward": [], "seed": 11}
    first = trace(random)
    for request in (
        {"leaves": [leaf("x", 1.0)], "ops": [op("b", "add", "x", "nope")]},
        {"leaves": [leaf("x", [1.0, 2.0])], "ops": [op("b", "relu", "x")]},
        {"ops": [op("r", "randn", size=[1000])], "backward": []},
    ):
        ENGINE.trace(
            "application/json", "application/json", repr(request).replace("'", '"').encode()
        )
        assert state() == before
        assert trace(random) == first


def test_a_seed_gives_what_the_same_script_gives() -> None:
    torch.manual_seed(42)
    a, b = torch.randn(3), torch.rand(2)
    torch.manual_seed(7)
    c = torch.nn.functional.dropout(torch.ones(8), 0.5)
    request = {
        "leaves": [leaf("one", [1.0] * 8, requires_grad=False)],
        "ops": [
            op("a", "randn", size=[3]),
            op("b", "rand", size=[2]),
            op("c", "nn.functional.dropout", "one", p=0.5, seed=7),
        ],
        "seed": 42,
        "backward": [],
    }
    for _ in range(2):
        nodes = nodes_of(request)
        assert torch.equal(torch.tensor(nodes["a"]["value"]), a)
        assert torch.equal(torch.tensor(nodes["b"]["value"]), b)
        assert torch.equal(torch.tensor(nodes["c"]["value"]), c)


def test_warnings_of_pytorch_come_every_time() -> None:
    request = {
        "leaves": [leaf("x", [1.0, 2.0]), leaf("y", [[1.0], [2.0]])],
        "ops": [op("out", "nn.functional.mse_loss", "x", "y")],
    }
    first, second = trace(request)["warnings"], trace(request)["warnings"]
    assert first == second
    assert any("broadcasting" in text for text in first)


def test_warnings_of_exact_overloads_are_in_the_answer_too(
    capfd: pytest.CaptureFixture[str],
) -> None:
    request = {"leaves": [leaf("x", [[1.0, 2.0], [3.0, 4.0]])], "backward": []}
    public, exact = (
        trace(request | {"ops": [op("q", name, "x"), op("s", "sum", "q:0")]})["warnings"]
        for name in ("qr", "aten.qr.default")
    )
    assert [text.partition("(Triggered")[0] for text in exact] == [
        text.partition("(Triggered")[0] for text in public
    ]
    assert exact[0].startswith("torch.qr is deprecated")
    bad = {"leaves": [leaf("x", [1.0])], "ops": [op("q", "aten.qr.default", "x")]}
    told = problem(bad | {"backward": []})
    assert told.detail.startswith("linalg.qr: The input tensor A must have at least 2 dimensions")
    assert capfd.readouterr() == ("", "")


def test_no_warning_tells_of_a_gradient_that_was_not_asked_for() -> None:
    request = {"leaves": [leaf("x", [1.0])], "ops": [op("h", "relu", "x"), op("out", "sum", "h")]}
    assert trace(request)["warnings"] == []
