"""What a connection may do before the app hears of it."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, cast

import pytest
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from service.web import protocol
from service.web.lifecycle import Lifecycle
from service.web.logs import AccessLog
from service.web.metrics import Metrics
from service.web.middleware import Observer
from service.web.protocol import CONTINUE, MAX_HEAD, MAX_WAITING, BoundedHttp, HeadWithBody
from service.workers.inprocess import InProcess
from tests.processes import PATIENCE_S, wait_until
from tests.web.harness import read_all

LARGEST_READ = 256 * 1024
"""What the event loop reads at once; the piece in which a head begins is not counted."""
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LENGTH = (b"content-length", b"5")


async def echo(scope: Scope, receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


async def count_headers(scope: Scope, receive: Receive) -> bytes:
    await echo(scope, receive)
    return b"%d" % len(scope["headers"])


async def slow(scope: Scope, receive: Receive) -> bytes:
    await asyncio.sleep(0.5)
    return b"slow!"


async def early(scope: Scope, receive: Receive) -> bytes:
    return b"early"


async def big(scope: Scope, receive: Receive) -> bytes:
    return bytes(8_000_000)


async def bigger(scope: Scope, receive: Receive) -> bytes:
    return bytes(60_000_000)


LEFT: list[str] = []


async def wait(scope: Scope, receive: Receive) -> bytes:
    while (await receive())["type"] != "http.disconnect":
        pass
    LEFT.append(scope["path"])
    return b""


SPECIAL: dict[str, Callable[[Scope, Receive], Awaitable[bytes]]] = {
    "/echo": echo,
    "/headers": count_headers,
    "/slow": slow,
    "/early": early,
    "/big": big,
    "/bigger": bigger,
    "/wait": wait,
}


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] in SPECIAL:
        text = await SPECIAL[scope["path"]](scope, receive)
        length = (b"content-length", b"%d" % len(text))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": text})
        return
    headers = [] if scope["path"] == "/stream" else [LENGTH]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/stream":
        await receive()  # the body, which comes when the client has read the head
    if scope["path"] == "/failing":
        raise RuntimeError
    await send({"type": "http.response.body", "body": b"hello"})


@dataclass
class Notes:
    """What log and metrics were told."""

    log: io.StringIO = field(default_factory=io.StringIO)
    connections: set[Any] = field(default_factory=set)
    """Those that the server has now."""

    def __post_init__(self) -> None:
        self.access = AccessLog("json", self.log)
        self.metrics = Metrics(InProcess(), Lifecycle(), self.access)

    def only_line(self) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self.log.getvalue())
        return line


@pytest.fixture
def notes() -> Notes:
    return Notes()


@dataclass(frozen=True)
class Waits:
    """How long the server waits for a client: to read, and to ask again."""

    patience_s: float = 0.5
    keep_alive_s: int = 100


@pytest.fixture
def address(notes: Notes, request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Serve ``hello`` in a thread; the bounds are read anew for every connection.

    A test that is about one of the `Waits` gives its own.
    """
    waits: Waits = getattr(request, "param", Waits())
    listening = socket.create_server(("127.0.0.1", 0))
    observer = Observer(notes.access, notes.metrics)
    http = partial(BoundedHttp, observer=observer, patience_s=waits.patience_s)
    config = uvicorn.Config(
        hello,
        http=cast("type[BoundedHttp]", http),
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=waits.keep_alive_s,
    )
    server = uvicorn.Server(config)
    notes.connections = server.server_state.connections

    def serve() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as `gradtrace serve`
            runner.run(server.serve([listening]))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()
    finally:
        server.should_exit = True
        thread.join()


def connected(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=PATIENCE_S)


def answered(address: tuple[str, int], sent: bytes) -> bytes:
    """Return all that comes back for ``sent`` until the connection is closed."""
    with connected(address) as connection:
        connection.sendall(sent)
        return read_all(connection)


def is_served(connection: socket.socket) -> bool:
    text = b""
    while not text.endswith(b"hello"):
        piece = connection.recv(1 << 16)
        if not piece:
            return False
        text += piece
    return text.startswith(b"HTTP/1.1 200")


def problem_of(text: bytes) -> tuple[int, str]:
    head, _, body = text.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    return int(head.split()[1]), json.loads(body)["code"]


