"""What is wrong with the gradients of a graph: where a NaN was born, where they vanish, and why.

The diagnosis needs every gradient, also those that the client did not ask PyTorch to keep. They
come from a second run of the same seed, in which every result retains its gradient and the uses
are split as for edges, so asking for the diagnosis changes neither a flag nor a bit of the answer.
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
from service.engine.edges import Use, grad_of, run_split
from service.engine.limits import Limits
from service.engine.plan import Plan, Step
from service.engine.report import Node, describe
from service.engine.run import Run
from service.engine.tensors import root_gradient

MAX_NAMED = 20
"""How many nodes one finding names."""
SHRINKS = 1e-3
"""Gradients vanish where they are this many times smaller deep down than near the root."""
GROWS = 1e3
MIN_DEPTH = 5
"""Below this depth a large ratio says nothing about vanishing or exploding."""
RELUS = frozenset(
    {
        "relu",
        "nn.functional.relu",
        "nn.functional.relu6",
        "aten.relu.default",
        "aten.relu6.default",
    }
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
    run, uses = run_split(plan, leaves, limits, seed, retain_all=True)
    nodes = _linked(plan, describe(run))
    order = _execution_order(plan, nodes)
    return {
        "nonfinite_value": _first_nonfinite_value(nodes, order),
        "nonfinite_grad": _first_nonfinite_grad(nodes, order, uses, run, limits),
        "gradient_flow": _gradient_flow(nodes, order),
        "dead_relus": _dead_relus(nodes),
        "leaves_without_grad": _leaves_without_grad(plan, nodes),
    }


def _linked(plan: Plan, nodes: list[Node]) -> list[_Diagnosed]:
    places = {node.id: place for place, node in enumerate(nodes)}
    by_node = {step.node: step for step in plan.steps}
    linked = []
    for node in nodes:
        sources = [places[plan.slot_names[slot]] for slot in node.uses]
        step = None if node.op is None else by_node[_maker(node.id)]
        linked.append(_Diagnosed(node, step, list(dict.fromkeys(sources)), []))
    for place, one in enumerate(linked):
        for source in one.sources:
            linked[source].users.append(place)
    return linked


def _maker(node: str) -> str:
    """Return the id of the op, or of the leaf, whose output the node is."""
    return node.partition(":")[0]


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
    how = (
        f"came with the leaf {first.id}."
        if first.op is None
        else f"was made by {first.op} in {first.id}; everything that it reads is finite."
    )
    return {
        "node": first.id,
        "op": first.op,
        "kind": kind,
        "producers": _named(nodes, makes),
        "propagators": _named(nodes, _without(in_order, makes)),
        "note": f"the first {kind} {how}",
    }


def _without(places: Iterable[int], others: Iterable[int]) -> list[int]:
    left_out = set(others)
    return [place for place in places if place not in left_out]


def _bad_roots(run: Run, limits: Limits) -> set[str]:
    """Return the roots that were given a gradient that is not finite."""
    given = [
        (root, root_gradient(root.spec, tensor, limits.max_elements))
        for root, tensor in zip(run.plan.roots, run.roots, strict=True)
    ]
    return {root.node for root, gradient in given if not _is_finite(gradient)}


def _first_nonfinite_grad(
    nodes: Sequence[_Diagnosed],
    order: Sequence[int],
    uses: Sequence[Use],
    run: Run,
    limits: Limits,
) -> dict[str, Any] | None:
    """Find the first gradient in backward order that is not finite, and whose backward did it.

    A node's gradient is made by the backward of the ops that use it: by those of which what they
    contribute is not finite. One whose own results have finite gradients made the NaN; one that got
    it from its results only passed it on.
    """
    bad = [place for place in reversed(order) if not _is_finite(nodes[place].node.grad)]
    if not bad:
        return None
    all_bad, bad_roots = set(bad), _bad_roots(run, limits)
    givers = _givers(nodes, order, uses, bad, bad_roots)
    makes = [place for place in bad if not all_bad.intersection(givers[place])]
    first = nodes[bad[0]].node
    blamed = [] if first.id in bad_roots else givers[bad[0]]
    culprit = nodes[blamed[-1]].node if blamed else None
    assert first.grad is not None
    kind = _kind(first.grad)
    if culprit is not None:
        how = f"the backward of {culprit.op} ({culprit.id}) made it of finite gradients"
    elif first.id in bad_roots:
        how = "it is the gradient that backward started from"
    else:
        how = "its parts are finite, but not their sum"
    return {
        "node": first.id,
        "op": culprit.op if culprit else None,
        "made_by": culprit.id if culprit else None,
        "kind": kind,
        "producers": _named(nodes, makes),
        "propagators": _named(nodes, _without(bad, makes)),
        "note": f"the first {kind} of the backward pass is the gradient of {first.id}: {how}.",
    }


def _givers(
    nodes: Sequence[_Diagnosed],
    order: Sequence[int],
    uses: Sequence[Use],
    bad: Sequence[int],
    bad_roots: set[str],
) -> dict[int, list[int]]:
    """Return, for each node in ``bad``, the results whose ops' backward gave it what is not finite.

    They come in the order of execution. What passes through ``autograd.grad`` has no edges: where
    nothing else gave a node its NaN, the later ones of these did.
    """
    outputs: dict[str, list[int]] = {}
    for place in order:
        if nodes[place].node.grad is not None:
            outputs.setdefault(_maker(nodes[place].node.id), []).append(place)
    rank = {maker: number for number, maker in enumerate(outputs)}
    given: dict[str, set[str]] = {}
    for use in uses:
        if not _is_finite(grad_of(use)):
            given.setdefault(use.node, set()).add(use.op)
    double = {
        maker
        for maker, (place, *_) in outputs.items()
        if (step := nodes[place].step) is not None and step.template.takes_originals
    }
    givers = {}
    for place in bad:
        name = nodes[place].node.id
        ops = given.get(name, set()) & rank.keys()
        if not ops and name not in bad_roots:
            ops = {op for op in double if rank[op] > rank[_maker(name)]}
        in_order = sorted(ops, key=rank.__getitem__)
        givers[place] = [output for op in in_order for output in outputs[op]]
    return givers


def _rms(tensor: Tensor) -> float | None:
    """Return the root mean square over the finite elements.

    Where there are none it is infinite if an element is, as where gradients grow beyond the dtype,
    and None if all are NaN or there are none at all.
    """
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    flat = tensor.detach().to(wide).abs().flatten()
    finite = flat[torch.isfinite(flat)]
    if not finite.numel():
        return math.inf if bool(flat.isinf().any()) else None
    largest = float(finite.max())
    if largest == 0.0:
        return 0.0
    return largest * math.sqrt(float((finite / largest).square().mean()))


def _gradient_flow(nodes: Sequence[_Diagnosed], order: Sequence[int]) -> dict[str, Any]:
    """Compare gradients near the root with those far from it; depth counts ops back from a root."""
    depth: dict[int, int] = {}
    sizes: dict[int, list[float | None]] = {}
    for place in reversed(order):
        one = nodes[place]
        depth[place] = 1 + max((depth[user] for user in one.users if user in depth), default=-1)
        if one.node.grad is not None:
            sizes.setdefault(depth[place], []).append(_rms(one.node.grad))
    levels = [
        {"depth": level, "nodes": len(found), "grad_rms": size}
        for level, found in sorted(sizes.items())
        if (size := _median(found)) is not None
    ]
    return _verdict(levels)


def _median(sizes: Iterable[float | None]) -> float | None:
    """Return the median of the finite ones, infinity or None where there are only such."""
    known = sorted(size for size in sizes if size is not None)
    finite = [size for size in known if math.isfinite(size)] or known[:1]
    if not finite:
        return None
    low, high = finite[(len(finite) - 1) // 2], finite[len(finite) // 2]
    return low if low == high else low + (high - low) / 2  # their sum could overflow


def _verdict(levels: list[dict[str, Any]]) -> dict[str, Any]:
    sizes = [level["grad_rms"] for level in levels]
    third = len(levels) // 3
    verdict, ratio = "too_shallow", None
    if levels and levels[-1]["depth"] >= MIN_DEPTH and third:
        near = max(filter(math.isfinite, sizes[:third]), default=math.inf)
        far = max(sizes[-third:])
        ratio = far / near if near else math.inf if far else 1.0
        verdict = "vanishing" if ratio < SHRINKS else "exploding" if ratio > GROWS else "steady"
        if not near or not math.isfinite(ratio):
            ratio = None
    told = [level for level in levels if math.isfinite(level["grad_rms"])]
    return {"verdict": verdict, "ratio": ratio, "levels": _thinned(told)}


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


def _leaves_without_grad(plan: Plan, nodes: Sequence[_Diagnosed]) -> list[dict[str, Any]]:
    """Name the leaves that require grad and got none, or only zeros, and where the way ends."""
    used = {plan.slot_names[slot] for step in plan.steps for slot in step.uses}
    behind_roots = _behind_roots(plan, nodes)
    found: list[dict[str, Any]] = []
    for place, one in enumerate(nodes):
        node = one.node
        if len(found) == MAX_NAMED:
            break
        if not node.tensor.is_leaf or not node.tensor.requires_grad:
            continue
        if node.status is GradStatus.NOT_ON_PATH and node.id not in used:
            note = f"no op uses {node.id}."
            found.append({"node": node.id, "reason": "unused", "cut_at": [], "note": note})
        elif node.status is GradStatus.NOT_ON_PATH:
            found.append({"node": node.id, **_why_not_on_path(nodes, place, behind_roots)})
        elif node.grad is not None and node.grad.numel() and not bool(_flat(node.grad).any()):
            reason = f"the gradient of {node.id} is there, but it is all zeros."
            found.append({"node": node.id, "reason": "all_zeros", "cut_at": [], "note": reason})
    return found


def _behind_roots(plan: Plan, nodes: Sequence[_Diagnosed]) -> set[int]:
    """Return the roots and every node that they are computed from, gradient or no gradient."""
    names = {root.node for root in plan.roots}
    to_visit = [place for place, one in enumerate(nodes) if one.node.id in names]
    seen = set(to_visit)
    while to_visit:
        new = [source for source in nodes[to_visit.pop()].sources if source not in seen]
        seen.update(new)
        to_visit.extend(new)
    return seen


def _why_not_on_path(
    nodes: Sequence[_Diagnosed], leaf: int, behind_roots: set[int]
) -> dict[str, Any]:
    cuts = [
        place
        for place in _reached(nodes, leaf, lambda place: nodes[place].node.tensor.requires_grad)
        if nodes[place].node.status is GradStatus.NON_DIFFERENTIABLE and place in behind_roots
    ]
    if cuts:
        names = _named(nodes, cuts)
        note = f"what is computed from {nodes[leaf].node.id} is cut from autograd at {names[0]}."
        return {"reason": "cut", "cut_at": names, "note": note}
    note = (
        f"what is computed from {nodes[leaf].node.id} leads to no root, or the ops between pass it "
        "no gradient."
    )
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
