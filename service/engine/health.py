"""What is wrong with the gradients of a graph: where a NaN was born, where they vanish, and why.

The diagnosis needs every gradient, also those that the client did not ask PyTorch to keep. They
come from a second run of the same seed in which every result retains its gradient, so asking for
the diagnosis changes neither a flag nor a bit of the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from service.contract.request import MAX_AXES
from service.contract.response import GradStatus
from service.engine.limits import Limits
from service.engine.plan import Plan, Step
from service.engine.report import Node, describe
from service.engine.run import run_backward, run_forward

MAX_NAMED = 20
"""How many nodes one finding names."""
SHRINKS = 1e-3
"""Gradients vanish where they are this many times smaller deep down than near the root."""
GROWS = 1e3
MIN_DEPTH = 5
"""Below this depth a large ratio says nothing about vanishing or exploding."""
RELUS = frozenset(
    {"relu", "relu6", "nn.functional.relu", "nn.functional.relu6", "aten.relu.default"}
)


@dataclass(slots=True)
class _Diagnosed:
    """A node of the second run with what the findings are made of."""

    node: Node
    step: Step | None
    sources: list[int]
    """The nodes that its op reads, by their place in the list of nodes."""
    users: list[int]


def diagnose(plan: Plan, leaves: Sequence[Tensor], limits: Limits, seed: int) -> dict[str, Any]:
    """Return the Health of the graph, see :class:`service.contract.response.Health`.

    Args:
        plan: of the graph.
        leaves: those of the first run; fresh ones are made of them.
        limits: as in the first run.
        seed: as in the first run.
    """
    fresh = [leaf.detach().requires_grad_(leaf.requires_grad) for leaf in leaves]
    run = run_forward(plan, fresh, limits, seed)
    for outputs in run.results:
        for output in outputs:
            if output.requires_grad:
                output.retain_grad()
    run_backward(run, limits)
    nodes = _linked(plan, describe(run))
    order = _execution_order(plan, nodes)
    return {
        "nonfinite_value": _first_nonfinite_value(nodes, order),
        "nonfinite_grad": _first_nonfinite_grad(nodes, order),
        "gradient_flow": _gradient_flow(nodes, order),
        "dead_relus": _dead_relus(nodes),
        "leaves_without_grad": _leaves_without_grad(nodes),
    }


def _linked(plan: Plan, nodes: list[Node]) -> list[_Diagnosed]:
    places = {node.id: place for place, node in enumerate(nodes)}
    by_node = {step.node: step for step in plan.steps}
    linked = []
    for node in nodes:
        sources = [places[plan.slot_names[slot]] for slot in node.uses]
        step = None if node.op is None else by_node[node.id.partition(":")[0]]
        linked.append(_Diagnosed(node, step, list(dict.fromkeys(sources)), []))
    for place, one in enumerate(linked):
        for source in one.sources:
            linked[source].users.append(place)
    return linked


def _execution_order(plan: Plan, nodes: Sequence[_Diagnosed]) -> list[int]:
    """Return the places of the nodes as they came to be: leaves, then the steps' outputs."""
    rank = {step.node: number for number, step in enumerate(plan.steps)}
    return sorted(
        range(len(nodes)),
        key=lambda place: -1 if (step := nodes[place].step) is None else rank[step.node],
    )


def _is_finite(tensor: Tensor | None) -> bool:
    return tensor is None or bool(torch.isfinite(_flat(tensor)).all())


def _kind(tensor: Tensor) -> str:
    return "NaN" if bool(torch.isnan(_flat(tensor)).any()) else "Infinity"


def _flat(tensor: Tensor) -> Tensor:
    """Return ``tensor``, on one axis where it has more than PyTorch reduces over."""
    return tensor if tensor.dim() <= MAX_AXES else tensor.reshape(-1)


def _named(nodes: Sequence[_Diagnosed], places: Iterable[int]) -> list[str]:
    return [nodes[place].node.id for place in places][:MAX_NAMED]


def _first_nonfinite_value(
    nodes: Sequence[_Diagnosed], order: Sequence[int]
) -> dict[str, Any] | None:
    bad = {place for place in order if not _is_finite(nodes[place].node.tensor)}
    if not bad:
        return None
    in_order = [place for place in order if place in bad]
    makes = [place for place in in_order if not bad.intersection(nodes[place].sources)]
    first = nodes[in_order[0]].node
    kind = _kind(first.tensor)
    how = "was given as a leaf" if first.op is None else f"was made by {first.op}"
    return {
        "node": first.id,
        "op": first.op,
        "kind": kind,
        "producers": _named(nodes, makes),
        "propagators": _named(nodes, (place for place in in_order if place not in set(makes))),
        "note": f"the first {kind} {how} in {first.id}; everything that it reads is finite.",
    }


def _first_nonfinite_grad(
    nodes: Sequence[_Diagnosed], order: Sequence[int]
) -> dict[str, Any] | None:
    """Find the first gradient in backward order that is not finite, and whose backward did it.

    A node's gradient is made by the backward of the ops that use it. One whose own results have
    finite gradients made the NaN; one that got it from its results only passed it on.
    """
    backward = list(reversed(order))
    bad = [place for place in backward if not _is_finite(nodes[place].node.grad)]
    if not bad:
        return None
    all_bad = set(bad)
    makes = [place for place in bad if not all_bad.intersection(nodes[place].users)]
    first = nodes[bad[0]]
    culprits = [
        nodes[user]
        for user in first.users
        if user not in all_bad and nodes[user].node.grad is not None
    ]
    culprit = culprits[-1].node if culprits else None
    grad = first.node.grad
    assert grad is not None
    kind = _kind(grad)
    how = (
        f"the backward of {culprit.op} ({culprit.id}) made it of finite gradients"
        if culprit
        else "it is the gradient that backward started from"
    )
    return {
        "node": first.node.id,
        "op": culprit.op if culprit else None,
        "made_by": culprit.id if culprit else None,
        "kind": kind,
        "producers": _named(nodes, makes),
        "propagators": _named(nodes, (place for place in bad if place not in set(makes))),
        "note": f"the first {kind} of the backward pass is the gradient of {first.node.id}: {how}.",
    }


