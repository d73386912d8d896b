"""A client that goes away takes its computation with it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from starlette.types import Receive

from service.web.problems import ClientDisconnected

PATIENCE_S = 0.02
"""Seconds after which the connection is watched: most answers are there sooner."""


class CancelOnDisconnect:
    """Cancels what is awaited inside it when the client goes, and raises ClientDisconnected.

    The body must have been read to its end: from then on the only message that comes is that the
    client is gone.
    """

    __slots__ = ("_gone", "_loop", "_receive", "_task", "_timer", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._timer = self._loop.call_later(PATIENCE_S, self._start)
        return self

    def _start(self) -> None:
        self._watcher = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        assert self._task is not None
        self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._gone and kind is asyncio.CancelledError:
            assert self._task is not None
            if not self._task.uncancel():
                raise ClientDisconnected from None
