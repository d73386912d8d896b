"""The door of the engine: a request's bytes in, an answer's bytes out, every error a problem.

Engine.trace
├── read      bytes -> TraceRequest as a checked JSON object   (json_text, contract)
├── plan      -> ordered, bound calls                          (plan, bind, catalogue)
├── run       -> tensors, gradients                            (run)
└── report    -> the answer's bytes                            (report, edges, health)
"""

from __future__ import annotations

import logging
import time
import traceback
import warnings
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import orjson
import torch
from pydantic import ValidationError
from torch import Tensor

from service.contract.problem import (
    MAX_ERRORS,
    PROBLEM_MEDIA_TYPE,
    GradtraceError,
    Internal,
    InvalidRequest,
    ProblemCode,
    ProblemError,
    pointer,
    quote,
)
from service.contract.request import Include, TraceRequest
from service.engine import edges, health
from service.engine.json_text import parse_json
from service.engine.limits import Limits
from service.engine.plan import Plan, make_plan
from service.engine.quick_check import is_well_formed
from service.engine.report import Node, Wanted, check_size, describe, write_nodes
from service.engine.run import (
    allocation_failed,
    memory_limit,
    retain_grads,
    run_backward,
    run_forward,
)
from service.engine.tensors import leaf_tensor_of

JSON = "application/json"
SAFETENSORS = "application/x-safetensors"
logger = logging.getLogger(__name__)
OPTIONS = orjson.OPT_SERIALIZE_NUMPY
LEAF_GRAD_WARNING = "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed"


class Answer(NamedTuple):
    """What leaves the engine; the same three things that cross to the web process."""

    status: int
    headers: dict[str, str]
    body: bytes


class Stopwatch:
    """The time of each phase, in milliseconds, as ``Server-Timing`` has it."""

    def __init__(self) -> None:
        self._phases: list[str] = []
        self._times = [time.perf_counter()]

    def lap(self, phase: str) -> None:
        """End the phase that runs now, and call it ``phase``."""
        self._phases.append(phase)
        self._times.append(time.perf_counter())

    def __str__(self) -> str:
        spans = zip(self._phases, pairwise(self._times), strict=True)
        return ", ".join([f"{name};dur={(end - start) * 1e3:.3f}" for name, (start, end) in spans])


class Engine:
    """Traces graphs in this process, one at a time.

    Args:
        limits: what one request may take.
        threads: torch threads of this process; None leaves them as they are. Bits depend on it.
    """

    def __init__(self, limits: Limits | None = None, threads: int | None = None) -> None:
        self.limits = limits or Limits()
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
            check_request(request)
            nodes = count_nodes(request)
            watch.lap("parse")
            answer, answer_nodes = self.answer(request, tensors, watch)
            media_type, text = self._encode(answer, answer_nodes, accept)
            watch.lap("encode")
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a problem
            refusal = problem_answer(explain(error, self.limits))
            refusal.headers.update({"server-timing": str(watch), "x-nodes": str(nodes)})
            return refusal
        headers = {"content-type": media_type, "server-timing": str(watch), "x-nodes": str(nodes)}
        return Answer(200, headers, text)

    def read(
        self, content_type: str, body: bytes | memoryview
    ) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
        """Return the request as parsed, unchecked JSON, and the leaves' tensors beside it.

        Raises:
            InvalidJson, LimitExceeded: before anything else is looked at.
        """
        if content_type == SAFETENSORS:
            from service.engine.safetensors_file import read_request

            request, tensors = read_request(body, self.limits.max_elements)
        else:
            request, tensors = parse_json(body), {}
        self.limits.check("max_nodes", count_nodes(request), "the graph has too many nodes")
        return request, tensors

    def answer(
        self, request: dict[str, Any], tensors: Mapping[str, Tensor], watch: Stopwatch
    ) -> tuple[dict[str, Any], list[Node]]:
        """Compute ``request``, which has the right form; return the TraceResponse and its nodes.

        Raises:
            GradtraceError: whatever is wrong with the graph.
        """
        wanted = Wanted.of(request)
        seed = request.get("seed") or 0
        device = _device(request.get("device") or "cpu")
        with warnings.catch_warnings(record=True) as caught, torch.enable_grad():
            warnings.simplefilter("always")
            torch.set_warn_always(True)
            plan = make_plan(request)
            leaves = self._leaves(plan, request.get("dtype") or "float32", tensors, device)
            watch.lap("plan")
            run = run_forward(plan, leaves, self.limits, seed)
            watch.lap("forward")
            retain_grads(run)
            run_backward(run, self.limits)
            watch.lap("backward")
            said = [str(warning.message) for warning in caught]
        nodes = describe(run)
        answer: dict[str, Any] = {}
        if Include.EDGES in wanted.include:
            answer = self._edges(plan, leaves, seed, nodes, wanted)
        else:
            check_size(nodes, wanted, self.limits)
        answer = {"nodes": write_nodes(nodes, wanted)} | answer
        if Include.HEALTH in wanted.include:
            answer["health"] = self._health(plan, leaves, seed)
        answer["warnings"] = [text for text in said if not text.startswith(LEAF_GRAD_WARNING)]
        answer["torch_version"] = torch.__version__
        answer["device"] = str(device)
        return answer, nodes

    def _leaves(
        self, plan: Plan, dtype: str, tensors: Mapping[str, Tensor], device: torch.device
    ) -> list[Tensor]:
        leaves = []
        for index, spec in enumerate(plan.leaves):
            try:
                leaf = leaf_tensor_of(spec, dtype, tensors.get(spec["id"]), self.limits)
            except GradtraceError as error:
                raise error.at(f"/leaves/{index}", spec["id"]) from None
            except (MemoryError, RuntimeError) as error:
                if not allocation_failed(error):
                    raise
                raise memory_limit(self.limits).at(f"/leaves/{index}", spec["id"]) from None
            if device.type != "cpu":
                leaf = leaf.to(device)
            leaves.append(leaf.requires_grad_() if spec.get("requires_grad") else leaf)
        return leaves

    def _edges(
        self, plan: Plan, leaves: list[Tensor], seed: int, nodes: list[Node], wanted: Wanted
    ) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            uses = edges.trace_uses(plan, leaves, self.limits, seed)
        check_size(nodes, wanted, self.limits, extra=edges.count_elements(uses))
        return {"edges": edges.write_edges(uses, wanted)}

    def _health(self, plan: Plan, leaves: list[Tensor], seed: int) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return health.diagnose(plan, leaves, self.limits, seed)

    def _encode(self, answer: dict[str, Any], nodes: list[Node], accept: str) -> tuple[str, bytes]:
        if accept == SAFETENSORS:
            from service.engine.safetensors_file import write_answer

            return SAFETENSORS, write_answer(answer, nodes)
        return JSON, orjson.dumps(answer, option=OPTIONS)


