"""While no worker can be had: that is said, it is logged once, and it ends by itself."""

from __future__ import annotations

import logging
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.contract.problem import NotReady
from service.workers import nursery, pool
from service.workers.pool import Pool
from tests.processes import kill, processes, workers_of
from tests.workers.calls import ask, ask_later, complete, until
from tests.workers.conftest import StartPool

pytestmark = pytest.mark.anyio


async def complete_pool(start_pool: StartPool) -> Pool:
    started = await start_pool(workers=1)
    await complete(started)
    return started


@contextmanager
def no_files_for(pid: int) -> Iterator[None]:
    """Let a fork server open nothing more: 0 to 3 are taken, and it may poll the four it polls."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, hard))
    yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def active_fork_server(started: Pool) -> int:
    active = started._nursery._active
    assert active
    return active.child.pid


def kill_workers() -> None:
    for pid in workers_of(os.getpid()):
        kill(pid)


async def test_why_none_can_be_forked_is_the_reason_and_is_logged_once(
    start_pool: StartPool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gradtrace")
    started = await complete_pool(start_pool)
    reason = "There are no workers: no process can be made (Too many open files)."
    with no_files_for(active_fork_server(started)):
        kill_workers()
        waits = ask_later(started, "echo", b"patient")
        await until(lambda: started.reason == reason)
        assert not started.ready
        with pytest.raises(NotReady, match="Too many open files"):
            await ask(started, "echo")
    assert await waits == "patient"
    await until(lambda: started.ready and started.workers.idle == 2)
    assert [record.getMessage() for record in caplog.records] == [
        reason,
        "There are workers again.",
    ]


async def test_who_waits_is_refused_once_that_lasts(
    start_pool: StartPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "NONE_AT_ALL_S", 1.0)
    started = await complete_pool(start_pool)
    with no_files_for(active_fork_server(started)):
        kill_workers()
        with pytest.raises(NotReady, match="Too many open files"):
            await ask(started, "echo")
    await until(lambda: started.ready)
    assert await ask(started, "echo", b"next") == "next"


async def test_a_fork_server_that_hears_no_order_is_replaced(
    start_pool: StartPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nursery, "ORDER_LIMIT_S", 2.0)
    started = await complete_pool(start_pool)
    active = started._nursery._active
    assert active
    os.kill(active.child.pid, signal.SIGSTOP)
    kill_workers()
    assert await ask(started, "echo", b"next") == "next"
    assert started.counters.takeovers == 1


async def test_orders_that_no_socket_takes_are_made_again(start_pool: StartPool) -> None:
    started = await complete_pool(start_pool)
    active = started._nursery._active
    assert active
    os.kill(active.child.pid, signal.SIGSTOP)
    await until(lambda: processes()[active.child.pid].state == "T")
    while active.order("worker", 0):
        pass
    kill_workers()
    await until(lambda: started.workers.idle == 0)
    assert started._nursery.ordered == 0
    os.kill(active.child.pid, signal.SIGCONT)
    await until(lambda: started.workers.idle == 2)
    assert started.counters.takeovers == 0


async def test_a_worker_that_is_stopped_costs_no_request(start_pool: StartPool) -> None:
    started = await start_pool(workers=1, time_limit_s=2)
    victim = int(await ask(started, "pid"))
    os.kill(victim, signal.SIGSTOP)
    await until(lambda: processes()[victim].state == "T")
    assert int(await ask(started, "pid")) != victim
    assert started.counters.time_limits == 0
    assert started.counters.crashes == 1
