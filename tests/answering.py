"""A server that says what it is told to: what a client may meet in place of the service."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import NamedTuple


class Asked(NamedTuple):
    """A request that came: its path, and its headers by their names in lower case."""

    path: str
    headers: dict[str, str]


def answer_of(
    body: str, kind: str = "application/json", status: str = "200 OK", more: str = ""
) -> str:
    """Return an answer as it goes over the line; ``more`` are headers."""
    length = len(body.encode())
    head = f"Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}"
    return f"HTTP/1.1 {status}\r\n{head}\r\n{body}"


@contextmanager
def answering(*answers: str) -> Iterator[tuple[str, list[Asked]]]:
    """Yield the address of a server, and what it was asked so far.

    Each connection is read up to the end of one request, gets the next of ``answers``, the last
    one again and again, and is closed.
    """
    left = list(answers)
    asked: list[Asked] = []

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            head = iter(self.rfile.readline, b"\r\n")
            path = next(head).decode().split()[1]
            lines = (line.decode().strip().partition(": ") for line in head)
            headers = {name.lower(): value for name, _, value in lines}
            asked.append(Asked(path, headers))
            self.rfile.read(int(headers.get("content-length", "0")))
            self.wfile.write((left.pop(0) if len(left) > 1 else left[0]).encode())

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()
