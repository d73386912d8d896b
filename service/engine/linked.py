"""Who reads whom in a run: nodes and ops as the diagnosis walks them.

Nodes are tied to ops and ops to nodes, never nodes to nodes: an op with a thousand inputs and a
thousand outputs has two thousand ties, not a million.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from service.engine.plan import Plan
from service.engine.report import Node

MAX_NAMED = 20
"""How many nodes one finding names."""


class LinkedOp(NamedTuple):
    """What an op reads, each node once, and what it made: places in the list of nodes."""

    id: str
    reads: list[int]
    outputs: list[int]
    takes_originals: bool
    """Whether it has no edges, as ``autograd.grad``."""


@dataclass(slots=True)
class Linked:
    """The nodes of a run and the ops between them.

    A node is named by its place in ``nodes``, the request's order; an op by its place in ``ops``,
    the order of execution.
    """

    nodes: list[Node]
    ops: list[LinkedOp]
    maker: list[int]
    """For each node the op that made it, -1 for a leaf."""
    users: list[list[int]]
    """For each node the ops that read it, in the order of execution."""

    def in_order(self) -> list[int]:
        """Return the nodes as they came to be: leaves, then what each op made."""
        leaves = [place for place, op in enumerate(self.maker) if op < 0]
        return [*leaves, *(output for op in self.ops for output in op.outputs)]

    def with_grad(self, places: Iterable[int]) -> list[int]:
        """Return those of the nodes that have a gradient."""
        return [place for place in places if self.nodes[place].grad is not None]

    def names(self, places: Iterable[int]) -> list[str]:
        """Return the ids of the first few of the nodes."""
        return [self.nodes[place].id for place in places][:MAX_NAMED]


def link(plan: Plan, nodes: list[Node]) -> Linked:
    """Return the nodes of a run of ``plan`` with the ops that read and made them."""
    places = {node.id: place for place, node in enumerate(nodes)}
    outputs: dict[str, list[int]] = {step.node: [] for step in plan.steps}
    for place in range(len(plan.leaves), len(nodes)):
        outputs[nodes[place].id.partition(":")[0]].append(place)
    ops = [
        LinkedOp(
            step.node,
            list(dict.fromkeys(places[plan.slot_names[slot]] for slot in step.uses)),
            outputs[step.node],
            step.template.operation.takes_originals,
        )
        for step in plan.steps
    ]
    maker = [-1] * len(nodes)
    users: list[list[int]] = [[] for _ in nodes]
    for number, op in enumerate(ops):
        for place in op.outputs:
            maker[place] = number
        for place in op.reads:
            users[place].append(number)
    return Linked(nodes, ops, maker, users)
