"""``.grad``: what it is where a script asks, as a node to compute with, and how it is emptied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service.translate.graph import Root
from service.translate.operations import add, compute
from service.translate.reading import Reading
from service.translate.unreadable import Unreadable
from service.translate.values import Gradient, Node, Ref, Several, Tensor, walk

KEPT_BEFORE = (
    "this .grad was kept while a later backward pass made another one, which leaves this as it "
    "was; .clone() it where it is kept"
)
EMPTIED = "this .grad was kept while .grad.zero_() emptied it; .clone() it where it is kept"


def gradient_of(reading: Reading, of: Tensor) -> Gradient:
    """Return ``of.grad``: there where some root since it was last emptied leads to the tensor."""
    there = of.zeroed or bool(_contributions(reading, of))
    return Gradient(of, there, of.replaced, len(reading.graph.roots))


def _contributions(reading: Reading, of: Tensor) -> list[tuple[Root, Ref]]:
    found = []
    for k, root in enumerate(reading.graph.roots[of.since :], of.since):
        ref = of.at_root(k)
        if ref.node in root.filled:
            found.append((root, ref))
        elif any(one.node.overwritten and one.node in root.filled for _, one in of.past):
            raise Unreadable(
                "a backward pass went through what this tensor was before it was changed in place; "
                "its .grad is not read then"
            )
    return found


def gradient_tensor(reading: Reading, gradient: Gradient) -> Tensor:
    """Return ``tensor.grad`` as a node to compute with: the op ``autograd.grad`` of each root."""
    parts = []
    of = gradient.tensor
    if gradient.there and gradient.replaced != of.replaced:
        raise Unreadable("this .grad was kept while the tensor's own was set to None; .clone() it")
    later = reading.graph.roots[gradient.roots :]
    for root, ref in _contributions(reading, of) if gradient.there else ():
        if root in later and (root.create_graph or not ref.node.requires_grad):
            raise Unreadable(KEPT_BEFORE)
        if root.gradient:
            raise Unreadable(
                ".grad of a backward pass with a gradient cannot be computed with; use "
                "torch.autograd.grad(outputs, inputs, grad_outputs)"
            )
        attrs = {"create_graph": root.create_graph}
        made = add(reading, Node("autograd.grad", inputs=[root.ref, ref], attrs=attrs))
        assert isinstance(made, Several)
        parts.append(made.output(0))
    if not gradient.there:
        raise Unreadable(
            ".grad is None here: no backward pass before this line leads to this tensor as a leaf; "
            "torch.autograd.grad gives the gradient of any tensor"
        )
    total = parts[0] if parts else compute(reading, "zeros_like", of)
    for part in parts[1:]:
        total = compute(reading, "add", total, part)
    total.node.shares_memory = total.node.kept = True
    reading.gradients.append((of, total))
    return total


def tensor_of(reading: Reading, value: Any) -> Any:
    """Return ``x.grad`` as a tensor to compute with, anything else as it is."""
    return gradient_tensor(reading, value) if isinstance(value, Gradient) else value


def empty_gradient(reading: Reading, of: Tensor, *, zeros: bool) -> None:
    """Read ``x.grad = None`` and ``x.grad.zero_()``: later gradients start from nothing."""
    of.zeroed = zeros and gradient_of(reading, of).there
    of.replaced += not zeros
    for value in taken(reading, lambda one: one is of):
        if zeros:
            leave_stale(value.now.node, EMPTIED)
    versions = [of.ref.node]  # since it was last emptied; they have one gradient in PyTorch
    for until, ref in reversed(of.past):
        if until <= of.since:
            break
        versions.append(ref.node)
    of.since = len(reading.graph.roots)
    reading.emptied.update(dict.fromkeys(versions, of.since))


def taken(reading: Reading, is_meant: Callable[[Tensor], bool]) -> list[Tensor]:
    """Return the gradients that were read of some tensors, and note them no longer."""
    taken = [value for of, value in reading.gradients if is_meant(of)]
    reading.gradients[:] = [(of, value) for of, value in reading.gradients if not is_meant(of)]
    return taken


def leave_stale(node: Node, reason: str) -> None:
    """Let nobody use what a node holds, nor what looks at its memory."""
    for one in walk([node], lambda one: () if one.stale else (*one.views, *one.twins)):
        one.stale = one.stale or reason
