"""Gradients as nodes: what ``autograd.grad`` gives inside a graph is what PyTorch gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from service.contract.problem import ProblemCode
from service.engine.write_tensor import base64_text
from tests.engine.asking import leaf, nodes_of, op, problem

X = [0.5, -1.25, 2.0]
V = [1.0, -0.5, 0.25]


def tensor(values: Any = X, *, requires_grad: bool = True) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=requires_grad)


def request(*ops: dict[str, Any], **more: Any) -> dict[str, Any]:
    leaves = [leaf("x", X), leaf("v", V, requires_grad=False)]
    return {"dtype": "float64", "leaves": leaves, "ops": list(ops), **more}


def numbers(tensor: Tensor) -> Any:
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).tolist()


CUBE = (op("y", "pow", "x", exponent=3), op("e", "exp", "y"), op("s", "sum", "e"))


def cube(x: Tensor) -> Tensor:
    return (x**3).exp().sum()


def test_a_hessian_vector_product_is_the_gradient_of_a_gradient() -> None:
    graph = request(
        *CUBE,
        op("g", "autograd.grad", "s", "x"),
        op("gv", "mul", "g:0", "v"),
        op("out", "sum", "gv"),
    )
    nodes = nodes_of(graph)
    x = tensor()
    (g,) = torch.autograd.grad(cube(x), x, create_graph=True)
    (g * tensor(V, requires_grad=False)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert nodes["g:0"]["value"] == g.tolist()
    assert nodes["x"]["grad"] == x.grad.tolist()


def test_a_hessian_vector_product_by_grad_outputs() -> None:
    graph = request(
        *CUBE,
        op("g", "autograd.grad", "s", "x"),
        op("h", "autograd.grad", "g:0", "x", grad_outputs={"ref": "v"}, create_graph=False),
        backward=[],
    )
    nodes = nodes_of(graph)
    x = tensor()
    (g,) = torch.autograd.grad(cube(x), x, create_graph=True)
    (h,) = torch.autograd.grad(g, x, tensor(V, requires_grad=False))
    assert nodes["h:0"]["value"] == h.tolist()
    assert nodes["g:0"]["requires_grad"]
    assert nodes["h:0"]["grad_status"] == "non_differentiable"


def test_a_gradient_penalty_flows_into_the_weights() -> None:
    weights = [[0.5, -0.25], [1.0, 0.75], [-0.5, 0.125]]
    graph = {
        "dtype": "float64",
        "leaves": [leaf("x", [X]), leaf("w", weights)],
        "ops": [
            op("h", "matmul", "x", "w", retain_grad=True),
            op("t", "tanh", "h", retain_grad=True),
            op("score", "sum", "t"),
            op("g", "autograd.grad", "score", "x", retain_grad=True),
            op("norm", "linalg.vector_norm", "g:0"),
            op("off", "sub", "norm", other=1),
            op("penalty", "pow", "off", exponent=2),
            op("loss", "add", "penalty", "score"),
        ],
    }
    nodes = nodes_of(graph)
    x, w = tensor([X]), tensor(weights)
    h = x @ w
    t = h.tanh()
    score = t.sum()
    (g,) = torch.autograd.grad(score, x, create_graph=True)
    for node in (h, t, g):
        node.retain_grad()
    ((torch.linalg.vector_norm(g) - 1) ** 2 + score).backward()
    for name, node in {"x": x, "w": w, "h": h, "t": t, "g:0": g}.items():
        assert node.grad is not None
        assert nodes[name]["grad"] == node.grad.tolist(), name


def test_a_third_derivative() -> None:
    graph = request(
        op("y", "sin", "x"),
        op("s", "sum", "y"),
        op("g1", "autograd.grad", "s", "x"),
        op("s1", "sum", "g1:0"),
        op("g2", "autograd.grad", "s1", "x"),
        op("s2", "sum", "g2:0"),
        op("g3", "autograd.grad", "s2", "x"),
        op("s3", "sum", "g3:0"),
    )
    nodes = nodes_of(graph)
    x = tensor()
    total = x.sin().sum()
    for order in (1, 2, 3):
        (g,) = torch.autograd.grad(total, x, create_graph=True)
        assert nodes[f"g{order}:0"]["value"] == g.tolist()
        total = g.sum()
    total.backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert nodes["x"]["grad"] == x.grad.tolist()


def test_the_gradient_of_a_retained_node_is_the_roots_alone() -> None:
    graph = request(
        op("y", "pow", "x", exponent=3, retain_grad=True),
        op("s", "sum", "y", retain_grad=True),
        op("g", "autograd.grad", "s", "y", create_graph=False),
    ) | {"backward": [{"node": "s"}]}
    nodes = nodes_of(graph)
    assert nodes["g:0"]["value"] == [1.0, 1.0, 1.0]
    assert nodes["y"]["grad"] == [1.0, 1.0, 1.0]
    assert nodes["s"]["grad"] == 1.0


def test_several_inputs_give_an_output_each() -> None:
    graph = {
        "leaves": [leaf("a", [1.0, 2.0]), leaf("b", [3.0, 4.0])],
        "ops": [
            op("p", "mul", "a", "b"),
            op("s", "sum", "p"),
            op("g", "autograd.grad", "s", "b", "a"),
            op("d", "dot", "g:0", "g:1"),
        ],
    }
    nodes = nodes_of(graph)
    assert nodes["g:0"]["value"] == [1.0, 2.0]
    assert nodes["g:1"]["value"] == [3.0, 4.0]
    assert nodes["a"]["grad"] == [3.0, 4.0]
    assert nodes["b"]["grad"] == [1.0, 2.0]


def test_an_input_that_the_output_does_not_depend_on() -> None:
    ops = [
        op("s", "sum", "x"),
        op("g", "autograd.grad", "s", "w", create_graph=False),
    ]
    graph = {"leaves": [leaf("x", X), leaf("w", V)], "ops": ops, "backward": []}
    told = problem(graph)
    assert told.code == ProblemCode.OP_FAILED
    assert told.errors[0].node == "g"
    ops[1]["attrs"]["materialize_grads"] = True
    assert nodes_of(graph)["g:0"]["value"] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("create_graph", [True, False])
def test_whether_gradients_are_tracked_is_up_to_create_graph(create_graph: bool) -> None:
    graph = request(
        op("y", "pow", "x", exponent=2),
        op("s", "sum", "y"),
        op("g", "autograd.grad", "s", "x", create_graph=create_graph),
        backward=[],
    )
    node = nodes_of(graph)["g:0"]
    assert node["requires_grad"] == create_graph
    assert node["is_leaf"] != create_graph


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("rows", [2, 16, 17, 600])
@pytest.mark.parametrize("encoding", ["value", "value_base64"])
def test_a_gradient_that_is_the_one_given_requires_grad_as_it_does(
    encoding: str, rows: int, dtype: str
) -> None:
    """`t` passes a view of what it is given on, and a view takes after its base."""
    given = torch.ones(2, rows, dtype=getattr(torch, dtype))
    sent = (
        {"value": numbers(given)}
        if encoding == "value"
        else {"value_base64": base64_text(given), "shape": [2, rows]}
    )
    graph = {
        "dtype": dtype,
        "leaves": [leaf("a", numbers(given.t())), {"id": "b", "requires_grad": True, **sent}],
        "ops": [
            op("o", "t", "a"),
            op("g", "autograd.grad", "o", "a", grad_outputs={"ref": "b"}, create_graph=False),
        ],
        "backward": [],
    }
    a, b = given.t().clone().requires_grad_(), given.clone().requires_grad_()
    (g,) = torch.autograd.grad(a.t(), a, b, create_graph=False)
    assert g.requires_grad
    assert nodes_of(graph)["g:0"]["requires_grad"]
