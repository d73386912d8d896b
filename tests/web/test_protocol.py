"""What a connection may do before the app hears of it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterable, Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.web import protocol
from service.web.protocol import CONTINUE, MAX_HEAD, BoundedHttp, HeadWithBody
from tests.web.harness import read_all

LARGEST_READ = 256 * 1024
"""What the event loop reads at once; the piece in which a head begins is not counted."""
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


LENGTH = (b"content-length", b"5")


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [] if scope["path"] == "/stream" else [LENGTH]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/stream":
        await receive()  # the body, which comes when the client has read the head
    if scope["path"] == "/failing":
        raise RuntimeError
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """Serve ``hello`` in a thread; the bounds are read anew for every connection."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(hello, http=BoundedHttp, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    try:
        yield listening.getsockname()
    finally:
        server.should_exit = True
        thread.join()


def connected(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=20)


def is_served(connection: socket.socket) -> bool:
    text = b""
    while not text.endswith(b"hello"):
        text += connection.recv(1 << 16)
    return text.startswith(b"HTTP/1.1 200")


def problem_of(text: bytes) -> tuple[int, str]:
    head, _, body = text.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    return int(head.split()[1]), json.loads(body)["code"]


@pytest.mark.parametrize("sent", [b"", GET[:10]], ids=["nothing", "half a head"])
def test_a_head_that_does_not_come_loses_its_connection(
    address: tuple[str, int], sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.1)
    with connected(address) as connection:
        connection.sendall(sent)
        assert read_all(connection) == b""


def test_a_head_in_pieces_is_answered_within_its_time(address: tuple[str, int]) -> None:
    with connected(address) as connection:
        for at in range(len(GET)):
            connection.sendall(GET[at : at + 1])
        assert is_served(connection)


def test_one_connection_too_many_is_refused_and_the_others_are_served(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "connection_limit", lambda: 1)
    with connected(address) as first:
        first.sendall(GET)
        assert is_served(first)
        with connected(address) as second:
            refusal = read_all(second)
        assert problem_of(refusal) == (429, "overloaded")
        assert b"retry-after: 1" in refusal
        first.sendall(GET)
        assert is_served(first)


def test_a_head_without_end_is_refused(address: tuple[str, int]) -> None:
    with connected(address) as connection:
        connection.sendall(GET[:-2])
        line = b"x-more: " + b"x" * 8000 + b"\r\n"
        for _ in range((LARGEST_READ + 2 * MAX_HEAD) // len(line)):
            connection.sendall(line)
        assert problem_of(read_all(connection))[0] == 431


def test_what_is_not_http_is_refused_with_a_problem(address: tuple[str, int]) -> None:
    with connected(address) as connection:
        connection.sendall(b"HELO example.org\r\n\r\n")
        assert problem_of(read_all(connection)) == (400, "invalid_request")


class Written(asyncio.Transport):
    """Notes each write that would go out."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))


def test_a_head_goes_out_together_with_the_first_piece_of_its_body() -> None:
    written = Written()
    answer = HeadWithBody(written)
    for piece in (CONTINUE, b"HTTP/1.1 200 OK\r\n\r\n", b"hel", b"lo"):
        answer.write(piece)
    assert written.pieces == [CONTINUE, b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"]


def test_the_head_of_a_body_of_unknown_length_does_not_wait(address: tuple[str, int]) -> None:
    with connected(address) as connection:
        connection.sendall(b"POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
        head = connection.recv(1 << 16)
        assert b"transfer-encoding: chunked" in head
        connection.sendall(b"!")
        assert connection.recv(1 << 16).startswith(b"5\r\nhello")


def test_a_head_without_a_body_is_sent_and_the_connection_kept(address: tuple[str, int]) -> None:
    with connected(address) as connection:
        connection.sendall(GET.replace(b"GET", b"HEAD"))
        assert connection.recv(1 << 16).endswith(b"\r\n\r\n")
        connection.sendall(GET)
        assert is_served(connection)


def test_a_head_whose_body_fails_is_sent_before_the_connection_is_closed(
    address: tuple[str, int],
) -> None:
    with connected(address) as connection:
        connection.sendall(GET.replace(b"/", b"/failing", 1))
        assert read_all(connection).startswith(b"HTTP/1.1 200")
