"""Staying awake for a moment where the next message is about to come.

Two processes that send each other small messages and sleep in between spend more time on waking
each other than on the messages: on a virtual machine 50 to 250 us each time, when a small graph
takes 300 us. So who expects a message within a millisecond looks for it that long before it sleeps,
and lets every other process that wants the CPU go first. Where there is but one CPU, nobody would
gain by it.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable
from time import perf_counter

AWAKE_S = 0.001
"""Seconds for which a process looks before it sleeps."""


class Inbox:
    """Waits for what comes on a socket.

    Args:
        sock: the socket.
        awake: whether to stay awake while one message follows the other.
    """

    def __init__(self, sock: socket.socket, *, awake: bool) -> None:
        self._awake = awake
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._soon = False
        """Whether the last message was there within ``AWAKE_S``."""

    def wait(self) -> None:
        """Return when there is something to receive, or the other side is gone."""
        began = perf_counter()
        if not self._soon or not self._look_until(began + AWAKE_S):
            self._poll.poll()
        self._soon = self._awake and perf_counter() - began < AWAKE_S

    def _look_until(self, end: float) -> bool:
        while not self._poll.poll(0):
            if perf_counter() > end:
                return False
            os.sched_yield()
        return True


class Watch:
    """Keeps an event loop awake.

    Args:
        needed: whether something is still expected.
    """

    def __init__(self, needed: Callable[[], object]) -> None:
        self._needed = needed
        self._end = 0.0
        self._awake = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep ``loop`` awake for ``AWAKE_S`` from now on, or until nothing is expected."""
        self._end = perf_counter() + AWAKE_S
        if not self._awake:
            self._awake = True
            loop.call_soon(self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._needed() and perf_counter() < self._end:
            os.sched_yield()
            loop.call_soon(self._look, loop)
        else:
            self._awake = False
