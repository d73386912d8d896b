"""Measuring: two or more versions of one work in turns, so that a noisy machine is noisy for all.

A figure is the median over rounds of the ratio within a round. Times of one version alone say
little on a machine that does other things; ratios within a round do.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    what: str
    ratio: float
    """Ours over plain where lower is better, plain over ours where ``higher`` is true."""
    goal: float
    ours_us: float
    plain_us: float
    higher: bool = False
    """Whether a higher ratio is better."""

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.ratio >= self.goal if self.higher else self.ratio <= self.goal


def time_of(work: Work) -> float:
    """Return how long one call of ``work`` takes, in microseconds."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e6


def in_turns(works: Mapping[str, Work], *, rounds: int) -> dict[str, list[float]]:
    """Return the times of each work in microseconds, a call of each in every round.

    So none of them finds the processor's caches full of itself, as nothing does in a service that
    is asked for different things.
    """
    for work in works.values():
        work()
    gc.collect()
    gc.freeze()
    gc.disable()  # for all: a worker collects between requests
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name, work in works.items():
            times[name].append(time_of(work))
        if number % 100 == 99:
            gc.collect()
    gc.enable()
    gc.unfreeze()
    return times


def compare(
    what: str,
    ours: Work,
    plain: Work,
    goal: float,
    *,
    rounds: int = 15,
    higher: bool = False,
) -> Figure:
    """Return how ``ours`` compares with ``plain``; with ``higher``, how many times faster it is."""
    times = in_turns({"ours": ours, "plain": plain}, rounds=rounds)
    pairs = list(zip(times["ours"], times["plain"], strict=True))
    ratios = [plain / ours if higher else ours / plain for ours, plain in pairs]
    return Figure(
        what,
        statistics.median(ratios),
        goal,
        statistics.median(times["ours"]),
        statistics.median(times["plain"]),
        higher,
    )
