"""Processes die at any moment, and no request is lost to one death."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import operator
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service.contract.problem import GraphCrashed
from service.workers.pool import Pool
from tests.processes import (
    descendants,
    fork_servers_of,
    kill,
    open_files,
    processes,
    wait_until,
    workers_of,
)
from tests.workers.calls import ask, ask_later, complete, until
from tests.workers.conftest import StartPool

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("do", "body", "cause"),
    [("segfault", b"", "SIGSEGV"), ("leave", b"7", "exit code 7"), ("leave", b"0", "exit code 0")],
)
async def test_a_graph_that_kills_two_workers_is_given_up(
    start_pool: StartPool, do: str, body: bytes, cause: str
) -> None:
    pool = await start_pool()
    with pytest.raises(GraphCrashed) as crashed:
        await ask(pool, do, body)
    assert crashed.value.detail.count(cause) == 2
    assert pool.counters.crashes == 2
    assert pool.counters.retries == 1
    assert await ask(pool, "echo", b"next") == "next"


async def test_one_death_is_survived_on_a_fresh_worker(
    start_pool: StartPool, tmp_path: Path
) -> None:
    pool = await start_pool(workers=2)
    used = {await ask(pool, "pid") for _ in range(5)}
    first, second = (await ask(pool, "die_once", bytes(tmp_path / "marker"))).split()
    assert first in used
    assert second not in used
    assert pool.counters.retries == 1


async def test_a_crash_touches_nobody_else(start_pool: StartPool, tmp_path: Path) -> None:
    pool = await start_pool(workers=3)
    await until(lambda: pool.workers.idle == 4)
    end = tmp_path / "end"
    bystanders = [ask_later(pool, "wait", bytes(end)) for _ in range(2)]
    crashes = [ask_later(pool, "segfault") for _ in range(4)]
    results = await asyncio.gather(*crashes, return_exceptions=True)
    assert [type(result) for result in results] == [GraphCrashed] * 4
    end.touch()
    assert len(set(await asyncio.gather(*bystanders))) == 2


async def test_a_worker_killed_before_it_took_the_request_costs_no_retry(
    start_pool: StartPool,
) -> None:
    pool = await start_pool(workers=1)
    victim = int(await ask(pool, "pid"))
    os.kill(victim, signal.SIGSTOP)
    await until(lambda: processes()[victim].state == "T")
    task = ask_later(pool, "pid")
    await until(lambda: pool.workers.busy == 1)
    kill(victim)
    assert int(await task) != victim
    assert pool.counters.retries == 0
    assert pool.counters.crashes == 1


async def test_an_idle_worker_that_is_killed_is_replaced(start_pool: StartPool) -> None:
    pool = await start_pool(workers=2)
    await until(lambda: pool.workers.idle == 3)
    before = set(workers_of(os.getpid()))
    for pid in before:
        kill(pid)
    await until(lambda: pool.counters.crashes == 3 and pool.workers.idle == 3)
    await until(lambda: not before & set(workers_of(os.getpid())))  # a dead one until it is buried


async def test_a_storm_of_kills_is_seen_by_no_client(start_pool: StartPool) -> None:
    pool = await start_pool(workers=2)
    done = False
    served = [0] * 8

    async def client(number: int) -> None:
        while not done:
            assert await ask(pool, "sleep", b"0.002")
            served[number] += 1

    clients = [asyncio.create_task(client(number)) for number in range(8)]
    for turn in range(30):
        await asyncio.sleep(0.05)
        if turn % 2:  # of three in a row that die while they start, all would hear
            await until(lambda: pool.workers.idle + pool.workers.busy == 3)
        if alive := workers_of(os.getpid()):
            kill(random.choice(alive))  # noqa: S311
        before = list(served)  # a request that was hit is answered before the next kill
        await until(lambda: all(map(operator.lt, before, served)))  # noqa: B023
    done = True
    await asyncio.gather(*clients)
    assert pool.counters.crashes >= 20


async def test_a_killed_fork_server_is_replaced_by_its_standby(start_pool: StartPool) -> None:
    pool = await start_pool(workers=2)
    for turn in range(1, 6):
        await complete(pool)
        await until(lambda: len(fork_servers_of(os.getpid())) == 2)
        task = ask_later(pool, "sleep", b"0.1")
        await asyncio.sleep(0)
        assert pool.workers.busy == 1
        kill(pool._nursery._active.child.pid)  # type: ignore[union-attr]
        assert await task
        await until(lambda: pool.counters.takeovers == turn)  # noqa: B023
    assert pool.counters.server_starts == 1
    assert pool.ready


async def test_a_killed_standby_is_replaced(start_pool: StartPool) -> None:
    pool = await start_pool()
    await until(lambda: pool._nursery._standby is not None)
    standby = pool._nursery._standby
    assert standby
    kill(standby.child.pid)
    await until(lambda: pool._nursery._standby not in {None, standby})
    assert pool.counters.takeovers == 0


async def test_the_death_of_all_processes_at_once_is_survived(start_pool: StartPool) -> None:
    pool = await start_pool(workers=2)
    await complete(pool)
    tasks = [ask_later(pool, "sleep", b"0.2") for _ in range(5)]
    await asyncio.sleep(0)
    assert pool.workers.busy == 2
    for process in descendants(os.getpid()):
        kill(process.pid)
    assert len(await asyncio.gather(*tasks)) == 5
    assert pool.counters.server_starts == 2
    await until(lambda: pool.workers.idle == 3)


async def test_a_storm_over_all_processes_is_survived(start_pool: StartPool) -> None:
    pool = await start_pool(workers=2)
    chance = random.Random(7)  # noqa: S311
    for _ in range(40):
        await asyncio.sleep(0.05)
        if alive := descendants(os.getpid()):
            kill(chance.choice(alive).pid)
    # Where a fork server took long to start, four in a row may be hit, and the last one's death
    # may not be known yet.
    await until(lambda: pool.ready and pool.workers.idle > 0)
    assert await ask(pool, "echo", b"still here") == "still here"
    await until(lambda: pool.workers.idle == 3)


async def test_no_zombie_stays(start_pool: StartPool) -> None:
    pool = await start_pool(workers=2)
    for _ in range(10):
        kill(workers_of(os.getpid())[0])
        kill(fork_servers_of(os.getpid())[0])
        await ask(pool, "echo")
        await complete(pool)
    await until(lambda: all(p.state != "Z" for p in descendants(os.getpid())))


async def test_nothing_grows_with_the_number_of_requests(start_pool: StartPool) -> None:
    pool = await start_pool(workers=2, max_requests=50)

    async def burst(requests: int) -> tuple[int, int, int]:
        for start in range(0, requests, 10):
            await asyncio.gather(*(ask(pool, "echo", b"x" * 100_000) for _ in range(9)))
            with pytest.raises(GraphCrashed):
                await ask(pool, "segfault" if start % 100 == 0 else "leave", b"1")
        await until(lambda: pool.workers.idle == 3)
        await until(lambda: len(descendants(os.getpid())) == 5)
        return open_files(os.getpid()), len(descendants(os.getpid())), await files_of_a_worker()

    async def files_of_a_worker() -> int:
        """Of one that has sent a large answer: each keeps the memory of its first one."""
        while True:
            worker = await ask(pool, "pid")
            await ask(pool, "echo", b"x" * 100_000)
            if await ask(pool, "pid") == worker:  # else that was its last request
                return open_files(int(worker))

    gc.collect()  # what earlier tests left
    first = await burst(50)
    assert await burst(400) == first


HOST = """
import asyncio, sys
from service.workers.pool import Pool
from service.workers.seam import PoolOptions

