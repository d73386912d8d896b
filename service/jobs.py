"""What a worker can be asked to do: the engine, the translators and the picture, behind one call.

A worker is told to import ``service.jobs:create`` and knows nothing else of what is in here. Every
job is bytes and headers in, bytes and headers out; every error is a problem.
"""

from __future__ import annotations

import importlib
import json
import platform
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson
import torch

import service
from service.contract.problem import BUG_HEADER, InvalidRequest, NotFound, UnknownOp
from service.contract.request import DType, Include
from service.engine.catalogue import catalogue
from service.engine.check import count_nodes
from service.engine.job import (
    JSON,
    Answer,
    Engine,
    Stopwatch,
    explain,
    problem_answer,
    write_json,
)
from service.engine.json_text import parse_json
from service.engine.limits import Limits
from service.engine.long_values import spell_out
from service.engine.report import SHOWN, Wanted
from service.picture import MAX_NODES, graphviz, svg
from service.translate.from_python import from_python
from service.translate.to_python import to_python

Headers = Mapping[str, str]
Bytes = bytes | memoryview
Handle = Callable[[Headers, Bytes], Answer]

NDJSON = "application/x-ndjson"
SVG = "image/svg+xml"
PICTURES = {SVG: svg, "text/vnd.graphviz": graphviz}
EACH_CARD_NEEDS = {Include.VALUE, Include.GRAD, Include.NOTES}
EVERY_PICTURE_NEEDS = {Include.STATS}


def create(config: Mapping[str, int | str]) -> Handle:
    """Return the function that does every job of a worker.

    Args:
        config: limits by their setting's name in lower case, ``torch_threads``, and ``alone``: 1
            where this process does nothing else.
    """
    catalogue()  # made before the first fork, so that no worker makes it again
    if config.get("alone"):
        # Or torch does it at the first grad_outputs: half a second and 35 MB in each worker.
        importlib.import_module("torch.fx.experimental.symbolic_shapes")
    threads = config.get("torch_threads")
    threads = None if threads is None else int(threads)
    engine = Engine(Limits.of(config), threads, alone=bool(config.get("alone")))
    return Jobs(engine).handle


class Jobs:
    """The jobs by name; :meth:`handle` never raises."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: dict[str, Handle] = {
            "trace": self._trace,
            "traces": self._traces,
            "ops": self._ops,
            "op": self._op,
            "capabilities": self._capabilities,
            "import_python": self._import_python,
            "export_python": self._export_python,
        }

    def handle(self, headers: Headers, body: Bytes) -> Answer:
        """Do the job that ``headers["job"]`` names."""
        try:
            return self._jobs[headers["job"]](headers, body)
        except Exception as error:  # noqa: BLE001 - the last wall: whatever it is, a problem
            return problem_answer(explain(error, self._engine.limits))

    def _trace(self, headers: Headers, body: Bytes) -> Answer:
        accept = headers.get("accept", JSON)
        content_type = headers.get("content-type", JSON)
        if accept in PICTURES:
            return self._picture(content_type, accept, body)
        return self._engine.trace(content_type, accept, body)

    def _picture(self, content_type: str, accept: str, body: Bytes) -> Answer:
        watch = Stopwatch()
        request, tensors = self._engine.read(content_type, body)
        watch.lap("parse")
        plan = self._engine.plan(request)
        asked = request.get("include") or ()
        include = frozenset([*EVERY_PICTURE_NEEDS, *EACH_CARD_NEEDS, *asked])
        wanted = Wanted(include, SHOWN)
        traced = self._engine.compute(request, plan, tensors, wanted, watch)
        if accept == SVG and len(traced.nodes) > MAX_NODES:
            # Printing what no card of a group shows would take longer than the computation.
            wanted = Wanted(include - EACH_CARD_NEEDS, SHOWN)
        response = orjson.loads(Answer(200, {}, write_json(traced, wanted)).body)
        text = PICTURES[accept](request, response, _output_names)
        watch.lap("encode")
        nodes = str(count_nodes(request))
        headers = {"content-type": accept, "server-timing": str(watch), "x-nodes": nodes}
        return Answer(200, headers, text.encode())

    def _traces(self, _headers: Headers, body: Bytes) -> Answer:
        """Answer a TraceRequest a line with a line each, in order; a bad one spoils no other."""
        # In pieces, so that a line needs no more memory than a request of its own.
        pieces: list[bytes | memoryview] = []
        nodes = 0
        bugs = {}
        for line in bytes(body).removesuffix(b"\n").split(b"\n"):
            answer = self._engine.trace(JSON, JSON, line)
            kind = b"trace" if answer.status == 200 else b"problem"
            pieces += b'{"%b":' % kind, *answer.pieces, b"}\n"
            nodes += int(answer.headers["x-nodes"])
            if BUG_HEADER in answer.headers:
                bugs[BUG_HEADER] = answer.headers[BUG_HEADER]
        headers = {"content-type": NDJSON, "x-nodes": str(nodes), **bugs}
        pieces[-1:] = [b"}"]
        return Answer(200, headers, pieces)

    def _ops(self, headers: Headers, _body: Bytes) -> Answer:
        found = catalogue().search(headers.get("q", ""))
        return _json({"ops": [{"name": op.name, "summary": op.summary} for op in found]})

    def _op(self, headers: Headers, _body: Bytes) -> Answer:
        try:
            return _json(catalogue().find(headers["name"]).describe())
        except UnknownOp as error:  # it is no part of a graph here, but what is asked for
            raise NotFound(error.detail) from None

    def _capabilities(self, _headers: Headers, _body: Bytes) -> Answer:
        cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
        versions = {
            "gradtrace": service.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }
        devices = ["cpu", *(f"cuda:{index}" for index in range(cuda))]
        return _json({"versions": versions, "devices": devices, "dtypes": list(DType)})

    def _import_python(self, _headers: Headers, body: Bytes) -> Answer:
        document = parse_json(body)
        if not isinstance(document, dict) or set(document) != {"source"}:
            raise InvalidRequest('the body is an object with the one field "source"')
        if not isinstance(document["source"], str):
            raise InvalidRequest("source is a string", pointer="/source")
        # Not orjson: attrs may have integers beyond 64 bits.
        text = json.dumps(from_python(document["source"]), allow_nan=False)
        return Answer(200, {"content-type": JSON}, text.encode())

    def _export_python(self, _headers: Headers, body: Bytes) -> Answer:
        request, _ = self._engine.read(JSON, body)
        # What cannot be traced is refused in the words of a trace.
        plan = self._engine.plan(request)
        self._engine.leaves(plan, request.get("dtype") or "float32")
        spell_out(request)
        return Answer(200, {"content-type": "text/x-python"}, to_python(request).encode())


def _output_names(op: str) -> tuple[str | None, ...]:
    """Return what PyTorch calls the outputs of an op of the catalogue: one signature names them."""
    outputs = (signature.outputs for signature in catalogue().find(op).signatures)
    return next((names for names in outputs if any(names)), ())


def _json(document: Any) -> Answer:
    return Answer(200, {"content-type": JSON}, orjson.dumps(document))
