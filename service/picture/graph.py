"""A request and its answer read as one graph: nodes, uses, roots, and where NaN and inf begin."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.contract.response import GradStatus

OutputNames = Callable[[str], Sequence[str | None]]
"""From an op's name to PyTorch's names of its outputs, to read references such as ``t:values``."""

REASONS = {
    GradStatus.NOT_RETAINED: "not retained",
    GradStatus.NOT_ON_PATH: "not on the path",
    GradStatus.CONSTANT: "constant",
    GradStatus.NON_DIFFERENTIABLE: "not differentiable",
    GradStatus.NO_BACKWARD: "no backward",
}
"""The short form of every reason for a null; a card has no room for a sentence."""


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a node by an op.

    ``grad`` is what it contributes, where edges were asked for, and ``norm`` its 2-norm over the
    finite elements.
    """

    source: int
    target: int
    input: str = ""
    has_grad: bool = False
    grad: Any = None
    norm: float | None = None


@dataclass(slots=True)
class Graph:
    """Nodes as the answer has them, and the uses between them by position in ``nodes``."""

    nodes: Sequence[Mapping[str, Any]]
    uses: list[Use]
    roots: set[int]
    warnings: list[str]
    has_edges: bool = False
    order: list[int] = field(default_factory=list)
    marks: dict[int, list[Mark]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """Non-finite elements in a node: of which kind, in value or gradient, and if they begin here.

    A value's NaN begins where no input has one; a gradient's where, looking back from the roots,
    no known gradient before it has one.
    """

    what: str
    kind: str
    first: bool

    def __str__(self) -> str:
        return f"{self.kind} in {self.what}" + (" starts here" if self.first else "")


def read(
    request: Mapping[str, Any],
    response: Mapping[str, Any],
    output_names: OutputNames | None = None,
) -> Graph:
    """Return the graph of a TraceRequest and its TraceResponse, both as parsed JSON."""
    nodes = response["nodes"]
    finder = _Finder(request, nodes, output_names)
    edges = response.get("edges")
    uses = finder.uses() if edges is None else finder.uses_of(edges)
    graph = Graph(
        nodes, uses, finder.roots(), list(response.get("warnings") or []), edges is not None
    )
    graph.order = topological(len(nodes), [(use.source, use.target) for use in uses])
    graph.marks = _marks(graph)
    return graph


class _Finder:
    """Finds the nodes that the references of a request mean."""

    def __init__(
        self,
        request: Mapping[str, Any],
        nodes: Sequence[Mapping[str, Any]],
        output_names: OutputNames | None,
    ) -> None:
        self.request = request
        self.nodes = nodes
        self.ops: list[Mapping[str, Any]] = request.get("ops") or []
        self.position = {node["id"]: index for index, node in enumerate(nodes)}
        self.outputs: dict[str, list[int]] = defaultdict(list)
        for index, node in enumerate(nodes):
            self.outputs[node["id"].partition(":")[0]].append(index)
        self.op_names = {op["id"]: op["op"] for op in self.ops}
        self.output_names = output_names

    def node(self, reference: str) -> int | None:
        """Return the position of the node that ``reference`` means, None where there is none."""
        found = self.position.get(reference)
        if found is not None:
            return found
        owner, _, output = reference.partition(":")
        if self.output_names is not None and owner in self.op_names:
            names = list(self.output_names(self.op_names[owner]))
            if output in names:
                return self.position.get(f"{owner}:{names.index(output)}")
        outputs = self.outputs.get(owner)
        return outputs[0] if outputs else None

    def uses(self) -> list[Use]:
        """Return every use that the request's ops say."""
        return [
            Use(source, target, name)
            for op in self.ops
            for reference, name in _references(op)
            if (source := self.node(reference)) is not None
            for target in self.outputs[op["id"]]
        ]

    def uses_of(self, edges: Sequence[Mapping[str, Any]]) -> list[Use]:
        """Return the uses of an answer's edges, with those that have no edge (autograd.grad)."""
        told = []
        for edge in edges:
            source = self.node(edge["from"])
            if source is None:
                continue
            grad = edge.get("grad")
            targets = self.outputs[edge["to"]]
            size = edge["norm"] if "norm" in edge else contribution_norm(grad)
            # An op of several outputs uses its input once, so one of them tells of it.
            teller = None if grad is None and size is None else self._teller(targets)
            told += [
                Use(source, target, edge["input"], True, grad, size)
                if target == teller
                else Use(source, target, edge["input"])
                for target in targets
            ]
        known = {(use.source, use.target) for use in told}
        return told + [use for use in self.uses() if (use.source, use.target) not in known]

    def _teller(self, targets: Sequence[int]) -> int | None:
        """Return the first output of an op through which a gradient comes back to its inputs."""
        tracked = [target for target in targets if self.nodes[target]["requires_grad"]]
        on_path = [target for target in tracked if leads_to_root(self.nodes[target])]
        return next(iter(on_path or tracked), None)

    def roots(self) -> set[int]:
        """Return the nodes that backward starts from."""
        backward = self.request.get("backward")
        if backward is None:
            last = (self.ops or self.request.get("leaves") or [])[-1:]
            backward = [{"node": node["id"]} for node in last]
        found = (self.node(root["node"]) for root in backward)
        return {index for index in found if index is not None}


def leads_to_root(node: Mapping[str, Any]) -> bool:
    """Return whether a root depends on a tracked node, so that its gradient is not nothing."""
    return node["grad_status"] not in (GradStatus.NOT_ON_PATH, GradStatus.NO_BACKWARD)


def _references(op: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every reference of an op, with the parameter's name where the request says it."""
    for reference in op.get("inputs") or []:
        yield reference, ""
    waiting = deque((value, name) for name, value in (op.get("attrs") or {}).items())
    while waiting:
        value, name = waiting.popleft()
        if isinstance(value, dict):
            if isinstance(value.get("ref"), str):
                yield value["ref"], name
            waiting += [(item, name) for key, item in value.items() if key != "ref"]
        elif isinstance(value, list) and not all(isinstance(item, (int, float)) for item in value):
            waiting += [(item, name) for item in value]


def topological(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return 0 to ``count`` - 1, sources before targets, else in their own order.

    Where a cycle is (namespaces may have one, nodes never), its first node goes first.
    """
    after: list[list[int]] = [[] for _ in range(count)]
    open_inputs = [0] * count
    for source, target in edges:
        if source != target:
            after[source].append(target)
            open_inputs[target] += 1
    ready = [index for index in range(count) if not open_inputs[index]]
    order: list[int] = []
    placed = [False] * count
    oldest = 0
    while len(order) < count:
        if not ready:
            while placed[oldest]:
                oldest += 1
            ready = [oldest]
        fresh: list[int] = []
        for index in ready:
            if placed[index]:
                continue
            placed[index] = True
            order.append(index)
            for target in after[index]:
                open_inputs[target] -= 1
                if open_inputs[target] == 0:
                    fresh.append(target)
        ready = fresh
    return order


def gradient_norm(node: Mapping[str, Any]) -> float | None:
    """Return the 2-norm of a node's gradient over its finite elements, None where it has none."""
    stats = (node.get("stats") or {}).get("grad")
    return None if stats is None else stats["norm"]


def contribution_norm(grad: Any) -> float | None:
    """Return the 2-norm of nested lists over their finite elements, None where there are none."""
    elements, waiting = [], [grad]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, (int, float)):
            elements.append(float(item))
    # Not a sum of squares: that of 1e200 is infinite.
    return math.hypot(*elements) if elements else None


COUNTS = (("NaN", "nan_count"), ("inf", "inf_count"))


def _marks(graph: Graph) -> dict[int, list[Mark]]:
    """Return the non-finite marks of the nodes that have any, values before gradients."""
    before: list[list[int]] = [[] for _ in graph.nodes]
    after: list[list[int]] = [[] for _ in graph.nodes]
    tracked = [node["requires_grad"] for node in graph.nodes]
    for use in graph.uses:
        before[use.target].append(use.source)
        if tracked[use.source] and tracked[use.target]:
            after[use.source].append(use.target)
    marks: dict[int, list[Mark]] = defaultdict(list)
    for what, order, towards in (
        ("value", graph.order, before),
        ("grad", graph.order[::-1], after),
    ):
        all_stats = [(node.get("stats") or {}).get(what) for node in graph.nodes]
        for kind, count in COUNTS:
            counts = [None if stats is None else stats[count] for stats in all_stats]
            if any(counts):
                for index, first in _spread(counts, order, towards):
                    marks[index].append(Mark(what, kind, first))
    return dict(marks)


def _spread(
    counts: Sequence[int | None], order: Sequence[int], towards: Sequence[Sequence[int]]
) -> Iterator[tuple[int, bool]]:
    """Yield the nodes that have some, in the order in which they spread, and if they begin there.

    A gradient that was not kept (None) tells nothing, so what came before it is passed on.
    """
    reached = [False] * len(counts)
    for index in order:
        inherited = any(reached[other] for other in towards[index])
        if counts[index]:
            yield index, not inherited
        reached[index] = bool(counts[index]) or (inherited and counts[index] is None)
