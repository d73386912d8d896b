"""Every way a request can fail, as one tree.

    GradtraceError
    ├── 400  InvalidJson
    ├── 401  Unauthorized
    ├── 404  NotFound
    ├── 405  MethodNotAllowed
    ├── 406  NotAcceptable
    ├── 408  BodyTimeout
    ├── 413  BodyTooLarge
    ├── 415  UnsupportedMediaType
    ├── 422  InvalidRequest, DuplicateId, UnknownReference, Cycle, UnknownOp, BadArguments,
    │        BadValue, OpFailed, BadRoot, BackwardFailed, LimitExceeded, MemoryLimit, GraphCrashed
    ├── 429  Overloaded
    ├── 500  Internal
    ├── 503  NotReady, Draining
    └── 504  TimeLimit

A problem travels as ``application/problem+json`` (RFC 9457). Whoever raises one names what is
wrong; the place that knows where in the request that was adds the JSON Pointer (RFC 6901) and the
node's id with :meth:`GradtraceError.at`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

MAX_ERRORS = 20
MAX_POINTER = 1000
"""Characters of a JSON Pointer; the keys in it are the client's."""
PROBLEM_MEDIA_TYPE = "application/problem+json"
BUG_HEADER = "x-bug"
"""Brings a bug to the log: what was raised, and where. It is not sent to the client."""


class ProblemCode(StrEnum):
    """What went wrong, in one stable word."""

    INVALID_JSON = "invalid_json"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    BODY_TIMEOUT = "body_timeout"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    INVALID_REQUEST = "invalid_request"
    DUPLICATE_ID = "duplicate_id"
    UNKNOWN_REFERENCE = "unknown_reference"
    CYCLE = "cycle"
    UNKNOWN_OP = "unknown_op"
    BAD_ARGUMENTS = "bad_arguments"
    BAD_VALUE = "bad_value"
    OP_FAILED = "op_failed"
    BAD_ROOT = "bad_root"
    BACKWARD_FAILED = "backward_failed"
    LIMIT_EXCEEDED = "limit_exceeded"
    MEMORY_LIMIT = "memory_limit"
    GRAPH_CRASHED = "graph_crashed"
    OVERLOADED = "overloaded"
    INTERNAL = "internal"
    NOT_READY = "not_ready"
    DRAINING = "draining"
    TIME_LIMIT = "time_limit"


def _always_there(schema: dict[str, Any]) -> None:
    """Say of a model's fields that a problem has each of them, given or not."""
    schema["required"] = list(schema["properties"])
    for field in schema["properties"].values():
        field.pop("default", None)


class ProblemError(BaseModel):
    """One thing that is wrong, and where. Fields may be added later, so unknown ones are let by."""

    model_config = ConfigDict(extra="ignore", json_schema_extra=_always_there)

    pointer: str = Field(
        description="JSON Pointer (RFC 6901) into the request body; empty for the whole of it.",
        examples=["/ops/1/attrs/exponent"],
    )
    code: ProblemCode = Field(description="What is wrong at this place.")
    message: str = Field(
        description="What is wrong, in words; PyTorch's own message word for word where it raised.",
    )
    node: str | None = Field(
        default=None, description="The id of the node concerned, null where there is none."
    )


class Problem(BaseModel):
    """An error answer: problem details for HTTP APIs (RFC 9457), which may have more fields."""

    model_config = ConfigDict(extra="ignore", json_schema_extra=_always_there)

    type: str = Field(
        description="A reference that answers with the description of this kind of problem.",
        examples=["/problems/unknown_op"],
    )
    title: str = Field(description="The kind of problem in a few words, the same every time.")
    status: int = Field(description="The HTTP status of this answer.")
    detail: str = Field(description="What is wrong with this request, in words.")
    code: ProblemCode = Field(description="The kind of problem as one stable word.")
    errors: list[ProblemError] = Field(
        default=[],
        description=(
            f"Each thing that is wrong of the kind that was found first, at most {MAX_ERRORS}: "
            "behind it there may be others."
        ),
    )


def quote(text: object, limit: int = 60) -> str:
    """Return ``text`` for a message: cut to ``limit`` characters, unprintable ones escaped."""
    plain = str(text)
    cut = plain if len(plain) <= limit else plain[: limit - 1] + "…"
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in cut)


def _within_bounds(place: str) -> str:
    """Return the JSON Pointer ``place``, or where it is too long one to what encloses it."""
    return place if len(place) <= MAX_POINTER else place[:MAX_POINTER].rpartition("/")[0]


