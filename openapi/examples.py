"""Make the examples of the OpenAPI document: every answer in them is what the service answers.

Problems that need trouble, such as a deadline, are in its words (``SAID``), those of `/v1/trace`.

    python openapi/examples.py

rewrites ``service/web/static/examples.json``; a test compares it with what would be written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from service.contract import problem as contract
from service.contract.problem import GradtraceError, ProblemCode
from service.jobs import create
from service.settings import Settings
from service.web.catalogue import limits
from service.web.problems import kind_of

FILE = Path(__file__).parents[1] / "service" / "web" / "static" / "examples.json"
JSON = "application/json"
NDJSON = "application/x-ndjson"

Json = dict[str, Any]

LEAF: Json = {"id": "a", "value": [[1, 1], [1, 1]], "requires_grad": True}
SEED: Json = {
    "leaves": [LEAF],
    "ops": [
        {"id": "b", "op": "add", "inputs": ["a"], "attrs": {"other": 2}},
        {"id": "c", "op": "pow", "inputs": ["b"], "attrs": {"exponent": 2}, "retain_grad": True},
        {"id": "out", "op": "sum", "inputs": ["c"]},
    ],
}
NAN: Json = {
    "leaves": [{"id": "x", "value": [0, 4], "requires_grad": True}],
    "ops": [
        {"id": "root", "op": "sqrt", "inputs": ["x"]},
        {"id": "zero", "op": "mul", "inputs": ["root"], "attrs": {"other": 0}},
        {"id": "loss", "op": "sum", "inputs": ["zero"]},
    ],
    "include": ["grad", "notes"],
}
ROOTS: Json = {
    "leaves": [{"id": "x", "value": [1, 2], "dtype": "float64", "requires_grad": True}],
    "ops": [{"id": "y", "op": "square", "inputs": ["x"]}],
    "backward": [{"node": "y", "gradient": [1, 10]}],
    "encoding": "base64",
}
TRACES = {
    "seed": ("The lesson's graph: why is the gradient of b not there?", SEED),
    "nan": ("Where a NaN is born: the slope of sqrt at zero, times zero", NAN),
    "vector_root": ("A root with a gradient, tensors as base64", ROOTS),
}


def _graph(*ops: Json, **fields: Any) -> Json:
    return {"leaves": [LEAF], "ops": list(ops), **fields}


WRONG: dict[ProblemCode, Json] = {
    ProblemCode.INVALID_REQUEST: {"leaves": [LEAF], "opps": []},
    ProblemCode.DUPLICATE_ID: _graph({"id": "a", "op": "exp", "inputs": ["a"]}),
    ProblemCode.UNKNOWN_REFERENCE: _graph({"id": "b", "op": "exp", "inputs": ["z"]}),
    ProblemCode.CYCLE: _graph(
        {"id": "b", "op": "add", "inputs": ["a", "c"]}, {"id": "c", "op": "exp", "inputs": ["b"]}
    ),
    ProblemCode.UNKNOWN_OP: _graph({"id": "b", "op": "sofmax", "inputs": ["a"]}),
    ProblemCode.BAD_ARGUMENTS: _graph(
        {"id": "b", "op": "pow", "inputs": ["a"], "attrs": {"power": 2}}
    ),
    ProblemCode.BAD_VALUE: {"leaves": [{"id": "a", "value": [300], "dtype": "uint8"}]},
    ProblemCode.OP_FAILED: _graph(
        {"id": "b", "op": "reshape", "inputs": ["a"], "attrs": {"shape": [3]}}
    ),
    ProblemCode.BAD_ROOT: _graph({"id": "b", "op": "exp", "inputs": ["a"]}),
    ProblemCode.BACKWARD_FAILED: _graph(
        {"id": "b", "op": "floor_divide", "inputs": ["a"], "attrs": {"other": 2}},
        {"id": "c", "op": "sum", "inputs": ["b"]},
    ),
    ProblemCode.LIMIT_EXCEEDED: {
        "leaves": [{"id": "a", "value": [1]}],
        "ops": [{"id": "b", "op": "expand", "inputs": ["a"], "attrs": {"size": [2**40]}}],
    },
}
SAID: dict[ProblemCode, str] = {
    ProblemCode.INVALID_JSON: "NaN is not JSON; write it as a string.",
    ProblemCode.UNAUTHORIZED: "Send a key as `Authorization: Bearer KEY`.",
    ProblemCode.NOT_FOUND: "There is nothing at /v1/grad.",
    ProblemCode.METHOD_NOT_ALLOWED: "/v1/trace takes POST, not GET.",
    ProblemCode.NOT_ACCEPTABLE: (
        "Accept allows none of application/json, application/x-safetensors, image/svg+xml, "
        "text/vnd.graphviz."
    ),
    ProblemCode.BODY_TIMEOUT: "Nothing came for 30 seconds (GRADTRACE_BODY_TIMEOUT_S).",
    ProblemCode.BODY_TOO_LARGE: "The body may have 64 MB (GRADTRACE_MAX_BODY_MB).",
    ProblemCode.UNSUPPORTED_MEDIA_TYPE: (
        "The Content-Type is missing; this route reads application/json and "
        "application/x-safetensors."
    ),
    ProblemCode.MEMORY_LIMIT: (
        "the graph needs more than memory_limit_mb (GRADTRACE_MEMORY_LIMIT_MB) of 2048 MiB"
    ),
    ProblemCode.GRAPH_CRASHED: (
        "The process that computed this graph died (SIGSEGV), and so did a fresh one (SIGSEGV)."
    ),
    ProblemCode.OVERLOADED: "Requests that wait already: 64.",
    ProblemCode.INTERNAL: "This is a bug in the service, not in the request.",
    ProblemCode.NOT_READY: "The workers are starting.",
    ProblemCode.DRAINING: "The service is shutting down.",
    ProblemCode.TIME_LIMIT: "The computation was stopped after 10 s (GRADTRACE_TIME_LIMIT_S).",
}
SCRIPT = """\
import torch

