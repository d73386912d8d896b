"""The queue, the deadline, cancelling, draining: what the web process relies on."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from service.contract.problem import (
    Draining,
    Internal,
    InvalidRequest,
    MemoryLimit,
    NotReady,
    Overloaded,
    TimeLimit,
)
from service.workers.body import INLINE, Body
from service.workers.pool import Pool
from service.workers.seam import PoolOptions
from tests.workers.calls import ask, ask_later, until
from tests.workers.conftest import StartPool

pytestmark = pytest.mark.anyio


async def test_an_answer_carries_status_headers_body_and_the_wait(start_pool: StartPool) -> None:
    pool = await start_pool(config={"word": "hello"})
    answer = await pool.compute({"do": "echo"}, b"some bytes")
    assert answer.status == 200
    assert answer.headers == {"content-type": "text/plain", "config": "hello"}
    assert bytes(answer.body) == b"some bytes"
    assert answer.queue_s >= 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_runs_in_the_standard_event_loop_too(start_pool: StartPool) -> None:
    pool = await start_pool()
    answers = await asyncio.gather(*(ask(pool, "echo", b"%d" % n) for n in range(50)))
    assert answers == [str(n) for n in range(50)]


async def test_as_many_requests_as_workers_are_computed_at_once(start_pool: StartPool) -> None:
    pool = await start_pool(workers=2)
    await until(lambda: pool.workers.idle == 3)
    tasks = [ask_later(pool, "sleep", b"0.2") for _ in range(5)]
    await asyncio.sleep(0)
    assert pool.workers.busy == 2
    assert pool.waiting == 3
    assert len(set(await asyncio.gather(*tasks))) == 2
    assert pool.waiting == pool.workers.busy == 0


async def test_a_long_request_keeps_nobody_awake_for_a_quick_one_beside_it(
    start_pool: StartPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await start_pool(workers=2)
    long = ask_later(pool, "sleep", b"3600")
    await asyncio.sleep(0)
    assert pool.workers.busy == 1
    with monkeypatch.context() as patch:
        patch.setattr("service.workers.pool.AWAKE_S", 3600.0)
        assert pool._expects()
    await until(lambda: not pool._expects())
    await ask(pool, "echo")
    assert pool.workers.busy == 1
    assert not pool._expects()
    long.cancel()


async def test_who_waits_is_served_in_order_of_arrival(start_pool: StartPool) -> None:
    pool = await start_pool(workers=1)
    finished: list[int] = []

    async def one(number: int) -> None:
        await ask(pool, "sleep", b"0.01")
        finished.append(number)

    await asyncio.gather(*(one(number) for number in range(12)))
    assert finished == list(range(12))


async def test_the_wait_in_the_queue_is_told(start_pool: StartPool) -> None:
    pool = await start_pool(workers=1)
    first = ask_later(pool, "sleep", b"0.2")
    await asyncio.sleep(0)
    assert pool.workers.busy == 1
    answer = await pool.compute({"do": "echo"}, b"")
    assert answer.queue_s > 0.05
    await first


async def test_a_full_queue_refuses_and_says_when_to_come_back(start_pool: StartPool) -> None:
    pool = await start_pool(workers=1, queue=2)
    accepted = [ask_later(pool, "sleep", b"0.1") for _ in range(3)]
    await asyncio.sleep(0)
    assert pool.waiting == 2
    with pytest.raises(Overloaded) as refused:
        await ask(pool, "echo")
    assert refused.value.retry_after_s == 1
    assert pool.counters.rejected == 1
    assert len(await asyncio.gather(*accepted)) == 3
    assert await ask(pool, "echo", b"again") == "again"


async def test_a_queue_that_fills_while_a_long_body_is_copied_refuses_it(
    start_pool: StartPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pool = await start_pool(workers=1, queue=1)
    full = threading.Event()
    spilled = Body.spilled

    def copied_when_it_is_full(body: bytes) -> Body:
        full.wait()
        return spilled(body)

    monkeypatch.setattr(Body, "spilled", copied_when_it_is_full)
    long = ask_later(pool, "echo", bytes(INLINE + 1))
    end = tmp_path / "end"
    accepted = [ask_later(pool, "wait", bytes(end)) for _ in range(2)]
    await until(lambda: pool.waiting == 1)
    full.set()
    with pytest.raises(Overloaded):
        await long
    end.touch()
    assert len(await asyncio.gather(*accepted)) == 2


async def test_retry_after_grows_with_the_queue_and_the_pace(start_pool: StartPool) -> None:
    pool = await start_pool(workers=1, queue=3)
    await ask(pool, "sleep", b"0.5")
    pool._mean_s = 4.0
    accepted = [ask_later(pool, "sleep", b"30") for _ in range(4)]
    await until(lambda: pool.waiting == 3)
    with pytest.raises(Overloaded) as refused:
        await ask(pool, "echo")
    assert refused.value.retry_after_s == 16
    for task in accepted:
        task.cancel()


@pytest.mark.parametrize("do", ["sleep", "spin"])
async def test_the_deadline_kills_whatever_hangs(start_pool: StartPool, do: str) -> None:
    pool = await start_pool(time_limit_s=1)
    with pytest.raises(TimeLimit, match=r"after 1 s"):
        await ask(pool, do, b"3600")
    assert pool.counters.time_limits == 1
    assert pool.counters.crashes == pool.counters.retries == 0
    assert await ask(pool, "echo", b"next") == "next"


async def test_waiting_does_not_count_against_the_deadline(start_pool: StartPool) -> None:
    pool = await start_pool(workers=1, time_limit_s=1.5)
    tasks = [ask_later(pool, "sleep", b"0.3") for _ in range(6)]
    assert len(await asyncio.gather(*tasks)) == 6


async def test_cancelling_kills_what_is_computed(start_pool: StartPool) -> None:
    pool = await start_pool(workers=1)
    task = ask_later(pool, "sleep", b"3600")
    await until(lambda: pool.workers.busy == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pool.counters.abandoned == 1
    assert await ask(pool, "echo", b"next") == "next"


async def test_cancelling_leaves_the_queue(start_pool: StartPool, tmp_path: Path) -> None:
    pool = await start_pool(workers=1)
    end = tmp_path / "end"
    first = ask_later(pool, "wait", bytes(end))
    waiting = [ask_later(pool, "pid") for _ in range(3)]
    await until(lambda: pool.waiting == 3)
    waiting[1].cancel()
    await asyncio.wait([waiting[1]])
    assert pool.waiting == 2
    end.touch()
    assert len({await first, await waiting[0], await waiting[2]}) == 1
    assert pool.counters.abandoned == 0


async def test_cancelling_at_any_moment_loses_no_worker(start_pool: StartPool) -> None:
    pool = await start_pool(workers=2)
    for turn in range(60):
        tasks = [ask_later(pool, "echo", b"x") for _ in range(6)]
        for _ in range(turn % 6):
            await asyncio.sleep(0)
        for task in tasks[turn % 2 :: 2]:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() or task.result() == "x" for task in tasks)
    await until(lambda: pool.workers.idle == 3)
    assert pool.waiting == pool.workers.busy == 0


async def test_a_bug_in_the_job_is_internal_and_the_worker_goes_on(start_pool: StartPool) -> None:
    pool = await start_pool(workers=1)
    before = await ask(pool, "pid")
    with pytest.raises(Internal):
        await ask(pool, "fail")
    assert await ask(pool, "pid") == before


@pytest.mark.parametrize("do", ["allocate", "allocate_slowly"])
async def test_too_much_memory_is_a_problem_and_the_worker_goes_on(
    start_pool: StartPool, do: str
) -> None:
    pool = await start_pool(workers=1, memory_limit_mb=64)
    before = await ask(pool, "pid")
    with pytest.raises(MemoryLimit, match="64 MiB"):
        await ask(pool, do, b"200")
    assert await ask(pool, do, b"40") in {"40", str(40 * 2**20)}
    assert await ask(pool, "pid") == before
    assert pool.counters.crashes == 0


async def test_a_worker_that_keeps_memory_is_replaced(start_pool: StartPool) -> None:
    pool = await start_pool(workers=1, memory_limit_mb=64)
    first = await ask(pool, "leak", b"30")
    await until(lambda: pool.counters.retired == 1 or bool(pool._idle and pool._idle[-1].retiring))
    await ask(pool, "pid")
    assert await ask(pool, "pid") != first
    assert pool.counters.retired == 1


async def test_a_worker_is_replaced_after_many_requests(start_pool: StartPool) -> None:
    pool = await start_pool(workers=1, max_requests=10)
    pids = [await ask(pool, "pid") for _ in range(40)]
    assert len(set(pids)) == 4
    assert pool.counters.retired == 4
    assert pool.counters.crashes == 0


async def test_a_new_worker_warms_up_before_it_is_ready(
    start_pool: StartPool, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    pool = await start_pool(workers=1, warm_up=({"do": "write"}, bytes(diary)))
    await until(lambda: pool.workers.idle == 2)
    assert len(diary.read_text().split()) == 2
    assert await ask(pool, "pid") in diary.read_text().split()


async def test_headers_that_fit_no_message_are_refused(start_pool: StartPool) -> None:
    pool = await start_pool()
    with pytest.raises(InvalidRequest):
        await pool.compute({"do": "echo", "name": "x" * 200_000}, b"")
    assert await ask(pool, "echo", b"next") == "next"


async def test_before_it_is_ready_it_says_so() -> None:
    pool = Pool(PoolOptions(workers=1, job="tests.workers.jobs:create"))
    assert not pool.ready
    await pool.start()
    with pytest.raises(NotReady, match="starting"):
        await ask(pool, "echo")
    await pool.wait_ready()
    assert pool.ready
    assert pool.reason is None
    await pool.stop()
    assert not pool.ready


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ("tests.workers.jobs:broken", "ValueError: no such engine"),
        ("tests.workers.nowhere:create", "No module named 'tests.workers.nowhere'"),
    ],
)
async def test_a_job_that_cannot_be_imported_says_why(job: str, reason: str) -> None:
    pool = Pool(PoolOptions(workers=1, job=job))
    await pool.start()
    with pytest.raises(NotReady, match=reason):
        await pool.wait_ready()
    assert not pool.ready
    assert pool.reason
    assert reason in pool.reason
    with pytest.raises(NotReady, match=reason):
        await ask(pool, "echo")
    await pool.stop()


async def test_when_it_stops_what_computes_waits_or_comes_is_refused(
    start_pool: StartPool,
) -> None:
    pool = await start_pool(workers=1)
    tasks = [ask_later(pool, "sleep", b"3600") for _ in range(3)]
    await until(lambda: pool.waiting == 2)
    await pool.stop()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [Draining] * 3
    with pytest.raises(Draining):
        await ask(pool, "echo")


async def test_it_can_be_stopped_while_it_starts() -> None:
    for pause in (0.0, 0.02, 0.1):
        pool = Pool(PoolOptions(workers=4, job="tests.workers.jobs:create"))
        await pool.start()
        await asyncio.sleep(pause)
        await pool.stop()
