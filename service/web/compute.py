"""One computation over HTTP: bytes in, through the computer, bytes out.

The routes read the body as it is: what is in it is checked in a worker, where a hostile body can be
killed. So FastAPI only matches and describes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.contract.problem import Internal, ProblemCode
from service.settings import Settings
from service.web.body import read_body
from service.web.disconnect import CancelOnDisconnect
from service.web.exchange import exchange_of
from service.web.negotiate import media_type, negotiate
from service.web.room import Room, Share
from service.workers.body import INLINE
from service.workers.seam import Answer, Computer
from service.workers.timers import Timers

Media = Mapping[str, tuple[str, ...]]
"""What a route reads, and for each of it what it can answer with, the default first."""


class RawRoute(APIRoute):
    """A route that FastAPI matches and describes, and that hands the request to an ASGI app."""

    def __init__(self, path: str, asgi: ASGIApp, **description: Any) -> None:
        async def described() -> None:  # FastAPI wants a function; ``asgi`` is called in its place
            raise NotImplementedError

        super().__init__(
            path,
            described,
            methods=["POST"],
            response_model=None,
            response_class=Response,
            **description,
        )
        self.app = asgi


class ComputeEndpoint:
    """One body, one computation, one answer."""

    def __init__(
        self, job: str, media: Media, settings: Settings, computer: Computer, room: Room
    ) -> None:
        self.job = job
        self.media = media
        self.reads = tuple(media)
        self.settings = settings
        self.silence = Timers(settings.body_timeout_s)
        self.computer = computer
        self.room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        exchange = exchange_of(scope)
        reads = media_type(exchange.header(b"content-type"), self.reads)
        accept = negotiate(exchange.header(b"accept"), self.media[reads])
        limit = self.settings.max_body_bytes
        with Share(self.room) as share:
            body = await read_body(exchange, receive, self.silence, limit, share)
            try:
                self.room.check()
                with CancelOnDisconnect(receive):
                    answer = await self.computer.compute(
                        {"job": self.job, "content-type": reads, "accept": accept}, body
                    )
            finally:
                body.close()  # an exception would keep it until the next garbage collection
            share.hold(len(answer.body))
            try:
                exchange.answered(answer)
                if answer.status >= 400:
                    exchange.code = problem_code(answer)
                await send_answer(answer, send)
            finally:
                answer.body.close()


def problem_code(answer: Answer) -> ProblemCode:
    """Return the code of the problem that a worker answered with; raise Internal for no problem."""
    try:
        return ProblemCode(orjson.loads(bytes(answer.body))["code"])
    except (ValueError, TypeError, LookupError):
        raise Internal("The worker's answer is no problem.") from None


async def send_answer(answer: Answer, send: Send) -> None:
    """Send what a worker answered; a large body piece by piece, at the pace of the client."""
    body = answer.body
    headers = [
        (b"content-type", answer.headers["content-type"].encode("latin-1")),
        (b"content-length", b"%d" % len(body)),
        (b"vary", b"accept"),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if len(body) <= INLINE:
        await send({"type": "http.response.body", "body": bytes(body)})
        return
    for chunk in body.chunks():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
