"""How the cost grows: with nodes, with elements, with connections. Tables, and curves as PNG.

``python -m bench.growth FOLDER`` draws into FOLDER; without one it only prints.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson

from bench.graphs import SEED, chain, leaf_of
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
    engine = Engine(Limits(), threads=1, alone=True)  # as in a worker
    gc.freeze()
    gc.disable()  # as a worker does, which collects between requests
    tables = {
        "nodes": (("nodes", "us per node"), list(nodes(engine))),
        "elements": (("elements", "ms", "ns per element"), list(elements(engine))),
        "connections": (("connections", "requests/s", "web process MiB"), list(connections())),
    }
    for name, (heads, rows) in tables.items():
        print(name)
        print("".join(f"{head:>18}" for head in heads))
        for row in rows:
            print("".join(f"{cell:18,.1f}" for cell in row))
    if len(sys.argv) > 1:
        for name, (heads, rows) in tables.items():
            draw(Path(sys.argv[1]) / f"growth-{name}.png", heads, rows)


def quickest(work: Callable[[], object], rounds: int) -> float:
    """Return the shortest time of ``rounds`` calls, in seconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def nodes(engine: Engine) -> Iterator[Row]:
    """Trace chains of retained ops, JSON in and out."""
    for count in NODES:
        body = orjson.dumps(chain(count))

        def work(body: bytes = body) -> None:
            assert engine.trace(JSON, JSON, body).status == 200

        yield count, quickest(work, 3 if count > 10_000 else 10) / count * 1e6


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

        seconds = quickest(work, 3)
        yield count, seconds * 1e3, seconds / count * 1e9


def connections() -> Iterator[Row]:
    """Ask a real service for the seed graph over more and more connections."""
    message = message_of(orjson.dumps(SEED))
    with gradtrace(GRADTRACE_QUEUE="256") as port:
        web = process_of(port)
        per_second(port, message, 8, 50)
        for count in CONNECTIONS:
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