a = torch.ones(2, 2, requires_grad=True)
b = a + 2
c = b ** 2
c.retain_grad()
out = c.sum()
out.backward()
"""


def make() -> Json:
    """Return all examples, with the answers of now."""
    job = create(Settings.model_construct().job_config())

    def ask(job_name: str, /, body: bytes = b"", accept: str = JSON, **headers: str) -> bytes:
        asked = {"job": job_name, "content-type": JSON, "accept": accept, **headers}
        return job(asked, body).body

    def asked(name: str, body: Json) -> Any:
        return json.loads(ask(name, json.dumps(body).encode()))

    lines = "".join(json.dumps(each) + "\n" for each in (SEED, WRONG[ProblemCode.UNKNOWN_OP]))
    streamed = ask("traces", lines.rstrip().encode(), NDJSON).decode().split("\n")
    kind = contract.Cycle
    return {
        "trace": {
            name: {"summary": summary, "request": graph, "answer": asked("trace", graph)}
            for name, (summary, graph) in TRACES.items()
        },
        "problems": {
            kind.code: {"request": WRONG[kind.code], "problem": asked("trace", WRONG[kind.code])}
            if kind.code in WRONG
            else {"problem": _said(kind)}
            for kind in contract.problems()
        },
        "others": {
            "list_ops": _shown("Ops with softmax", json.loads(ask("ops", q="softmax"))),
            "describe_op": _shown("The op pow", json.loads(ask("op", name="pow"))),
            "capabilities": _shown(
                "A machine without a GPU",
                {
                    **json.loads(ask("capabilities")),
                    "limits": {**limits(Settings.model_construct()), "workers": 2},
                },
            ),
            "import_python": _shown("The lesson's script", {"source": SCRIPT}),
            "imported": _shown(
                "The graph of the script", asked("import_python", {"source": SCRIPT})
            ),
            "export_python": _shown(
                "The script of the lesson's graph",
                ask("export_python", json.dumps(SEED).encode(), "text/x-python").decode(),
            ),
            "describe_problem": _shown(kind.title, kind_of(kind).model_dump()),
        },
        "stream": {
            "request": lines,
            "answer": "".join(
                f'{{"index":{index},{line[1:]}\n' for index, line in enumerate(streamed)
            ),
        },
    }


def _shown(summary: str, value: Any) -> Json:
    return {"summary": summary, "value": value}


def _said(kind: type[GradtraceError]) -> Json:
    return kind(SAID[kind.code]).problem().model_dump(mode="json")


def text() -> str:
    """Return the file's text as it should be."""
    return json.dumps(make(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
