"""What the two clients share and what needs no socket: requests to bytes, answers to models."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from service.contract.problem import PROBLEM_MEDIA_TYPE, GradtraceError, Problem, problems
from service.contract.request import TraceRequest
from service.contract.response import TraceResponse

JSON = "application/json"
NDJSON = "application/x-ndjson"
SAFETENSORS = "application/x-safetensors"

BATCH_LINES = 256
BATCH_BYTES = 32 * 1024

type_of_problem = {kind.code: kind for kind in problems()}

Graph = TraceRequest | Mapping[str, Any]


class UnexpectedAnswer(Exception):
    """An answer that does not come from a service that speaks the contract.

    Args:
        status: the HTTP status.
        text: the beginning of the body.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"status {status}: {text[:200]}")
        self.status = status


@dataclass(frozen=True)
class Call:
    """One HTTP request: method, path below the service's URL, headers and body."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)


def post(path: str, body: bytes, sent: str = JSON, wanted: str = JSON) -> Call:
    """Return a POST of ``body``, whose media type is ``sent``, asking for ``wanted``."""
    return Call("POST", path, body, {"content-type": sent, "accept": wanted})


def search(query: str) -> Call:
    """Return the call for the ops that ``query`` finds, all of them where it is empty."""
    return Call("GET", "/v1/ops", params={"q": query} if query else {})


def describe(name: str) -> Call:
    """Return the call for the description of the op ``name``."""
    return Call("GET", f"/v1/ops/{quote(name, safe='')}")


def graph_json(graph: Graph) -> bytes:
    """Return ``graph`` as JSON text.

    Non-finite numbers become the contract's three strings. Fields that were never set stay out.
    """
    data = graph.model_dump(exclude_unset=True) if isinstance(graph, BaseModel) else graph
    try:
        return json.dumps(data, allow_nan=False).encode()
    except ValueError:
        return json.dumps(_spelled(data), allow_nan=False).encode()


def _spelled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def batches(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Cut ``lines`` into groups that one call of ``/v1/traces`` carries.

    A group fits into a socket's buffers: it is sent whole before its answers are read, so that
    neither side ever waits for the other to read first. One long line makes a group of its own.
    """
    group: list[bytes] = []
    size = 0
    for line in lines:
        if group and (len(group) == BATCH_LINES or size + len(line) > BATCH_BYTES):
            yield group
            group, size = [], 0
        group.append(line)
        size += len(line) + 1
    if group:
        yield group


def joined(batch: Iterable[bytes]) -> bytes:
    """Return ``batch`` as the body of one call, each line closed by a newline."""
    return b"".join(line.rstrip(b"\r\n") + b"\n" for line in batch)


def error_of(status: int, media_type: str, body: bytes, retry_after: str | None) -> Exception:
    """Return the error that an answer with ``status`` of 400 or more stands for."""
    if not media_type.startswith(PROBLEM_MEDIA_TYPE):
        return UnexpectedAnswer(status, body.decode(errors="replace"))
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return UnexpectedAnswer(status, body.decode(errors="replace"))
    return error_from(problem, retry_after)


def error_from(problem: Problem, retry_after: str | None = None) -> GradtraceError:
    """Return the error class of the contract that ``problem`` came from, with all it says."""
    seconds = int(retry_after) if retry_after and retry_after.isdigit() else None
    kind = type_of_problem[problem.code]
    return kind(problem.detail, errors=problem.errors, retry_after_s=seconds)


def line_of(text: bytes) -> TraceResponse | GradtraceError:
    """Return what one line of ``/v1/traces`` says: a trace, or the error of that line alone."""
    line = json.loads(text)
    if "problem" in line:
        return error_from(Problem.model_validate(line["problem"]))
    return TraceResponse.model_validate(line["trace"])
