"""What is wrong with the gradients of a graph: where a NaN was born, where they vanish, and why.

The diagnosis needs every gradient, also those that the client did not ask PyTorch to keep. They
come from the second run, of the same seed, in which the uses are split as for edges and every
result retains its gradient. So asking for it changes neither a flag nor a bit of the answer.

diagnose
├── link              nodes and ops of the second run, tied together   (linked)
├── nonfinite_*       where NaN and Infinity begin                     (nonfinite)
├── gradient flow     whether gradients vanish or explode              (gradient_flow)
├── dead relus
└── leaves without a gradient
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from service.contract.response import GradStatus
from service.engine.edges import Use
from service.engine.gradient_flow import gradient_flow
from service.engine.limits import Limits
from service.engine.linked import MAX_NAMED, Linked, link
from service.engine.nonfinite import bad_roots, flat, nonfinite_grad, nonfinite_value
from service.engine.plan import Plan
from service.engine.report import Node, describe
from service.engine.run import Run

RELUS = frozenset(
    {
        "relu",
        "nn.functional.relu",
        "nn.functional.relu6",
        "aten.relu.default",
        "aten.relu6.default",
    }
)


def diagnose(run: Run, uses: Sequence[Use], limits: Limits) -> dict[str, Any]:
    """Return the Health of the graph, see :class:`service.contract.response.Health`.

    Args:
        run: the second run, in which every result retained its gradient.
        uses: what each use of a node contributes.
        limits: as in both runs.
    """
    linked = link(run.plan, describe(run))
    started_from = bad_roots(run, limits)
    return {
        "nonfinite_value": nonfinite_value(linked),
        "nonfinite_grad": nonfinite_grad(linked, uses, started_from),
        "gradient_flow": gradient_flow(linked, started_from),
        "dead_relus": _dead_relus(linked.nodes),
        "leaves_without_grad": _leaves_without_grad(run.plan, linked),
    }


def _dead_relus(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """Name the relus with units (the elements along dimension 1, or all) that are never active.

    A NaN is not dead: relu passes it on, and its gradient too.
    """
    dead = []
    for node in nodes:
        value = node.tensor
        if node.op not in RELUS or not value.numel():
            continue
        active = ~(value <= 0)
        units = active if value.dim() < 2 else active.transpose(0, 1).flatten(1).any(dim=1)
        dead_units = int((~units).sum())
        if dead_units:
            inactive = 1.0 - float(flat(active).to(torch.float64).mean())
            dead.append(
                {
                    "node": node.id,
                    "units": units.numel(),
                    "dead_units": dead_units,
                    "inactive_fraction": inactive,
                }
            )
    return dead[:MAX_NAMED]


def _leaves_without_grad(plan: Plan, linked: Linked) -> list[dict[str, Any]]:
    """Name the leaves that require grad and got none, or only zeros, and where the way ends."""
    behind_roots = _behind_roots(plan, linked)
    found: list[dict[str, Any]] = []
    for place, node in enumerate(linked.nodes):
        if len(found) == MAX_NAMED:
            break
        if not node.tensor.is_leaf or not node.tensor.requires_grad:
            continue
        if node.status is GradStatus.NOT_ON_PATH and not linked.users[place]:
            note = f"no op uses {node.id}."
            found.append({"node": node.id, "reason": "unused", "cut_at": [], "note": note})
        elif node.status is GradStatus.NOT_ON_PATH:
            found.append({"node": node.id, **_why_not_on_path(linked, place, behind_roots)})
        elif node.grad is not None and node.grad.numel() and not bool(flat(node.grad).any()):
            reason = f"the gradient of {node.id} is there, but it is all zeros."
            found.append({"node": node.id, "reason": "all_zeros", "cut_at": [], "note": reason})
    return found


def _behind_roots(plan: Plan, linked: Linked) -> set[int]:
    """Return the roots and every node that they are computed from, gradient or no gradient."""
    names = {root.node for root in plan.roots}
    seen = {place for place, node in enumerate(linked.nodes) if node.id in names}
    for op in reversed(linked.ops):
        if not seen.isdisjoint(op.outputs):
            seen.update(op.reads)
    return seen


def _why_not_on_path(linked: Linked, leaf: int, behind_roots: set[int]) -> dict[str, Any]:
    nodes = linked.nodes
    cuts = [
        place
        for place in _reached(linked, leaf)
        if nodes[place].status is GradStatus.NON_DIFFERENTIABLE and place in behind_roots
    ]
    if cuts:
        names = linked.names(cuts)
        note = f"what is computed from {nodes[leaf].id} is cut from autograd at {names[0]}."
        return {"reason": "cut", "cut_at": names, "note": note}
    note = (
        f"what is computed from {nodes[leaf].id} leads to no root, or the ops between pass it no "
        "gradient."
    )
    return {"reason": "leads_to_no_root", "cut_at": [], "note": note}


def _reached(linked: Linked, leaf: int) -> list[int]:
    """Return every node computed from ``leaf``, not looking behind those that require no grad."""
    seen: set[int] = set()
    found = []
    to_visit = [leaf]
    while to_visit:
        for op in linked.users[to_visit.pop()]:
            if op not in seen:
                seen.add(op)
                outputs = linked.ops[op].outputs
                found += outputs
                to_visit += [place for place in outputs if linked.nodes[place].tensor.requires_grad]
    return sorted(found)
