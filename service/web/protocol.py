"""HTTP itself: uvicorn's parser with bounds on what a stranger can make it hold.

uvicorn bounds neither the head of a request nor the time that it may take to come, and answers what
is not HTTP in plain text. Nothing here has reached the app yet.
"""

from __future__ import annotations

import asyncio
import resource
from asyncio import TimerHandle
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.contract.problem import (
    PROBLEM_MEDIA_TYPE,
    GradtraceError,
    InvalidRequest,
    Overloaded,
    quote,
)
from service.web.exchange import CLOSE, GONE, LINES, NO_METHOD, Exchange
from service.web.middleware import LINGER_S, SECURITY_LINES, Observer, headers_of
from service.web.problems import problem_body

MAX_HEAD = 64 * 1024
"""Bytes that a head may still have after the piece it began in (uvloop reads 256 KB at most)."""
HEAD_TIMEOUT_S = 15.0
"""Seconds in which a request's head must come, once it began or the connection was made.

The rest of a body may take as long once its answer has been sent.
"""
MAX_WAITING = 100
"""Requests that may wait on one connection for those before them."""
CONTINUE = STATUS_LINE[100]
CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"
OFFER = (b"upgrade", b"http2-settings")
"""Headers, and words of Connection, that offer to change to another protocol."""
SPARE_FILES = 256
"""Open files kept for everything but connections."""


def connection_limit() -> int:
    """Return how many connections there may be, by how many files this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(64, min(soft - SPARE_FILES, 10_000))


def raise_file_limit() -> None:
    """Let this process open as many files as it may: every connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class HeadWithBody:
    """What an answer is written to: its head waits for the first piece of its body.

    uvicorn writes one after the other, and each write costs a system call and a packet, and wakes
    the client. A body of unknown length may be long in coming, so its head goes out at once.

    Args:
        transport: of the connection.
        knows_chunks: whether the client does (HTTP/1.1). To one that does not, a body of unknown
            length goes without them, and ends with the connection.
    """

    __slots__ = ("_held", "_knows_chunks", "_lines", "_started", "_transport", "_unchunk")

    def __init__(self, transport: asyncio.Transport, *, knows_chunks: bool = True) -> None:
        self._transport = transport
        self._knows_chunks = knows_chunks
        self._started = False
        """Whether the head has been passed to `write`."""
        self._held = b""
        """The head, while it waits for the body."""
        self._lines = b""
        """What is still to be added to the head."""
        self._unchunk = False
        """Whether what the app sends in chunks goes out without them."""

    def add_lines(self, lines: bytes) -> None:
        """Add ``lines``, each with its end, to the head that will be written."""
        self._lines += lines

    def write(self, data: bytes) -> None:
        """Write ``data``: a head, a piece of a body, or that the body may come."""
        if self._held:
            head, self._held = self._held, b""
            self._transport.writelines((head, data))
        elif self._unchunk:
            self._transport.write(_without_chunks(data))
        elif self._started or data.startswith(CONTINUE):
            self._transport.write(data)
        else:
            self._started = True
            data = data[:-2] + self._lines + data[-2:]
            if CHUNKED not in data:
                self._held = data
            elif self._knows_chunks:
                self._transport.write(data)
            else:
                self._unchunk = True
                self._transport.write(data.replace(CHUNKED, b"\r\n"))

    def is_closing(self) -> bool:
        """Return whether the connection is being closed, or is."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the connection when everything is sent."""
        if self._held:
            self.write(b"")
        self._transport.close()


class TooManyWaiting(Exception):
    """More requests have come than may wait for those before them."""


