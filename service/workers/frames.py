"""One message between the web process, a fork server and a worker.

Every pair of processes talks over a Unix socket of type SOCK_SEQPACKET: one send is one receive,
nothing is ever half there. A message is the length of its head (4 bytes), the head as JSON, and a
small body as it is; a large body goes along as the descriptor of a memfd. What comes from a worker
is JSON and never pickle, because a worker that a graph has corrupted must not reach further.
"""

from __future__ import annotations

import array
import socket
import struct
from typing import Any, NamedTuple

import orjson

from service.workers.body import INLINE, Body, Data, pieces_of

MAX_HEAD = 64 * 1024
BUFFER = 4 + MAX_HEAD + INLINE
"""Bytes of the longest message."""

READY = "ready"
RETIRE = "retire"
ANSWER = "answer"
NO_MEMORY = "no_memory"
FAILED = "failed"

_LENGTH = struct.Struct("<I")
_FDS = 4
_ANCILLARY = socket.CMSG_SPACE(_FDS * array.array("i").itemsize)


class Frame(NamedTuple):
    """A message that came."""

    head: Any
    inline: bytes
    fds: list[int]

    def body(self) -> Body:
        """Return the body, which takes over the memfd where there is one."""
        return Body.adopt(self.fds[0]) if self.fds else Body(self.inline)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets that keep messages apart and take the longest one."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * BUFFER)
    return ends


def encode(head: Any, inline: bytes = b"") -> bytes:
    """Return the bytes of a message."""
    text = orjson.dumps(head)
    return b"".join((_LENGTH.pack(len(text)), text, inline))


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
        ValueError: what came is no message.
    """
    size, ancillary, _, _ = sock.recvmsg_into([buffer], _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for _level, _kind, data in ancillary:
        fds.frombytes(data)
    if size == 0:
        return None
    end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
    with memoryview(buffer) as view:
        head = orjson.loads(view[_LENGTH.size : end])
        return Frame(head, bytes(view[end:size]), fds.tolist())


def send_body(sock: socket.socket, head: Any, data: Data) -> None:
    """Send a message with a body of any size."""
    pieces = pieces_of(data)
    if sum(map(len, pieces)) <= INLINE:
        send(sock, encode(head, b"".join(pieces)))
        return
    body = Body.spilled(data)
    send(sock, encode(head), body.fds)
    body.close()
