"""Commands on one graph: trace it, read it from Python, write it as Python."""

from __future__ import annotations

import json
import math
import sys
from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from service.cli.source import Ask, source
from service.client import calls
from service.client.calls import post
from service.contract.negative_zero import keep_signs
from service.contract.problem import InvalidRequest
from service.contract.response import TraceResponse

SVG = "image/svg+xml"
PYTHON = "text/x-python"


@dataclass(frozen=True)
class View:
    """What ``gradtrace trace`` shows: the JSON answer or a table, a picture, and what to add."""

    as_json: bool
    svg: Path | None
    health: bool
    notes: bool

    def extras(self) -> list[str]:
        """Return the parts of ``include`` that are asked for on the command line."""
        return ["notes"] * self.notes + ["health"] * self.health


async def trace_graph(file: Path, url: str | None, key: str | None, view: View) -> None:
    """Trace the graph or script in ``file`` and show the answer as ``view`` says."""
    async with source(url, key) as ask:
        graph = await _graph(file, ask)
        answer = await ask(post("/v1/trace", _request(graph, view)))
        if view.svg is not None:
            view.svg.write_bytes(await ask(post("/v1/trace", graph, wanted=SVG)))
    if view.as_json:
        sys.stdout.buffer.write(answer.rstrip(b"\n") + b"\n")
        sys.stdout.flush()
    else:
        _show(answer, view)


async def import_python(file: Path, url: str | None, key: str | None) -> None:
    """Print the graph that the script in ``file`` means."""
    async with source(url, key) as ask:
        graph = await _imported(file, ask)
    sys.stdout.write(json.dumps(json.loads(graph), indent=2) + "\n")


async def export_python(file: Path, url: str | None, key: str | None) -> None:
    """Print the graph in ``file`` as a Python script."""
    async with source(url, key) as ask:
        graph = await _graph(file, ask)
        script = await ask(post("/v1/export/python", graph, wanted=PYTHON))
    sys.stdout.write(script.decode())


def model_graph(model: Path) -> str:
    """Return the graph of an exported PyTorch model as JSON text."""
    if not is_zipfile(model):
        raise InvalidRequest(f"{model} is no file that torch.export.save wrote")
    from service.translate.from_export import from_export_file

    return calls.graph_json(from_export_file(model)).decode() + "\n"


def read(file: Path) -> bytes:
    """Return what is in ``file``, or on standard input where it is ``-``.

    A byte order mark, with which some editors begin a file, is no part of a graph or script.
    """
    text = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    return text.removeprefix(BOM_UTF8)


async def _graph(file: Path, ask: Ask) -> bytes:
    return await _imported(file, ask) if file.suffix == ".py" else read(file)


async def _imported(file: Path, ask: Ask) -> bytes:
    script = json.dumps({"source": _script(file)}).encode()
    return await ask(post("/v1/import/python", script))


def _script(file: Path) -> str:
    """Return the script in ``file``."""
    try:
        return read(file).decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file} is not UTF-8: {error.reason} at byte {error.start}") from None


def _request(graph: bytes, view: View) -> bytes:
    """Return ``graph`` with what ``view`` needs; as it came where it cannot be read."""
    if view.as_json and not view.extras():
        return graph
    try:
        data = json.loads(
            graph.decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
        )
        keep_signs(data, graph)
        return json.dumps(_completed(data, view), separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return graph  # the answer says what is wrong with it


def _completed(data: Any, view: View) -> Any:
    """Return a request that asks for what ``view`` needs, and says all else as it was said."""
    if not isinstance(data, dict):
        return data
    tensors = ["value", "grad"]
    needed = view.extras() if view.as_json else tensors + view.extras()
    asked = data.get("include")
    asked = tensors if asked is None else asked
    if isinstance(asked, list):
        data["include"] = [*asked, *(part for part in needed if part not in asked)]
    if not view.as_json and data.get("encoding") == "base64":
        data["encoding"] = "json"
    return data


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} could not be written again")
    return number


def _show(answer: bytes, view: View) -> None:
    from service.cli.table import show_health, show_trace

    trace = calls.model_of(TraceResponse, answer)
    show_trace(trace, view.notes)
    if trace.health is not None:
        show_health(trace.health)
