"""What happens while this process has as many files open as it may."""

from __future__ import annotations

import asyncio
import os
import select
from dataclasses import replace

import pytest

from service.contract.problem import Overloaded
from service.workers.body import INLINE
from service.workers.outbox import KEPT
from tests.processes import files_kept, no_more_files, open_files
from tests.workers.calls import ask, complete, until
from tests.workers.conftest import StartPool

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("size", [INLINE + 1, KEPT + 1])
async def test_an_answer_that_cannot_be_opened_is_refused_and_never_empty(
    start_pool: StartPool, size: int
) -> None:
    pool = await start_pool(workers=1)
    await complete(pool)
    wanted = b"%d" % size
    before = files_kept()
    with no_more_files():
        for _ in range(3):
            with pytest.raises(Overloaded, match="open files"):
                await ask(pool, "big", wanted)
        assert await ask(pool, "echo", b"short") == "short"
    for _ in range(3):
        assert len(await ask(pool, "big", wanted)) == size
    assert await ask(pool, "echo") == ""  # what was answered last may still be held
    assert open_files(os.getpid()) == before
    assert pool.counters.spawned == 2


async def test_a_worker_that_could_not_be_taken_over_is_ordered_again(
    start_pool: StartPool,
) -> None:
    pool = await start_pool(workers=1)
    await complete(pool)
    fork_server = pool._nursery._active
    assert fork_server
    pool.options = replace(pool.options, spares=2)
    with no_more_files():
        pool._refill()
        select.select([fork_server.control], [], [], 10)
        await asyncio.sleep(0.05)
    await until(lambda: pool.workers.idle == 3)
    assert pool._nursery.ordered == 0
