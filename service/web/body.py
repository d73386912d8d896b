"""The body of a request, on its way in.

It is collected chunk by chunk into a `Body`, which the worker maps: never joined, never held twice,
refused as soon as it is too large, and given up when the client stops sending.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.datastructures import Headers
from starlette.types import Receive

from service.contract.problem import (
    BodyTimeout,
    BodyTooLarge,
    Overloaded,
    UnsupportedMediaType,
    quote,
)
from service.settings import MEGABYTE, Settings
from service.web.problems import ClientDisconnected
from service.workers.body import Body


def check_encoding(headers: Headers) -> None:
    """Raise UnsupportedMediaType where the body comes compressed: that is a proxy's work."""
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedMediaType(
            f"The Content-Encoding is {quote(coding)}; send the body as it is."
        )


def too_large(limit: int) -> BodyTooLarge:
    """Return the problem that a body of more than ``limit`` bytes is."""
    return BodyTooLarge(f"The body may have {limit / MEGABYTE:g} MB (GRADTRACE_MAX_BODY_MB).")


async def chunks(receive: Receive, timeout_s: float) -> AsyncIterator[bytes]:
    """Yield the body as it comes.

    Raises:
        BodyTimeout: nothing came for ``timeout_s`` seconds.
        ClientDisconnected: nothing will come any more.
    """
    more = True
    while more:
        try:
            async with asyncio.timeout(timeout_s):
                message = await receive()
        except TimeoutError:
            raise BodyTimeout(
                f"Nothing came for {timeout_s:g} seconds (GRADTRACE_BODY_TIMEOUT_S)."
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        more = message.get("more_body", False)
        if chunk := message.get("body", b""):
            yield chunk


async def read_body(headers: Headers, receive: Receive, settings: Settings) -> Body:
    """Return the whole body.

    Raises:
        UnsupportedMediaType: it is compressed.
        BodyTooLarge: it has, or says it will have, more bytes than allowed.
        BodyTimeout: the client stopped sending.
        ClientDisconnected: the client is gone.
        Overloaded: the machine has no memory for it.
    """
    check_encoding(headers)
    limit = settings.max_body_bytes
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(limit)
    body = Body()
    async for chunk in chunks(receive, settings.body_timeout_s):
        if len(body) + len(chunk) > limit:
            raise too_large(limit)
        try:
            body.append(chunk)
        except OSError:
            raise Overloaded("There is no memory for the body.", retry_after_s=1) from None
    return body


async def linger(receive: Receive, seconds: float) -> None:
    """Read and drop what the client still sends, for ``seconds`` at most.

    A connection that is closed on a client in the middle of sending is reset, and the client never
    reads the answer that says why.
    """
    try:
        async with asyncio.timeout(seconds):
            async for _ in chunks(receive, seconds):
                pass
    except (TimeoutError, BodyTimeout, ClientDisconnected):
        return
