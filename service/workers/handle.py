"""One child process and, if it is a worker, the conversation with it, seen from the web process.

A handle watches its worker's socket all the time, so an idle worker's death is known at once. What
is learnt goes to the owner (the pool) by calls, at once.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import termios
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from service.workers import frames
from service.workers.body import Body

_READ = frames.encode([frames.READ])
_ANSWERS = frozenset({frames.ANSWER, frames.NO_MEMORY, frames.FAILED})
LONGEST_PROBLEM = 2**20
"""Bytes of the longest body of an answer that says no: it is read at once."""


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
    """What a worker is doing: it starts, is idle and busy in turns, and is gone for good."""

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

    def worker_answered(self, worker: Worker, head: Any, body: Body) -> None:
        """Hear what it answered; from now on it is idle."""

    def worker_gone(self, worker: Worker, was: State, error: Exception | None) -> None:
        """Hear that it died (WorkerDied) or was killed, why, and in which state that met it."""


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
        self.retiring = False
        """Whether it asked to be replaced."""
        self._has_read = False
        """Whether what it lent has been read, and it does not know yet."""
        self._sock = sock
        self._owner = owner
        self._loop = loop
        self._buffer = buffer
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._readable)

    def ask(self, message: bytes, fds: tuple[int, ...]) -> None:
        """Send it a request. It must be idle; the owner hears of the answer, or that it is gone."""
        self.state = State.BUSY
        try:
            if self._has_read:
                # Not before: a worker that dies with something unread in its socket has not taken
                # its request, so nothing may ever come behind a request.
                self._has_read = False
                frames.send(self._sock, _READ)
            frames.send(self._sock, message, fds)
        except OSError:
            self.kill(WorkerDied(innocent=True))

    def has_taken(self) -> bool:
        """Tell whether it has taken what it was sent last off its socket."""
        unread = array.array("i", [0])
        fcntl.ioctl(self._sock, termios.TIOCOUTQ, unread)
        return not unread[0]

    def kill(self, error: Exception | None = None) -> None:
        """Kill it and tell the owner, because of ``error`` or because nobody needs it."""
        if self.state is State.GONE:
            return
        was = self.state
        self.retire()
        self._owner.worker_gone(self, was, error)

    def retire(self) -> None:
        """End it and tell nobody: it is not computing, or `kill` tells."""
        self.state = State.GONE
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        self.child.kill()

    def _readable(self) -> None:
        try:
            frame = frames.receive(self._sock, self._buffer)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.kill(WorkerDied(innocent=True))
        except (OSError, ValueError):
            self.kill(WorkerDied(innocent=self.child.orphaned()))
        else:
            if frame is None:
                self.kill(WorkerDied(innocent=self.child.orphaned()))
            elif not self._hear(frame):
                frame.close()
                self.kill(WorkerDied(innocent=False))

    def _hear(self, frame: frames.Frame) -> bool:
        """Take a message; return False where no sane worker would have sent it, or not now."""
        match frame.head:
            case [str(kind), *_]:
                pass
            case _:
                return False
        if kind in _ANSWERS:
            return self.state is State.BUSY and self._hear_answer(frame)
        if frame.fds:
            return False
        if kind == frames.READY and self.state is State.STARTING:
            self.state = State.IDLE
            self._owner.worker_ready(self)
            return True
        if kind == frames.RETIRE and self.state is not State.STARTING and not self.retiring:
            self.retiring = True
            return True
        return False

    def _hear_answer(self, frame: frames.Frame) -> bool:
        head = frame.head
        if len(frame.fds) > 1 or (head[0] == frames.ANSWER and not _is_sane(head)):
            return False
        try:
            body = frame.body(self._note_read)
        except ValueError:
            return False
        if head[0] == frames.ANSWER and head[1] >= 400 and len(body) > LONGEST_PROBLEM:
            body.close()
            frame.fds.clear()  # closed with the body
            return False
        self.state = State.IDLE
        self._owner.worker_answered(self, [frames.NO_FILES] if frame.lost else head, body)
        return True

    def _note_read(self) -> None:
        self._has_read = True


def _is_sane(head: list[Any]) -> bool:
    """Tell whether an answer has a status, and headers that may go into HTTP's and into a log."""
    match head:
        case [_, int(status), dict(headers)] if 200 <= status <= 599:
            texts = (*headers, *headers.values())
            return all(isinstance(t, str) and t.isascii() and t.isprintable() for t in texts)
    return False
