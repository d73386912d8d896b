"""The way to a worker and back, against the same job in this process.

What the pool adds: in microseconds for a small graph, and as a part of the request where 10 MB go
each way.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping

import numpy as np
import orjson
import torch

from bench.graphs import SEED, leaf_of
from bench.harness import Figure
from service.engine.job import JSON, SAFETENSORS
from service.engine.safetensors_file import write_file
from service.jobs import create
from service.workers.body import INLINE, Body
from service.workers.pool import Pool
from service.workers.seam import PoolOptions

ROUNDS_SMALL, ROUNDS_LARGE = 100, 25
BLOCK = 50
ELEMENTS = 2_500_000
"""Of float32 in a leaf, whose value comes back: 10 MB each way, more in JSON and base64."""


def large(encoding: str) -> tuple[str, bytes]:
    """Return the media type and the body of a graph of one large leaf, summed."""
    numbers = np.random.default_rng(0).standard_normal(ELEMENTS).astype(np.float32)
    ops = {"ops": [{"id": "out", "op": "sum", "inputs": ["x"]}], "include": ["value"]}
    if encoding == "safetensors":
        request = orjson.dumps(leaf_of(None) | ops).decode()
        return SAFETENSORS, write_file({"x": torch.from_numpy(numbers)}, {"request": request})
    return JSON, orjson.dumps(leaf_of(numbers, encoding) | ops, option=orjson.OPT_SERIALIZE_NUMPY)


async def times(pool: Pool, media_type: str, body: bytes, rounds: int) -> list[tuple[float, float]]:
    """Return, for every round, the seconds through the pool and the seconds in this process.

    A small graph is sent ``BLOCK`` times in a row, as the client of a busy service does: where both
    processes have gone to sleep, the time to wake them is what is measured, twice or more of it.
    """
    block = BLOCK if len(body) <= INLINE else 1
    headers = {"job": "trace", "content-type": media_type, "accept": media_type}
    handle = create({"alone": 1})

    async def there() -> None:
        sent = Body.spilled(body) if len(body) > INLINE else Body(body)
        began = time.perf_counter()
        answer = await pool.compute(headers, sent)
        taken.append(time.perf_counter() - began)
        assert answer.status == 200

    def here(headers: Mapping[str, str] = headers) -> None:
        began = time.perf_counter()
        answer = handle(headers, body)
        taken.append(time.perf_counter() - began)
        assert answer.status == 200

    pairs = []
    for _ in range(rounds):
        taken: list[float] = []
        for _ in range(block):
            await there()
        for _ in range(block):
            here()
        pairs.append((statistics.median(taken[:block]), statistics.median(taken[block:])))
    return pairs[rounds // 10 :]


def figures() -> Iterator[Figure]:
    """Measure a small graph, and a large leaf in each encoding."""
    yield from asyncio.run(_figures())


async def _figures() -> list[Figure]:
    pool = Pool(PoolOptions(workers=1, spares=0))
    await pool.start()
    await pool.wait_ready()
    try:
        pairs = await times(pool, JSON, orjson.dumps(SEED), ROUNDS_SMALL)
        added = statistics.median(there - here for there, here in pairs) * 1e6
        found = [_figure("seed graph, us that the pool adds", added, 80, pairs)]
        for encoding in ("json", "base64", "safetensors"):
            pairs = await times(pool, *large(encoding), ROUNDS_LARGE)
            part = statistics.median((there - here) / there for there, here in pairs)
            found.append(_figure(f"10 MB as {encoding}, the pool's part", part, 0.1, pairs))
        return found
    finally:
        await pool.stop()


def _figure(what: str, ratio: float, goal: float, pairs: list[tuple[float, float]]) -> Figure:
    there, here = (statistics.median(side) * 1e6 for side in zip(*pairs, strict=True))
    return Figure(what, ratio, goal, there, here)
