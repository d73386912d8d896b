"""The real service as a process of its own, real clients, and what they saw."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from tests.processes import PATIENCE_S, descendants, own_port, wait_until
from tests.web.harness import JSON, ROOT, Served

SEED: dict[str, Any] = {
    "leaves": [{"id": "a", "value": [[1, 1], [1, 1]], "requires_grad": True}],
    "ops": [
        {"id": "b", "op": "add", "inputs": ["a"], "attrs": {"other": 2}},
        {"id": "c", "op": "pow", "inputs": ["b"], "attrs": {"exponent": 2}},
        {"id": "out", "op": "sum", "inputs": ["c"]},
    ],
}
NO_END: dict[str, Any] = {
    "ops": [
        {"id": "a", "op": "randn", "attrs": {"size": [3000, 3000]}},
        {"id": "s", "op": "linalg.svd", "inputs": ["a"]},
    ],
    "backward": [],
}
"""Computes for much longer than any test gives it: the SVD of a matrix of 3,000 x 3,000."""


def a_while(products: int) -> dict[str, Any]:
    """Return a graph that computes for some milliseconds a product."""
    first = {"id": "h0", "op": "ones", "attrs": {"size": [256, 256]}}
    ops = [{"id": f"h{i + 1}", "op": "matmul", "inputs": [f"h{i}", "h0"]} for i in range(products)]
    out = {"id": "out", "op": "sum", "inputs": [f"h{products}"]}
    return {"ops": [first, *ops, out], "backward": [], "include": []}


@contextmanager
def serving(workers: int = 2, **settings: Any) -> Iterator[Served]:
    """Run ``python -m service serve`` until the block ends; no process of it is left then."""
    named = {f"GRADTRACE_{name.upper()}": str(value) for name, value in settings.items()}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GRADTRACE_LOG": "json", **named}
    command = [sys.executable, "-m", "service", "serve", "--workers", str(workers)]
    with own_port() as port:
        command += ["--port", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        server = Served(process, port)
        try:
            wait_until(lambda: is_ready(server), "the service is ready")
            yield server
        finally:
            family = [child.pid for child in descendants(process.pid)]
            process.kill()
            process.wait()
            wait_until(lambda: not any(map(alive, family)), "all its processes are gone")


def is_ready(server: Served) -> bool:
    assert server.process.poll() is None, "the service is gone"
    try:
        return ask(server, "GET", "/readyz")[0] == 200
    except OSError:
        return False


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ask(
    server: Served, method: str, path: str, body: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Send one request on a connection of its own; return status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body, JSON if body is not None else {})
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read()
    finally:
        connection.close()


def trace(server: Served, graph: Any) -> tuple[int, Any]:
    """Trace ``graph`` (JSON, or bytes as they are); return the status and the answer as JSON."""
    body = graph if isinstance(graph, bytes) else json.dumps(graph).encode()
    status, _, answer = ask(server, "POST", "/v1/trace", body)
    return status, json.loads(answer)


def metrics(server: Served) -> dict[str, float]:
    """Return the values of all metrics by what they are called, labels included, at one moment."""
    lines = ask(server, "GET", "/metrics")[2].decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def metric(server: Served, line: str) -> float:
    """Return the value of the metric that is called ``line``, labels included."""
    return metrics(server)[line]


def until_complete(server: Served, workers: int) -> None:
    """Wait until there are as many workers that have started."""

    def started() -> float:
        now = metrics(server)
        return sum(now[f'gradtrace_workers{{state="{state}"}}'] for state in ("idle", "busy"))

    wait_until(lambda: started() == workers, "all workers have started")


def until_metric(server: Served, line: str, value: float) -> None:
    wait_until(lambda: metric(server, line) == value, f"{line} is {value:g}")


def raw_trace(graph: Any) -> bytes:
    """Return a whole HTTP request as bytes."""
    body = json.dumps(graph).encode()
    head = "POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Crowd:
    """Clients that trace a graph over and over, each on a connection that it keeps.

    Leaving the block stops them; ``answers`` counts what each client saw: the status, and whether
    the body was the one that all answers of 200 must have.
    """

    def __init__(self, server: Served, clients: int, graph: Any = SEED) -> None:
        self.server = server
        self.answers: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._asked: dict[int, float] = {}
        self._body = json.dumps(graph).encode()
        self._right = ask(server, "POST", "/v1/trace", self._body)[2]
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._live) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def asked_after(self, moment: float) -> bool:
        """Whether all that is asked for now was asked after ``moment`` (``time.perf_counter``)."""
        return all(begun > moment for begun in list(self._asked.values()))

    def _live(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE_S)
        while not self._over.is_set():
            begun = time.perf_counter()
            self._asked[threading.get_ident()] = begun
            try:
                connection.request("POST", "/v1/trace", self._body, JSON)
                answer = connection.getresponse()
                body = answer.read()
                saw = str(answer.status)
                if answer.status == 200 and body != self._right:
                    saw = f"another answer: {body[:200]!r}"
            except (OSError, http.client.HTTPException) as error:
                saw = f"{type(error).__name__}: {error}"
                connection.close()
            with self._lock:
                self.answers[saw] += 1
                self.slowest_s = max(self.slowest_s, time.perf_counter() - begun)
        connection.close()