def pointer(*parts: str | int) -> str:
    """Return the JSON Pointer (RFC 6901) of ``parts``, with ``~`` and ``/`` escaped."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


class GradtraceError(Exception):
    """A request that cannot be answered with what it asks for, and why.

    Args:
        detail: one sentence for a person.
        pointer: JSON Pointer to the place in the request body.
        node: id of the node concerned.
        errors: several things at once (a schema has many); replaces the single one made of the
            arguments above.
        retry_after_s: seconds after which the same request may succeed (``Retry-After``).
    """

    code: ClassVar[ProblemCode]
    status: ClassVar[int]
    title: ClassVar[str]
    description: ClassVar[str]

    def __init__(
        self,
        detail: str,
        *,
        pointer: str = "",
        node: str | None = None,
        errors: Sequence[ProblemError] = (),
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.errors = list(errors[:MAX_ERRORS]) or [
            ProblemError(pointer=_within_bounds(pointer), code=self.code, message=detail, node=node)
        ]

    def __str__(self) -> str:
        place = self.errors[0].pointer
        at = f" at {place}" if place and place not in self.detail else ""
        return f"{self.code}{at}: {self.detail}"

    def at(self, prefix: str, node: str | None = None) -> Self:
        """Put ``prefix`` before every pointer, ``node`` where none is named; return self."""
        for error in self.errors:
            error.pointer = _within_bounds(prefix + error.pointer)
            error.node = error.node or node
        return self

    def problem(self) -> Problem:
        """Return the body of the answer."""
        return Problem(
            type=f"/problems/{self.code}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            code=self.code,
            errors=self.errors,
        )


class InvalidJson(GradtraceError):
    """The body is not JSON as RFC 8259 has it."""

    code = ProblemCode.INVALID_JSON
    status = 400
    title = "The body is not valid JSON"
    description = (
        "The body could not be read as JSON: a syntax error, a bare NaN or Infinity (write them as "
        'the strings "NaN", "Infinity" and "-Infinity"), a key given twice in one object, lists '
        "nested too deeply, or bytes that are not UTF-8."
    )


class Unauthorized(GradtraceError):
    """A key is needed."""

    code = ProblemCode.UNAUTHORIZED
    status = 401
    title = "A valid key is needed"
    description = (
        "This service asks for a key under /v1. Send it as `Authorization: Bearer KEY`; the key "
        "that came was missing or is not one of those in force."
    )


class NotFound(GradtraceError):
    """Nothing there."""

    code = ProblemCode.NOT_FOUND
    status = 404
    title = "Nothing is there"
    description = "The path names no route, op or problem of this service."


class MethodNotAllowed(GradtraceError):
    """The path exists, the method does not."""

    code = ProblemCode.METHOD_NOT_ALLOWED
    status = 405
    title = "The method is not allowed here"
    description = "The path exists, but not with this method; Allow names those it takes."


class NotAcceptable(GradtraceError):
    """No common media type."""

    code = ProblemCode.NOT_ACCEPTABLE
    status = 406
    title = "No media type that the client accepts"
    description = (
        "None of the media types in the Accept header can be sent from here. An Accept that is "
        "missing, or takes anything, is never refused."
    )


class BodyTimeout(GradtraceError):
    """The client stopped sending."""

    code = ProblemCode.BODY_TIMEOUT
    status = 408
    title = "The body stopped coming"
    description = "The client sent nothing for longer than GRADTRACE_BODY_TIMEOUT_S within a body."


class BodyTooLarge(GradtraceError):
    """More than GRADTRACE_MAX_BODY_MB."""

    code = ProblemCode.BODY_TOO_LARGE
    status = 413
    title = "The body is too large"
    description = "The body is larger than GRADTRACE_MAX_BODY_MB, counted while it came."


class UnsupportedMediaType(GradtraceError):
    """A body that this route does not read."""

    code = ProblemCode.UNSUPPORTED_MEDIA_TYPE
    status = 415
    title = "The body's media type is not read here"
    description = (
        "The Content-Type is missing or is none that this route reads, its charset is not UTF-8, "
        "or the body came with a Content-Encoding."
    )


class InvalidRequest(GradtraceError):
    """JSON, but not a request as the contract has it."""

    code = ProblemCode.INVALID_REQUEST
    status = 422
    title = "The request does not have the right form"
    description = (
        "The body is JSON but not of the form that OpenAPI describes: an unknown or missing field, "
        "a wrong type, a value out of range, an empty graph, or a device that is not there."
    )


class DuplicateId(GradtraceError):
    """Two nodes of one name."""

    code = ProblemCode.DUPLICATE_ID
    status = 422
    title = "An id is given twice"
    description = "Ids are unique over leaves and ops."


class UnknownReference(GradtraceError):
    """A reference to nothing."""

    code = ProblemCode.UNKNOWN_REFERENCE
    status = 422
    title = "A reference leads nowhere"
    description = (
        "A reference is the id of a leaf or op, or `id:k` or `id:name` for an op with several "
        "outputs. The message lists the outputs where the op has several."
    )


class Cycle(GradtraceError):
    """Ops that wait for each other."""

    code = ProblemCode.CYCLE
    status = 422
    title = "The ops wait for each other"
    description = "The inputs of these ops lead back to themselves; the message names the cycle."


class UnknownOp(GradtraceError):
    """No such op in the catalogue."""

    code = ProblemCode.UNKNOWN_OP
    status = 422
    title = "The op is not in the catalogue"
    description = (
        "Ops are PyTorch's documented functions and methods without `torch.`, and exact overloads "
        "such as `aten.add.Tensor`. Ops that work in place, take `out=`, change global state, "
        "touch files or return uninitialised memory are not there. The message names near ones, "
        "where there are any."
    )


class BadArguments(GradtraceError):
    """The arguments fit no signature."""

    code = ProblemCode.BAD_ARGUMENTS
    status = 422
    title = "The arguments do not bind"
    description = (
        "The inputs and attrs fit none of the op's signatures, which the message lists, or they "
        "are known to bring PyTorch down."
    )


class BadValue(GradtraceError):
    """A number or tensor that its dtype cannot hold."""

    code = ProblemCode.BAD_VALUE
    status = 422
    title = "A value does not fit its dtype or shape"
    description = (
        "A ragged list, base64 of the wrong length, a number that the dtype cannot hold (nothing "
        "is changed in silence), or requires_grad on an integer leaf."
    )


class OpFailed(GradtraceError):
    """PyTorch raised in an op."""

    code = ProblemCode.OP_FAILED
    status = 422
    title = "PyTorch refused an op"
    description = "PyTorch raised while the op ran; the message is PyTorch's, word for word."


class BadRoot(GradtraceError):
    """A root that backward cannot start from."""

    code = ProblemCode.BAD_ROOT
    status = 422
    title = "Backward cannot start from this root"
    description = (
        "The root has more than one element or is complex and has no gradient, does not require "
        "grad, or its gradient is of the wrong shape; or none is named, and the last op has "
        "several outputs."
    )


class BackwardFailed(GradtraceError):
    """PyTorch raised in backward."""

    code = ProblemCode.BACKWARD_FAILED
    status = 422
    title = "PyTorch refused the backward pass"
    description = "PyTorch raised during backward; the message is PyTorch's, word for word."


class LimitExceeded(GradtraceError):
    """A limit of this service."""

    code = ProblemCode.LIMIT_EXCEEDED
    status = 422
    title = "A limit of this service is exceeded"
    description = "The message names the limit and its value; /v1/capabilities lists all of them."


class MemoryLimit(GradtraceError):
    """The graph needs more memory than one request may take."""

    code = ProblemCode.MEMORY_LIMIT
    status = 422
    title = "The graph needs more memory than allowed"
    description = "One request may take GRADTRACE_MEMORY_LIMIT_MB; the kernel enforces it."


class GraphCrashed(GradtraceError):
    """This graph brings PyTorch down."""

    code = ProblemCode.GRAPH_CRASHED
    status = 422
    title = "This graph brings PyTorch down"
    description = (
        "The process that computed this graph died, and so did a fresh one that tried again. "
        "Nobody else was affected."
    )


class Overloaded(GradtraceError):
    """The queue is full."""

    code = ProblemCode.OVERLOADED
    status = 429
    title = "The queue is full"
    description = (
        "As many requests wait as GRADTRACE_QUEUE allows; Retry-After says when to try again."
    )


class Internal(GradtraceError):
    """A bug of ours.

    Attributes:
        place: where in the code, for the log.
    """

    place = ""

    code = ProblemCode.INTERNAL
    status = 500
    title = "A bug in this service"
    description = (
        "This should not happen, whatever the request. Please report it with the X-Request-Id."
    )


class NotReady(GradtraceError):
    """No worker yet."""

    code = ProblemCode.NOT_READY
    status = 503
    title = "The service is not ready"
    description = "The workers have not started, or cannot; /readyz says why."


class Draining(GradtraceError):
    """On the way down."""

    code = ProblemCode.DRAINING
    status = 503
    title = "The service is shutting down"
    description = (
        "The service got the signal to stop, and the time in which it still serves is over; from "
        "/readyz: send nothing new here."
    )


class TimeLimit(GradtraceError):
    """Stopped by the deadline."""

    code = ProblemCode.TIME_LIMIT
    status = 504
    title = "The computation took too long"
    description = (
        "The computation was stopped after GRADTRACE_TIME_LIMIT_S; waiting is not counted."
    )


def error_from(problem: Problem, retry_after_s: int | None = None) -> GradtraceError:
    """Return the error that ``problem`` came from, with all it says."""
    kinds = {kind.code: kind for kind in problems()}
    return kinds[problem.code](problem.detail, errors=problem.errors, retry_after_s=retry_after_s)


def problems() -> Iterable[type[GradtraceError]]:
    """Return the class of every problem code, in the order of :class:`ProblemCode`."""
    by_code = {kind.code: kind for kind in GradtraceError.__subclasses__()}
    return [by_code[code] for code in ProblemCode]
