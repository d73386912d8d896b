"""What happens to every request on its way in and out, one class for each thing.

    ObserveMiddleware   headers that every answer has; log, metrics
    HeadMiddleware      HEAD is GET without the body
    CorsMiddleware      CORS: Starlette's, only where origins are set
    UnreadMiddleware    an answer to a client that is still sending reaches it
    ProblemMiddleware   what no route answered becomes a problem (see problems.py)
    KeyMiddleware       bearer keys under /v1

All are plain ASGI: a class whose call takes ``scope``, ``receive`` and ``send``.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Sequence
from operator import itemgetter

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.contract.problem import InvalidRequest, Unauthorized
from service.web.body import linger
from service.web.exchange import CLIENT_GONE, GONE, LINES, SCOPE_KEY, Exchange, exchange_of, path_of
from service.web.lifecycle import Lifecycle
from service.web.logs import AccessLog
from service.web.metrics import Metrics
from service.web.problems import problem_response

LINGER_S = 2.0
"""How long a client that is refused may go on sending before its connection is closed."""
SMALL = 64 * 1024
"""Bytes of an unread body that are read to the end rather than closing the connection."""
CONNECTION_CLOSE = (b"connection", b"close")

CONTENT_POLICY = (
    b"content-security-policy",
    b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
)
SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
SECURITY_LINES = b"".join(b"%b: %b\r\n" % each for each in [*SECURITY_HEADERS, CONTENT_POLICY])
"""What every answer but those with a policy of their own has, as it stands in the head."""


class Observer:
    """Tells log and metrics what became of a request."""

    def __init__(self, access_log: AccessLog, metrics: Metrics) -> None:
        self.access_log = access_log
        self.metrics = metrics

    def over(self, exchange: Exchange) -> None:
        """Note a request that is over."""
        seconds = time.perf_counter() - exchange.started
        self.metrics.observe(exchange, seconds)
        self.access_log.write(exchange, seconds)


def headers_of(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """Return the headers that every answer has and that are not the same in each."""
    return [
        (b"x-request-id", exchange.id.encode()),
        (b"server-timing", exchange.server_timing().encode("latin-1")),
    ]


class ObserveMiddleware:
    """Gives every answer its id and headers, and tells log and metrics what became of it."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle, observer: Observer) -> None:
        self.app = app
        self.lifecycle = lifecycle
        self.observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = scope[SCOPE_KEY] = Exchange(scope["method"], scope["headers"])
        lifecycle = self.lifecycle
        task = asyncio.current_task()
        assert task is not None
        add_lines = scope.get("extensions", {}).get(LINES)

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.answering = True
                lifecycle.unanswered.discard(task)
                exchange.status = message["status"]
                headers = [*message.get("headers", ()), *headers_of(exchange)]
                own_policy = CONTENT_POLICY[0] in dict(headers)
                if add_lines and not own_policy:
                    add_lines(SECURITY_LINES)
                else:
                    headers += SECURITY_HEADERS
                    if not own_policy:
                        headers.append(CONTENT_POLICY)
                if lifecycle.draining and CONNECTION_CLOSE not in headers:
                    headers.append(CONNECTION_CLOSE)
                message["headers"] = headers
            else:
                exchange.sent_bytes += len(message.get("body", b""))
            await send(message)

        lifecycle.in_flight += 1
        lifecycle.unanswered.add(task)
        try:
            await self.app(scope, receive, observed)
        finally:
            lifecycle.in_flight -= 1
            lifecycle.unanswered.discard(task)
            if route := scope.get("route"):
                exchange.route = route.path
            if GONE in scope.get("extensions", ()):  # uvicorn drops what is sent from then on
                exchange.status = CLIENT_GONE
            self.observer.over(exchange)


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


class CorsMiddleware(CORSMiddleware):
    """Starlette's; what it refuses to a browser that asks first is a problem."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a browser that asks whether it may call."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        return _RefusedPreflight(answer.body, answer.status_code, answer.headers)


class _RefusedPreflight(Response):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = InvalidRequest(f"{bytes(self.body).decode()}.")
        of_text = ("content-type", "content-length")
        headers = {name: value for name, value in self.headers.items() if name not in of_text}
        answer = problem_response(error, scope, headers, self.status_code)
        await answer(scope, receive, send)


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
        if scope["type"] != "http" or not _may_be_reset(scope):
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
                others = [each for each in message.get("headers", ()) if each != CONNECTION_CLOSE]
                message["headers"] = [*others, CONNECTION_CLOSE]
            elif closing and not message.get("more_body", False):
                await send({**message, "more_body": True})
                if unread:
                    await linger(receive, LINGER_S)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self.app(scope, received, answered)


def _may_be_reset(scope: Scope) -> bool:
    """Tell whether more of a body may come than is read anyway before the connection is closed."""
    headers = exchange_of(scope).headers
    length = headers.get(b"content-length")
    if length is None:
        return b"transfer-encoding" in headers
    closes = scope["http_version"] == "1.0" or b"close" in headers.get(b"connection", b"").lower()
    return not (length.isdigit() and int(length[:20]) <= (0 if closes else SMALL))


class KeyMiddleware:
    """Asks for one of the keys on everything under ``/v1``."""

    def __init__(self, app: ASGIApp, keys: Sequence[SecretStr]) -> None:
        self.app = app
        self.keys = [key.get_secret_value().encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and _is_api(scope):
            fault = self._fault(exchange_of(scope).header(b"authorization"))
            if fault:
                if route := _route_of(scope):
                    scope["route"] = route
                raise Unauthorized(fault)
        await self.app(scope, receive, send)

    def _fault(self, authorization: str) -> str:
        """Return what is wrong with the header's value, nothing where it holds one of the keys."""
        scheme, _, key = authorization.partition(" ")
        if not authorization:
            return "Send a key as `Authorization: Bearer KEY`."
        if scheme.lower() != "bearer":
            return "The header is not of the form `Authorization: Bearer KEY`."
        given = key.strip().encode("latin-1")
        matches = [hmac.compare_digest(given, known) for known in self.keys]
        return "" if any(matches) else "This key is not one of those in force."


def _route_of(scope: Scope) -> BaseRoute | None:
    """Return the route that the request would have come to, for log and metrics."""
    matches = [(route.matches(scope)[0].value, route) for route in scope["app"].routes]
    best, route = max(matches, key=itemgetter(0))
    return route if best else None


def _is_api(scope: Scope) -> bool:
    path = path_of(scope)
    return path == "/v1" or path.startswith("/v1/")
