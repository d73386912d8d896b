"""Tensors become the answer, node by node, with the reason for every null.

├── describe       shape, flags, grad_fn and grad_status of every node, from autograd alone
├── check_size     elements that the answer would carry, before any is written
└── write_nodes    values, gradients, statistics and notes as asked for
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice, takewhile
from typing import Any, NamedTuple

from torch import Tensor

from service.contract.request import DEFAULT_INCLUDE, Encoding, Include
from service.contract.response import GradStatus
from service.engine.dtypes import DTYPE_NAMES
from service.engine.graph import grad_fn_name, on_path
from service.engine.limits import Limits
from service.engine.notes import note
from service.engine.run import Run
from service.engine.small_tensors import json_fragments
from service.engine.stats import tensor_stats
from service.engine.write_tensor import base64_text
from service.engine.writes import own_memory

Trace = dict[str, Any]
"""A NodeTrace or an Edge on its way to orjson."""

BESIDE = "beside"
"""The encoding in which tensors are no part of the JSON, as in a safetensors answer."""
SHOWN = "shown"
"""The encoding in which as much of a tensor stands in the JSON as a picture shows."""
SHOWN_ELEMENTS = 600
"""As many as fill the longest text in a picture, of 600 characters, three times."""
MAX_AXES_SHOWN = 64
LARGE = 4096
"""Elements from which on a tensor's base64 is not copied into the JSON around it."""
DEFAULT: frozenset[str] = frozenset(DEFAULT_INCLUDE)

# A look at a member of an enum is a call in Python 3.11: once is enough for what every node needs.
JSON, BASE64 = Encoding.JSON, Encoding.BASE64
VALUE, GRAD = Include.VALUE, Include.GRAD
ACCUMULATED, RETAINED = GradStatus.ACCUMULATED, GradStatus.RETAINED


class Node(NamedTuple):
    """One node of the answer: what PyTorch says of a tensor, and why its gradient is or is not."""

    trace: Trace
    """Its NodeTrace without the parts that can be asked for."""
    tensor: Tensor
    grad: Tensor | None
    uses: Sequence[int]
    """The slots that its op reads."""

    @property
    def id(self) -> str:
        """The id in the answer, `id:k` for an output of several."""
        return self.trace["id"]  # type: ignore[no-any-return]

    @property
    def op(self) -> str | None:
        """The op as the client wrote it, None for a leaf."""
        return self.trace["op"]  # type: ignore[no-any-return]

    @property
    def status(self) -> GradStatus:
        """Why the gradient is or is not there."""
        return self.trace["grad_status"]  # type: ignore[no-any-return]


class Wanted(NamedTuple):
    """What the client asked to get back."""

    include: frozenset[str]
    encoding: str
    """How tensors stand in the JSON: an Encoding, or BESIDE it, or only as much as is SHOWN."""

    @classmethod
    def of(cls, request: dict[str, Any], *, beside: bool = False) -> Wanted:
        """Return what ``request`` asks for, the defaults where it is silent.

        Args:
            request: a TraceRequest.
            beside: tensors travel beside the JSON, not in it.
        """
        include = request.get("include")
        return cls(
            DEFAULT if include is None else frozenset(include),
            BESIDE if beside else request.get("encoding") or JSON,
        )

    def count(self, tensor: Tensor) -> int:
        """Return how many elements ``tensor`` is to an answer: (9, 2, 0) has none, but 18 `[]`."""
        count = tensor.numel()
        if not count and self.encoding == JSON:
            count = math.prod(takewhile(bool, tensor.shape))
        return count

    def put(self, traces: list[Trace], columns: Mapping[str, list[Tensor | None]]) -> None:
        """Put tensors into the traces, a column of them for each field, as they were asked for."""
        if self.encoding == SHOWN:
            columns = {field: list(map(_beginning, tensors)) for field, tensors in columns.items()}
        if self.encoding in (JSON, SHOWN):
            texts = iter(json_fragments(list(chain(*columns.values()))))
            for field in columns:
                add_field(traces, field, islice(texts, len(traces)))
        elif self.encoding == BASE64:
            for field, tensors in columns.items():
                add_field(traces, f"{field}_base64", map(_coded, tensors))


