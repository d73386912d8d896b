"""The examples of the OpenAPI document. They are real: a test sends each and compares the answer.

    trace     name -> summary, request, answer
    problems  code -> problem, and the request it answers where a graph causes it
    others    name -> summary, value
    stream    request and answer as text

The routes only point at them (``example:problems/cycle/problem``), because FastAPI takes every null
out of what it is given; :func:`fill` puts them in at the end.
"""

from __future__ import annotations

from functools import cache, reduce
from importlib.resources import files
from typing import Any, Literal

import orjson

Example = dict[str, Any]
MARK = "example:"
Part = Literal["request", "answer"]


@cache
def load() -> dict[str, dict[str, Any]]:
    """Return all examples."""
    return orjson.loads((files("service.web") / "static" / "examples.json").read_bytes())  # type: ignore[no-any-return]


def traces(part: Part) -> dict[str, Example]:
    """Return the graphs by name, or the answers to them."""
    return {
        name: _shown(each["summary"], f"trace/{name}/{part}")
        for name, each in load()["trace"].items()
    }


def stream(part: Part) -> dict[str, Example]:
    """Return a streamed request as text, or the answer to it."""
    return {"seed": _shown("Two graphs, one of them wrong", f"stream/{part}")}


def problem(code: str, title: str) -> Example:
    """Return the problem of one code."""
    return _shown(title, f"problems/{code}/problem")


def other(name: str) -> dict[str, Example]:
    """Return the one example of an operation beside the traces."""
    return {name: _shown(load()["others"][name]["summary"], f"others/{name}/value")}


def _shown(summary: str, path: str) -> Example:
    return {"summary": summary, "value": MARK + path}


def fill(node: Any) -> None:
    """Put the examples in wherever ``node`` points at one."""
    if isinstance(node, list):
        for each in node:
            fill(each)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if isinstance(value, str) and value.startswith(MARK):
            path = value.removeprefix(MARK).split("/")
            node[key] = reduce(lambda found, part: found[part], path, load())
        else:
            fill(value)
