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
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.contract.problem import (
    PROBLEM_MEDIA_TYPE,
    GradtraceError,
    InvalidRequest,
    Overloaded,
)
from service.web.compute import ABORT
from service.web.middleware import LINGER_S

MAX_HEAD = 64 * 1024
"""Bytes that a head may still have after the piece it began in (uvloop reads 256 KB at most)."""
HEAD_TIMEOUT_S = 15.0
"""Seconds in which a request's head must come, once it began or the connection was made."""
CONTINUE = STATUS_LINE[100]
CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"
OFFER = (b"upgrade", b"http2-settings")
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
    """

    __slots__ = ("_held", "_started", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._started = False
        self._held = b""

    def write(self, data: bytes) -> None:
        """Write ``data``: a head, a piece of a body, or that the body may come."""
        if self._held:
            head, self._held = self._held, b""
            self._transport.writelines((head, data))
        elif self._started or data.startswith(CONTINUE):
            self._transport.write(data)
        else:
            self._started = True
            if CHUNKED in data:
                self._transport.write(data)
            else:
                self._held = data

    def is_closing(self) -> bool:
        """Return whether the connection is being closed, or is."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the connection when everything is sent."""
        if self._held:
            self.write(b"")
        self._transport.close()


class BoundedHttp(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._refused = False
        self._head_bytes = 0
        self._offered = False
        self._head_timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > connection_limit():
            self._refuse(429, Overloaded("There are too many connections.", retry_after_s=1))
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless a head grows without end."""
        if self._refused or self.transport.is_closing():
            return
        continued = self._in_head
        self._parse(data)
        if not self._in_head or self._refused or self.transport.is_closing():
            return
        if continued:
            self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD:
            self._refuse(431, InvalidRequest(f"The headers have more than {MAX_HEAD} bytes."))
        elif self._head_timer is None:
            self._await_head()

    def on_message_begin(self) -> None:
        """Begin a request; give the app the means to cut the connection."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        cast("dict[str, Any]", self.scope)["extensions"] = {ABORT: self.transport.abort}

    def on_headers_complete(self) -> None:
        """Hand the request to the app."""
        self._in_head = False
        self._head_came()
        self._offered = any(name == b"upgrade" for name, _ in self.headers)
        if not self._offered:
            super().on_headers_complete()
            if self.cycle.scope["method"] != "HEAD":
                self.cycle.transport = cast("asyncio.Transport", HeadWithBody(self.transport))

    def on_message_complete(self) -> None:
        """Tell the app that the body is whole."""
        if not self._offered:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(400, InvalidRequest(msg))

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self._offered:
                self._decline(data[offer.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("This is not HTTP.")

    def _decline(self, rest: bytes) -> None:
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

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: int, error: GradtraceError) -> None:
        """Answer, and read on for a moment: a close on what is unread would reset the answer."""
        body = error.problem().model_copy(update={"status": status}).model_dump_json().encode()
        retry = b"retry-after: 1\r\n" if status == Overloaded.status else b""
        self.transport.write(
            b"%bcontent-type: %b\r\ncontent-length: %d\r\n%bconnection: close\r\n\r\n%b"
            % (STATUS_LINE[status], PROBLEM_MEDIA_TYPE.encode(), len(body), retry, body)
        )
        self.transport.write_eof()
        self._refused = True
        self._head_came()
        self.loop.call_later(LINGER_S, self.transport.abort)


def _without_offer(connection: bytes) -> bytes:
    words = [word.strip() for word in connection.split(b",")]
    return b", ".join(word for word in words if word.lower() not in OFFER)