def _rms(tensor: Tensor) -> float | None:
    """Return the root mean square over the finite elements; None where there are none."""
    flat = tensor.detach().abs().to(torch.float64).flatten()
    finite = flat[torch.isfinite(flat)]
    if not finite.numel():
        return None
    largest = float(finite.max())
    if largest == 0.0:
        return 0.0
    return largest * math.sqrt(float((finite / largest).square().mean()))


def _gradient_flow(nodes: Sequence[_Diagnosed], order: Sequence[int]) -> dict[str, Any]:
    """Compare gradients near the root with those far from it; depth counts ops back from a root."""
    depth: dict[int, int] = {}
    sizes: dict[int, list[float]] = {}
    for place in reversed(order):
        one = nodes[place]
        depth[place] = 1 + max((depth[user] for user in one.users if user in depth), default=-1)
        if one.node.grad is not None and (size := _rms(one.node.grad)) is not None:
            sizes.setdefault(depth[place], []).append(size)
    levels = [
        {"depth": level, "nodes": len(found), "grad_rms": sorted(found)[len(found) // 2]}
        for level, found in sorted(sizes.items())
    ]
    return _verdict(levels)


def _verdict(levels: list[dict[str, Any]]) -> dict[str, Any]:
    third = len(levels) // 3
    verdict, ratio = "too_shallow", None
    if levels and levels[-1]["depth"] >= MIN_DEPTH and third:
        near = max(level["grad_rms"] for level in levels[:third])
        far = max(level["grad_rms"] for level in levels[-third:])
        ratio = far / near if near else None
        if ratio is None or not math.isfinite(ratio):
            verdict, ratio = ("exploding" if far else "vanishing"), None
        else:
            verdict = "vanishing" if ratio < SHRINKS else "exploding" if ratio > GROWS else "steady"
    return {"verdict": verdict, "ratio": ratio, "levels": _thinned(levels)}


def _thinned(levels: list[dict[str, Any]], most: int = 100) -> list[dict[str, Any]]:
    """Return at most ``most`` of ``levels``, evenly spread, the first and the last among them."""
    if len(levels) <= most:
        return levels
    return [levels[round(number * (len(levels) - 1) / (most - 1))] for number in range(most)]


def _dead_relus(nodes: Sequence[_Diagnosed]) -> list[dict[str, Any]]:
    """Name the relus with units (the elements along dimension 1, or all) that are never active."""
    dead = []
    for one in nodes:
        value = one.node.tensor
        if one.node.op not in RELUS or not value.numel():
            continue
        active = value > 0
        units = active if value.dim() < 2 else active.transpose(0, 1).flatten(1).any(dim=1)
        dead_units = int((~units).sum())
        if dead_units:
            inactive = 1.0 - float(_flat(active).to(torch.float64).mean())
            dead.append(
                {
                    "node": one.node.id,
                    "units": units.numel(),
                    "dead_units": dead_units,
                    "inactive_fraction": inactive,
                }
            )
    return dead[:MAX_NAMED]


def _leaves_without_grad(nodes: Sequence[_Diagnosed]) -> list[dict[str, Any]]:
    """Name the leaves that require grad and got none, or only zeros, and where the way ends."""
    found = []
    for place, one in enumerate(nodes):
        node = one.node
        if not node.tensor.is_leaf or not node.tensor.requires_grad:
            continue
        if node.status is GradStatus.NOT_ON_PATH:
            found.append({"node": node.id, **_why_not_on_path(nodes, place)})
        elif node.grad is not None and node.grad.numel() and not bool(node.grad.any()):
            reason = f"the gradient of {node.id} is there, but it is all zeros."
            found.append({"node": node.id, "reason": "all_zeros", "cut_at": [], "note": reason})
    return found[:MAX_NAMED]


def _why_not_on_path(nodes: Sequence[_Diagnosed], leaf: int) -> dict[str, Any]:
    if not nodes[leaf].users:
        note = f"no op uses {nodes[leaf].node.id}."
        return {"reason": "unused", "cut_at": [], "note": note}
    cuts = [
        place
        for place in _reached(nodes, leaf, lambda place: nodes[place].node.tensor.requires_grad)
        if nodes[place].node.status is GradStatus.NON_DIFFERENTIABLE
    ]
    if cuts:
        names = _named(nodes, cuts)
        note = f"what is computed from {nodes[leaf].node.id} is cut from autograd at {names[0]}."
        return {"reason": "cut", "cut_at": names, "note": note}
    note = f"what is computed from {nodes[leaf].node.id} leads to no root."
    return {"reason": "leads_to_no_root", "cut_at": [], "note": note}


def _reached(nodes: Sequence[_Diagnosed], start: int, go_on: Callable[[int], bool]) -> list[int]:
    """Return every node computed from ``start``, not looking behind those ``go_on`` refuses."""
    seen = {start}
    to_visit = [start]
    while to_visit:
        place = to_visit.pop()
        if go_on(place):
            new = [user for user in nodes[place].users if user not in seen]
            seen.update(new)
            to_visit.extend(new)
    return sorted(seen - {start})
