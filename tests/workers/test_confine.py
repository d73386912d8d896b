"""What a worker may not do, tried in a real one."""

from __future__ import annotations

import asyncio
import os
import resource

import pytest

from tests.processes import descendants
from tests.workers.calls import ask, ask_later, until
from tests.workers.conftest import StartPool

pytestmark = pytest.mark.anyio


async def test_a_worker_opens_no_socket_and_starts_no_program(start_pool: StartPool) -> None:
    pool = await start_pool()
    went_through, _, _ = (await ask(pool, "look_around")).partition("|")
    assert went_through == ""


async def test_a_worker_inherits_no_descriptor(start_pool: StartPool) -> None:
    with open(os.devnull, "rb") as kept:
        os.set_inheritable(kept.fileno(), True)
        pool = await start_pool(workers=4)
        _, _, descriptors = (await ask(pool, "look_around")).partition("|")
    socket, memory_meter, listing = 1, 1, 1
    assert int(descriptors) == socket + memory_meter + listing


async def test_no_process_writes_core_files(start_pool: StartPool) -> None:
    pool = await start_pool()
    await until(lambda: pool.workers.idle == 3)
    for process in descendants(os.getpid()):
        assert resource.prlimit(process.pid, resource.RLIMIT_CORE) == (1, 1)


async def test_the_memory_limit_is_what_one_request_may_take_beyond_a_fresh_worker(
    start_pool: StartPool,
) -> None:
    pool = await start_pool(memory_limit_mb=100)
    worker = int(await ask(pool, "pid"))
    soft, hard = resource.prlimit(worker, resource.RLIMIT_DATA)
    assert soft == hard
    assert soft > 100 * 2**20
    assert await ask(pool, "allocate", b"95")


async def test_without_a_memory_limit_there_is_none(start_pool: StartPool) -> None:
    pool = await start_pool(memory_limit_mb=0)
    worker = int(await ask(pool, "pid"))
    limits = resource.prlimit(worker, resource.RLIMIT_DATA)
    assert limits == resource.getrlimit(resource.RLIMIT_DATA)


async def test_no_graph_waits_for_a_reader_of_standard_error(start_pool: StartPool) -> None:
    reads, writes = os.pipe()
    before = os.dup(2)
    os.dup2(writes, 2)
    try:
        pool = await start_pool(workers=1)
    finally:
        os.dup2(before, 2)
    written = await asyncio.wait_for(ask_later(pool, "shout"), 30)
    assert 0 < int(written) < 2_000_000
    assert os.get_blocking(writes)  # as those who share it expect
    for end in (reads, writes, before):
        os.close(end)
