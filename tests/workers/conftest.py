"""Pools of real processes, started and stopped around a test."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from service.workers.pool import Pool
from service.workers.seam import PoolOptions
from tests import processes
from tests.processes import descendants

StartPool = Callable[..., Awaitable[Pool]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run coroutines in the event loop that the service uses."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def _strangers() -> None:
    """Keep apart what the test starts and what other tests left running for those after them."""
    processes.strangers.clear()
    processes.strangers.update(process.pid for process in descendants(os.getpid()))


@pytest.fixture
async def start_pool() -> AsyncIterator[StartPool]:
    """Start pools of the test's own job, ready to compute; stop them, and see that all is gone."""
    pools: list[Pool] = []

    async def start(**options: Any) -> Pool:
        settings: dict[str, Any] = {
            "workers": 2,
            "memory_limit_mb": 256,
            "job": "tests.workers.jobs:create",
        }
        pool = Pool(PoolOptions(**(settings | options)))
        pools.append(pool)
        await pool.start()
        await pool.wait_ready()
        return pool

    yield start
    for pool in pools:
        await pool.stop()
    assert descendants(os.getpid()) == []
