"""One message between the web process, a fork server and a worker.

Every pair of processes talks over a Unix socket of type SOCK_SEQPACKET: one send is one receive,
nothing is ever half there. A message is two numbers, the head as JSON, and a small body as it is; a
large body goes along as the descriptor of a memfd. What comes from a worker is JSON and never
pickle, because a worker that a graph has corrupted must not reach further.

The first number is the length of the head (4 bytes). The second (8 bytes) is the length of a large
body in a memfd that the sender wants to write again once the body is read; in all other cases it is
0 and the memfd is the receiver's for good.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from service.workers.body import INLINE, Body

MAX_HEAD = 64 * 1024
"""Bytes of the longest head."""
BUFFER = 12 + MAX_HEAD + INLINE
"""Bytes of the longest message."""

# What a head begins with, from a worker to the pool:
READY = "ready"
ANSWER = "answer"  # with status and headers
NO_MEMORY = "no_memory"
FAILED = "failed"
RETIRE = "retire"
# From the pool to a worker, where it is no request:
READ = "read"
# Inside the pool, where the descriptor of an answer was lost:
NO_FILES = "no_files"

_LENGTHS = struct.Struct("<IQ")
# Plain integers, since to combine members of the enum takes three calls of Python functions.
_CLOSE_ON_EXEC = int(socket.MSG_CMSG_CLOEXEC)
_TRUNCATED = int(socket.MSG_CTRUNC)
_FDS = 4
_ANCILLARY = socket.CMSG_SPACE(_FDS * array.array("i").itemsize)


class Frame(NamedTuple):
    """A message that came."""

    head: Any
    inline: bytes
    fds: list[int]
    lent: int
    """Bytes of a body in memory that the sender wants back; 0 where there is no such body."""
    lost: bool = False
    """Whether descriptors came along that this process cannot open: it has as many as it may."""

    def body(self, read: Callable[[], None] | None = None) -> Body:
        """Return the body, which takes over the memfd where there is one.

        Args:
            read: called when the body is closed, if its memory is lent.

        Raises:
            ValueError: the memfd is none, or has not as many bytes as it should.
        """
        if self.lost and self.lent and read:
            read()
        if not self.fds:
            return Body(self.inline)
        if self.lent:
            return Body.adopt(self.fds[0], self.lent, read)
        return Body.adopt(self.fds[0])

    def close(self) -> None:
        """Close what came with a message that nobody wants."""
        _close(self.fds)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets that keep messages apart and take the longest one."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * BUFFER)
    return ends


def encode(head: Any, inline: bytes = b"", lent: int = 0) -> bytes:
    """Return the bytes of a message; for ``inline`` and ``lent`` see :class:`Frame`."""
    text = orjson.dumps(head)
    return b"".join((_LENGTHS.pack(len(text), lent), text, inline))


def send(sock: socket.socket, message: bytes, fds: tuple[int, ...] = ()) -> None:
    """Send a message of :func:`encode`, with copies of ``fds``.

    Raises:
        OSError: the other side is gone, or the message is too long.
    """
    if fds:
        socket.send_fds(sock, [message], list(fds))
    else:
        sock.send(message)


def receive(sock: socket.socket, buffer: bytearray) -> Frame | None:
    """Receive one message by way of ``buffer`` (``BUFFER`` bytes); None when the sender is gone.

    Raises:
        ConnectionResetError: the other side is gone and left unread what was sent to it last.
        ValueError: what came is no message; nothing of it is kept.
    """
    size, ancillary, flags, _ = sock.recvmsg_into([buffer], _ANCILLARY, _CLOSE_ON_EXEC)
    lost = bool(flags & _TRUNCATED)
    fds = _descriptors(ancillary) if ancillary else []
    if lost:
        _close(fds)
        fds = []
    if size == 0:
        return None
    length, lent = _LENGTHS.unpack_from(buffer)
    end = _LENGTHS.size + length
    try:
        # Whoever sent it may have been taken over by a graph. Behind what came, the buffer still
        # has what came before, and from others.
        if size < _LENGTHS.size or end > size:
            raise ValueError("the lengths of a message are not its own")
        with memoryview(buffer) as view:
            head = orjson.loads(view[_LENGTHS.size : end])
            return Frame(head, bytes(view[end:size]), fds, lent, lost)
    except ValueError:
        _close(fds)
        raise


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for _level, _kind, data in ancillary:
        fds.frombytes(data)
    return fds.tolist()
