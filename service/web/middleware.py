"""What happens to every request on its way in and out, one class for each thing.

    ObserveMiddleware   request id, Server-Timing, log, metrics
    HeadMiddleware      HEAD is GET without the body
    SecurityMiddleware  headers that tell browsers what a page may do
    CORSMiddleware      Starlette's, only where origins are set
    ProblemMiddleware   what no route answered becomes a problem (see problems.py)
    UnreadMiddleware    an answer to a client that is still sending reaches it
    KeyMiddleware       bearer keys under /v1

All are plain ASGI: a class whose call takes ``scope``, ``receive`` and ``send``.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Sequence
from uuid import uuid4

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.contract.problem import Unauthorized
from service.web.body import linger
from service.web.exchange import KEY, Exchange
from service.web.lifecycle import Lifecycle
from service.web.logs import AccessLog
from service.web.metrics import Metrics

SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
LINGER_S = 2.0
"""How long a client that is refused may go on sending before its connection is closed."""
SMALL = 64 * 1024
"""Bytes of an unread body that are read to the end rather than closing the connection."""

PAGE_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
NO_CONTENT_POLICY = (
    b"content-security-policy",
    b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
)


class ObserveMiddleware:
    """Gives every request an id, and tells the log and the metrics what became of it."""

    def __init__(
        self, app: ASGIApp, lifecycle: Lifecycle, access_log: AccessLog, metrics: Metrics
    ) -> None:
        self.app = app
        self.lifecycle = lifecycle
        self.access_log = access_log
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(request_id(scope), scope["method"])
        scope[KEY] = exchange
        lifecycle = self.lifecycle

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                headers = message["headers"] = list(message.get("headers", ()))
                headers.append((b"x-request-id", exchange.id.encode()))
                headers.append((b"server-timing", exchange.server_timing().encode("latin-1")))
                if lifecycle.draining:
                    headers.append((b"connection", b"close"))
            else:
                exchange.sent_bytes += len(message.get("body", b""))
            await send(message)

        lifecycle.in_flight += 1
        try:
            await self.app(scope, receive, observed)
        finally:
            lifecycle.in_flight -= 1
            if route := scope.get("route"):
                exchange.route = route.path
            seconds = time.perf_counter() - exchange.started
            self.access_log.write(exchange, seconds)
            self.metrics.observe(exchange, seconds)


def request_id(scope: Scope) -> str:
    """Return the client's X-Request-Id if it is a sane one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SANE_ID.fullmatch(value):
            return str(value, "ascii")
    return uuid4().hex


class HeadMiddleware:
    """Answers HEAD as GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        as_get = {**scope, "method": "GET"}
        try:
            await self.app(as_get, receive, without_body)
        finally:
            scope["route"] = as_get.get("route")


class SecurityMiddleware:
    """Adds the headers that keep browsers from doing more with an answer than is meant."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"] = list(message.get("headers", ()))
                headers.extend(PAGE_HEADERS)
                if not any(name == NO_CONTENT_POLICY[0] for name, _ in headers):
                    headers.append(NO_CONTENT_POLICY)
            await send(message)

        await self.app(scope, receive, secured)


class UnreadMiddleware:
    """Lets a refusal reach a client that is still sending its body.

    Closing a connection on such a client resets it, so that it never reads the answer; reading on
    without end would let it send for ever. So the answer goes out, what still comes is dropped for
    a short while, and then the connection is closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or not _has_large_body(scope):
            await self.app(scope, receive, send)
            return
        unread = True
        closing = False

        async def received() -> Message:
            nonlocal unread
            message = await receive()
            if not message.get("more_body", False):
                unread = False
            return message

        async def answered(message: Message) -> None:
            nonlocal closing
            if message["type"] == "http.response.start" and unread and message["status"] >= 400:
                closing = True
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            elif closing and not message.get("more_body", False):
                await send({**message, "more_body": True})
                if unread:
                    await linger(receive, LINGER_S)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self.app(scope, received, answered)


def _has_large_body(scope: Scope) -> bool:
    """Tell whether more than a little may still come: by its declared length, or without one."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return not (value.isdigit() and int(value[:20]) <= SMALL)
        if name == b"transfer-encoding":
            return True
    return False


class KeyMiddleware:
    """Asks for one of the keys on everything under ``/v1``."""

    def __init__(self, app: ASGIApp, keys: Sequence[SecretStr]) -> None:
        self.app = app
        self.keys = [key.get_secret_value().encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and _is_api(scope) and not self._knows(Headers(scope=scope)):
            raise Unauthorized("Send a key as `Authorization: Bearer KEY`.")
        await self.app(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = key.strip().encode("latin-1")
        matches = [hmac.compare_digest(given, known) for known in self.keys]
        return scheme.lower() == "bearer" and any(matches)


def _is_api(scope: Scope) -> bool:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path == "/v1" or path.startswith("/v1/")
