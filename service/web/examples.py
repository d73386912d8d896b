"""The examples of the OpenAPI document. They are real: a test sends each and compares the answer.

trace     name -> summary, request, answer
problems  code -> problem, and the request it answers where a graph causes it
others    operation id -> request or answer
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import orjson

Example = dict[str, Any]


@cache
def load() -> dict[str, dict[str, Any]]:
    """Return all examples."""
    return orjson.loads((files("service.web") / "static" / "examples.json").read_bytes())  # type: ignore[no-any-return]


def trace_requests() -> dict[str, Example]:
    """Return the graphs by name."""
    shown = load()["trace"]
    return {name: _shown(each["summary"], each["request"]) for name, each in shown.items()}


def trace_answers() -> dict[str, Example]:
    """Return the answers to the graphs by name."""
    shown = load()["trace"]
    return {name: _shown(each["summary"], each["answer"]) for name, each in shown.items()}


def stream() -> dict[str, dict[str, Example]]:
    """Return a streamed request and its answer as text, by `request` and `answer`."""
    return {
        part: {"seed": _shown("Two graphs, one of them wrong", load()["stream"][part])}
        for part in ("request", "answer")
    }


def problem(code: str) -> Example:
    """Return the problem of one code."""
    return _shown(code, load()["problems"][code]["problem"])


def other(name: str) -> dict[str, Example]:
    """Return the one example of an operation beside the traces."""
    each = load()["others"][name]
    return {name: _shown(each["summary"], each["value"])}


def _shown(summary: str, value: Any) -> Example:
    return {"summary": summary, "value": value}
