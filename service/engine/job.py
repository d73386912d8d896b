"""The door of the engine: a request's bytes in, an answer's bytes out, every error a problem.

Engine.trace
├── read         bytes -> parsed JSON, not checked yet    (json_text, safetensors_file)
├── plan         -> checked; its ops ordered and bound    (check, known_graphs, plan, bind)
├── compute      -> tensors, gradients, what they mean    (run, report, edges, health)
└── write_*      -> the answer's bytes                    (report, write_tensor, safetensors_file)
"""

from __future__ import annotations

import secrets
import traceback
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any, NamedTuple

import orjson
import torch
from torch import Tensor

from service.contract.problem import (
    BUG_HEADER,
    PROBLEM_MEDIA_TYPE,
    GradtraceError,
    Internal,
    InvalidRequest,
)
from service.contract.request import Include
from service.engine.check import check_request, count_nodes
from service.engine.edges import Use, count_elements, grad_of, run_split, write_edges
from service.engine.health import diagnose
from service.engine.json_text import parse_json
from service.engine.known_graphs import KnownGraphs, key_of
from service.engine.limits import Limits, allocation_failed, memory_limit
from service.engine.plan import Plan, make_plan
from service.engine.report import (
    SHOWN,
    Node,
    Wanted,
    check_size,
    describe,
    write_nodes,
)
from service.engine.run import retain_grads, run_backward, run_forward
from service.engine.safetensors_file import read_request, write_answer
from service.engine.tensors import leaf_tensor_of
from service.engine.write_tensor import base64_bytes

JSON = "application/json"
SAFETENSORS = "application/x-safetensors"
CPU = torch.device("cpu")
TORCH_VERSION = str(torch.__version__)
NO_CONTEXT = nullcontext()
MANY = 1 << 20
"""Elements from which on it is tried whether there is room for their text."""
TEXT_BYTES = 44
"""For an element: 22 characters, twice, because orjson doubles its buffer when it is full."""
EDGES, HEALTH = Include.EDGES, Include.HEALTH
MARK = secrets.token_hex(16)
"""What no client can write where a piece of the answer is to come."""
MAX_CALLS = 50
"""Calls of a bug's traceback that are logged, the innermost first."""
OPTIONS = orjson.OPT_SERIALIZE_NUMPY
NO_TENSORS: Mapping[str, Tensor] = {}
NON_LEAF_GRAD_WARNING = (
    "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed"
)


class Answer(NamedTuple):
    """What leaves the engine; the same three things that cross to the web process."""

    status: int
    headers: dict[str, str]
    data: bytes | list[bytes | memoryview]
    """The body, in one piece or in several."""

    @property
    def pieces(self) -> list[bytes | memoryview]:
        """The body in several pieces, or in a list of one."""
        return [self.data] if isinstance(self.data, bytes) else self.data

    @property
    def body(self) -> bytes:
        """The body in one piece."""
        return self.data if isinstance(self.data, bytes) else b"".join(self.data)


class Stopwatch:
    """The time of each phase, in milliseconds, as ``Server-Timing`` has it."""

    __slots__ = ("_laps", "_start")

    def __init__(self) -> None:
        self._laps: list[tuple[str, float]] = []
        self._start = perf_counter()

    def lap(self, phase: str) -> None:
        """End the phase that runs now, and call it ``phase``."""
        self._laps.append((phase, perf_counter()))

    def __str__(self) -> str:
        start = self._start
        spans: list[str | float] = []
        for phase, end in self._laps:
            spans += phase, (end - start) * 1e3
            start = end
        return ", ".join(["%s;dur=%.3f"] * len(self._laps)) % tuple(spans)


class Traced(NamedTuple):
    """What has been computed, ready to be written."""

    nodes: list[Node]
    uses: list[Use] | None
    """Every use of a node by an op, where edges were asked for."""
    health: dict[str, Any] | None
    """The diagnosis, where it was asked for."""
    warnings: list[str]
    device: str
    elements: int
    """How many elements the answer carries."""


