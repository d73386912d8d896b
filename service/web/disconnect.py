"""A client that goes away takes its computation with it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from starlette.types import Receive

from service.web.problems import ClientDisconnected
from service.workers.timers import Interrupt, Timers

PATIENCE_S = 0.02
"""Seconds after which the connection is watched: most answers are there sooner."""

_patience = Timers(PATIENCE_S)


class CancelOnDisconnect:
    """Cancels what is awaited inside it when the client goes, and raises ClientDisconnected.

    The body must have been read to its end: from then on the only message that comes is that the
    client is gone.
    """

    __slots__ = ("_interrupt", "_loop", "_receive", "_timer", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._interrupt = Interrupt()
        self._timer = _patience.start(self._loop, self._start)
        return self

    def _start(self) -> None:
        self._watcher = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._interrupt.send()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.stop()
        del self._timer  # its callback holds this: all of the request would stay until a collection
        if self._watcher is not None:
            self._watcher.cancel()
        if kind is asyncio.CancelledError and self._interrupt.was_only_cause():
            raise ClientDisconnected from None
