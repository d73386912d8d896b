"""The bytes of a request or an answer: in memory while they are few, in a memfd once they are many.

The web process appends what the client sends as it comes. Past ``INLINE`` the bytes go straight to
an anonymous file in memory, whose descriptor is handed to the worker, which maps it. So a large
body exists once, and the web process holds no more of it than one chunk. A large answer comes back
the same way and is read out chunk by chunk while the client takes it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Self

INLINE = 64 * 1024
"""Bytes up to which a body travels inside the message; more go by memfd."""
CHUNK = 256 * 1024
"""Bytes read out of a memfd at once."""
BLOCK = 512
"""Bytes of a block, as stat(2) counts them."""

Buffer = bytes | bytearray | memoryview
Data = Buffer | list[bytes | memoryview]
"""The body of an answer as a job makes it, in one piece or in several."""


def pieces_of(data: Data) -> Sequence[Buffer]:
    """Return the pieces of ``data``."""
    return data if isinstance(data, list) else [data]


class Body:
    """Bytes that are appended to once and then read, whole or in chunks.

    The memory is given back when the last reference goes, or at :meth:`close`.
    """

    __slots__ = ("_fd", "_on_close", "_parts", "_size")

    def __init__(self, data: bytes = b"") -> None:
        self._parts: list[Buffer] = [data] if data else []
        self._size = len(data)
        self._fd: int | None = None
        self._on_close: Callable[[], None] | None = None

    @classmethod
    def adopt(
        cls, fd: int, size: int | None = None, on_close: Callable[[], None] | None = None
    ) -> Self:
        """Take over a memfd that another process filled.

        Args:
            fd: becomes the body's own; not so the memory behind it, if ``on_close`` is given.
            size: how many bytes of it are the body; None for all.
            on_close: called once the body is closed, after which the memory may change.

        Raises:
            ValueError: it is no memory, or has not as many bytes: it may be of any length and yet
                take no room, so what was never written does not count. ``fd`` is left as it is.
        """
        status = os.fstat(fd)
        if size is None:
            size = status.st_size
        if not _is_memory(fd) or size > min(status.st_size, status.st_blocks * BLOCK):
            raise ValueError("a body is not what it says")
        body = cls()
        body._fd, body._size, body._on_close = fd, size, on_close
        return body

    @classmethod
    def spilled(cls, data: Data) -> Self:
        """Copy ``data`` into a memfd, whatever its size."""
        body = cls()
        body._spill()
        for piece in pieces_of(data):
            body.append(piece)
        return body

    def append(self, chunk: Buffer) -> None:
        """Add ``chunk`` at the end. Raises OSError where the machine has no memory left."""
        if not chunk:
            return
        self._size += len(chunk)
        if self._fd is not None:
            _write_all(self._fd, chunk)
            return
        self._parts.append(chunk)
        if self._size > INLINE:
            self._spill()

    def _spill(self) -> None:
        self._fd = os.memfd_create("gradtrace-body", os.MFD_CLOEXEC)
        for part in self._parts:
            _write_all(self._fd, part)
        self._parts.clear()

    def __len__(self) -> int:
        return self._size

    @property
    def fds(self) -> tuple[int, ...]:
        """The memfd with all the bytes, or nothing where they are in memory."""
        return () if self._fd is None else (self._fd,)

    def chunks(self) -> Iterator[bytes]:
        """Yield all bytes in order, ``CHUNK`` at most at once."""
        if self._fd is None:
            yield from (bytes(part) for part in self._parts)
            return
        at = 0
        while at < self._size:
            chunk = os.pread(self._fd, min(CHUNK, self._size - at), at)
            if not chunk:
                raise ValueError("another process has cut a body short")
            at += len(chunk)
            yield chunk

    def __bytes__(self) -> bytes:
        if len(self._parts) == 1 and isinstance(self._parts[0], bytes):
            return self._parts[0]
        return b"".join(self.chunks())

    def view(self) -> bytes | memoryview:
        """Return all bytes without copying a large body: a read-only map of it."""
        if self._fd is None or not self._size:
            return bytes(self)
        return memoryview(
            mmap.mmap(
                self._fd,
                self._size,
                flags=mmap.MAP_SHARED | mmap.MAP_POPULATE,
                prot=mmap.PROT_READ,
            )
        )

    def close(self) -> None:
        """Give the memory back now."""
        self._parts.clear()
        fd, self._fd, self._size = self._fd, None, 0
        if fd is not None:
            os.close(fd)
            if self._on_close:
                self._on_close()

    def __del__(self) -> None:
        self.close()


def _is_memory(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)  # only files in memory have them
    except OSError:
        return False
    return True


def _write_all(fd: int, data: Buffer) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
