"""How a worker sends its answers: small ones in the message, large ones in memory that it keeps.

The kernel gives a new memfd page by page and clears each of them first, which takes three times as
long as copying the answer there. So a worker writes one large answer after the other into the same
memfd, and lends it to the web process, which says when it has read it. Until then, and for what is
longer than ``KEPT``, an answer gets a memfd of its own. No other worker ever sees the memory.
"""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Iterable
from typing import Any

from service.workers import frames
from service.workers.body import INLINE, Body, Buffer, Data, pieces_of

KEPT = 32 * 2**20
"""Bytes that a worker keeps for its answers at most: 10 MB of float32 are 27 MB as JSON."""


class Outbox:
    """Sends a worker's answers to the web process."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._kept: KeptMemory | None = None
        self._lent = False
        """Whether the web process may still read what is kept."""

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
            self._kept = self._kept or KeptMemory()
            self._kept.write(pieces)
            self._lent = True
            frames.send(self._sock, frames.encode(head, lent=size), (self._kept.fd,))

    def read(self) -> None:
        """Hear that the web process has read what it was lent."""
        self._lent = False


class KeptMemory:
    """A memfd of ``KEPT`` bytes; those that were never written take no memory."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("gradtrace-answers", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, KEPT)
        self._map = mmap.mmap(self.fd, KEPT)
        self._written = 0

    def write(self, pieces: Iterable[Buffer]) -> None:
        """Put ``pieces`` at the beginning, one after the other."""
        at = 0
        for piece in pieces:
            end = at + len(piece)
            if end <= self._written:
                self._map[at:end] = piece
            else:  # for pages that are new a system call is quicker than a fault for each of them
                _write_all(self.fd, piece, at)
            at = end
        self._written = max(self._written, at)


def _write_all(fd: int, data: Buffer, at: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, at)
        rest, at = rest[written:], at + written
