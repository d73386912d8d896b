"""What the two clients share and what needs no socket: requests to bytes, answers to models."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
from pydantic import BaseModel, ValidationError

from service.contract.problem import PROBLEM_MEDIA_TYPE, GradtraceError, Problem, error_from
from service.contract.request import TraceRequest
from service.contract.response import TraceResponse

JSON = "application/json"
NDJSON = "application/x-ndjson"
SAFETENSORS = "application/x-safetensors"

HTML = "text/html"
OK = 200

BATCH_LINES = 256
BATCH_BYTES = 32 * 1024

SECONDS = re.compile(r"[0-9]{1,9}")
"""A ``Retry-After`` that can be waited for; its other form is a date."""


Graph = TraceRequest | Mapping[str, Any]
Model = TypeVar("Model", bound=BaseModel)


class UnexpectedAnswer(Exception):
    """An answer that does not come from a service that speaks the contract.

    Args:
        status: the HTTP status.
        text: the beginning of the body.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text[:200])
        self.status = status

    def __str__(self) -> str:
        return f"status {self.status}: {self.args[1]}"


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

    Raises:
        TypeError: something in ``graph`` has no form in JSON, such as an array.
    """
    data = graph.model_dump(exclude_unset=True) if isinstance(graph, BaseModel) else graph
    try:
        return _json(data)
    except ValueError:
        return _json(_spelled(data))


def _json(data: Any) -> bytes:
    """Return JSON without spaces: a service bounds the bytes of a body."""
    return json.dumps(data, allow_nan=False, separators=(",", ":"), default=_plain).encode()


def _plain(value: Any) -> Any:
    """Return what ``json`` does not know, NumPy's single numbers, as Python's own."""
    if isinstance(value, np.bool_ | np.integer | np.float16 | np.float32):  # float64 is a float
        return value.item()
    hint = "; write value.tolist(), or give it to trace_tensors" if hasattr(value, "tolist") else ""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise TypeError(f"a graph is made of lists and numbers, not of {kind}{hint}")


def _spelled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(item) for item in value]
    if isinstance(value, float | np.float16 | np.float32) and not math.isfinite(value):
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
    if not media_type.lower().startswith(PROBLEM_MEDIA_TYPE):
        return UnexpectedAnswer(status, body.decode(errors="replace"))
    try:
        problem = Problem.model_validate_json(body, extra="ignore")
    except ValidationError:
        return UnexpectedAnswer(status, body.decode(errors="replace"))
    return error_from(problem, seconds_of(retry_after))


def seconds_of(retry_after: str | None) -> int | None:
    """Return the seconds that ``Retry-After`` names, None where it is missing or names none."""
    return int(retry_after) if retry_after and SECONDS.fullmatch(retry_after) else None


def model_of(kind: type[Model], body: bytes) -> Model:
    """Return the answer in ``body`` as a ``kind``, or raise :class:`UnexpectedAnswer`."""
    try:
        return kind.model_validate_json(body)
    except ValidationError:
        raise UnexpectedAnswer(OK, body.decode(errors="replace")) from None


def lines_of(body: bytes, asked: int) -> Iterator[TraceResponse | GradtraceError]:
    """Yield what each line of an answer of ``/v1/traces`` says, which has ``asked`` of them."""
    lines = body.splitlines()
    yield from map(_line, lines)
    if len(lines) != asked:
        raise UnexpectedAnswer(OK, f"{asked} lines were sent, {len(lines)} came back")


def _line(text: bytes) -> TraceResponse | GradtraceError:
    try:
        line = json.loads(text)
        if "problem" in line:
            return error_from(Problem.model_validate(line["problem"], extra="ignore"))
        return TraceResponse.model_validate(line["trace"])
    except (ValueError, KeyError, TypeError):
        raise UnexpectedAnswer(OK, text.decode(errors="replace")) from None
