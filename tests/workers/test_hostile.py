"""A worker that a graph has taken over says whatever it likes to the web process."""

from __future__ import annotations

import os

import pytest

from service.contract.problem import GraphCrashed
from tests.processes import PATIENCE_S, files_kept, open_files
from tests.workers.calls import ask, complete, until
from tests.workers.conftest import StartPool
from tests.workers.jobs import HOSTILE

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("said", HOSTILE)
async def test_a_worker_that_talks_nonsense_is_killed(start_pool: StartPool, said: str) -> None:
    pool = await start_pool(workers=1, time_limit_s=PATIENCE_S)
    await complete(pool)
    before = files_kept()
    with pytest.raises(GraphCrashed, match=r"died \(SIGKILL\), and so did a fresh one \(SIGKILL\)"):
        await ask(pool, "hostile", said.encode())
    assert await ask(pool, "echo", b"next") == "next"
    await until(lambda: pool.workers.idle == 2 and open_files(os.getpid()) == before)


async def test_a_worker_that_answers_unasked_is_killed(start_pool: StartPool) -> None:
    pool = await start_pool(workers=1)
    assert await ask(pool, "answer_twice") == "first"
    await until(lambda: pool.counters.crashes == 1)
    assert await ask(pool, "echo", b"next") == "next"
