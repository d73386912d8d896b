"""Short ways to ask a computer for something, and to wait for what a pool does by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from service.workers.pool import Pool
from service.workers.seam import Computer
from tests.processes import PATIENCE_S


async def ask(computer: Computer, do: str, body: bytes = b"") -> str:
    answer = await computer.compute({"do": do}, body)
    return bytes(answer.body).decode()


def ask_later(computer: Computer, do: str, body: bytes = b"") -> asyncio.Task[str]:
    return asyncio.create_task(ask(computer, do, body))


async def until(condition: Callable[[], bool], limit_s: float = PATIENCE_S) -> None:
    """Wait for what will happen soon; fail where it does not."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


async def complete(pool: Pool) -> None:
    """Wait until all its workers are idle, the spare ones too, and it has a standby."""
    wanted = pool.options.workers + pool.options.spares
    await until(lambda: pool.workers.idle == wanted and pool._nursery._standby is not None)
