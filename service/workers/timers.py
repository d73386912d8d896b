"""Timers that are started with every request and hardly ever go off.

A timer of the event loop costs some 5 us to start and stop; here many of one duration share one,
which goes off now and then to see whether any of them is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

CLOCK_TICK: Final = 0.001
"""Seconds from one value of uvloop's clock to the next. It waits for whole ticks, rounded, so that
it may wake before a time that lies less than one ahead, and would again and again until then."""


class Timer:
    """One wait that is under way."""

    __slots__ = ("_under_way", "callback", "due")

    def __init__(
        self, due: float, callback: Callable[[], None], under_way: dict[Timer, None]
    ) -> None:
        self.due = due
        self.callback = callback
        self._under_way = under_way
        under_way[self] = None

    def stop(self) -> None:
        """Never go off."""
        self._under_way.pop(self, None)


class Timers:
    """Timers that all wait equally long, so that the first one started is the first one due."""

    __slots__ = ("_armed", "_timers", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._timers: dict[Timer, None] = {}
        """Those that are neither stopped nor gone off, the first one started first."""
        self._armed: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` in ``loop`` when the time is over, unless stopped before."""
        timer = Timer(loop.time() + self.seconds, callback, self._timers)
        if self._armed is not loop:
            self._armed = loop
            loop.call_later(self.seconds, self._look)
        return timer

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while (timer := self._first()) and timer.due < loop.time() + CLOCK_TICK:
                timer.stop()
                timer.callback()  # may start one: it is armed below, with those that are left
        finally:
            first = self._first()
            self._armed = loop if first else None
            if first:
                loop.call_at(first.due, self._look)

    def _first(self) -> Timer | None:
        return next(iter(self._timers), None)


class Interrupt:
    """Cancels the task that made it, and can tell that from being cancelled by others."""

    __slots__ = ("_sent", "_task")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._sent = False

    def send(self) -> None:
        """Cancel the task: it is in the middle of waiting for something."""
        self._sent = True
        assert self._task is not None
        self._task.cancel()

    def was_only_cause(self) -> bool:
        """Tell whether it alone cancelled the task, which then counts as cancelled no more."""
        assert self._task is not None
        return self._sent and not self._task.uncancel()
