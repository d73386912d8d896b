"""How the cost grows: with nodes, with elements, with connections. Tables, and curves as PNG.

``python -m bench.growth FOLDER`` draws into FOLDER; without one it only prints.
"""

from __future__ import annotations

import gc
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import orjson

from bench.graphs import SEED, chain, leaf_of
from bench.harness import Figure
from bench.servers import gradtrace, message_of, per_second, process_of, rss_mb
from service.engine.job import JSON, SAFETENSORS, Engine
from service.engine.limits import Limits
from service.engine.safetensors_file import write_file

NODES = (10, 100, 1_000, 10_000, 99_998)
ELEMENTS = (1, 1_000, 100_000, 1_000_000, 10_000_000, 30_000_000)
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64)
REQUESTS = 1_500

Row = tuple[float, ...]


def main() -> None:
    """Print the three tables; draw them where a folder is named."""
    with undisturbed() as engine:
        tables = {
            "nodes": (("nodes", "us per node"), list(nodes(engine))),
            "elements": (("elements", "ms", "ns per element"), list(elements(engine))),
        }
    heads = ("connections", "requests/s", "web process MiB")
    tables["connections"] = (heads, list(connections(CONNECTIONS)))
    for name, (heads, rows) in tables.items():
        print(name)
        print("".join(f"{head:>18}" for head in heads))
        for row in rows:
            print("".join(f"{cell:18,.1f}" for cell in row))
    if len(sys.argv) > 1:
        for name, (heads, rows) in tables.items():
            draw(Path(sys.argv[1]) / f"growth-{name}.png", heads, rows)


def figures() -> Iterator[Figure]:
    """Measure what has a goal: a node of a large graph, and the web process's memory."""
    with undisturbed() as engine:
        pairs = [
            (
                time_per_node(engine, NODES[-1], 1),
                statistics.median(time_per_node(engine, 1_000, 1) for _ in range(10)),
            )
            for _ in range(5)
        ]
    ratio = statistics.median(many / few for many, few in pairs)
    sides = (statistics.median(side) for side in zip(*pairs, strict=True))
    yield Figure("100,000 nodes over 1,000, time per node", ratio, 1.3, *sides)
    one, most = (memory for _, _, memory in connections((1, CONNECTIONS[-1])))
    yield Figure("64 connections over 1, MiB of the web process", most / one, 1.2, most, one)


@contextmanager
def undisturbed() -> Iterator[Engine]:
    """Collect no garbage meanwhile: a worker does that between requests."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield Engine(Limits(), threads=1, alone=True)  # as in a worker
    finally:
        gc.enable()
        gc.unfreeze()


def quickest(works: Iterable[Callable[[], object]]) -> float:
    """Return the shortest time of these calls, in seconds."""
    times = []
    for work in works:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def nodes(engine: Engine) -> Iterator[Row]:
    """Trace chains of retained ops, JSON in and out."""
    for count in NODES:
        yield count, time_per_node(engine, count, 3 if count > 10_000 else 10)


_numbers = itertools.count()


def time_per_node(engine: Engine, count: int, rounds: int) -> float:
    """Return the shortest of some times per node, in us, of chains that never came before."""
    plain = orjson.dumps(chain(count))
    bodies = [plain.replace(b'"h', b'"h%d_' % next(_numbers)) for _ in range(rounds)]

    def trace(body: bytes) -> None:
        assert engine.trace(JSON, JSON, body).status == 200

    seconds = quickest([partial(trace, body) for body in bodies])
    gc.collect()
    return seconds / count * 1e6


def elements(engine: Engine) -> Iterator[Row]:
    """Trace one leaf, doubled and summed, as safetensors in and out."""
    request = {**leaf_of(None), "include": ["grad"]}
    metadata = {"request": orjson.dumps(request).decode()}
    import torch

    for count in ELEMENTS:
        numbers = torch.from_numpy(np.ones(count, dtype=np.float32))
        body = write_file({"x": numbers}, metadata)

        def work(body: bytes = body) -> None:
            answer = engine.trace(SAFETENSORS, SAFETENSORS, body)
            assert answer.status in (200, 422)
            assert answer.body  # in one piece

        seconds = quickest([work] * 3)
        yield count, seconds * 1e3, seconds / count * 1e9


def connections(counts: Sequence[int]) -> Iterator[tuple[int, float, float]]:
    """Ask a real service for the seed graph over more and more connections."""
    message = message_of(orjson.dumps(SEED))
    with gradtrace(GRADTRACE_QUEUE="256") as port:
        web = process_of(port)
        per_second(port, message, 8, 50)
        for count in counts:
            yield count, per_second(port, message, count, REQUESTS // count), rss_mb(web)


def draw(path: Path, heads: Sequence[str], rows: Sequence[Row]) -> None:
    """Draw the second column over the first, both logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.loglog([row[0] for row in rows], [row[1] for row in rows], marker="o")
    axes.set_xlabel(heads[0])
    axes.set_ylabel(heads[1])
    axes.grid(visible=True, which="both", alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
