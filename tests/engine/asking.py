"""Asking the engine, bytes to bytes, and reading what it says."""

from __future__ import annotations

from typing import Any

import orjson

from service.contract.problem import Problem
from service.contract.response import NodeTrace, TraceResponse
from service.engine.job import JSON, Engine
from service.engine.limits import Limits

ENGINE = Engine(Limits(), threads=1)


def trace(request: dict[str, Any], engine: Engine = ENGINE) -> dict[str, Any]:
    """Return the answer to ``request``, which must be a trace; hold it against the models."""
    answer = engine.trace(JSON, JSON, orjson.dumps(request))
    document: dict[str, Any] = orjson.loads(answer.body)
    assert answer.status == 200, document
    TraceResponse.model_validate(document)
    return document


def nodes_of(request: dict[str, Any], engine: Engine = ENGINE) -> dict[str, dict[str, Any]]:
    """Return the nodes of the answer by their id."""
    return {node["id"]: node for node in trace(request, engine)["nodes"]}


def problem(request: dict[str, Any] | bytes, engine: Engine = ENGINE) -> Problem:
    """Return the problem that ``request`` is answered with."""
    body = request if isinstance(request, bytes) else orjson.dumps(request)
    answer = engine.trace(JSON, JSON, body)
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


__all__ = ["ENGINE", "NodeTrace", "leaf", "nodes_of", "op", "problem", "trace"]
