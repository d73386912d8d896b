"""Where NaN and inf begin in a graph, and where they only came to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Mark:
    """Non-finite elements in a node: of which kind, in value or gradient, and if they begin here.

    A value's NaN begins where no input has one; a gradient's where, looking back from the roots,
    no known gradient before it has one.
    """

    what: str
    kind: str
    first: bool

    def __str__(self) -> str:
        return f"{self.kind} in {self.what}" + (" starts here" if self.first else "")


COUNTS = (("NaN", "nan_count"), ("inf", "inf_count"))


def find_marks(
    points: Sequence[Mapping[str, Any]], lines: Sequence[tuple[int, int]], order: Sequence[int]
) -> dict[int, list[Mark]]:
    """Return the non-finite marks of the points that have any, values before gradients.

    Args:
        points: nodes, and others without statistics, which only pass on.
        lines: from a point to one that is computed from it, by position in ``points``.
        order: all positions, each after those that it is computed from.
    """
    before: list[list[int]] = [[] for _ in points]
    after: list[list[int]] = [[] for _ in points]
    tracked = [point["requires_grad"] for point in points]
    for source, target in lines:
        before[target].append(source)
        if tracked[source] and tracked[target]:
            after[source].append(target)
    marks: dict[int, list[Mark]] = defaultdict(list)
    for what, sequence, towards in (("value", order, before), ("grad", order[::-1], after)):
        all_stats = [point.get("stats", {}).get(what) for point in points]
        for kind, count in COUNTS:
            counts = [None if stats is None else stats[count] for stats in all_stats]
            if any(counts):
                for index, first in _spread(counts, sequence, towards):
                    marks[index].append(Mark(what, kind, first))
    return dict(marks)


def _spread(
    counts: Sequence[int | None], order: Sequence[int], towards: Sequence[Sequence[int]]
) -> Iterator[tuple[int, bool]]:
    """Yield the nodes that have some, in the order in which they spread, and if they begin there.

    A gradient that was not kept (None) tells nothing, so what came before it is passed on.
    """
    reached = [False] * len(counts)
    for index in order:
        inherited = any(reached[other] for other in towards[index])
        if counts[index]:
            yield index, not inherited
        reached[index] = bool(counts[index]) or (inherited and counts[index] is None)
