"""Servers as processes of their own, and a client that costs little beside them."""

from __future__ import annotations

import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self, cast

from service.cli.demo import free_port

READY_S = 120


@contextmanager
def started(arguments: Sequence[str], port: int, probe: str, **settings: str) -> Iterator[int]:
    """Run a server until the block ends; yield its port once ``probe`` is answered with 200."""
    environment = os.environ | {"GRADTRACE_LOG": "json", "OMP_NUM_THREADS": "1"} | settings
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port, probe)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _wait(port: int, probe: str) -> None:
    for _ in range(READY_S * 10):
        try:
            with Connection(port) as connection:
                if connection.get(probe) == 200:
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"no server on port {port}")


@contextmanager
def gradtrace(**settings: str) -> Iterator[int]:
    """Run the service."""
    port = free_port()
    arguments = ["service", "serve", "--port", str(port)]
    with started(arguments, port, "/readyz", **settings) as ready:
        yield ready


@contextmanager
def uvicorn(app: str, workers: int = 1) -> Iterator[int]:
    """Run ``app`` under uvicorn as its documentation says."""
    port = free_port()
    options = ["--port", str(port), "--no-access-log", "--workers", str(workers)]
    with started(["uvicorn", app, *options], port, "/openapi.json") as ready:
        yield ready


class Connection:
    """One kept-alive HTTP connection over a blocking socket."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def get(self, path: str) -> int:
        return self.post(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def post(self, message: bytes) -> int:
        """Send a message made by :func:`message_of`; return the status, the body read."""
        self.send(message)
        return self.receive()

    def fileno(self) -> int:
        """Return the descriptor, which is readable when an answer comes."""
        return self._socket.fileno()

    def send(self, message: bytes) -> None:
        """Send a message made by :func:`message_of`."""
        self._socket.sendall(message)

    def receive(self) -> int:
        """Return the status of the next answer, the body read."""
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = self._socket.recv(65536)
            if not chunk:
                raise ConnectionError("the server closed the connection")
            head += chunk
        text, _, rest = head.partition(b"\r\n\r\n")
        lower = text.lower()
        if b"content-length:" in lower:
            missing = int(lower.split(b"content-length:")[1].split(b"\r\n")[0]) - len(rest)
            while missing > 0:
                missing -= len(self._socket.recv(min(missing, 1 << 20)))
        else:
            while not rest.endswith(b"0\r\n\r\n"):
                rest = rest[-8:] + self._socket.recv(1 << 20)
        return int(text[9:12])


def message_of(body: bytes, path: str = "/v1/trace", media_type: str = "application/json") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def p50_us(port: int, message: bytes, count: int) -> float:
    """Return the median time of a request over one connection, in microseconds."""
    times = []
    with Connection(port) as connection:
        for _ in range(count):
            start = time.perf_counter()
            status = connection.post(message)
            times.append(time.perf_counter() - start)
            assert status == 200, status
    return statistics.median(times) * 1e6


def per_second(port: int, message: bytes, connections: int, count: int) -> float:
    """Return the requests answered per second over ``connections``, ``count`` for each.

    One thread waits for all connections at once: threads that take turns would cost the servers,
    which share the CPUs with them, a tenth of their throughput.
    """
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        start = time.perf_counter()
        for _ in range(connections):
            connection = stack.enter_context(Connection(port))
            selector.register(connection, selectors.EVENT_READ)
            connection.send(message)
        left = connections * count
        to_send = left - connections
        while left:
            for key, _ in selector.select():
                connection = cast("Connection", key.fileobj)
                status = connection.receive()
                assert status == 200, status
                left -= 1
                if to_send:
                    connection.send(message)
                    to_send -= 1
        return connections * count / (time.perf_counter() - start)


def process_of(port: int) -> int:
    """Return the id of the process that was started to serve ``port``."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                arguments = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"--port" in arguments and str(port).encode() in arguments:
                return int(folder.name)
    raise ProcessLookupError(f"nobody serves port {port}")


def rss_mb(process: int) -> float:
    """Return the resident memory of ``process`` in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
