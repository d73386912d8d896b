"""The OpenAPI document: what FastAPI knows of the routes, and the models of the raw bodies."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import service
from service.contract.problem import (
    PROBLEM_MEDIA_TYPE,
    InvalidRequest,
    Problem,
    ProblemCode,
    problems,
)
from service.contract.request import DType, Encoding, Include, TraceRequest
from service.contract.response import (
    FlowVerdict,
    GradStatus,
    NoGradReason,
    NonFinite,
    TraceResponse,
)
from service.web import examples
from service.web.describe import ANSWER_HEADERS, OPEN, Description, answers, json_answer, json_of
from service.web.models import PythonSource, TraceLine

DESCRIPTION = """\
Give a graph of PyTorch calls, get back the value and the gradient of every node, computed by
PyTorch, with a reason for every gradient that is not there.

The words are PyTorch's: a *leaf* is a tensor that you give, `requires_grad`, `retain_grad`,
`is_leaf` and `grad_fn` mean what they mean there. `null` for a gradient is only ever "PyTorch has
no gradient here", and `grad_status` says why. Numbers that are not finite are the strings `"NaN"`,
`"Infinity"` and `"-Infinity"`.

What is refused before an operation is reached is a Problem too: 400 `invalid_request` where a
request is not HTTP, 404 `not_found` and 405 `method_not_allowed` (with `Allow`) for what is not
described here, and 429 `overloaded` where there are too many connections. HEAD is taken wherever
GET is.
"""
TAGS = [
    {"name": "trace", "description": "Values and gradients of every node of a graph."},
    {
        "name": "python",
        "description": "Graphs from Python scripts, and Python scripts from graphs.",
    },
    {"name": "catalogue", "description": "The ops that a graph may use, and what is in force."},
    {"name": "operation", "description": "What an operator's machinery asks."},
]
MODELS: tuple[type[BaseModel], ...] = (
    TraceRequest,
    TraceResponse,
    TraceLine,
    PythonSource,
    Problem,
)
BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "One of the keys of GRADTRACE_API_KEYS, where the service has any.",
}
HEAD_TOO_LARGE = "431"
"""The status of what is refused before any route is known, so no route describes it."""
WIDTHS = {"integer": "int64", "number": "double"}
DEFAULT_422 = "HTTPValidationError"
UNUSED = (DEFAULT_422, "ValidationError", "JsonValue")
"""Schemas of the framework's answers, which nobody gets here, and of any value, which is `{}`."""
ANY_VALUE = "#/components/schemas/JsonValue"
ENUMS: dict[type[StrEnum], dict[str, str]] = {
    GradStatus: {
        "accumulated": "The gradient is there: a leaf that requires grad and a root depends on.",
        "retained": "The gradient is there: no leaf, but retain_grad was on.",
        "not_retained": "On the way to a root, but no leaf, and retain_grad was off.",
        "not_on_path": "Requires grad, but no root depends on it through autograd.",
        "constant": "A leaf without requires_grad, or an op none of whose inputs requires grad.",
        "non_differentiable": "An input requires grad, the result does not.",
        "no_backward": "Requires grad, but backward was an empty list.",
    },
    DType: {
        "float64": "IEEE 754 double precision.",
        "float32": "IEEE 754 single precision.",
        "float16": "IEEE 754 half precision.",
        "bfloat16": "The upper half of a float32.",
        "complex64": "Two float32: real and imaginary part.",
        "complex128": "Two float64: real and imaginary part.",
        "int64": "Signed integer of 64 bits.",
        "int32": "Signed integer of 32 bits.",
        "int16": "Signed integer of 16 bits.",
        "int8": "Signed integer of 8 bits.",
        "uint8": "Unsigned integer of 8 bits.",
        "bool": "True or false.",
    },
    Encoding: {
        "json": "Nested lists of numbers.",
        "base64": "Base64 of the raw little-endian row-major bytes.",
    },
    Include: {
        "value": "The value of every node.",
        "grad": "The gradient of every node.",
        "stats": "Statistics of values and gradients.",
        "edges": "What each use of a node contributes to its gradient.",
        "notes": "A sentence on each gradient that is, or is not, there.",
        "health": "A diagnosis: where numbers stop being finite, gradients vanish or explode.",
    },
    NonFinite: {"NaN": "Not a number.", "Infinity": "Infinite, of either sign."},
    FlowVerdict: {
        "steady": "Gradients keep their size.",
        "vanishing": "Gradients far from the root are less than a thousandth of those near it.",
        "exploding": "Gradients far from the root are over a thousand times those near it.",
        "too_shallow": "The graph is not deep enough to say.",
    },
    NoGradReason: {
        "unused": "No op reads it.",
        "cut": "What is computed from it does not require grad.",
        "leads_to_no_root": "What is computed from it leads to no root.",
        "all_zeros": "It has a gradient, and all of it is zero.",
    },
    ProblemCode: {str(kind.code): kind.description for kind in problems()},
}