@pytest.mark.parametrize("sent", [b"", GET[:10]], ids=["nothing", "half a head"])
def test_a_head_that_does_not_come_loses_its_connection(
    address: tuple[str, int], sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.3)
    with connected(address) as connection:
        with suppress(ConnectionError):  # its time may be over already
            connection.sendall(sent)
        assert read_all(connection) == b""


def test_a_head_in_pieces_is_answered_within_its_time(address: tuple[str, int]) -> None:
    with connected(address) as connection:
        for at in range(len(GET)):
            connection.sendall(GET[at : at + 1])
        assert is_served(connection)


def test_one_connection_too_many_is_refused_and_the_others_are_served(
    address: tuple[str, int], notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "connection_limit", lambda: 1)
    with connected(address) as first:
        first.sendall(GET)
        assert is_served(first)
        with connected(address) as second:
            refusal = read_all(second)
        assert problem_of(refusal) == (429, "overloaded")
        assert notes.only_line()["status"] == 429
        assert b"retry-after: 1" in refusal
        first.sendall(GET)
        assert is_served(first)


def test_a_head_without_end_is_refused(address: tuple[str, int], notes: Notes) -> None:
    with connected(address) as connection:
        connection.sendall(GET[:-2])
        line = b"x-more: " + b"x" * 8000 + b"\r\n"
        for _ in range((LARGEST_READ + 2 * MAX_HEAD) // len(line)):
            connection.sendall(line)
        assert problem_of(read_all(connection))[0] == 431
    assert notes.only_line()["status"] == 431


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"HELO example.org\r\n\r\n", "Invalid method encountered."),
        (GET.replace(b"GET", b"FOO"), "Invalid method encountered."),
        (GET.replace(b"/ HTTP/1.1", b"/ HTTP/9.9"), "Invalid HTTP version."),
        (b"CONNECT example.org:443 HTTP/1.1\r\n\r\n", "invalid url b'example.org:443'."),
        (GET.replace(b"/", b"/" + b"x" * 70_000, 1), "url is too long: "),
    ],
    ids=["no http", "method", "version", "connect", "long target"],
)
def test_what_cannot_be_read_is_refused_with_the_reason(
    address: tuple[str, int], sent: bytes, said: str
) -> None:
    answer = answered(address, sent)
    assert problem_of(answer) == (400, "invalid_request")
    detail = json.loads(answer.partition(b"\r\n\r\n")[2])["detail"]
    assert detail.startswith(f"The request could not be read as HTTP/1.1: {said}")
    assert len(detail) < 200


def test_a_refusal_is_an_answer_like_any_other_and_is_noted(
    address: tuple[str, int], notes: Notes
) -> None:
    head, _, body = answered(address, b"nonsense\r\n\r\n").partition(b"\r\n\r\n")
    line = notes.only_line()
    assert f"x-request-id: {line['id']}\r\n".encode() in head + b"\r\n"
    for part in (b"date: ", b"server-timing: total;dur=", b"x-content-type-options: nosniff"):
        assert b"\r\n" + part in head
    assert (line["method"], line["route"]) == ("unknown", "unknown")
    assert (line["status"], line["code"]) == (400, "invalid_request")
    notes.metrics.count_noted()
    assert notes.metrics.requests == {("other", "unknown", 400): 1}
    assert notes.metrics.problems["invalid_request"] == 1
    assert notes.metrics.totals["answer_bytes"] == len(body)


def test_a_refusal_of_a_head_has_the_id_that_the_client_gave(
    address: tuple[str, int], notes: Notes
) -> None:
    sent = GET[:-2] + b"X-Request-Id: mine\r\nAccept: *\r\nno header\r\n\r\n"
    assert b"\r\nx-request-id: mine\r\n" in answered(address, sent)
    assert notes.only_line()["id"] == "mine"


