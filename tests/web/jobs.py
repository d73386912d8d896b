"""A job without torch for the tests of the web process: it does what the body's ``do`` says."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from service.contract.problem import (
    BUG_HEADER,
    PROBLEM_MEDIA_TYPE,
    GradtraceError,
    Internal,
    InvalidJson,
    NotFound,
)

Answer = tuple[int, dict[str, str], bytes]
JSON = "application/json"


def create(config: Mapping[str, int | str]) -> Callable[[Mapping[str, str], Any], Answer]:
    return handle


def handle(headers: Mapping[str, str], body: bytes | memoryview) -> Answer:
    try:
        return JOBS[headers["job"]](headers, bytes(body))
    except GradtraceError as error:
        return error.status, {"content-type": PROBLEM_MEDIA_TYPE}, _problem(error)


def _problem(error: GradtraceError) -> bytes:
    return error.problem().model_dump_json().encode()


def _trace(headers: Mapping[str, str], body: bytes) -> Answer:
    if headers["content-type"] == "application/x-safetensors":
        return 200, _headers(headers["accept"]), body
    try:
        asked = orjson.loads(body)
    except ValueError as error:
        raise InvalidJson(str(error)) from error
    match asked:
        case {"do": "die"}:
            os._exit(3)
        case {"do": "fail"}:
            raise RuntimeError("a bug in the job")
        case {"do": "bug"}:
            headers = {"content-type": PROBLEM_MEDIA_TYPE, BUG_HEADER: "unexpected Error at f:1"}
            return 500, headers, _problem(Internal("unexpected Error"))
        case {"do": "made up"}:
            return 400, {"content-type": PROBLEM_MEDIA_TYPE}, b'{"code":"made_up"}'
        case {"do": "sleep", "seconds": float() | int() as seconds}:
            time.sleep(seconds)
        case {"do": "wait", "for": str(file)}:
            _wait_for(file)
        case {"do": "bytes", "count": int(count)}:
            return 200, _headers(headers["accept"]), b"x" * count
    return 200, _headers(headers["accept"]), orjson.dumps({"got": asked, "size": len(body)})


def _headers(content_type: str) -> dict[str, str]:
    return {
        "content-type": content_type,
        "server-timing": "parse;dur=0.5, forward;dur=1.25",
        "x-nodes": "4",
    }


def _traces(headers: Mapping[str, str], body: bytes) -> Answer:
    lines = []
    for line in body.split(b"\n"):
        status, _, answer = handle(
            {**headers, "job": "trace", "accept": JSON, "content-type": JSON}, line
        )
        lines.append(b'{"%b":%b}' % (b"trace" if status == 200 else b"problem", answer))
    return (
        200,
        {"content-type": headers["accept"], "x-nodes": str(4 * len(lines))},
        b"\n".join(lines),
    )


def _ops(headers: Mapping[str, str], body: bytes) -> Answer:
    ops = [{"name": name, "summary": f"The op {name}."} for name in ("add", "pow", "sum")]
    found = [op for op in ops if headers["q"] in op["name"]]
    return 200, {"content-type": JSON}, orjson.dumps({"ops": found})


def _op(headers: Mapping[str, str], body: bytes) -> Answer:
    if headers["name"] not in ("add", "linalg.svd"):
        raise NotFound(f"There is no op {headers['name']}; near ones: add.")
    described = {"name": headers["name"], "summary": "", "documentation": "", "signatures": []}
    return 200, {"content-type": JSON}, orjson.dumps(described)


def _capabilities(headers: Mapping[str, str], body: bytes) -> Answer:
    versions = {"gradtrace": "0", "torch": "0", "numpy": "0", "python": "3"}
    answer = {"versions": versions, "devices": ["cpu"], "dtypes": ["float32"]}
    return 200, {"content-type": JSON}, orjson.dumps(answer)


def _echo(headers: Mapping[str, str], body: bytes) -> Answer:
    return 200, {"content-type": headers["accept"]}, body


JOBS = {
    "trace": _trace,
    "traces": _traces,
    "ops": _ops,
    "op": _op,
    "capabilities": _capabilities,
    "import_python": _echo,
    "export_python": _echo,
}


def _wait_for(file: str) -> None:
    while not Path(file).exists():
        time.sleep(0.01)


def slow_start(config: Mapping[str, int | str]) -> Callable[[Mapping[str, str], Any], Answer]:
    """Start when the file is there that a variable names."""
    _wait_for(os.environ["START_AFTER"])
    return handle
