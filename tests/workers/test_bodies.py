"""Bytes of any size go to a worker and come back as they were."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from service.workers.body import CHUNK, INLINE, Body
from service.workers.frames import Frame
from service.workers.handle import Worker
from tests.processes import open_files
from tests.workers.calls import until
from tests.workers.conftest import StartPool

SIZES = [0, 1, INLINE - 1, INLINE, INLINE + 1, CHUNK, CHUNK + 1, 3_000_000]


def of(data: bytes, piece: int) -> Body:
    body = Body()
    for start in range(0, len(data), piece):
        body.append(data[start : start + piece])
    return body


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [1 << 14, 65536, 1 << 30])
def test_a_body_gives_back_what_was_appended(size: int, piece: int) -> None:
    data = os.urandom(size)
    body = of(data, piece)
    assert len(body) == size
    assert bytes(body) == data
    assert b"".join(body.chunks()) == data
    assert bytes(body.view()) == data
    assert bool(body.fds) == (size > INLINE)


def test_chunks_of_a_large_body_are_small() -> None:
    assert max(len(chunk) for chunk in of(bytes(3_000_000), 65536).chunks()) == CHUNK


def test_a_body_gives_its_memory_back() -> None:
    before = open_files(os.getpid())
    bodies = [of(bytes(100_000), 65536) for _ in range(10)]
    assert open_files(os.getpid()) == before + 10
    bodies[0].close()
    bodies[0].close()
    assert len(bodies[0]) == 0
    bodies.clear()
    assert open_files(os.getpid()) == before


def test_a_view_outlives_its_body() -> None:
    view = of(b"abc" * 100_000, 65536).view()
    assert bytes(view[:6]) == b"abcabc"


@pytest.mark.anyio
@pytest.mark.parametrize("size", SIZES)
async def test_every_size_goes_there_and_back(start_pool: StartPool, size: int) -> None:
    pool = await start_pool()
    data = os.urandom(size)
    for body in (data, of(data, 65536)):
        answer = await pool.compute({"do": "echo"}, body)
        assert bytes(answer.body) == data


@pytest.mark.anyio
@pytest.mark.parametrize("size", SIZES)
async def test_an_answer_in_pieces_comes_as_one(start_pool: StartPool, size: int) -> None:
    pool = await start_pool()
    data = os.urandom(size)
    answer = await pool.compute({"do": "in_pieces"}, data)
    assert bytes(answer.body) == data


@pytest.mark.anyio
async def test_the_event_loop_goes_on_while_large_bodies_pass(start_pool: StartPool) -> None:
    pool = await start_pool()
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - before)

    watcher = asyncio.create_task(watch())
    answer = await pool.compute({"do": "echo"}, bytes(64 * 2**20))
    for _ in answer.body.chunks():
        await asyncio.sleep(0)
    watcher.cancel()
    assert len(answer.body) == 64 * 2**20
    print(f"longest pause of the event loop: {longest * 1000:.1f} ms")


@pytest.mark.anyio
async def test_a_large_body_survives_a_death(start_pool: StartPool) -> None:
    pool = await start_pool(workers=1)
    data = os.urandom(1_000_000)
    victim = bytes((await pool.compute({"do": "pid"}, b"")).body)
    os.kill(int(victim), 9)
    answer = await pool.compute({"do": "echo"}, data)
    assert bytes(answer.body) == data


@pytest.mark.anyio
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_large_answer_that_nobody_waits_for_any_more_is_given_back(
    start_pool: StartPool, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await start_pool(workers=1)
    await until(lambda: pool.workers.idle == 2 and pool._nursery._standby is not None)
    body = of(bytes(1_000_000), 65536)
    before = open_files(os.getpid())
    answered = pool.worker_answered

    def cancelling(worker: Worker, frame: Frame) -> None:
        if when == "before":
            asked.cancel()
        answered(worker, frame)
        asked.cancel()

    monkeypatch.setattr(pool, "worker_answered", cancelling)
    asked = asyncio.create_task(pool.compute({"do": "echo"}, body))
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert open_files(os.getpid()) == before
    assert pool.workers.busy == pool.counters.abandoned == 0
