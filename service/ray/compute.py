"""A compute replica: the pool of killable workers, as a Ray actor on one node of the cluster."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from typing import NamedTuple

from ray import get_runtime_context

from service.contract.problem import GradtraceError
from service.settings import Settings
from service.web.server import pool_options
from service.workers.pool import Pool


class Computed(NamedTuple):
    """An answer on its way to the ingress."""

    status: int
    headers: dict[str, str]
    body: bytes
    computing_s: float
    """Seconds in a worker; the rest of the time was waiting and travelling."""


class Compute:
    """Computes requests in worker processes of its own; Ray starts, checks and replaces it."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Ray awaits it
        """Start the workers; return when they can compute. Raises NotReady if they cannot."""
        self.pool = Pool(pool_options(settings))
        await self.pool.start()
        await self.pool.wait_ready()

    async def compute(self, headers: dict[str, str], body: bytes) -> Computed | GradtraceError:
        """Compute one request; a problem is returned, not raised, so that Ray does not wrap it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            answer = await self.pool.compute(headers, body)
        except GradtraceError as error:
            return error
        seconds = loop.time() - began - answer.queue_s
        return Computed(answer.status, answer.headers, bytes(answer.body), seconds)

    async def report(self) -> dict[str, int | str]:
        """Return where this is and what happened to its workers so far, for operators."""
        return {
            "pid": os.getpid(),
            "node": get_runtime_context().get_node_id(),
            **asdict(self.pool.counters),
        }

    async def check_health(self) -> None:
        """Return where requests can be computed; Ray replaces a replica that raises repeatedly."""
        if self.pool.reason is not None:
            raise RuntimeError(self.pool.reason)

    async def __del__(self) -> None:
        """Kill the workers; Ray calls and awaits this after the last request."""
        await self.pool.stop()
