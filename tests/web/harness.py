"""The web process for tests: as an app in this process, or as a server in a process of its own."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import httpx
from fastapi import FastAPI
from fastapi.routing import APIRoute

from service.contract.problem import PROBLEM_MEDIA_TYPE, Problem
from service.settings import Settings
from service.web.app import create_app
from service.web.logs import AccessLog
from service.workers.inprocess import InProcess
from service.workers.pool import Pool
from tests.processes import PATIENCE_S, own_port, wait_until

JOB = "tests.web.jobs:create"
ROOT = Path(__file__).parents[2]
JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}


@dataclass
class Web:
    """The app with a client, and what it logged."""

    app: FastAPI
    http: httpx.AsyncClient
    log: io.StringIO = field(default_factory=io.StringIO)

    async def trace(self, asked: Any, **headers: str) -> httpx.Response:
        return await self.http.post(
            "/v1/trace", content=json.dumps(asked), headers={**JSON, **headers}
        )


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Web]:
    """Run the app in this process, computing with the job of the tests."""
    log = io.StringIO()
    made = Settings(**{"log": "json", "workers": 2, **settings})
    app = create_app(made, InProcess(JOB), AccessLog("json", log))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, root_path=made.root_path)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        yield Web(app, http, log)


def asking(path: str, headers: dict[str, str], **more: Any) -> dict[str, Any]:
    """Return the scope of a POST, as a server makes it."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        **more,
    }


def routes(web: Web) -> list[tuple[str, set[str]]]:
    """Return every route's path and methods, with something to ask for in the path."""
    known = [route for route in web.app.routes if isinstance(route, APIRoute)]
    assert len(known) > 10
    filled = {"{name:path}": "app.js", "{name}": "docs.js", "{code}": "cycle"}
    found = []
    for route in known:
        path = route.path
        for parameter, value in filled.items():
            path = path.replace(parameter, value)
        found.append((path, set(route.methods or ())))
    return found


def problem(answer: httpx.Response, status: int, code: str) -> Problem:
    """Return the problem that ``answer`` is; it must be one in the one shape there is."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM_MEDIA_TYPE
    assert answer.headers["x-request-id"]
    assert "total;dur=" in answer.headers["server-timing"]
    parsed = Problem.model_validate_json(answer.content, strict=False)
    assert (parsed.status, parsed.code, parsed.type) == (status, code, f"/problems/{code}")
    assert parsed.title
    assert parsed.detail
    assert parsed.errors
    return parsed


def read_all(connection: socket.socket) -> bytes:
    """Return everything until the other side closes; a reset is an end too."""
    received = b""
    try:
        while piece := connection.recv(1 << 20):
            received += piece
    except ConnectionResetError:
        pass
    return received


@dataclass
class Served:
    """A server in a process of its own."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=PATIENCE_S)

    def trace(self, asked: Any, **options: Any) -> httpx.Response:
        content = json.dumps(asked)
        return httpx.post(
            f"{self.url}/v1/trace", content=content, headers=JSON, timeout=PATIENCE_S, **options
        )

    def stream(self, content: bytes) -> httpx.Response:
        return httpx.post(
            f"{self.url}/v1/traces", content=content, headers=NDJSON, timeout=PATIENCE_S
        )

    def until(self, path: str, status: int) -> httpx.Response:
        """Ask until the answer has ``status``."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                answer = self.get(path)
                if answer.status_code == status:
                    return answer
            except httpx.TransportError:
                pass
            assert self.process.poll() is None, "the server is gone"
            time.sleep(0.02)
        raise TimeoutError(f"{path} never answered {status}")

    def until_metric(self, line: str) -> None:
        """Wait until the metrics hold ``line``."""
        wait_until(lambda: line in self.get("/metrics").text.splitlines(), f"metrics say {line}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


def launch(
    port: int, job: str = JOB, log: int | IO[bytes] = subprocess.DEVNULL, **settings: Any
) -> subprocess.Popen[bytes]:
    """Start the server in a process; ``settings`` by their names in lower case."""
    named = {f"GRADTRACE_{name.upper()}": str(value) for name, value in settings.items()}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GRADTRACE_WORKERS": "1", **named}
    command = [sys.executable, "-m", "tests.web.harness", str(port), job]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log)


@contextmanager
def served(
    job: str = JOB, wait: bool = True, log: int | IO[bytes] = subprocess.DEVNULL, **settings: Any
) -> Iterator[Served]:
    """Run the server with real workers until the block ends."""
    with own_port() as port, launch(port, job, log, **settings) as process:
        server = Served(process, port)
        try:
            server.until("/readyz" if wait else "/livez", 200)
            yield server
        finally:
            process.kill()


def main(port: int, job: str) -> int:
    from service.web import server

    settings = Settings(port=port)
    pool = Pool(replace(server.pool_options(settings), job=job))
    return server.run(settings, pool)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