def count_nodes(request: Any) -> int:
    """Return the number of leaves and ops of ``request``, parsed JSON of whatever form."""
    if not isinstance(request, dict):
        return 0
    parts = (request.get("leaves"), request.get("ops"))
    return sum(len(part) for part in parts if isinstance(part, list))


def check_request(request: Any) -> None:
    """Raise InvalidRequest where ``request``, parsed JSON, is not a TraceRequest."""
    if is_well_formed(request):
        return
    try:
        TraceRequest.model_validate(request)
    except ValidationError as error:
        raise invalid_request(error, request) from None


def invalid_request(error: ValidationError, document: Any) -> InvalidRequest:
    """Return what pydantic found in ``document`` as a problem, a pointer and node for each."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [
        ProblemError(
            pointer=pointer(*(quote(part, 100) for part in one["loc"])),
            code=ProblemCode.INVALID_REQUEST,
            message=quote(one["msg"].removeprefix("Value error, "), 300),
            node=_node_at(document, one["loc"]),
        )
        for one in found[:MAX_ERRORS]
    ]
    first = errors[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return InvalidRequest(f"{first.pointer or 'the body'}: {first.message}{more}", errors=errors)


def _node_at(document: Any, place: tuple[int | str, ...]) -> str | None:
    if len(place) < 2 or place[0] not in ("leaves", "ops"):
        return None
    node = document[place[0]][place[1]]
    name = node.get("id") if isinstance(node, dict) else None
    return quote(name) if isinstance(name, str) else None


def _device(name: str) -> torch.device:
    device = torch.device(name)
    if device.type == "cpu":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        there = ", ".join(["cpu", *(f"cuda:{index}" for index in range(count))])
        raise InvalidRequest(f"{name} is not there; there is: {there}", pointer="/device")
    return device


def explain(error: Exception, limits: Limits) -> GradtraceError:
    """Return ``error`` as a problem; what nobody foresaw is named by its kind, never a value."""
    if isinstance(error, GradtraceError):
        return error
    if allocation_failed(error):
        return memory_limit(limits)
    place = " < ".join(
        f"{at.name}:{at.lineno}" for at in traceback.extract_tb(error.__traceback__)[::-1]
    )
    logger.error("unexpected %s at %s", type(error).__name__, place)  # the message may hold values
    return Internal(f"unexpected {type(error).__name__}")


def problem_answer(error: GradtraceError) -> Answer:
    """Return the answer that tells ``error``."""
    headers = {"content-type": PROBLEM_MEDIA_TYPE}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    return Answer(error.status, headers, orjson.dumps(error.problem().model_dump()))