class Engine:
    """Traces graphs in this process, one at a time.

    Args:
        limits: what one request may take.
        threads: torch threads of this process; None leaves them as they are. Bits depend on it.
        alone: whether this process does nothing else, so that it may record warnings all its life.
    """

    def __init__(
        self, limits: Limits | None = None, threads: int | None = None, *, alone: bool = False
    ) -> None:
        self.limits = limits or Limits()
        self._known = KnownGraphs()
        self._caught = _record_warnings().__enter__() if alone else None
        if threads is not None:
            torch.set_num_threads(threads)

    def trace(self, content_type: str, accept: str, body: bytes | memoryview) -> Answer:
        """Answer a TraceRequest; see docs/contract.md.

        Args:
            content_type: ``application/json`` or ``application/x-safetensors``.
            accept: one of the same two.
            body: of that type.
        """
        watch = Stopwatch()
        nodes = 0
        try:
            request, tensors = self.read(content_type, body)
            watch.lap("parse")
            nodes = count_nodes(request)
            plan = self.plan(request)
            wanted = Wanted.of(request, beside=accept == SAFETENSORS)
            traced = self.compute(request, plan, tensors, wanted, watch)
            write = write_safetensors if accept == SAFETENSORS else write_json
            data = write(traced, wanted)
            watch.lap("encode")
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a problem
            refusal = problem_answer(explain(error, self.limits))
            refusal.headers.update({"server-timing": str(watch), "x-nodes": str(nodes)})
            return refusal
        headers = {"content-type": accept, "server-timing": str(watch), "x-nodes": str(nodes)}
        return Answer(200, headers, data)

    def read(
        self, content_type: str, body: bytes | memoryview
    ) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
        """Return the request as parsed, unchecked JSON, and the leaves' tensors beside it.

        Raises:
            InvalidJson, LimitExceeded: before anything else is looked at.
        """
        if content_type == SAFETENSORS:
            request, tensors = read_request(body, self.limits.max_elements)
        else:
            request, tensors = parse_json(body), {}
        self.limits.check("max_nodes", count_nodes(request), "the graph has too many nodes")
        return request, tensors

    def plan(self, request: dict[str, Any]) -> Plan:
        """Check ``request``, parsed JSON of any form, and bind its ops.

        Raises:
            GradtraceError: it is not a TraceRequest, or what its ops say does not fit together.
        """
        key = key_of(request)
        known = self._known.find(key)
        check_request(request, ops_checked=known is not None)
        if known is not None:
            return known.with_leaves(request.get("leaves") or ())
        plan = make_plan(request)
        self._known.keep(key, plan)
        return plan

    def compute(
        self,
        request: dict[str, Any],
        plan: Plan,
        tensors: Mapping[str, Tensor],
        wanted: Wanted,
        watch: Stopwatch,
    ) -> Traced:
        """Compute ``request``.

        Args:
            request: a TraceRequest as parsed JSON.
            plan: what :meth:`plan` made of it.
            tensors: those of the leaves that came beside it, by id.
            wanted: what the answer will carry; only edges and health need a second run.
            watch: gets a lap for each phase.

        Raises:
            GradtraceError: whatever is wrong with the graph.
        """
        seed = request.get("seed") or 0
        device = _device(request.get("device") or "cpu")
        with self._recording() as caught, _tracking(), _on(device):
            leaves = self.leaves(plan, request.get("dtype") or "float32", tensors, device)
            watch.lap("plan")
            run = run_forward(plan, leaves, self.limits, seed)
            watch.lap("forward")
            retain_grads(run)
            run_backward(run, self.limits)
            watch.lap("backward")
            texts = [str(warning.message) for warning in caught]
            said = [text for text in texts if not text.startswith(NON_LEAF_GRAD_WARNING)]
            nodes = describe(run)
            edges, health = EDGES in wanted.include, HEALTH in wanted.include
            uses = diagnosis = None
            if edges or health:
                split, uses = run_split(plan, leaves, self.limits, seed, retain_all=health)
                diagnosis = diagnose(split, uses, self.limits) if health else None
        uses = uses if edges else None
        extra = count_elements(uses, wanted) if uses else 0
        count = check_size(nodes, wanted, self.limits, extra)
        return Traced(nodes, uses, diagnosis, said, "cpu" if device is CPU else str(device), count)

    def _recording(self) -> AbstractContextManager[list[warnings.WarningMessage]]:
        """Return a context whose list gets the warnings."""
        if self._caught is None:
            return _record_warnings()
        self._caught.clear()
        return nullcontext(self._caught)

    def leaves(
        self,
        plan: Plan,
        dtype: str,
        tensors: Mapping[str, Tensor] = NO_TENSORS,
        device: torch.device = CPU,
    ) -> list[Tensor]:
        """Return the leaves of ``plan`` in its order.

        Args:
            plan: whose leaves.
            dtype: the request's default.
            tensors: those of the leaves that came beside the JSON, by id.
            device: where they shall be.

        Raises:
            BadValue, LimitExceeded, MemoryLimit: with a pointer to the leaf.
        """
        leaves = []
        most = self.limits.max_elements
        for index, spec in enumerate(plan.leaves):
            try:
                leaf = leaf_tensor_of(spec, dtype, tensors.get(spec["id"]), most)
            except GradtraceError as error:
                raise error.at(f"/leaves/{index}", spec["id"]) from None
            except (MemoryError, RuntimeError) as error:
                if not allocation_failed(error):
                    raise
                raise memory_limit(self.limits).at(f"/leaves/{index}", spec["id"]) from None
            if device is not CPU:
                leaf = leaf.to(device)
            leaves.append(leaf.requires_grad_() if spec.get("requires_grad") else leaf)
        return leaves


