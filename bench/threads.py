"""Torch threads in a worker: one big graph at a time, and several at once.

``python -m bench.threads`` prints requests a second with one worker of two threads over those with
two workers of one thread each, on graphs of large matrix products.
"""

from __future__ import annotations

import statistics
from typing import Any

import orjson

from bench.servers import gradtrace, message_of, per_second

ROUNDS = 7
SIZES = (64, 256, 1024)
DEPTH = 4
CONNECTIONS = (1, 2, 4)


def products(size: int) -> bytes:
    """Return a graph of ``DEPTH`` products of square matrices, with a small answer."""
    shape = {"size": [size, size]}
    ops: list[dict[str, Any]] = [
        {"id": "h0", "op": "randn", "attrs": shape, "requires_grad": True},
        {"id": "w", "op": "randn", "attrs": shape, "requires_grad": True},
    ]
    ops += [{"id": f"h{k}", "op": "matmul", "inputs": [f"h{k - 1}", "w"]} for k in range(1, DEPTH)]
    ops += [{"id": "out", "op": "sum", "inputs": [f"h{DEPTH - 1}"]}]
    return orjson.dumps({"ops": ops, "include": []})


def main() -> None:
    """Print a table: sizes down, connections across."""
    print(f"{'matrices':>10}" + "".join(f"{n:>4} connections" for n in CONNECTIONS))
    with (
        gradtrace(GRADTRACE_WORKERS="2") as many,
        gradtrace(GRADTRACE_WORKERS="1", GRADTRACE_TORCH_THREADS="2") as few,
    ):
        for size in SIZES:
            message = message_of(products(size))
            cells = [compared(many, few, message, connections) for connections in CONNECTIONS]
            print(f"{size:>10}" + "".join(f"{cell:16.2f}" for cell in cells))


def compared(many: int, few: int, message: bytes, connections: int) -> float:
    """Return the throughput of ``few`` workers over that of ``many``, the median over rounds."""
    count = 8
    ratios = []
    for _ in range(ROUNDS):
        one_thread = per_second(many, message, connections, count)
        ratios.append(per_second(few, message, connections, count) / one_thread)
    return statistics.median(ratios)


if __name__ == "__main__":
    main()
