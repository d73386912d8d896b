"""A request and its answer read as one graph: nodes, uses, roots, and where NaN and inf begin."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from service.contract.response import GradStatus
from service.picture.marks import Mark, find_marks

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
CROWDED = 4
"""An op has a joint where lines from its uses to its outputs were this many times both of them."""


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a node by an op: a line to one of its outputs, or to its joint.

    ``grad`` is what it contributes, where edges were asked for and there is something, and ``norm``
    its 2-norm over the finite elements, None where there are none.
    """

    source: int
    target: int
    input: str = ""
    grad: Any = None
    norm: float | None = None

    @property
    def has_grad(self) -> bool:
        """Whether it contributes something, also where it is too deeply nested to be shown."""
        return self.grad is not None or self.norm is not None


@dataclass(slots=True)
class Graph:
    """Nodes as the answer has them, joints, and the lines between them by position in ``points``.

    A thousand inputs with a line each to a thousand outputs were a million lines. All of such an
    op's uses meet in its joint, and from there a line goes to each output.
    """

    nodes: Sequence[Mapping[str, Any]]
    points: Sequence[Mapping[str, Any]]
    """The nodes, then the joints: ``id`` is the op's, and shape, value and gradient they lack."""
    uses: list[Use]
    roots: set[int]
    warnings: list[str]
    has_edges: bool
    marks: dict[int, list[Mark]]


class _Tie(NamedTuple):
    """A use of a node by an op, with what it contributes where that is known."""

    source: int
    op: str
    input: str
    grad: Any = None
    norm: float | None = None

    def to(self, target: int, *, tells: bool) -> Use:
        """Return the line of this use to a point; ``tells`` if it is the one that says so."""
        told = (self.grad, self.norm) if tells else ()
        return Use(self.source, target, self.input, *told)


def read(
    request: Mapping[str, Any],
    response: Mapping[str, Any],
    output_names: OutputNames | None = None,
) -> Graph:
    """Return the graph of a TraceRequest and its TraceResponse, both as parsed JSON."""
    nodes = response["nodes"]
    finder = _Finder(request, nodes, output_names)
    edges = response.get("edges")
    ties = finder.ties() if edges is None else finder.ties_of(edges)
    uses, joints = finder.lines(ties)
    points = [*nodes, *joints]
    ends = [(use.source, use.target) for use in uses]
    marks = find_marks(points, ends, topological(len(points), ends))
    warnings = list(response["warnings"])
    return Graph(nodes, points, uses, finder.roots(), warnings, edges is not None, marks)


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

    def ties(self) -> list[_Tie]:
        """Return every use that the request's ops say."""
        return [
            _Tie(source, op["id"], name)
            for op in self.ops
            for reference, name in _references(op)
            if (source := self.node(reference)) is not None
        ]

    def ties_of(self, edges: Sequence[Mapping[str, Any]]) -> list[_Tie]:
        """Return the uses of an answer's edges, with those that have no edge (autograd.grad)."""
        told = []
        for edge in edges:
            source = self.node(edge["from"])
            if source is None:
                continue
            grad = edge.get("grad")
            size = edge["norm"] if "norm" in edge else contribution_norm(grad)
            told.append(_Tie(source, edge["to"], edge["input"], grad, size))
        known = {(tie.source, tie.op) for tie in told}
        return told + [tie for tie in self.ties() if (tie.source, tie.op) not in known]

    def lines(self, ties: Sequence[_Tie]) -> tuple[list[Use], list[Mapping[str, Any]]]:
        """Return the lines that all uses take, and the joints that some of them run through."""
        lines: list[Use] = []
        joints: list[Mapping[str, Any]] = []
        ways: dict[str, tuple[list[int], int | None]] = {}
        for op, count in Counter(tie.op for tie in ties).items():
            outputs = self.outputs[op]
            # An op of several outputs uses its input once, so one of them tells of it.
            ways[op] = outputs, self._teller(outputs)
            if count * len(outputs) > CROWDED * (count + len(outputs)):
                place = len(self.nodes) + len(joints)
                joints.append(self._joint(op, count))
                lines += [Use(place, output) for output in outputs]
                ways[op] = [place], place
        for tie in ties:
            targets, teller = ways[tie.op]
            lines += [tie.to(target, tells=target == teller) for target in targets]
        return lines, joints

    def _joint(self, op: str, uses: int) -> Mapping[str, Any]:
        outputs = self.outputs[op]
        teller = self._teller(outputs)
        return {
            "id": op,
            "op": self.op_names[op],
            "uses": uses,
            "outputs": len(outputs),
            "requires_grad": teller is not None,
            "grad_status": self.nodes[outputs[0] if teller is None else teller]["grad_status"],
        }

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
    stats = node["stats"]["grad"]
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
