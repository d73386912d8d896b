"""The routes under ``/v1`` that take a graph or a script, and their description."""

from __future__ import annotations

from fastapi import FastAPI

from service.settings import Settings
from service.web import examples
from service.web.compute import ComputeEndpoint, Media, RawRoute
from service.web.describe import (
    BINARY,
    COMPUTED,
    GRAPH,
    READ,
    SCRIPT,
    SECURITY,
    STREAMED,
    TEXT,
    answer,
    answers,
    body,
    json_of,
    ndjson_of,
)
from service.web.negotiate import GRAPHVIZ, JSON, NDJSON, PYTHON, SAFETENSORS, SVG
from service.web.room import Room
from service.web.streams import StreamEndpoint
from service.workers.seam import Computer

TRACE: Media = {
    JSON: (JSON, SAFETENSORS, SVG, GRAPHVIZ),
    SAFETENSORS: (SAFETENSORS, JSON, SVG, GRAPHVIZ),
}
IMPORT: Media = {JSON: (JSON,)}
EXPORT: Media = {JSON: (PYTHON,)}

TRACE_WORDS = """\
Runs the ops on the leaves, then the backward pass from the roots, and answers with what PyTorch
says of every node: its value, its gradient, and why a gradient is not there.

With `application/x-safetensors` the body is a safetensors file: the request as JSON text in
`__metadata__["request"]`, its leaves without value, and each leaf's tensor under its id. The answer
holds the tensors `value/<id>` and `grad/<id>`, `edge/<k>` for what edge number k contributes, and
the rest of the TraceResponse as JSON text in `__metadata__["response"]`. complex128 travels as
float64 with a last axis of two.
"""
STREAM_WORDS = (
    "Takes a TraceRequest a line and answers with a line for each, in the same order, "
    "as soon as it and those before it are done: the trace, or the problem of that "
    "line. Empty lines are passed over. A line may be as long as a body; the stream "
    "has no end of its own."
)


def add_routes(app: FastAPI, settings: Settings, computer: Computer) -> None:
    """Add ``/v1/trace``, ``/v1/traces``, ``/v1/import/python`` and ``/v1/export/python``."""
    room = Room(settings)

    def endpoint(job: str, media: Media) -> ComputeEndpoint:
        return ComputeEndpoint(job, media, settings, computer, room)

    graphs = examples.traces("request")
    trace_answer = {
        JSON: json_of("TraceResponse", examples.traces("answer")),
        SAFETENSORS: BINARY,
        SVG: TEXT,
        GRAPHVIZ: TEXT,
    }
    app.router.routes += [
        RawRoute(
            "/v1/trace",
            endpoint("trace", TRACE),
            tags=["trace"],
            operation_id="trace",
            summary="Trace a graph",
            description=TRACE_WORDS,
            responses=answers(
                [*COMPUTED, *READ, *GRAPH],
                answer(trace_answer, "The value and the gradient of every node."),
            ),
            openapi_extra=body(
                {JSON: json_of("TraceRequest", graphs), SAFETENSORS: BINARY},
                "The graph, and what to answer about it.",
            )
            | SECURITY,
        ),
        RawRoute(
            "/v1/import/python",
            endpoint("import_python", IMPORT),
            tags=["python"],
            operation_id="import_python",
            summary="Read a Python script as a graph",
            description="Parses a script (it is never executed) into the TraceRequest it means.",
            responses=answers(
                [*COMPUTED, *READ, *SCRIPT],
                answer({JSON: json_of("TraceRequest", examples.other("imported"))}, "The graph."),
            ),
            openapi_extra=body(
                {JSON: json_of("PythonSource", examples.other("import_python"))}, "The script."
            )
            | SECURITY,
        ),
        RawRoute(
            "/v1/export/python",
            endpoint("export_python", EXPORT),
            tags=["python"],
            operation_id="export_python",
            summary="Write a graph as a Python script",
            description="Writes a stand-alone script that prints the numbers that a trace answers.",
            responses=answers(
                [*COMPUTED, *READ, *GRAPH],
                answer({PYTHON: TEXT | {"examples": examples.other("export_python")}}, "A script."),
            ),
            openapi_extra=body(
                {JSON: json_of("TraceRequest", {"seed": graphs["seed"]})}, "The graph."
            )
            | SECURITY,
        ),
        RawRoute(
            "/v1/traces",
            StreamEndpoint(settings, computer, room),
            tags=["trace"],
            operation_id="trace_many",
            summary="Trace many graphs in a stream",
            description=STREAM_WORDS,
            responses=answers(
                STREAMED,
                answer(
                    {NDJSON: ndjson_of("TraceLine", examples.stream("answer"))},
                    "A line for each line.",
                ),
            ),
            openapi_extra=body(
                {NDJSON: ndjson_of("TraceRequest", examples.stream("request"))},
                "A TraceRequest a line.",
            )
            | SECURITY,
        ),
    ]
