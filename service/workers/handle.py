"""One child process and, if it is a worker, the conversation with it, seen from the web process.

A handle watches its worker's socket all the time, so an idle worker's death is known at once. What
is learnt goes to the owner (the pool) by calls; the answer to a request by the future of `ask`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from service.workers import frames


class WorkerDied(Exception):
    """The worker died before it answered.

    Args:
        innocent: the request cannot be to blame: the worker had not even taken it off its socket,
            or it went down with its fork server.
    """

    def __init__(self, *, innocent: bool) -> None:
        super().__init__()
        self.innocent = innocent


class State(Enum):
    """What a worker is doing."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    GONE = "gone"


class Child:
    """A process that was forked for the web process, held by a pidfd: never mistaken for another.

    Args:
        pidfd: becomes this object's own.
        orphaned: tells whether the fork server that it depends on is dead.
    """

    def __init__(
        self,
        pid: int,
        pidfd: int,
        loop: asyncio.AbstractEventLoop,
        orphaned: Callable[[], bool] = lambda: False,
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.orphaned = orphaned
        self.ended: asyncio.Future[str] = loop.create_future()
        """How it ended, such as ``SIGSEGV`` or ``exit code 1``."""

    def kill(self) -> None:
        """Kill it, at once and for certain."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def finish(self, cause: str) -> None:
        """Note that it has ended and was reaped."""
        if not self.ended.done():
            self.ended.set_result(cause)
            os.close(self.pidfd)


class Owner(Protocol):
    """Who is told what happens to a worker."""

    def worker_ready(self, worker: Worker) -> None:
        """Hear that it has started and waits for its first request."""

    def worker_gone(self, worker: Worker, was: State, *, killed: bool) -> None:
        """Hear that it was ``killed`` by its handle or died, and in which state that met it."""


class Worker:
    """A worker process: ask it one thing at a time, or kill it."""

    def __init__(
        self,
        child: Child,
        sock: socket.socket,
        owner: Owner,
        loop: asyncio.AbstractEventLoop,
        buffer: bytearray,
    ) -> None:
        self.child = child
        self.state = State.STARTING
        self.served = 0
        self.since = loop.time()
        """When it got the request it computes, by the loop's clock."""
        self.retiring = False
        """Whether it asked to be replaced."""
        self._sock = sock
        self._owner = owner
        self._loop = loop
        self._buffer = buffer
        self._reply: asyncio.Future[frames.Frame] | None = None
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._readable)

    def ask(self, message: bytes, fds: tuple[int, ...]) -> asyncio.Future[frames.Frame]:
        """Send a request; the future gives the answer or raises WorkerDied."""
        reply = self._reply = self._loop.create_future()
        if self.state is State.GONE:
            reply.set_exception(WorkerDied(innocent=True))
            return reply
        try:
            frames.send(self._sock, message, fds)
        except OSError:
            self._lose(WorkerDied(innocent=True))
        return reply

    def kill(self, error: Exception | None = None) -> None:
        """Kill it; who waits for its answer gets ``error``."""
        self._lose(error)

    def retire(self) -> None:
        """Let it end in peace: it is not computing."""
        self.state = State.GONE
        self._close()

    def _readable(self) -> None:
        try:
            frame = frames.receive(self._sock, self._buffer)
            kind = frame.head[0] if frame else None
        except BlockingIOError:
            return
        except ConnectionResetError:
            self._lose(WorkerDied(innocent=True))
        except (OSError, ValueError, TypeError, LookupError):  # it talks nonsense
            self._lose(WorkerDied(innocent=self.child.orphaned()))
        else:
            if frame is None:
                self._lose(WorkerDied(innocent=self.child.orphaned()))
            elif kind == frames.READY:
                self.state = State.IDLE
                self._owner.worker_ready(self)
            elif kind == frames.RETIRE:
                self.retiring = True
            elif self._reply and not self._reply.done():
                self._reply.set_result(frame)

    def _lose(self, error: Exception | None) -> None:
        if self.state is State.GONE:
            return
        was, self.state = self.state, State.GONE
        self._close()
        self.child.kill()
        if error and self._reply and not self._reply.done():
            self._reply.set_exception(error)
        self._owner.worker_gone(self, was, killed=not isinstance(error, WorkerDied))

    def _close(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
