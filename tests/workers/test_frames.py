"""What comes from a worker may be anything: a graph may have taken it over."""

from __future__ import annotations

import os
import struct

import pytest

from service.workers import frames
from tests.processes import files_kept, open_files


def lengths(head: int, lent: int = 0) -> bytes:
    return struct.pack("<IQ", head, lent)


@pytest.mark.parametrize("message", [lengths(900) + b'["answer",200,{"a":"', b"short"])
def test_a_message_that_says_it_is_longer_shows_nothing_of_what_came_before(message: bytes) -> None:
    ours, theirs = frames.pair()
    with ours, theirs:
        buffer = bytearray(b'secret"}]'.ljust(frames.BUFFER))
        frames.send(theirs, message)
        with pytest.raises(ValueError, match="lengths"):
            frames.receive(ours, buffer)


def test_what_comes_with_no_message_is_closed() -> None:
    ours, theirs = frames.pair()
    with ours, theirs:
        before = files_kept()
        frames.send(theirs, lengths(2) + b"no", (0, 1, 2))
        with pytest.raises(ValueError, match="line 1 column 1"):
            frames.receive(ours, bytearray(frames.BUFFER))
        assert open_files(os.getpid()) == before


def test_a_body_is_no_longer_than_the_memory_that_is_lent() -> None:
    ours, theirs = frames.pair()
    fd = os.memfd_create("five")
    os.write(fd, b"hello")
    with ours, theirs:
        for lent, taken in ((5, True), (6, False), (2**62, False)):
            frames.send(theirs, frames.encode([frames.ANSWER, 200, {}], lent=lent), (fd,))
            before = files_kept()
            frame = frames.receive(ours, bytearray(frames.BUFFER))
            assert frame is not None
            if taken:
                frame.body().close()
            else:
                with pytest.raises(ValueError, match="not what it says"):
                    frame.body()
                frame.close()
            assert open_files(os.getpid()) == before
    os.close(fd)