def _beginning(tensor: Tensor | None) -> Tensor | None:
    """Return a tensor whose nested lists begin as those of ``tensor``, and are not much longer.

    None where they would be nested deeper than JSON may be.
    """
    if tensor is None or tensor.dim() > MAX_AXES_SHOWN:
        return None
    inner = 1
    tensor = own_memory(tensor.detach())
    for axis in reversed(range(tensor.dim())):
        tensor = tensor.narrow(axis, 0, min(tensor.shape[axis], -(-SHOWN_ELEMENTS // inner)))
        inner = inner * tensor.shape[axis] or 1  # what lies behind a 0 is not printed
    return tensor


def _coded(tensor: Tensor | None) -> str | Tensor | None:
    """Return the base64 of a small tensor; a large one is left for a piece of its own."""
    if tensor is None or tensor.numel() >= LARGE:
        return tensor
    return base64_text(tensor)


def add_field(traces: list[Trace], field: str, column: Iterable[Any]) -> None:
    """Give every trace its entry of ``column`` as ``field``."""
    for trace, entry in zip(traces, column, strict=True):
        trace[field] = entry


def describe(run: Run) -> list[Node]:
    """Return every node of ``run`` in the request's order, with its status.

    The walk over autograd's graph is made only if some result was not retained: a gradient that is
    there, or a retained one that is not, is proof enough.
    """
    path: set[tuple[Any, int]] | None = None
    backward = bool(run.roots)
    looked_at: Sequence[int] = ()
    cut = False
    nodes = []
    for name, op, tensor, uses in _all(run):
        grad = None
        tracked, leaf, retains = tensor.requires_grad, tensor.is_leaf, tensor.retains_grad
        function = tensor.grad_fn
        if not tracked:
            if uses is not looked_at:  # outputs of one op share what it uses, perhaps thousands
                looked_at, cut = uses, any(run.slots[slot].requires_grad for slot in uses)
            status = GradStatus.NON_DIFFERENTIABLE if cut else GradStatus.CONSTANT
        elif not backward:
            status = GradStatus.NO_BACKWARD
        elif leaf or retains:
            grad = tensor.grad
            there = ACCUMULATED if leaf else RETAINED
            status = GradStatus.NOT_ON_PATH if grad is None else there
        else:
            if path is None:
                path = on_path(run.roots)
            reached = (function, tensor.output_nr) in path
            status = GradStatus.NOT_RETAINED if reached else GradStatus.NOT_ON_PATH
        trace = {
            "id": name,
            "op": op,
            "shape": [*tensor.shape],
            "dtype": DTYPE_NAMES[tensor.dtype],
            "is_leaf": leaf,
            "requires_grad": tracked,
            "retains_grad": retains,
            "grad_fn": None if function is None else grad_fn_name(function),
            "grad_status": status,
        }
        nodes.append(Node(trace, tensor, grad, uses))
    return nodes


def _all(run: Run) -> list[tuple[str, str | None, Tensor, Sequence[int]]]:
    """Return name, op, tensor and the slots it is made of, of every node in the request's order."""
    found: list[tuple[str, str | None, Tensor, Sequence[int]]] = [
        (spec["id"], None, leaf, ()) for spec, leaf in zip(run.plan.leaves, run.leaves, strict=True)
    ]
    for step in run.plan.ops:
        outputs = run.results[step.index]
        if step.slot >= 0:
            found.append((step.node, step.op, outputs[0], step.uses))
        else:
            for number, output in enumerate(outputs):
                found.append((f"{step.node}:{number}", step.op, output, step.uses))
    return found


def check_size(nodes: Iterable[Node], wanted: Wanted, limits: Limits, extra: int = 0) -> int:
    """Return how many elements the answer carries, ``extra`` of them in edges.

    Raises:
        LimitExceeded: too many.
    """
    include = wanted.include
    value, gradient = VALUE in include, GRAD in include
    count = extra
    if value or gradient:
        for node in nodes:
            count += wanted.count(node.tensor) * (value + (gradient and node.grad is not None))
    limits.check("max_result_elements", count, "the answer has too many elements")
    return count


def write_nodes(nodes: Sequence[Node], wanted: Wanted) -> list[Trace]:
    """Return the NodeTrace of every node with what was asked for, for orjson."""
    include = wanted.include
    traces = [node.trace for node in nodes]
    columns: dict[str, list[Tensor | None]] = {}
    if VALUE in include:
        columns["value"] = [node.tensor for node in nodes]
    if GRAD in include:
        columns["grad"] = [node.grad for node in nodes]
    wanted.put(traces, columns)
    if Include.STATS in include:
        add_field(traces, "stats", map(_stats, nodes))
    if Include.NOTES in include:
        add_field(traces, "note", map(_note, nodes))
    return traces


def _note(node: Node) -> str:
    return note(node.status, node.id, node.op, node.trace["dtype"], reads=bool(node.uses))


def _stats(node: Node) -> Trace:
    grad = None if node.grad is None else tensor_stats(node.grad)
    return {"value": tensor_stats(node.tensor), "grad": grad}
