"""Where the log goes: standard error, of which no request ever waits for the reader.

A pipe that nobody reads is soon full, a disk may be full, and a reader may go away. A line that is
not taken at once is lost, and before the next one that is taken, a line says how many are missing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import threading
from collections.abc import Callable
from typing import TextIO

from service.workers.confine import without_waiting

PIPE_BYTES = 1024 * 1024
"""What a pipe is asked to hold for a reader that is late; the kernel's 64 KiB are 350 requests."""


class Outlet:
    """Writes lines to a stream's file at once, or not at all.

    Args:
        stream: what to write to; its buffer is bypassed.
        lost: makes the line that says how many lines are missing before the next one.
    """

    def __init__(self, stream: TextIO, lost: Callable[[int], str]) -> None:
        self._fd = without_waiting(stream.fileno())
        with contextlib.suppress(OSError):  # it is no pipe, or may be no larger
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._encoding = stream.encoding
        self._lost_line = lost
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._lock = threading.Lock()
        self._lost = 0
        self.lost_in_all = 0
        """Lines lost since the start."""
        self._rest = b""
        """What is left of a line of which a part was taken."""

    def write(self, line: str) -> None:
        """Write ``line``, which has its end; never wait, and never fail."""
        with self._lock:
            if self._lost and self._begin(self._lost_line(self._lost)):
                self._lost = 0
            if self._lost or not self._begin(line):
                self._lost += 1
                self.lost_in_all += 1

    def _begin(self, line: str) -> bool:
        """Write as much of ``line`` as is taken, the rest of the last one first; tell if any is."""
        if self._rest:
            self._rest = self._put(self._rest)
            if self._rest:
                return False
        data = line.encode(self._encoding, "backslashreplace")
        rest = self._put(data)
        if len(rest) == len(data):
            return False
        self._rest = rest
        return True

    def _put(self, data: bytes) -> bytes:
        """Write as much of ``data`` as is taken at once; return what is not.

        Where the file still blocks, it is written to when it is ready: a pipe that is takes
        ``PIPE_BUF`` bytes without blocking (POSIX).
        """
        with contextlib.suppress(OSError):  # the disk is full, or nobody will ever read this
            while data and self._poll.poll(0):
                data = data[os.write(self._fd, data[: select.PIPE_BUF]) :]
        return data
