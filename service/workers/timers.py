"""Timers that are started with every request and hardly ever go off.

A timer of the event loop costs some 5 us to start and stop; here many of one duration share one,
which goes off now and then to see whether any of them is due.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Timer:
    """One wait that is under way."""

    __slots__ = ("callback", "due")

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback: Callable[[], None] | None = callback

    def stop(self) -> None:
        """Never go off."""
        self.callback = None


class Timers:
    """Timers that all wait equally long, so that the first one started is the first one due."""

    __slots__ = ("_armed", "_timers", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._timers: deque[Timer] = deque()
        self._armed: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` in ``loop`` when the time is over, unless stopped before."""
        timers = self._timers
        while timers and timers[0].callback is None:
            timers.popleft()
        timer = Timer(loop.time() + self.seconds, callback)
        timers.append(timer)
        if self._armed is not loop:
            self._armed = loop
            loop.call_later(self.seconds, self._look)
        return timer

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._armed = None
        while self._timers:
            timer = self._timers[0]
            if timer.callback is not None and timer.due > loop.time():
                self._armed = loop
                loop.call_at(timer.due, self._look)
                return
            self._timers.popleft()
            if timer.callback is not None:
                timer.callback()


class Interrupt:
    """Cancels the task that made it, and remembers that it did so."""

    __slots__ = ("_task", "sent")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self.sent = False

    def send(self) -> None:
        """Cancel the task: it is in the middle of waiting for something."""
        self.sent = True
        assert self._task is not None
        self._task.cancel()

    def was_all(self) -> bool:
        """Tell whether nobody else cancelled the task; if so, it is not cancelled any more."""
        assert self._task is not None
        return self.sent and not self._task.uncancel()
