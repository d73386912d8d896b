"""Bytes of any size go to a worker and come back as they were."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from typing import Any

import pytest

from service.contract.problem import GraphCrashed
from service.workers.body import CHUNK, INLINE, Body
from service.workers.handle import Worker
from service.workers.outbox import KEPT
from service.workers.pool import Pool
from tests.processes import files_kept, open_files
from tests.workers.calls import complete, until
from tests.workers.conftest import StartPool

pytestmark = pytest.mark.anyio
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
    before = files_kept()
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


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("do", ["echo", "in_pieces"])
async def test_every_size_goes_there_and_back(start_pool: StartPool, size: int, do: str) -> None:
    pool = await start_pool()
    data = os.urandom(size)
    for body in (data, of(data, 65536)):
        answer = await pool.compute({"do": do}, body)
        assert bytes(answer.body) == data


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


async def test_a_large_body_survives_a_death(start_pool: StartPool) -> None:
    pool = await start_pool(workers=1)
    data = os.urandom(1_000_000)
    victim = bytes((await pool.compute({"do": "pid"}, b"")).body)
    os.kill(int(victim), 9)
    answer = await pool.compute({"do": "echo"}, data)
    assert bytes(answer.body) == data


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_large_answer_that_nobody_waits_for_any_more_is_given_back(
    start_pool: StartPool, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await start_pool(workers=1)
    await complete(pool)
    body = of(bytes(1_000_000), 65536)
    before = files_kept()
    answered = pool.worker_answered

    def cancelling(worker: Worker, head: Any, answer: Body) -> None:
        if when == "before":
            asked.cancel()
        answered(worker, head, answer)
        asked.cancel()

    monkeypatch.setattr(pool, "worker_answered", cancelling)
    asked = asyncio.create_task(pool.compute({"do": "echo"}, body))
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert open_files(os.getpid()) == before
    assert pool.workers.busy == pool.counters.abandoned == 0


async def echoed(pool: Pool, data: bytes, do: str = "echo") -> Body:
    return (await pool.compute({"do": do}, data)).body


async def test_a_worker_writes_large_answers_into_the_same_memory(start_pool: StartPool) -> None:
    pool = await start_pool(workers=1, spares=0)
    files = set()
    for _ in range(5):
        data = os.urandom(1_000_000)
        answer = await echoed(pool, data)
        assert bytes(answer) == data
        files.add(os.fstat(answer.fds[0]).st_ino)
        answer.close()
    assert len(files) == 1


async def test_an_answer_stays_as_it_is_until_it_is_closed(start_pool: StartPool) -> None:
    """Whatever is open, closed and asked for meanwhile: one worker, answers of many sizes."""
    pool = await start_pool(workers=1, spares=0)
    chance = random.Random(20)  # noqa: S311
    sizes = [INLINE, INLINE + 1, 300_000, 2_000_000]
    kept: list[tuple[bytes, Body]] = []
    for _ in range(200):
        if len(kept) == 4 or (kept and chance.random() < 0.5):
            data, answer = kept.pop(chance.randrange(len(kept)))
            assert bytes(answer) == data
            answer.close()
        data = chance.randbytes(chance.choice(sizes))
        kept.append((data, await echoed(pool, data, chance.choice(["echo", "in_pieces"]))))
    assert all(bytes(answer) == data for data, answer in kept)
    assert pool.counters.spawned == 1


async def test_an_answer_can_be_read_when_its_worker_is_dead(start_pool: StartPool) -> None:
    pool = await start_pool(workers=1)
    data = os.urandom(1_000_000)
    (await echoed(pool, data)).close()
    answer = await echoed(pool, data)
    victim = int(bytes((await pool.compute({"do": "pid"}, b"")).body))
    os.kill(victim, signal.SIGKILL)
    await until(lambda: pool.counters.crashes == 1)
    answer_of_another = await echoed(pool, bytes(1_000_000))
    assert bytes(answer) == data
    answer.close()
    assert bytes(answer_of_another) == bytes(1_000_000)


async def test_what_a_worker_keeps_for_its_answers_has_a_bound(start_pool: StartPool) -> None:
    pool = await start_pool(workers=1, spares=0)
    files = []
    for size in (KEPT, KEPT + 1, KEPT + 1, KEPT):
        answer = await echoed(pool, bytes(size))
        assert len(answer) == size
        files.append(os.fstat(answer.fds[0]).st_ino)
        answer.close()
    assert files[0] == files[3]
    assert len(set(files)) == 3


async def test_a_request_that_kills_is_not_excused_by_an_answer_read_meanwhile(
    start_pool: StartPool,
) -> None:
    pool = await start_pool(workers=1)
    first = await echoed(pool, bytes(1_000_000))
    asked = asyncio.create_task(pool.compute({"do": "segfault_soon"}, b""))
    await asyncio.sleep(0.1)
    first.close()
    with pytest.raises(GraphCrashed):
        await asked
    assert pool.counters.crashes == 2
