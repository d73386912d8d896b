"""The way to a worker and back, against the same job in this process.

What the pool adds, from the last byte of a request to the first of its answer: in microseconds for
a small graph; where 10 MB go each way as a part of that time, and of the request over HTTP.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import orjson
import torch
import uvloop

from bench.graphs import SEED, leaf_of
from bench.harness import Figure
from bench.servers import Connection, gradtrace, message_of
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


class Times(NamedTuple):
    """Seconds that one round took."""

    there: float
    """Through the pool."""
    here: float
    """In this process."""
    http: float
    """Over HTTP, to the end of the answer."""


async def times(pool: Pool, port: int, media_type: str, body: bytes, rounds: int) -> list[Times]:
    """Ask the pool, this process and the service at ``port`` in turns.

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
        answer.body.close()

    def here(headers: Mapping[str, str] = headers) -> None:
        began = time.perf_counter()
        answer = handle(headers, body)
        taken.append(time.perf_counter() - began)
        assert answer.status == 200

    def over_http() -> None:
        began = time.perf_counter()
        status = connection.post(message)
        taken.append(time.perf_counter() - began)
        assert status == 200

    found = []
    message = message_of(body, media_type=media_type)
    with Connection(port) as connection:
        for _ in range(rounds):
            taken: list[float] = []
            for _ in range(block):
                await there()
            for _ in range(block):
                here()
            for _ in range(block):
                over_http()
            each = (taken[at : at + block] for at in range(0, 3 * block, block))
            found.append(Times(*map(statistics.median, each)))
    return found[rounds // 10 :]


def figures() -> Iterator[Figure]:
    """Measure a small graph, and a large leaf in each encoding."""
    yield from uvloop.run(_figures())  # the event loop that the service runs in


async def _figures() -> list[Figure]:
    pool = Pool(PoolOptions(workers=1, spares=0))
    await pool.start()
    await pool.wait_ready()
    try:
        with gradtrace() as port:
            rounds = await times(pool, port, JSON, orjson.dumps(SEED), ROUNDS_SMALL)
            added = statistics.median(r.there - r.here for r in rounds) * 1e6
            found = [_figure("seed graph, us that the pool adds", added, 80, rounds, "there")]
            for encoding in ("json", "base64", "safetensors"):
                rounds = await times(pool, port, *large(encoding), ROUNDS_LARGE)
                what = f"10 MB as {encoding}, the pool's part"
                part = statistics.median((r.there - r.here) / r.there for r in rounds)
                found.append(_figure(f"{what} of its time", part, 0.1, rounds, "there"))
                part = statistics.median((r.there - r.here) / r.http for r in rounds)
                found.append(_figure(f"{what} over HTTP", part, 0.1, rounds, "http"))
        return found
    finally:
        await pool.stop()


def _figure(what: str, ratio: float, goal: float, rounds: list[Times], whole: str) -> Figure:
    ours = statistics.median(getattr(r, whole) for r in rounds)
    plain = statistics.median(r.here for r in rounds)
    return Figure(what, ratio, goal, ours * 1e6, plain * 1e6)
