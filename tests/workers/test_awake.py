"""Who expects a message looks for it for a moment, and misses none whether awake or asleep."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from service.workers import awake, frames
from service.workers.awake import Inbox, Watch


@pytest.fixture
def ends() -> tuple[socket.socket, socket.socket]:
    return frames.pair()


@pytest.mark.parametrize("stays_awake", [True, False])
def test_every_message_is_waited_for(
    ends: tuple[socket.socket, socket.socket], stays_awake: bool
) -> None:
    ours, theirs = ends
    with ours, theirs:
        inbox = Inbox(ours, awake=stays_awake)
        for pause_s in (0, 0, 0.0001, 0, 0.02, 0, 0.02):
            timer = threading.Timer(pause_s, theirs.send, [b"%f" % pause_s])
            timer.start()
            inbox.wait()
            assert float(ours.recv(100, socket.MSG_DONTWAIT)) == pause_s
            timer.join()


@pytest.mark.parametrize("messages", [0, 2])
def test_waiting_ends_when_the_other_side_is_gone(
    ends: tuple[socket.socket, socket.socket], messages: int
) -> None:
    ours, theirs = ends
    with ours:
        inbox = Inbox(ours, awake=True)
        for _ in range(messages):
            theirs.send(b"x")
            inbox.wait()
            ours.recv(1)
        theirs.close()
        inbox.wait()
        assert ours.recv(1) == b""


def test_waiting_leaves_the_message_where_it_is(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    with ours, theirs:
        theirs.send(b"request")
        Inbox(ours, awake=True).wait()
        assert ours.recv(100, socket.MSG_PEEK) == b"request"


def test_a_watch_goes_on_until_nothing_is_expected_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(awake, "AWAKE_S", 3600.0)

    async def looks() -> list[int]:
        left = [5]
        looked = 0

        def needed() -> bool:
            nonlocal looked
            looked += 1
            left[0] -= 1
            return left[0] >= 0

        watch = Watch(needed)
        counts = []
        for _ in range(2):
            watch.start(asyncio.get_running_loop())
            watch.start(asyncio.get_running_loop())  # it is awake already
            for _ in range(20):
                await asyncio.sleep(0)
            counts.append(looked)
            left[0], looked = 3, 0
        return counts

    assert asyncio.run(looks()) == [6, 4]


def test_a_watch_gives_up_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awake, "AWAKE_S", -1.0)

    async def looks() -> int:
        looked = 0

        def needed() -> bool:
            nonlocal looked
            looked += 1
            return True

        Watch(needed).start(asyncio.get_running_loop())
        for _ in range(20):
            await asyncio.sleep(0)
        return looked

    assert asyncio.run(looks()) == 1
