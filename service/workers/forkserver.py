"""The fork server: imports the job once, computes nothing, and forks workers that do.

Started by the web process as ``python -m service.workers.forkserver FD PARENT``. A fork shares the
imported engine's memory and takes milliseconds where importing takes a second. It also forks a
standby of itself, which waits to take its place, because a fork server may be killed like any
other process, and its workers die with it.

It reads orders from its control socket and ends when that is closed:

    {"fork": "worker", "count": 2}
        -> {"forked": "worker", "pid": N}, twice, with a pidfd and the worker's socket
    {"fork": "server", "count": 1}
        -> {"forked": "server", "pid": N}  with a pidfd and the control socket
    what could not be forked
        -> {"failed": "worker", "count": 1, "error": "Resource temporarily unavailable"}
    whenever a child of its own ended
        -> {"exited": N, "cause": "SIGSEGV"}
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import socket
import sys
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

from service.workers import confine, frames, worker
from service.workers.seam import load_job


class ForkServer:
    """Forks on order, and tells how its children ended."""

    def __init__(self, control: socket.socket, task: worker.Task) -> None:
        self._control = control
        self._task = task
        self._children: dict[int, int] = {}
        self._buffer = bytearray(frames.BUFFER)

    def run(self) -> None:
        """Serve until the control socket is closed."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd in self._children:
                    poll.unregister(fd)
                    self._report_exit(fd)
                    continue
                order = frames.receive(self._control, self._buffer)
                if order is None:
                    return
                for pidfd in self._fork_all(order.head["fork"], order.head["count"]):
                    poll.register(pidfd, select.POLLIN)

    def _fork_all(self, kind: str, count: int) -> Iterator[int]:
        """Fork ``count`` children; yield a pidfd of each."""
        for done in range(count):
            try:
                yield self._fork(kind)
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                self._send({"failed": kind, "count": count - done, "error": reason})
                return

    def _fork(self, kind: str) -> int:
        """Fork one child, send the pool its end; return the pidfd."""
        parent = os.getpid()
        ours, theirs = frames.pair()
        with ours:
            with theirs:
                pid = os.fork()
                if pid == 0:
                    ours.close()
                    self._live(kind, theirs, parent)
            pidfd = os.pidfd_open(pid)
            self._children[pidfd] = pid
            self._send({"forked": kind, "pid": pid}, (pidfd, ours.fileno()))
        return pidfd

    def _live(self, kind: str, sock: socket.socket, parent: int) -> NoReturn:
        """Be the child that was ordered, and never come back."""
        status = 1
        try:
            confine.close_descriptors(keep=sock.fileno())
            if kind == "server":
                ForkServer(sock, self._task).run()
            else:
                worker.run(sock, self._task, parent)
            status = 0
        except OSError:
            pass  # the web process is gone
        except Exception:  # noqa: BLE001  # a worker that cannot even start
            traceback.print_exc()
        finally:
            os._exit(status)

    def _report_exit(self, pidfd: int) -> None:
        pid = self._children.pop(pidfd)
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        self._send({"exited": pid, "cause": confine.cause_of_death(ended)})

    def _send(self, head: Any, fds: tuple[int, ...] = ()) -> None:
        frames.send(self._control, frames.encode(head), fds)


def main(control_fd: int, parent: int) -> None:
    """Import what the first message names, say how that went, then serve."""
    confine.die_with(parent)
    confine.hide()
    confine.close_descriptors(keep=control_fd)
    confine.ignore_signals()
    confine.no_core_files()
    confine.let_standard_error_go_unread()
    confine.name("gradtrace-fork")
    control = socket.socket(fileno=control_fd)
    hello = frames.receive(control, bytearray(frames.BUFFER))
    if hello is None:
        return
    try:
        job = load_job(hello.head["job"], hello.head["config"] | {"alone": 1})
    except BaseException as error:  # noqa: BLE001  # whatever it is, the pool has to hear of it
        text = str(error).strip().splitlines()
        frames.send(
            control, frames.encode({"error": ": ".join([type(error).__name__, *text[-1:]])})
        )
        return
    gc.collect()
    gc.freeze()
    frames.send(control, frames.encode({"ready": os.getpid()}))
    headers = hello.head["warm_up"]
    task = worker.Task(
        job,
        hello.head["memory_limit_mb"],
        hello.head["awake"],
        (headers, hello.inline) if headers else None,
    )
    with contextlib.suppress(ConnectionError):  # the web process is gone
        ForkServer(control, task).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
