"""How a worker sends its answers: small ones in the message, large ones in memory that it keeps.

The kernel gives a new memfd page by page and clears each of them first, which takes three times as
long as copying the answer there. So a worker writes one large answer after the other into the same
memfd, and lends it to the web process, which says when it has read it. Until then, and for what is
longer than ``KEPT``, an answer gets a memfd of its own. No other worker ever sees the memory.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from service.workers import frames
from service.workers.body import INLINE, Body, Data, pieces_of

KEPT = 32 * 2**20
"""Bytes that a worker keeps for its answers at most: 10 MB of float32 are 27 MB as JSON."""


class Outbox:
    """Sends a worker's answers to the web process."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._kept: int | None = None
        """The memfd; the bytes that were never used take no memory."""
        self._lent = False
        """Whether the web process may still read it."""

    def send(self, head: Any, data: Data) -> None:
        """Send a message with a body of any size."""
        pieces = pieces_of(data)
        size = sum(map(len, pieces))
        if size <= INLINE:
            frames.send(self._sock, frames.encode(head, b"".join(pieces)))
        elif size > KEPT or self._lent:
            body = Body.spilled(data)
            frames.send(self._sock, frames.encode(head), body.fds)
            body.close()
        else:
            if self._kept is None:
                self._kept = os.memfd_create("gradtrace-answers", os.MFD_CLOEXEC)
            at = 0
            for piece in pieces:
                at += _write_all(self._kept, piece, at)
            self._lent = True
            frames.send(self._sock, frames.encode(head, lent=size), (self._kept,))

    def read(self) -> None:
        """Hear that the web process has read what it was lent."""
        self._lent = False


def _write_all(fd: int, data: bytes | bytearray | memoryview, at: int) -> int:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, at)
        rest, at = rest[written:], at + written
    return len(data)