def build(app: FastAPI, root_path: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of ``app``."""
    document = get_openapi(
        title="Gradtrace",
        version=service.__version__,
        openapi_version="3.1.0",
        summary="The gradient of every node of a graph, and why one is missing.",
        description=DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
        servers=[{"url": root_path or "/", "description": "This service."}],
        contact={"name": "The maintainers of Gradtrace"},
        license_info={"name": "MIT", "identifier": "MIT"},
        separate_input_output_schemas=False,
    )
    components = document.setdefault("components", {})
    components["schemas"] = dict(sorted(_schemas(components.get("schemas", {})).items()))
    components["securitySchemes"] = {"bearer": BEARER}
    _without_default_422(document["paths"])
    _describe_all_answers(document["paths"])
    _make_plain(document)
    _describe_enums(components["schemas"])
    examples.fill(document["paths"])
    return document


def add_openapi(app: FastAPI, root_path: str) -> None:
    """Add ``/openapi.json``; the document is made when it is asked for first."""
    made: list[bytes] = []

    @app.get(
        "/openapi.json",
        tags=["operation"],
        operation_id="openapi",
        summary="This document",
        response_class=JSONResponse,
        responses=answers(["internal"], json_answer("OpenAPI 3.1.")),
        openapi_extra=OPEN,
    )
    async def openapi_json() -> Response:
        """Answer with the OpenAPI document of this service."""
        if not made:
            made.append(await asyncio.to_thread(lambda: orjson.dumps(build(app, root_path))))
        return Response(made[0], media_type="application/json")


def _schemas(known: dict[str, Any]) -> dict[str, Any]:
    """Return the schemas that FastAPI knows, and those of the raw bodies."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in MODELS], ref_template="#/components/schemas/{model}"
    )
    schemas = {**known, **definitions["$defs"]}
    return {name: each for name, each in schemas.items() if name not in UNUSED}


def _without_default_422(paths: dict[str, Any]) -> None:
    """Take out the framework's own 422, which it adds to every route with a parameter."""
    for path in paths.values():
        for operation in path.values():
            default = operation["responses"].get("422", {})
            if DEFAULT_422 in str(default):
                del operation["responses"]["422"]


def _describe_all_answers(paths: dict[str, Any]) -> None:
    """Add the answer that any operation can give; say that what is described is always sent."""
    for path in paths.values():
        for operation in path.values():
            operation["responses"][HEAD_TOO_LARGE] = _head_too_large()
            for answer in operation["responses"].values():
                answer["headers"] = {
                    name: {**header, "required": True} for name, header in answer["headers"].items()
                }


def _head_too_large() -> Description:
    problem = InvalidRequest("The headers have more than 65536 bytes.").problem()
    problem.status = int(HEAD_TOO_LARGE)
    shown = {"summary": "The head is too large", "value": problem.model_dump(mode="json")}
    return {
        "description": "`invalid_request`: The head is too large; one of 64 KiB is always taken.",
        "headers": ANSWER_HEADERS,
        "content": {PROBLEM_MEDIA_TYPE: json_of("Problem", {str(InvalidRequest.code): shown})},
    }


def _make_plain(node: Any) -> None:
    """Say in place what generators of clients would guess wrong: widths, and what any value is."""
    if isinstance(node, list):
        for each in node:
            _make_plain(each)
    if not isinstance(node, dict):
        return
    kind = node.get("type")
    if isinstance(kind, str) and kind in WIDTHS:
        node.setdefault("format", WIDTHS[kind])
    if node.get("additionalProperties") == {"$ref": ANY_VALUE}:
        node["additionalProperties"] = True
    if node.get("$ref") == ANY_VALUE:
        del node["$ref"]
    for key, value in node.items():
        if key not in ("example", "examples"):
            _make_plain(value)


def _describe_enums(schemas: dict[str, Any]) -> None:
    for enum, meanings in ENUMS.items():
        described = schemas[enum.__name__]
        rows = "\n".join(f"* `{value}`: {meanings[value]}" for value in described["enum"])
        first = (enum.__doc__ or "").strip().splitlines()[0]
        described["description"] = f"{first}\n\n{rows}"
        described["x-enum-descriptions"] = [meanings[value] for value in described["enum"]]
        described["x-enum-varnames"] = [enum(value).name for value in described["enum"]]
