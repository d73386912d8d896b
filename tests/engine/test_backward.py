"""Backward is torch.autograd.backward: the same gradients to the bit, and the same words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from service.engine.limits import Limits
from service.engine.plan import make_plan
from service.engine.run import retain_grads, run_backward, run_forward
from tests.engine.bits import bits

CHAIN: list[dict[str, Any]] = [
    {"id": "h", "op": "mul", "inputs": ["x", "x"], "retain_grad": True},
    {"id": "y", "op": "exp", "inputs": ["h"], "retain_grad": True},
    {"id": "s", "op": "sum", "inputs": ["y"], "retain_grad": True},
]
ROOTS: dict[str, list[tuple[str, Any]]] = {
    "implicit 1": [("s", None)],
    "a gradient": [("y", [0.25, -3.0, 1e-3])],
    "several": [("s", None), ("h", [1.0, 2.0, 3.0]), ("s", None)],
    "the leaf itself": [("x", [1.0, 0.5, 0.1])],
    "a leaf and what is made of it": [("x", [1.0, 0.5, 0.1]), ("s", 2.0)],
}


def values(dtype: torch.dtype) -> Tensor:
    numbers = torch.tensor([0.3, -1.7, 2.9], dtype=torch.float64)
    return (numbers * (1 + 1j) if dtype.is_complex else numbers).to(dtype)


def ours(leaf: Tensor, roots: list[tuple[str, Any]]) -> list[Tensor | None]:
    backward = [
        {"node": node} | ({} if gradient is None else {"gradient": gradient})
        for node, gradient in roots
    ]
    request = {"leaves": [{"id": "x"}], "ops": CHAIN, "backward": backward}
    run = run_forward(make_plan(request), [leaf], Limits(), 0)
    retain_grads(run)
    run_backward(run, Limits())
    return [leaf.grad, *(result.grad for [result] in run.results)]


def pytorchs(leaf: Tensor, roots: list[tuple[str, Any]]) -> list[Tensor | None]:
    h = leaf * leaf
    y = torch.exp(h)
    s = y.sum()
    for node in (h, y, s):
        node.retain_grad()
    nodes = {"x": leaf, "h": h, "y": y, "s": s}
    torch.autograd.backward(
        [nodes[name] for name, _ in roots],
        [None if grad is None else torch.tensor(grad, dtype=leaf.dtype) for _, grad in roots],
    )
    return [leaf.grad, h.grad, y.grad, s.grad]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("roots", ROOTS.values(), ids=ROOTS)
def test_gradients_are_those_of_autograd_to_the_bit(
    roots: list[tuple[str, Any]], dtype: torch.dtype
) -> None:
    got = ours(values(dtype).requires_grad_(), roots)
    wanted = pytorchs(values(dtype).requires_grad_(), roots)
    assert [grad is None for grad in got] == [grad is None for grad in wanted]
    for ours_, theirs in zip(got, wanted, strict=True):
        assert ours_ is None or theirs is None or bits(ours_) == bits(theirs)


def test_a_complex_root_starts_from_the_gradient_given() -> None:
    gradient = [[1.0, -2.0], [0.5, 0.25], [3.0, 0.0]]
    pairs = [complex(*pair) for pair in gradient]
    [grad, *_] = ours(values(torch.complex128).requires_grad_(), [("y", gradient)])
    [wanted, *_] = pytorchs(values(torch.complex128).requires_grad_(), [("y", pairs)])
    assert grad is not None
    assert wanted is not None
    assert bits(grad) == bits(wanted)