class BoundedHttp(HttpToolsProtocol):
    """One connection.

    Its client may send requests before earlier ones are answered. uvicorn keeps them in its
    ``pipeline``, the newest first, where ``cycle`` is the newest of all and knows of its body.

    Args:
        observer: is told of what is refused here.
        patience_s: seconds in which a client must read something of what it is sent.
    """

    def __init__(
        self, *args: Any, observer: Observer, patience_s: float = 30.0, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._observer = observer
        self._patience_s = patience_s
        self._in_head = False
        """Whether a head has begun to come and is not whole."""
        self._in_request = False
        """Whether a request has begun to come and is not whole."""
        self._pieces: list[bytes] = []
        """What the read that is parsed has brought of a body."""
        self._progressed = False
        """Whether this read began or ended a request, or brought some of a body."""
        self._stalled_bytes = 0
        """Bytes of the reads since the last one that did: all of them in one head, or trailers."""
        self._upgrade_offered = False
        """Whether this request offers to change to another protocol."""
        self._ignores_input = False
        """Whether what still comes is dropped."""
        self._running: RequestResponseCycle | None = None
        """The request that is being answered."""
        self._refusal: tuple[int, GradtraceError] | None = None
        """What is to be said once the requests before it are answered."""
        self._head_timer: TimerHandle | None = None
        self._write_timer: TimerHandle | None = None
        self._unread = 0
        """Bytes that the client had not taken when the timer was started."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > connection_limit():
            self._refuse(429, Overloaded("There are too many connections.", retry_after_s=1))
            return
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; tell the request that is being answered."""
        self._stop_head_timer()
        self._stop_write_timer()
        self.pipeline.clear()
        self._tell_running_gone()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless a head or trailers grow without end."""
        if self._ignores_input or self.transport.is_closing():
            return
        self._progressed = False
        self._parse(data)
        if self._ignores_input or self.transport.is_closing():
            return
        self._stalled_bytes = 0 if self._progressed else self._stalled_bytes + len(data)
        if self._stalled_bytes > MAX_HEAD:
            self._refuse(431, InvalidRequest(f"The headers have more than {MAX_HEAD} bytes."))
        else:
            self._ensure_read_timer()

    def on_message_begin(self) -> None:
        """Begin a request."""
        if len(self.pipeline) >= MAX_WAITING:
            raise TooManyWaiting
        super().on_message_begin()
        self._in_head = self._in_request = self._progressed = True
        scope: Any = self.scope
        scope["extensions"] = {}

    def on_headers_complete(self) -> None:
        """Hand the request to the app."""
        self._stop_head_timer()
        # Without "Connection: upgrade" the header has to be ignored (RFC 9110, 7.8).
        upgrades = self.parser.should_upgrade()
        self._upgrade_offered = upgrades and any(name == b"upgrade" for name, _ in self.headers)
        if not self._upgrade_offered:
            super().on_headers_complete()
            self.headers = []  # what comes behind a body in chunks (trailers) is no header
            if not self.pipeline:
                self._running = self.cycle
            if self.cycle.scope["method"] != "HEAD":  # whose head has no body to wait for
                knows = self.cycle.scope["http_version"] != "1.0"
                if not knows:  # nor does it know of 100, and would take it for the answer
                    self.cycle.waiting_for_100_continue = False
                held: Any = HeadWithBody(self.transport, knows_chunks=knows)
                self.cycle.transport = held
                scope: Any = self.scope
                scope["extensions"][LINES] = held.add_lines
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        """Keep a piece of a body until the end of the read, which may bring very many of them."""
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Tell the app that the body is whole."""
        self._pass_on()
        self._progressed = True
        self._in_request = False
        self._stop_head_timer()
        if not self._upgrade_offered:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on to the next request, before which the rest of this one's body must come."""
        following = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        self._running = following
        if self.transport.is_closing():
            self._flush_in_time()
        elif following is None and self._refusal is not None:
            self._send_refusal(*self._refusal)
        elif self._in_request and CLOSE in cast("dict[str, Any]", self.cycle.scope)["extensions"]:
            self.transport.close()
        else:
            self._ensure_read_timer()

    def pause_writing(self) -> None:
        """Stop writing to a client that does not read, and give it up when it goes on so."""
        super().pause_writing()
        if self._write_timer is None:
            self._start_write_timer()

    def resume_writing(self) -> None:
        """Go on writing."""
        if not self.transport.is_closing():
            self._stop_write_timer()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which nothing more has come."""
        super().timeout_keep_alive_handler()
        self._flush_in_time()

    def shutdown(self) -> None:
        """Close the connection, now or after the answer that is under way."""
        super().shutdown()
        if self.transport.is_closing():
            self._flush_in_time()

    def cut(self) -> None:
        """Close the connection now, whatever its client has not taken yet."""
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read."""
        self._refuse(400, InvalidRequest(msg))

    def _pass_on(self) -> None:
        """Pass the pieces of a body on to the app, as one."""
        if self._pieces:
            self._progressed = True
            super().on_body(b"".join(self._pieces))
            self._pieces.clear()

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
            self._pass_on()
        except httptools.HttpParserUpgrade as offer:
            if self._upgrade_offered:
                self._decline_upgrade(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, TooManyWaiting):
                # RFC 9112, 9.3.2: who sends on without waiting must be ready to send again.
                self._ignores_input = True
                self.pipeline[0][0].keep_alive = False
                return
            self.send_400_response(f"The request could not be read as HTTP/1.1: {_reason(error)}.")

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read the request again without its offer to change to another protocol.

        The parser takes what follows such a head for that protocol, and so for no body. Java's
        client makes the offer with every first request.
        """
        head = [b"%b %b HTTP/1.1\r\n" % (self.parser.get_method(), self.url)]
        for name, value in self.headers:
            kept = _without_offer(value) if name == b"connection" else value
            if name not in OFFER:
                head.append(b"%b: %b\r\n" % (name, kept))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self._parse(b"".join([*head, b"\r\n", rest]))

    def _ensure_read_timer(self) -> None:
        """See that a timer runs wherever it is the client's turn to send."""
        answered = self.cycle is None or self.cycle.response_complete
        if self._in_head or (answered and self._in_request):
            if self._head_timer is None and not self.flow.read_paused:
                self._start_head_timer()
        elif answered and self._head_timer is None and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _flush_in_time(self) -> None:
        """See that a connection that is closing is cut if its client does not read what is left."""
        if self._write_timer is None and self.transport.get_write_buffer_size():
            self._start_write_timer()

    def _start_write_timer(self) -> None:
        self._unread = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(self._patience_s, self._check_reading)

    def _check_reading(self) -> None:
        """Go on waiting for a client that is slow; cut the connection of one that has stopped."""
        if self.transport.get_write_buffer_size() < self._unread:
            self._start_write_timer()
        else:
            self.transport.abort()

    def _tell_running_gone(self) -> None:
        """Tell the request that is being answered that nobody will read all of its answer."""
        running, self._running = self._running, None
        if running is not None and not running.response_complete:
            running.disconnected = True
            cast("dict[str, Any]", running.scope)["extensions"][GONE] = True
            running.message_event.set()

    def _refuse(self, status: int, error: GradtraceError) -> None:
        """Refuse what came last, after the answers to what came before; read no more."""
        self._ignores_input = True
        self._stop_head_timer()
        broken = self._in_request and not self._in_head
        if broken and self.pipeline:
            self.pipeline.popleft()
        elif broken and self._running is not None and not self._running.response_complete:
            if self._running.response_started:  # an answer within another would be a part of it
                self.transport.close()
                return
            self._tell_running_gone()
        if self._running is not None and not self._running.response_complete:
            self._refusal = status, error
        else:
            self._send_refusal(status, error)

    def _send_refusal(self, status: int, error: GradtraceError) -> None:
        """Answer, and wait for a moment: a close on what is unread would reset the answer."""
        self.transport.write(self._refusal_of(status, error))
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def _refusal_of(self, status: int, error: GradtraceError) -> bytes:
        """Return the answer, as like those of the app as can be; tell log and metrics of it."""
        exchange = Exchange(NO_METHOD, self.headers if self._in_head else ())
        body = problem_body(error, status)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", PROBLEM_MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *headers_of(exchange),
        ]
        if error.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after_s))
        exchange.status, exchange.code, exchange.sent_bytes = status, error.code, len(body)
        self._observer.over(exchange)
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        return b"%b%b%b\r\n%b" % (STATUS_LINE[status], head, SECURITY_LINES, body)


def _without_chunks(data: bytes) -> bytes:
    """Return what is in the chunks of ``data``, which are whole."""
    pieces = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        pieces.append(data[:length])
        data = data[length + 2 :]
    return b"".join(pieces)


def _reason(error: httptools.HttpParserError) -> str:
    """Return what the parser has against a request; of a target it says so in a callback."""
    inner = error.__context__
    return quote(inner if isinstance(inner, httptools.HttpParserError) else error, 120)


def _without_offer(connection: bytes) -> bytes:
    words = [word.strip() for word in connection.split(b",")]
    return b", ".join(word for word in words if word.lower() not in OFFER)