def as_document(traced: Traced, wanted: Wanted) -> dict[str, Any]:
    """Return the TraceResponse, for orjson."""
    document: dict[str, Any] = {"nodes": write_nodes(traced.nodes, wanted)}
    if traced.uses is not None:
        document["edges"] = write_edges(traced.uses, wanted)
    if traced.health is not None:
        document["health"] = traced.health
    document["warnings"] = traced.warnings
    document["torch_version"] = TORCH_VERSION
    document["device"] = traced.device
    return document


def write_json(traced: Traced, wanted: Wanted) -> bytes | list[bytes | memoryview]:
    """Return the TraceResponse as JSON, in pieces where it has long base64.

    Raises:
        RuntimeError: there is no room for the text; orjson would end the process instead.
    """
    if traced.elements > MANY and wanted.encoding != SHOWN:
        # Freed at once and never written to: it only shows that there is room.
        torch.empty(traced.elements * TEXT_BYTES, dtype=torch.uint8)
    large: list[Tensor] = []

    def mark(tensor: Tensor) -> str:
        large.append(tensor)
        return MARK

    text = orjson.dumps(as_document(traced, wanted), mark, OPTIONS)
    if not large:
        return text
    first, *others = text.split(MARK.encode())
    pieces: list[bytes | memoryview] = [first]
    for tensor, other in zip(large, others, strict=True):
        pieces += base64_bytes(tensor), other
    return pieces


def write_safetensors(traced: Traced, wanted: Wanted) -> list[bytes | memoryview]:
    """Return the answer as a safetensors file, in pieces."""
    grads = [grad_of(use) for use in traced.uses or ()]
    return write_answer(as_document(traced, wanted), traced.nodes, wanted.include, grads)


def _record_warnings() -> warnings.catch_warnings[list[warnings.WarningMessage]]:
    """Return a context whose list gets every warning, also one that was given before."""
    torch.set_warn_always(True)
    return warnings.catch_warnings(record=True, action="always")


def _device(name: str) -> torch.device:
    if name == "cpu":
        return CPU
    # Not PyTorch's own reading: it keeps a byte, takes cuda:256 for cuda:0 and fails on cuda:00.
    index = int(name.partition(":")[2] or 0)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count or name not in ("cuda", f"cuda:{index}"):
        there = ", ".join(["cpu", *(f"cuda:{index}" for index in range(count))])
        raise InvalidRequest(f"{name} is not there; there is: {there}", pointer="/device")
    torch.cuda.init()  # type: ignore[no-untyped-call]
    return torch.device(name)


def _tracking() -> AbstractContextManager[object]:
    """Return a context in which autograd tracks, whatever the caller has set."""
    return NO_CONTEXT if torch.is_grad_enabled() else torch.enable_grad()


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which ops that make tensors of nothing make them on ``device``."""
    return NO_CONTEXT if device is CPU else device


def explain(error: Exception, limits: Limits) -> GradtraceError:
    """Return ``error`` as a problem.

    What nobody foresaw is named by its kind: its message may hold values of the request.
    """
    if isinstance(error, GradtraceError):
        return error
    if allocation_failed(error):
        return memory_limit(limits)
    bug = Internal(f"unexpected {type(error).__name__}")
    calls = traceback.extract_tb(error.__traceback__)[::-1]
    bug.place = " < ".join(f"{call.name}:{call.lineno}" for call in calls[:MAX_CALLS])
    return bug


def problem_answer(error: GradtraceError) -> Answer:
    """Return ``error`` as an answer."""
    headers = {"content-type": PROBLEM_MEDIA_TYPE}
    if isinstance(error, Internal):
        headers[BUG_HEADER] = f"{error.detail} at {error.place}"
    return Answer(error.status, headers, orjson.dumps(error.problem().model_dump()))
