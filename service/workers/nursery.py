"""Where the workers come from: the fork servers, as the web process sees them.

One fork server is active; a standby, forked from it, takes its place in no time when it dies, and
only if both are killed at once the job has to be imported again. All processes are children or
adopted grandchildren of the web process, so all are reaped, here or by their fork server.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import signal
import socket
import sys
from typing import Any, Protocol

from service.workers import confine, frames
from service.workers.handle import Child
from service.workers.seam import Counters, PoolOptions

FIRST_PAUSE_S = 0.5
"""Seconds before a start that failed, or an order that was not met, is tried again."""
LONGEST_PAUSE_S = 30.0
"""Seconds between two starts at most: the pause doubles with every failure."""
KILLED_STARTS = 3
"""Fork servers in a row that die without a word while they start, before that is a failure."""
SWEEP_S = 1.0
"""Seconds after the death of a fork server by when its children are dead too."""
ORDER_LIMIT_S = 10.0
"""Seconds of silence from a fork server that has orders, after which another takes its place."""
_CONTROL_FD = 3


class Parent(Protocol):
    """Who wants the workers."""

    def nursery_ready(self) -> None:
        """Hear that workers can be ordered; those in ``ordered`` are on their way."""

    def nursery_failed(self, reason: str) -> None:
        """Hear that the job cannot be imported; it will be tried again."""

    def worker_born(self, child: Child, sock: socket.socket) -> None:
        """Take over a worker that has just been forked."""


class _Server:
    """The connection to one fork server, and the children it forked."""

    def __init__(self, child: Child, control: socket.socket) -> None:
        self.child = child
        self.control = control
        self.children: dict[int, Child] = {}
        control.setblocking(False)

    def order(self, kind: str, count: int = 1) -> bool:
        """Have workers or a server forked; return False where it has not read earlier orders."""
        try:
            frames.send(self.control, frames.encode({"fork": kind, "count": count}))
        except BlockingIOError:
            return False
        except OSError:
            pass  # its end is about to be read from its socket
        return True

    def dead(self) -> bool:
        """Return whether it has ended, even if the event loop has not come to know it yet."""
        if self.control.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self.control, 0)
        return bool(poll.poll(0))


class Nursery:
    """Keeps a fork server alive and has it fork workers."""

    def __init__(self, options: PoolOptions, parent: Parent, counters: Counters) -> None:
        self.ordered = 0
        """Workers that were ordered and are not there yet."""
        self.trouble: str | None = None
        """Why the last order was not met; None once one was."""
        self._options = options
        self._parent = parent
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(frames.BUFFER)
        self._active: _Server | None = None
        """The one that forks, or is starting; None while none can be started."""
        self._up = False
        """Whether the active one has imported the job and takes orders."""
        self._standby: _Server | None = None
        self._import_error: str | None = None
        """What the active one said before it gave up importing the job."""
        self._failures = 0
        """Starts in a row that failed."""
        self._start_timer: asyncio.TimerHandle | None = None
        self._due: set[tuple[_Server, str]] = set()
        """What is ordered again in a moment."""
        self._heard = 0.0
        """When a fork server last said something or, if later, got its first open order."""
        self._order_timer: asyncio.TimerHandle | None = None
        self._alive: set[Child] = set()
        """Processes that have not ended, as far as is known: fork servers and workers."""
        self._group = 0
        """Process group of the active fork server, its standby and all their workers."""
        self._groups: set[int] = set()
        """This group, and earlier ones until all of their processes are reaped."""

    def start(self) -> None:
        """Start a fork server; the parent hears when it is ready."""
        confine.hide()
        confine.adopt_orphans()
        try:
            ours, theirs = frames.pair()
            with theirs:
                pid = _spawn(theirs.fileno(), self._options.threads)
        except OSError as error:
            self._fail(str(error))
            return
        self._group = pid
        self._groups.add(pid)
        self._import_error = None
        self._active = _Server(self._keep(Child(pid, os.pidfd_open(pid), self._loop)), ours)
        self._watch(self._active.child)
        self._listen(self._active)
        self._greet(ours)

    def _greet(self, control: socket.socket) -> None:
        options = self._options
        headers, body = options.warm_up or ({}, b"")
        hello = {
            "job": options.job,
            "config": dict(options.config),
            "memory_limit_mb": options.memory_limit_mb,
            "awake": options.awake,
            "warm_up": dict(headers),
        }
        with contextlib.suppress(OSError):  # it is dead already, as its socket will tell
            frames.send(control, frames.encode(hello, body))

    def order_workers(self, count: int) -> None:
        """Have ``count`` more workers forked, as soon as there is a fork server."""
        if self._active and self._up and count > 0:
            self._order(self._active, "worker", count)

    def _order(self, server: _Server, kind: str, count: int = 1) -> None:
        if not self.ordered:
            self._heard = self._loop.time()
        if not server.order(kind, count):
            self._order_later(server, kind)
        elif kind == "worker":
            self.ordered += count
        if self._order_timer is None:
            self._order_timer = self._loop.call_later(ORDER_LIMIT_S, self._lose_patience)

    def _order_later(self, server: _Server, kind: str) -> None:
        if (server, kind) not in self._due:
            self._due.add((server, kind))
            self._loop.call_later(FIRST_PAUSE_S, self._order_again, server, kind)

    def _order_again(self, server: _Server, kind: str) -> None:
        self._due.discard((server, kind))
        if server is not self._active:
            return
        if kind == "worker":
            self._parent.nursery_ready()  # which knows how many are missing by now
        else:
            self._order(server, kind)

    def _lose_patience(self) -> None:
        """Kill the fork server where it has said nothing for long and yet has orders."""
        self._order_timer = None
        if self._active is None or not self.ordered:
            return
        left = self._heard + ORDER_LIMIT_S - self._loop.time()
        if left <= 0:
            self._active.child.kill()  # which its socket will tell
            left = ORDER_LIMIT_S
        self._order_timer = self._loop.call_later(left, self._lose_patience)

    async def stop(self) -> None:
        """Kill every process that came from here, and wait until all are gone."""
        for timer in (self._start_timer, self._order_timer):
            if timer:
                timer.cancel()
        if self._active:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)
        for server in (self._active, self._standby):
            if server:
                self._hang_up(server)
        self._active = self._standby = None
        for child in self._alive:
            self._watch(child)
            child.kill()
        ended = [child.ended for child in self._alive]
        if ended:
            await asyncio.wait(ended)
        while self._sweep():
            await asyncio.sleep(0.001)

    def _sweep(self) -> bool:
        """Reap what died before anybody heard that it was born; return whether more are alive."""
        for group in list(self._groups):
            try:
                while os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG):
                    pass
            except ChildProcessError:
                self._groups.discard(group)
        return bool(self._groups)

    def _keep(self, child: Child) -> Child:
        self._alive.add(child)
        return child

    def _finish(self, child: Child, cause: str) -> None:
        self._alive.discard(child)
        self._loop.remove_reader(child.pidfd)
        child.finish(cause)

    def _watch(self, child: Child) -> None:
        """Reap ``child`` when it ends: it is ours, or its own parent is dead."""
        if not child.ended.done():
            self._loop.add_reader(child.pidfd, self._reap, child)

    def _reap(self, child: Child) -> None:
        try:
            ended = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:  # its own parent has reaped it
            self._finish(child, "unknown")
        else:
            if ended is not None:
                self._finish(child, confine.cause_of_death(ended))

    def _listen(self, server: _Server) -> None:
        self._loop.add_reader(server.control.fileno(), self._hear, server)

    def _hear(self, server: _Server) -> None:
        """Read all that is there: after a reset, uvloop does not say again that there is more."""
        while True:
            try:
                frame = frames.receive(server.control, self._buffer)
            except BlockingIOError:
                return
            except ConnectionResetError:  # an order was unread; what it had sent is still there
                continue
            if frame is None:
                self._lost(server)
                return
            self._message(server, frame.head, frame.fds)

    def _message(self, server: _Server, head: dict[str, Any], fds: list[int]) -> None:
        self._heard = self._loop.time()
        match head:
            case {"forked": kind, "pid": pid} if len(fds) == 2:
                self.trouble = None
                child = self._keep(Child(pid, fds[0], self._loop, server.dead))
                server.children[pid] = child
                self._born(server, kind, child, socket.socket(fileno=fds[1]))
            case {"exited": pid, "cause": cause}:
                if pid in server.children:
                    self._finish(server.children.pop(pid), cause)
            case {"ready": _}:
                self._counters.server_starts += 1
                self._failures = 0
                self._activate(server)
            case {"failed": kind, "count": count, "error": reason}:
                self._not_met(server, kind, count, reason)
            case {"forked": kind}:  # a child that is not held ends by itself
                self._not_met(server, kind, 1, os.strerror(errno.EMFILE))
            case {"error": reason}:
                self._import_error = reason

    def _born(self, server: _Server, kind: str, child: Child, sock: socket.socket) -> None:
        if kind == "worker":
            if server is self._active:
                self.ordered -= 1
            self._parent.worker_born(child, sock)
        else:
            self._standby = _Server(child, sock)
            self._listen(self._standby)

    def _not_met(self, server: _Server, kind: str, count: int, reason: str) -> None:
        """Note that ``count`` processes were not forked; order them again in a moment."""
        self.trouble = f"no process can be made ({reason})"
        if server is not self._active:
            return
        if kind == "worker":
            self.ordered -= count
        self._order_later(server, kind)

    def _activate(self, server: _Server) -> None:
        """Give orders to ``server``, which is ready, from now on."""
        self._active, self._up, self.ordered = server, True, 0
        self._order(server, "server")
        self._parent.nursery_ready()

    def _hang_up(self, server: _Server) -> None:
        self._loop.remove_reader(server.control.fileno())
        server.control.close()
        server.child.kill()
        for child in server.children.values():
            self._watch(child)

    def _lost(self, server: _Server) -> None:
        """Replace ``server``, which has ended: the active one by its standby where there is one."""
        self._hang_up(server)
        if server is self._standby:
            self._standby = None
            if self._active and self._up:
                self._order(self._active, "server")
            return
        standby, self._standby, self._active = self._standby, None, None
        self._loop.call_later(SWEEP_S, self._sweep)
        if standby:
            self._counters.takeovers += 1
            self._activate(standby)
            return
        was_up, self._up, self.ordered = self._up, False, 0
        if was_up:
            self.start()
        elif self._import_error is None and self._failures < KILLED_STARTS:
            self._failures += 1
            self.start()
        else:
            self._fail(self._import_error or "The process that starts them dies while it starts.")

    def _fail(self, reason: str) -> None:
        """Say why there is no fork server, and start one after a while."""
        self._parent.nursery_failed(reason)
        pause = min(FIRST_PAUSE_S * 2 ** min(self._failures, 10), LONGEST_PAUSE_S)
        self._failures += 1
        self._start_timer = self._loop.call_later(pause, self.start)


def _spawn(control_fd: int, threads: int) -> int:
    """Start the fork server with nothing open but its control socket; return its pid."""
    counts = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)
    )
    environment = {
        **{name: value for name, value in os.environ.items() if name != "GRADTRACE_API_KEYS"},
        **counts,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return os.posix_spawn(
        sys.executable,
        [
            sys.executable,
            "-P",
            "-m",
            "service.workers.forkserver",
            str(_CONTROL_FD),
            str(os.getpid()),
        ],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, control_fd, _CONTROL_FD),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, 2, 1),
        ],
        setsid=True,
    )
