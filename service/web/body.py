"""The body of a request, on its way in.

It is collected chunk by chunk into a `Body`, which the worker maps: never joined, never held twice,
refused as soon as it is too large, and given up when the client stops sending.
"""

from __future__ import annotations

import asyncio
import errno

from starlette.types import Receive

from service.contract.problem import (
    BodyTimeout,
    BodyTooLarge,
    Overloaded,
    UnsupportedMediaType,
    quote,
)
from service.settings import MEGABYTE
from service.web.exchange import Exchange
from service.web.problems import ClientDisconnected
from service.web.room import Share
from service.workers.body import Body, Buffer
from service.workers.timers import Interrupt, Timers


def check_encoding(exchange: Exchange) -> None:
    """Raise UnsupportedMediaType where the body comes compressed: that is a proxy's work."""
    coding = exchange.header(b"content-encoding").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedMediaType(
            f"The Content-Encoding is {quote(coding)}; send the body as it is."
        )


def too_large(limit: int) -> BodyTooLarge:
    """Return the problem that a body of more than ``limit`` bytes is."""
    size = f"{limit / MEGABYTE:g} MB" if limit >= MEGABYTE else f"{limit} bytes"
    return BodyTooLarge(f"The body may have {size} (GRADTRACE_MAX_BODY_MB).")


def add(body: Body, chunk: Buffer) -> None:
    """Add ``chunk`` to ``body``; raise Overloaded where there is no memory for it."""
    try:
        body.append(chunk)
    except OSError as error:
        lacking = (
            "There are too many open files for"
            if error.errno in (errno.EMFILE, errno.ENFILE)
            else "There is no memory for"
        )
        raise Overloaded(f"{lacking} the body.", retry_after_s=1) from None


async def next_chunk(receive: Receive, silence: Timers) -> tuple[bytes, bool]:
    """Return what comes next of the body, and whether there is more of it.

    Raises:
        BodyTimeout: nothing came for as long as ``silence`` may last.
        ClientDisconnected: nothing will come any more.
    """
    interrupt = Interrupt()
    timer = silence.start(asyncio.get_running_loop(), interrupt.send)
    try:
        message = await receive()
    except asyncio.CancelledError:
        if interrupt.was_only_cause():
            raise BodyTimeout(
                f"Nothing came for {silence.seconds:g} seconds (GRADTRACE_BODY_TIMEOUT_S)."
            ) from None
        raise
    finally:
        timer.stop()
    if message["type"] == "http.disconnect":
        raise ClientDisconnected
    return message.get("body", b""), message.get("more_body", False)


async def read_body(
    exchange: Exchange, receive: Receive, silence: Timers, limit: int, share: Share
) -> Body:
    """Return the whole body, which ``share`` makes room for.

    Raises:
        UnsupportedMediaType: it is compressed.
        BodyTooLarge: it has, or says it will have, more than ``limit`` bytes.
        BodyTimeout: the client stopped sending.
        ClientDisconnected: the client is gone.
        Overloaded: there is no room for it, or the machine has no memory for it.
    """
    check_encoding(exchange)
    declared = exchange.header(b"content-length")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(limit)
    body = Body()
    more = True
    try:
        while more:  # an asynchronous generator would cost a small body 5 us
            chunk, more = await next_chunk(receive, silence)
            exchange.body_bytes += len(chunk)
            if exchange.body_bytes > limit:
                raise too_large(limit)
            share.claim(exchange.body_bytes)
            add(body, chunk)
    except BaseException:
        body.close()  # the exception would keep it until the next garbage collection
        raise
    return body


async def linger(receive: Receive, seconds: float) -> None:
    """Read and drop what the client still sends, for ``seconds`` at most.

    A connection that is closed on a client in the middle of sending is reset, and the client never
    reads the answer that says why.
    """
    try:
        async with asyncio.timeout(seconds):
            while (message := await receive())["type"] != "http.disconnect":
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