async def main():
    pool = Pool(PoolOptions(workers=2, job="tests.workers.jobs:create"))
    await pool.start()
    await pool.wait_ready()
    tasks = [asyncio.create_task(pool.compute({"do": do}, b"3600")) for do in ("sleep", "spin")]
    while pool.workers.busy < 2 or pool.workers.idle < 1 or not pool._nursery._standby:
        await asyncio.sleep(0.01)
    print("computing", flush=True)
    await asyncio.gather(*tasks)

asyncio.run(main())
"""


@pytest.mark.parametrize("fatal", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_no_process_outlives_the_one_that_started_them(fatal: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    ) as host:
        assert host.stdout
        assert host.stdout.readline() == "computing\n"
        family = descendants(host.pid)
        assert len(family) == 5
        host.send_signal(fatal)
        host.wait()

    wait_until(lambda: all(_is_gone(p.pid) for p in family), "workers and fork servers are gone")


def _is_gone(pid: int) -> bool:
    """Tell whether a process is dead; bury it where it has become this process's to bury."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return pid not in processes()


async def test_signals_meant_for_the_service_stop_no_worker(start_pool: StartPool) -> None:
    pool: Pool = await start_pool(workers=1)
    await complete(pool)
    task = ask_later(pool, "sleep", b"0.3")
    await asyncio.sleep(0)
    assert pool.workers.busy == 1
    for process in descendants(os.getpid()):
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
    assert await task
    assert pool.counters.crashes == 0
