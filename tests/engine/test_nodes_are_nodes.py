"""Flags, gradients and memory never leak between nodes, nor from one request to the next."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import tensor
from torch.nn import functional

from tests.engine.asking import leaf, nodes_of, op, problem, trace
from tests.engine.calls import call

X = torch.arange(6.0).reshape(2, 3)
SIGNAL = torch.arange(8.0).reshape(1, 2, 4)

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


def test_renormalizing_an_embedding_leaves_its_weight_alone() -> None:
    weight = torch.full((3, 2), 5.0)
    result = call("nn.functional.embedding", [tensor([0]), weight], {"max_norm": 1.0})
    assert weight.eq(5).all()
    expected = weight.clone()
    assert torch.equal(result, functional.embedding(tensor([0]), expected, max_norm=1.0))
    bag = call("nn.functional.embedding_bag", [tensor([[0]]), weight], {"max_norm": 1.0})
    assert weight.eq(5).all()
    assert not bag.eq(5).any()
    with pytest.warns(UserWarning, match="Argument order"):
        bag = call("nn.functional.embedding_bag", [weight, tensor([[0]])], {"max_norm": 1.0})
    assert weight.eq(5).all()
    assert not bag.eq(5).any()


@pytest.mark.parametrize(
    ("name", "flag"), [("batch_norm", "training"), ("instance_norm", "use_input_stats")]
)
def test_normalizing_leaves_the_running_statistics_alone(name: str, flag: str) -> None:
    mean, variance = torch.zeros(2), torch.ones(2)
    result = call(f"nn.functional.{name}", [SIGNAL, mean, variance], {flag: True})
    assert mean.eq(0).all()
    assert variance.eq(1).all()
    function = getattr(functional, name)
    assert torch.equal(result, function(SIGNAL, mean.clone(), variance.clone(), **{flag: True}))


def test_strides_never_reach_beyond_a_view() -> None:
    base = torch.arange(10.0)
    view = base[2:6]
    assert torch.equal(call("as_strided", [base], {"size": [2], "stride": [3]}), tensor([0.0, 3.0]))
    assert torch.equal(call("as_strided", [view], {"size": [2], "stride": [3]}), tensor([2.0, 5.0]))
    with pytest.raises(RuntimeError, match="out of bounds"):
        call("as_strided", [view], {"size": [2], "stride": [5]})
    turned = X.mT
    strided = {"size": [6], "stride": [1]}
    assert torch.equal(call("as_strided", [turned], strided), X.reshape(6))
    assert torch.equal(
        call("as_strided", [X[:1].expand(2, 3)], strided), X[:1].repeat(2, 1).reshape(6)
    )


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
    request = {"leaves": [leaf("x", [1.0])], "backward": []}
    public, exact = (
        trace(request | {"ops": [op("s", name, "x")]})["warnings"]
        for name in ("std", "aten.std.correction")
    )
    assert [text.partition("(Triggered")[0] for text in exact] == [
        text.partition("(Triggered")[0] for text in public
    ]
    assert exact[0].startswith("std(): degrees of freedom is <= 0")
    bad = {"leaves": [leaf("x", [1.0])], "ops": [op("q", "aten.linalg_qr.default", "x")]}
    told = problem(bad | {"backward": []})
    assert told.detail.startswith("linalg.qr: The input tensor A must have at least 2 dimensions")
    assert capfd.readouterr() == ("", "")


def test_no_warning_tells_of_a_gradient_that_was_not_asked_for() -> None:
    request = {"leaves": [leaf("x", [1.0])], "ops": [op("h", "relu", "x"), op("out", "sum", "h")]}
    assert trace(request)["warnings"] == []


def test_a_gradient_is_retained_where_a_write_left_its_function_out_of_date() -> None:
    """`g:0` is a view whose base `as_strided_scatter` wrote into on its way back."""
    request = {
        "leaves": [leaf("x", [2.0]), leaf("y", [3.0], requires_grad=False), leaf("c", [0.5])],
        "ops": [
            op("s", "as_strided_scatter", "x", "y", size=[1], stride=[1], storage_offset=0),
            op("g", "autograd.grad", "s", "x", grad_outputs={"ref": "c"}),
        ],
        "retain_grad": True,
        "backward": [{"node": "g:0"}],
    }
    found = nodes_of(request)["g:0"]
    assert (found["retains_grad"], found["grad_status"], found["grad"]) == (True, "retained", [1.0])
