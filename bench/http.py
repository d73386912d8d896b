"""The whole service over HTTP, against a constant endpoint and against a naive handler."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import orjson

from bench.graphs import SEED, mlp
from bench.harness import Figure
from bench.servers import gradtrace, message_of, p50_us, per_second, uvicorn

ROUNDS = 7
LINES = 500


def figures() -> Iterator[Figure]:
    """Measure what a client sees; all servers run at once, and are asked in turns."""
    seed, perceptron = message_of(orjson.dumps(SEED)), orjson.dumps(mlp("json"))
    layers, layers_dict = message_of(perceptron), message_of(perceptron, "/v1/trace/dict")
    lines = b"\n".join([orjson.dumps(SEED)] * LINES)
    stream = message_of(lines, "/v1/traces", "application/x-ndjson")
    with (
        gradtrace() as ours,
        uvicorn("bench.constant:app") as constant,
        uvicorn("bench.naive:app") as naive,
    ):
        yield _compared(
            "seed graph over HTTP, one connection, p50",
            lambda: p50_us(ours, seed, 200),
            lambda: p50_us(constant, seed, 200),
            2.2,
        )
        yield _times_faster(
            "seed graph, 8 connections, over naive",
            lambda: 1e6 / per_second(ours, seed, 8, 60),
            lambda: 1e6 / per_second(naive, seed, 8, 60),
            4.0,
        )
        yield _times_faster(
            "MLP as JSON, over naive that returns a dict",
            lambda: 1e6 / per_second(ours, layers, 4, 10),
            lambda: 1e6 / per_second(naive, layers_dict, 2, 2),
            25.0,
        )
        yield _times_faster(
            "MLP as JSON, over naive with a response model",
            lambda: 1e6 / per_second(ours, layers, 4, 10),
            lambda: 1e6 / per_second(naive, layers, 2, 2),
            25.0,
        )
        yield _times_faster(
            "NDJSON of seed graphs, over single requests",
            lambda: p50_us(ours, stream, 1) / LINES,
            lambda: p50_us(ours, seed, LINES),
            3.0,
        )


def _rounds(ours: Callable[[], float], plain: Callable[[], float]) -> list[tuple[float, float]]:
    ours(), plain()
    return [(ours(), plain()) for _ in range(ROUNDS)]


def _compared(
    what: str, ours: Callable[[], float], plain: Callable[[], float], goal: float
) -> Figure:
    pairs = _rounds(ours, plain)
    ratio = statistics.median(a / b for a, b in pairs)
    return Figure(
        what, ratio, goal, *(statistics.median(side) for side in zip(*pairs, strict=True))
    )


def _times_faster(
    what: str, ours: Callable[[], float], plain: Callable[[], float], goal: float
) -> Figure:
    pairs = _rounds(ours, plain)
    ratio = statistics.median(b / a for a, b in pairs)
    sides = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Figure(what, ratio, goal, *sides, higher=True)
