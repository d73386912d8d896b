"""The words of OpenAPI for each operation: bodies, answers, problems and examples by media type.

FastAPI sees only raw bodies on the routes that compute; what is in them is attached here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.contract.problem import PROBLEM_MEDIA_TYPE, problems
from service.web import examples

Description = dict[str, Any]

# Codes of problems, by what a route does:
COMPUTED = "unauthorized not_acceptable overloaded internal not_ready draining time_limit".split()
READ = "body_timeout body_too_large unsupported_media_type".split()
STREAMED = (
    "unauthorized not_acceptable unsupported_media_type body_timeout overloaded internal "
    "not_ready draining".split()
)
"""Of a stream as a whole, before its first answer; all others are lines of it."""
SCRIPT = "invalid_json invalid_request unknown_op bad_arguments memory_limit graph_crashed".split()
GRAPH = (
    "invalid_json invalid_request duplicate_id unknown_reference cycle unknown_op bad_arguments "
    "bad_value op_failed bad_root backward_failed limit_exceeded memory_limit graph_crashed".split()
)
ANSWER_HEADERS: Description = {
    "X-Request-Id": {
        "description": "The id of this request in the log: the client's, or a new one.",
        "schema": {"type": "string"},
    },
    "Server-Timing": {
        "description": "Milliseconds spent in each phase, as far as they are known.",
        "schema": {"type": "string"},
        "example": "queue;dur=0.010, parse;dur=0.031, forward;dur=0.052, total;dur=0.731",
    },
}
RETRY_AFTER: Description = {
    "description": "Seconds after which to try again.",
    "schema": {"type": "integer", "minimum": 0},
}
HEADERS_BY_STATUS = {
    429: {"Retry-After": RETRY_AFTER},
    503: {"Retry-After": RETRY_AFTER},
    401: {
        "WWW-Authenticate": {
            "description": "How to authenticate: `Bearer`.",
            "schema": {"type": "string"},
        }
    },
}

SECURITY: Description = {"security": [{"bearer": []}, {}]}
"""A key is needed where the service has any."""

OPEN: Description = {"security": []}
"""No key is needed, even where the service has some."""


def schema(name: str) -> Description:
    """Return a reference to a model of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def json_of(model: str, shown: Description) -> Description:
    """Return the description of JSON of a model, with examples by name."""
    return {"schema": schema(model), "examples": shown}


def ndjson_of(model: str, shown: Description) -> Description:
    """Return the description of JSON of a model, one on each line."""
    text = {"type": "string", "description": f"One {model} as JSON on each line."}
    return {"schema": text, "x-item-schema": schema(model), "examples": shown}


BINARY: Description = {"schema": {"type": "string", "format": "binary"}}
TEXT: Description = {"schema": {"type": "string"}}


def body(content: Description, description: str) -> Description:
    """Return the description of a required body by media type."""
    return {"requestBody": {"required": True, "description": description, "content": content}}


def answer(content: Description, description: str) -> Description:
    """Return the description of the answer 200 by media type."""
    return {"description": description, "headers": ANSWER_HEADERS, "content": content}


def answers(codes: Sequence[str], ok: Description) -> dict[int | str, Description]:
    """Return the descriptions of the answers by status.

    Args:
        codes: the problems there can be; each has an example.
        ok: the answer 200.
    """
    wanted = [kind for kind in problems() if kind.code in codes]
    described: dict[int | str, Description] = {200: ok}
    for status in sorted({kind.status for kind in wanted}):
        kinds = [kind for kind in wanted if kind.status == status]
        shown = {str(kind.code): examples.problem(kind.code, kind.title) for kind in kinds}
        described[status] = {
            "description": "\n\n".join(f"`{kind.code}`: {kind.description}" for kind in kinds),
            "headers": ANSWER_HEADERS | HEADERS_BY_STATUS.get(status, {}),
            "content": {PROBLEM_MEDIA_TYPE: json_of("Problem", shown)},
        }
    return described


def json_answer(description: str, named: Description | None = None) -> Description:
    """Return the description of the JSON answer 200 whose model FastAPI knows."""
    return answer({"application/json": {"examples": named}} if named else {}, description)
