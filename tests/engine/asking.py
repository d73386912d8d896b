"""Asking the engine, bytes to bytes, and reading what it says."""

from __future__ import annotations

from typing import Any

import orjson

from service.contract.problem import Problem
from service.contract.response import TraceResponse
from service.engine.job import JSON, Answer, Engine
from service.engine.limits import Limits

ENGINE = Engine(Limits(), threads=1)


def _asked(request: dict[str, Any] | bytes, engine: Engine) -> Answer:
    body = request if isinstance(request, bytes) else orjson.dumps(request)
    return engine.trace(JSON, JSON, body)


def trace(request: dict[str, Any] | bytes, engine: Engine = ENGINE) -> dict[str, Any]:
    """Return the answer to ``request``, which must be a trace; hold it against the models."""
    answer = _asked(request, engine)
    document: dict[str, Any] = orjson.loads(answer.body)
    assert answer.status == 200, document
    TraceResponse.model_validate(document)
    return document


def nodes_of(request: dict[str, Any] | bytes, engine: Engine = ENGINE) -> dict[str, dict[str, Any]]:
    """Return the nodes of the answer by their id."""
    return {node["id"]: node for node in trace(request, engine)["nodes"]}


def health(request: dict[str, Any]) -> dict[str, Any]:
    """Return the diagnosis of a graph, which changes no bit of the rest of the answer."""
    plain = trace(request)
    answer = trace(request | {"include": ["value", "grad", "health"]})
    assert answer["nodes"] == plain["nodes"]
    found: dict[str, Any] = answer["health"]
    return found


def problem(request: dict[str, Any] | bytes, engine: Engine = ENGINE) -> Problem:
    """Return the problem that ``request`` is answered with."""
    answer = _asked(request, engine)
    assert answer.status != 200, answer.body[:500]
    told = Problem.model_validate(orjson.loads(answer.body))
    assert told.status == answer.status
    assert answer.headers["content-type"] == "application/problem+json"
    return told


def op(name: str, kind: str, *inputs: str, **more: Any) -> dict[str, Any]:
    """Return an Op; keywords that are no field of an Op are attrs."""
    fields = {key: more.pop(key) for key in ("retain_grad", "requires_grad", "seed") if key in more}
    return {"id": name, "op": kind, "inputs": list(inputs), "attrs": more} | fields


def leaf(name: str, value: Any, *, requires_grad: Any = True, **more: Any) -> dict[str, Any]:
    """Return a Leaf that requires grad unless told otherwise."""
    return {"id": name, "value": value, "requires_grad": requires_grad} | more
