"""What each use of a node contributes to its gradient, from a second run with the uses split.

Every use of a tensor ``t`` by an op gets a view ``e = t.view_as(t)`` of its own that retains its
gradient: ``e.grad`` is this use's contribution. That holds for composite ops and for
``cat([h, h])`` alike. It can change last bits (autograd then adds contributions in another order),
so the answer's values and gradients never come from this run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from torch import Tensor

from service.engine.limits import Limits
from service.engine.plan import Plan, Step
from service.engine.report import SHOWN, Trace, Wanted, add_field
from service.engine.run import Run, run_backward, run_forward
from service.engine.stats import tensor_stats


class Use(NamedTuple):
    """One use of a node by an op; ``view`` is what the op got instead of the node's tensor."""

    node: str
    op: str
    parameter: str
    view: Tensor


def run_split(
    plan: Plan, leaves: Sequence[Tensor], limits: Limits, seed: int, *, retain_all: bool = False
) -> tuple[Run, list[Use]]:
    """Run ``plan`` once more with every use split; return the run, and the uses in its ops' order.

    Args:
        plan: of the graph.
        leaves: those of the first run; fresh ones are made of them, so no gradient is touched.
        limits: as in the first run.
        seed: as in the first run.
        retain_all: whether every result retains its gradient too.
    """
    uses: dict[int, list[Use]] = {}
    steps = [_split(step, plan, uses) for step in plan.steps]
    fresh = [leaf.detach().requires_grad_(leaf.requires_grad) for leaf in leaves]
    run = run_forward(replace(plan, steps=steps), fresh, limits, seed)
    in_order = [use for index in sorted(uses) for use in uses[index]]
    retaining = [use.view for use in in_order]
    if retain_all:
        retaining += chain.from_iterable(run.results)
    for tensor in retaining:
        if tensor.requires_grad:
            tensor.retain_grad()
    run_backward(run, limits)
    return run, in_order


def _split(step: Step, plan: Plan, uses: dict[int, list[Use]]) -> Step:
    """Return ``step`` with a view of its own for each use; the views are noted in ``uses``."""
    if step.template.operation.takes_originals:
        return step
    call = step.template.compile(range(len(step.uses)))
    parameters = step.template.parameters

    def call_with_views(slots: list[Any]) -> Any:
        views = [slots[slot].view_as(slots[slot]) for slot in step.uses]
        uses[step.index] = [
            Use(plan.slot_names[slot], step.node, parameter, view)
            for slot, parameter, view in zip(step.uses, parameters, views, strict=True)
        ]
        return call(views)

    return replace(step, call=call_with_views)


def count_elements(uses: Sequence[Use], wanted: Wanted) -> int:
    """Return how many elements the edges of an answer carry."""
    return sum(wanted.count(grad) for use in uses if (grad := grad_of(use)) is not None)


def grad_of(use: Use) -> Tensor | None:
    """Return what this use contributes, None where the node is not tracked or nothing came."""
    return use.view.grad if use.view.retains_grad else None


def write_edges(uses: Sequence[Use], wanted: Wanted) -> list[Trace]:
    """Return the Edge of every use, for orjson."""
    edges: list[Trace] = [{"from": use.node, "to": use.op, "input": use.parameter} for use in uses]
    grads = [grad_of(use) for use in uses]
    wanted.put(edges, {"grad": grads})
    if wanted.encoding == SHOWN:  # a picture needs to know how large all of it is
        norms = (None if grad is None else tensor_stats(grad)["norm"] for grad in grads)
        add_field(edges, "norm", norms)
    return edges
