"""Where NaN and Infinity begin: the op that made the first of them, forward and backward.

A node *produces* one where all that it is made of is finite; it *propagates* one that it was given.
"""

from __future__ import annotations

from cmath import isfinite
from collections.abc import Collection, Mapping, Sequence
from itertools import filterfalse
from typing import Any

import torch
from torch import Tensor

from service.contract.request import MAX_AXES
from service.engine.edges import Use, grad_of
from service.engine.limits import Limits
from service.engine.linked import Linked
from service.engine.report import Node
from service.engine.run import Run
from service.engine.stats import SMALL
from service.engine.tensors import root_gradient
from service.engine.writes import own_memory


def flat(tensor: Tensor) -> Tensor:
    """Return ``tensor``, on one axis where it has more than PyTorch reduces over."""
    return tensor if tensor.dim() <= MAX_AXES else tensor.reshape(-1)


def is_finite(tensor: Tensor | None) -> bool:
    """Return whether all elements of ``tensor`` are finite; where there is no tensor, they are."""
    if tensor is None:
        return True
    if tensor.numel() <= SMALL:
        return all(map(isfinite, own_memory(tensor.reshape(-1)).tolist()))
    return bool(torch.isfinite(flat(tensor)).all())


def _kind(tensor: Tensor) -> str:
    return "NaN" if bool(torch.isnan(flat(tensor)).any()) else "Infinity"


def nonfinite_value(linked: Linked) -> dict[str, Any] | None:
    """Return the NonFiniteValue of a run, None where all values are finite."""
    nodes = linked.nodes
    bad = [place for place in linked.in_order() if not is_finite(nodes[place].tensor)]
    if not bad:
        return None
    all_bad = set(bad)
    passing_on = {
        number for number, op in enumerate(linked.ops) if not all_bad.isdisjoint(op.reads)
    }
    first = nodes[bad[0]]
    kind = _kind(first.tensor)
    note = f"the first {kind} {_origin(linked, bad[0], passing_on)}"
    if kind == "Infinity":
        nan = next((place for place in bad if _kind(nodes[place].tensor) == "NaN"), None)
        if nan is not None:
            note += f"; the first NaN {_origin(linked, nan, passing_on)}"
    return {
        "node": first.id,
        "op": first.op,
        "kind": kind,
        "producers": linked.names(place for place in bad if linked.maker[place] not in passing_on),
        "propagators": linked.names(place for place in bad if linked.maker[place] in passing_on),
        "note": f"{note}.",
    }


def _origin(linked: Linked, place: int, passing_on: Collection[int]) -> str:
    """Say where what is not finite in a node came from, as the end of a sentence."""
    node = linked.nodes[place]
    if node.op is None:
        return f"came with the leaf {node.id}"
    reads = "an Infinity" if linked.maker[place] in passing_on else "no node that is not finite"
    return f"was made by {node.op} in {node.id}, which reads {reads}"


def nonfinite_grad(
    linked: Linked, uses: Sequence[Use], started_from: Collection[str]
) -> dict[str, Any] | None:
    """Return the NonFiniteGrad of a run, None where all gradients are finite.

    A node's gradient is made by the backward of the ops that use it: by those of which what they
    contribute is not finite. One whose own results have finite gradients made the NaN; one that got
    it from its results only passed it on.

    Args:
        linked: the nodes of the run, each with its gradient.
        uses: what each use of a node contributes.
        started_from: ids of the roots that were given a gradient that is not finite.
    """
    nodes = linked.nodes
    bad = [place for place in reversed(linked.in_order()) if not is_finite(nodes[place].grad)]
    if not bad:
        return None
    passing_on = {linked.maker[place] for place in bad}
    given = _given(linked, uses)
    # What passes through autograd.grad has no edges: where nothing else gave a node its NaN, the
    # last of those that are computed from it did.
    grad_ops = {
        number
        for number, op in enumerate(linked.ops)
        if op.takes_originals and linked.with_grad(op.outputs)
    }
    last_grad_op = _last(linked, grad_ops)
    last_bad_grad_op = _last(linked, grad_ops & passing_on)

    def produces(place: int) -> bool:
        name = nodes[place].id
        if name in given:
            return passing_on.isdisjoint(given[name])
        return name in started_from or last_bad_grad_op[place] < 0

    first = nodes[bad[0]]
    assert first.grad is not None
    kind = _kind(first.grad)
    if first.id in started_from:
        maker, how = None, "it is the gradient that backward started from"
    else:
        maker, how = _blame(linked, bad[0], kind, given.get(first.id, {}), last_grad_op)
    return {
        "node": first.id,
        "op": maker.op if maker else None,
        "made_by": maker.id if maker else None,
        "kind": kind,
        "producers": linked.names(filter(produces, bad)),
        "propagators": linked.names(filterfalse(produces, bad)),
        "note": f"the first {kind} of the backward pass is the gradient of {first.id}: {how}.",
    }


def _blame(
    linked: Linked,
    place: int,
    kind: str,
    given: Mapping[int, Collection[str]],
    last_grad_op: Sequence[int],
) -> tuple[Node | None, str]:
    """Return the node whose op's backward made a gradient not finite, and say how.

    Args:
        linked: the nodes of the run.
        place: the node that has the gradient; backward met none that is not finite before it.
        kind: of that gradient.
        given: the ops that contribute to it what is not finite, and of which kinds.
        last_grad_op: for each node the last ``autograd.grad`` that is computed from it, or -1.

    The node is None where no single op is to blame.
    """
    # Of several ops the last: backward comes to it first.
    blamed = max([op for op in given if kind in given[op]] or given, default=last_grad_op[place])
    if blamed < 0:
        return None, "its parts are finite, but not their sum"
    op = linked.ops[blamed]
    if max(last_grad_op[output] for output in op.outputs) >= 0:
        return None, (
            f"the backward of {linked.nodes[op.outputs[0]].op} ({op.id}) made it of finite "
            "gradients, or that of an autograd.grad behind it did"
        )
    maker = linked.nodes[linked.with_grad(op.outputs)[-1]]
    return maker, f"the backward of {maker.op} ({maker.id}) made it of finite gradients"


def bad_roots(run: Run, limits: Limits) -> set[str]:
    """Return the roots that were given a gradient that is not finite."""
    given = [
        (root, root_gradient(root.spec, tensor, limits.max_elements))
        for root, tensor in zip(run.plan.roots, run.roots, strict=True)
    ]
    return {root.node for root, gradient in given if not is_finite(gradient)}


def _given(linked: Linked, uses: Sequence[Use]) -> dict[str, dict[int, set[str]]]:
    """Return, by the node, the ops that contribute what is not finite, and of which kinds it is.

    What comes by an op whose results have no gradient is of an ``autograd.grad`` behind it.
    """
    with_grad = {
        op.id: number for number, op in enumerate(linked.ops) if linked.with_grad(op.outputs)
    }
    given: dict[str, dict[int, set[str]]] = {}
    for use in uses:
        grad = grad_of(use)
        if grad is not None and use.op in with_grad and not is_finite(grad):
            given.setdefault(use.node, {}).setdefault(with_grad[use.op], set()).add(_kind(grad))
    return given


def _last(linked: Linked, wanted: Collection[int]) -> list[int]:
    """Return for each node the last op of ``wanted`` that is computed from it, -1 for none."""
    last = [-1] * len(linked.nodes)
    for number in reversed(range(len(linked.ops))):
        op = linked.ops[number]
        found = max((last[place] for place in op.outputs), default=-1)
        if number in wanted:
            found = max(found, number)
        for place in op.reads:
            last[place] = max(last[place], found)
    return last