def test_nothing_is_written_into_an_answer_that_has_begun(
    address: tuple[str, int], notes: Notes
) -> None:
    with connected(address) as connection:
        connection.sendall(b"POST /stream HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        connection.sendall(b"no size\r\n")
        assert read_all(connection) == b""
    assert notes.log.getvalue() == ""


UNREAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nr"


def test_what_is_left_of_a_body_when_the_answer_is_sent_must_come_in_time(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(address) as connection:
        connection.sendall(GET)
        assert is_served(connection)
        monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.3)
        connection.sendall(UNREAD)
        assert is_served(connection)
        with suppress(ConnectionError):  # its time may be over already
            connection.sendall(b"e")
        assert read_all(connection) == b""


def test_a_connection_is_kept_when_what_is_left_of_a_body_comes(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 1.0)
    with connected(address) as connection:
        connection.sendall(UNREAD)
        assert is_served(connection)
        connection.sendall(b"est")
        time.sleep(1.5)
        connection.sendall(GET)
        assert is_served(connection)


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


@pytest.mark.parametrize("knows_chunks", [True, False])
@pytest.mark.parametrize("length", [b"content-length: 5", b"transfer-encoding: chunked"])
def test_lines_that_are_added_stand_once_in_the_head(length: bytes, knows_chunks: bool) -> None:
    written = Written()
    answer = HeadWithBody(written, knows_chunks=knows_chunks)
    answer.add_lines(b"a: 1\r\nb: 2\r\n")
    answer.write(CONTINUE)
    answer.write(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n")
    answer.write(b"5\r\nhello\r\n" if b"chunked" in length else b"hello")
    head, _, body = b"".join(written.pieces).removeprefix(CONTINUE).partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[-2:] == [b"a: 1", b"b: 2"]
    assert b"hello" in body


def test_the_head_of_a_body_of_unknown_length_does_not_wait(address: tuple[str, int]) -> None:
    with connected(address) as connection:
        connection.sendall(b"POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
        head = connection.recv(1 << 16)
        assert b"transfer-encoding: chunked" in head
        connection.sendall(b"!")
        assert connection.recv(1 << 16).startswith(b"5\r\nhello")


def test_a_client_of_http_1_0_gets_no_chunks(address: tuple[str, int]) -> None:
    ask = b"POST /stream HTTP/1.0\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    head, _, body = answered(address, ask).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"connection: close" in head
    assert body == b"hello"


def test_a_client_of_http_1_0_is_not_told_to_continue(address: tuple[str, int]) -> None:
    ask = b"POST /echo HTTP/%b\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n"
    for version, first in ((b"1.0", b"HTTP/1.1 200"), (b"1.1", b"HTTP/1.1 100")):
        text = answered(address, ask % version + b"Content-Length: 5\r\n\r\nhello")
        assert text.startswith(first)


def test_a_head_without_a_body_is_sent_and_the_connection_kept(address: tuple[str, int]) -> None:
    with connected(address) as connection:
        connection.sendall(GET.replace(b"GET", b"HEAD"))
        assert connection.recv(1 << 16).endswith(b"\r\n\r\n")
        connection.sendall(GET)
        assert is_served(connection)


def test_a_head_whose_body_fails_is_sent_before_the_connection_is_closed(
    address: tuple[str, int],
) -> None:
    assert answered(address, GET.replace(b"/", b"/failing", 1)).startswith(b"HTTP/1.1 200")


def post(path: str, body: bytes, *more: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*head, "", ""]).encode() + body


def bodies(text: bytes) -> list[bytes]:
    """Return the bodies of answers that came one after the other."""
    found = []
    while text:
        head, _, text = text.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        found.append(text[:length])
        text = text[length:]
    return found


CLOSE = "Connection: close"


def test_an_upgrade_that_the_connection_does_not_name_is_ignored(address: tuple[str, int]) -> None:
    with connected(address) as connection:
        connection.sendall(
            post("/echo", b"one")
            + post("/echo", b"two", "Upgrade: h2c")
            + post("/echo", b"three", "Upgrade: websocket", "Connection: keep-alive")
        )
        connection.sendall(post("/echo", b"four", CLOSE))
        assert bodies(read_all(connection)) == [b"one", b"two", b"three", b"four"]


@pytest.mark.parametrize("cuts", [(30, 80_180), (40_100, 80_180), (30, 120_000)])
def test_bodies_of_requests_that_wait_are_no_head(
    address: tuple[str, int], cuts: tuple[int, int]
) -> None:
    each = [bytes([65 + number]) * 40_000 for number in range(3)]
    text = b"".join(post("/echo", body) for body in each[:2]) + post("/echo", each[2], CLOSE)
    with connected(address) as connection:
        for start, stop in pairwise((0, *cuts, len(text))):
            connection.sendall(text[start:stop])
            time.sleep(0.1)
        assert bodies(read_all(connection)) == each


def test_what_is_no_http_is_refused_after_the_answers_before_it(address: tuple[str, int]) -> None:
    sent = post("/slow", b"") + post("/echo", b"two") + b"GARBAGE\0\r\n\r\n"
    first, second, third = bodies(answered(address, sent))
    assert (first, second) == (b"slow!", b"two")
    assert json.loads(third)["status"] == 400


def test_a_body_that_breaks_off_is_refused_in_its_turn(address: tuple[str, int]) -> None:
    chunked = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"
    first, second = bodies(answered(address, post("/slow", b"") + chunked))
    assert (first, json.loads(second)["status"]) == (b"slow!", 400)
    assert problem_of(answered(address, chunked))[0] == 400


def test_as_many_requests_as_may_wait_are_answered_and_the_connection_is_closed(
    address: tuple[str, int],
) -> None:
    text = answered(address, post("/slow", b"") + GET * 10_000)
    assert bodies(text)[1:] == [b"hello"] * MAX_WAITING
    assert text.count(b"connection: close") == 1


def test_a_client_that_leaves_is_noticed_although_it_has_sent_more(
    address: tuple[str, int],
) -> None:
    LEFT.clear()
    with connected(address) as connection:
        connection.sendall(post("/wait", b"") + GET)
        time.sleep(0.2)
        assert LEFT == []
    wait_until(lambda: bool(LEFT), "the request is told that its client is gone")


def test_a_head_need_not_come_while_nobody_reads(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(address) as connection:
        connection.sendall(GET)
        assert is_served(connection)
        monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.2)
        connection.sendall(post("/slow", b"") + post("/echo", b"two") + GET[:20])
        assert bodies(read_all(connection)) == [b"slow!", b"two"]  # then the head is late


@pytest.mark.parametrize("address", [Waits(keep_alive_s=1)], ids=["1 s"], indirect=True)
@pytest.mark.parametrize("late", [b"12345", b"12345\r\n"])
def test_a_connection_is_closed_when_nothing_more_comes_whatever_came_last(
    address: tuple[str, int], late: bytes
) -> None:
    with connected(address) as connection:
        connection.sendall(post("/early", b"12345")[:-5])
        assert b"early" in connection.recv(1 << 16)
        connection.sendall(late)
        assert read_all(connection) == b""


TRAILED = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"


def test_trailers_are_not_headers(address: tuple[str, int]) -> None:
    with connected(address) as connection:
        connection.sendall(TRAILED % b"/headers" + b"x-a: 1\r\nx-b: 2\r\n\r\n")
        connection.sendall(post("/echo", b"", CLOSE))
        assert bodies(read_all(connection)) == [b"2", b""]


@pytest.mark.parametrize("trailers", [b"a:b\r\n" * 400_000, b"a: " + b"x" * 2_000_000])
def test_trailers_without_end_are_refused(address: tuple[str, int], trailers: bytes) -> None:
    with connected(address) as connection:
        connection.sendall(TRAILED % b"/echo")
        with suppress(ConnectionError):
            connection.sendall(trailers)
        with suppress(ConnectionError):
            assert problem_of(read_all(connection))[0] == 431


def test_a_client_that_does_not_read_is_given_up(address: tuple[str, int], notes: Notes) -> None:
    with connected(address) as connection:
        connection.sendall(GET.replace(b" / ", b" /big ") * 3)
        assert connection.recv(1)
        wait_until(lambda: not notes.connections, "the connection is cut")
        with suppress(ConnectionError):
            assert len(read_all(connection)) < 3 * 8_000_000


@pytest.mark.parametrize("address", [Waits(patience_s=2)], ids=["2 s"], indirect=True)
def test_a_client_that_reads_slowly_is_not(address: tuple[str, int]) -> None:
    with connected(address) as connection:
        connection.sendall(GET.replace(b" / ", b" /bigger ").replace(b"Host: x", CLOSE.encode()))
        text = b""
        # For longer than its patience, in which no reading at all would be cut; and so much at
        # once that the kernel, which keeps a few MB, takes more of the rest.
        while len(text) < 20_000_000:
            piece = connection.recv(1 << 20)
            assert piece, "the connection was cut"
            text += piece
            time.sleep(0.1)
        assert bodies(text + read_all(connection)) == [bytes(60_000_000)]
