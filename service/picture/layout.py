"""Places boxes in layers, sources above targets: layers, order in each layer, coordinates.

The classic way (Sugiyama, Tagawa, Toda 1981), kept small, bounded in time, and the same for the
same graph every time. The layout libraries at hand were tried first: one draws the same graph
differently from call to call, ends the process on what it does not expect and needs seconds for a
few thousand edges; another needs seconds for 300 nodes.

1. A node's layer is the longest way to it; a source without inputs moves down to its first use.
   Boxes without any edge stand a few to a layer.
2. An edge over several layers gets a bend in each, as long as there is room for bends.
3. Each layer is sorted by the mean place of its neighbours, down and up, while crossings vanish.
4. Each layer moves towards its neighbours by weighted least squares, order and gaps kept.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.picture.graph import topological

COLUMN_GAP = 26.0
ROW_GAP = 58.0
BEND_WIDTH = 10.0
MAX_BENDS = 3_000
ALONE = 8
"""Boxes without an edge in one layer; more of them where there are more than the square of it."""
ORDER_SWEEPS = 8
PLACE_SWEEPS = 10
STRAIGHT = 6.0
"""How much more a bend follows its edge than a box its neighbours: long edges stay straight."""
MAIN = 5.0
"""How much more a box follows a box with inputs than a source: sources stand beside the line."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Placement:
    """Centres of the boxes, the bends of each edge, and the size of the whole."""

    centres: list[Point]
    bends: dict[tuple[int, int], list[Point]]
    width: float
    height: float


def place(
    sizes: Sequence[tuple[float, float]],
    edges: Iterable[tuple[int, int]],
    *,
    extra_gap: float = 0.0,
) -> Placement:
    """Place boxes of ``sizes`` (width, height) so that ``edges`` run downwards.

    Of a cycle one edge runs upwards. Edges given twice, and from a box to itself, change nothing.
    """
    unique = list(dict.fromkeys((a, b) for a, b in edges if a != b))
    rank = {index: place for place, index in enumerate(topological(len(sizes), unique))}
    down = list(dict.fromkeys((a, b) if rank[a] < rank[b] else (b, a) for a, b in unique))
    layer = _layers(len(sizes), down, rank)
    grid = _Grid(sizes, layer, down)
    grid.sort()
    x = grid.columns()
    rows = _rows(sizes, layer, ROW_GAP + extra_gap)
    height = max((top + tall for top, tall in rows), default=0.0)
    middles = [top + tall / 2 for top, tall in rows]
    left = min((x[i] - grid.widths[i] / 2 for i in range(len(x))), default=0.0)
    right = max((x[i] + grid.widths[i] / 2 for i in range(len(x))), default=0.0)
    centres = [(x[i] - left, middles[layer[i]]) for i in range(len(sizes))]
    bends = {
        edge: [(x[bend] - left, middles[grid.layer[bend]]) for bend in chain]
        for edge, chain in grid.chains.items()
    }
    bends |= {(b, a): points[::-1] for (a, b), points in bends.items() if (b, a) not in bends}
    return Placement(centres, bends, right - left, height)


def _layers(count: int, down: Sequence[tuple[int, int]], rank: dict[int, int]) -> list[int]:
    layer = [0] * count
    after: list[list[int]] = [[] for _ in range(count)]
    has_input = [False] * count
    for source, target in down:
        after[source].append(target)
        has_input[target] = True
    for index in sorted(range(count), key=rank.__getitem__):
        for target in after[index]:
            layer[target] = max(layer[target], layer[index] + 1)
    for index in range(count):
        if after[index] and not has_input[index]:
            layer[index] = min(layer[target] for target in after[index]) - 1
    alone = [index for index in range(count) if not after[index] and not has_input[index]]
    in_one = max(ALONE, math.isqrt(len(alone)))
    for position, index in enumerate(alone):
        layer[index] = position // in_one
    return layer


def _rows(
    sizes: Sequence[tuple[float, float]], layer: Sequence[int], gap: float
) -> list[tuple[float, float]]:
    """Return top and height of every layer."""
    tall = [0.0] * (max(layer, default=-1) + 1)
    for (_, height), row in zip(sizes, layer, strict=True):
        tall[row] = max(tall[row], height)
    rows, top = [], 0.0
    for height in tall:
        rows.append((top, height))
        top += height + gap
    return rows


class _Grid:
    """Boxes and bends in layers; the order within a layer is the list's."""

    def __init__(
        self,
        sizes: Sequence[tuple[float, float]],
        layer: Sequence[int],
        down: Sequence[tuple[int, int]],
    ) -> None:
        self.widths = [width for width, _ in sizes]
        self.boxes = len(sizes)
        self.layer = list(layer)
        self.chains: dict[tuple[int, int], list[int]] = {}
        self.above: list[list[int]] = [[] for _ in sizes]
        self.below: list[list[int]] = [[] for _ in sizes]
        # Short edges first: where the bends do not suffice, the longest edges go without.
        for source, target in sorted(down, key=lambda edge: layer[edge[1]] - layer[edge[0]]):
            self._connect(source, target)
        self.layers: list[list[int]] = [[] for _ in range(max(self.layer, default=-1) + 1)]
        for index in self._depth_first():
            self.layers[self.layer[index]].append(index)
        self.place = [0] * len(self.layer)
        self._number()

    def _connect(self, source: int, target: int) -> None:
        span = self.layer[target] - self.layer[source]
        if len(self.layer) - self.boxes + span - 1 > MAX_BENDS:
            return
        last, chain = source, []
        for row in range(self.layer[source] + 1, self.layer[target]):
            bend = len(self.layer)
            chain.append(bend)
            self.layer.append(row)
            self.widths.append(BEND_WIDTH)
            self.above.append([])
            self.below.append([])
            self._link(last, bend)
            last = bend
        self._link(last, target)
        self.chains[source, target] = chain

    def _link(self, upper: int, lower: int) -> None:
        self.below[upper].append(lower)
        self.above[lower].append(upper)

    def _depth_first(self) -> list[int]:
        """Return all boxes and bends so that what belongs together comes together."""
        seen = [False] * len(self.layer)
        order = []
        for start in range(len(self.layer)):
            waiting = [start]
            while waiting:
                index = waiting.pop()
                if seen[index]:
                    continue
                seen[index] = True
                order.append(index)
                waiting += self.below[index][::-1] + self.above[index][::-1]
        return order

    def _number(self) -> None:
        for row in self.layers:
            for place, index in enumerate(row):
                self.place[index] = place

    def sort(self) -> None:
        """Order the layers with few crossings; keeps the best order that was met."""
        best, fewest = [row[:] for row in self.layers], self.crossings()
        for sweep in range(ORDER_SWEEPS):
            if not fewest:
                break
            downwards = sweep % 2 == 0
            for row in self.layers if downwards else self.layers[::-1]:
                self._sort_row(row, self.above if downwards else self.below)
            count = self.crossings()
            if count < fewest:
                best, fewest = [row[:] for row in self.layers], count
        self.layers = best
        self._number()

    def _sort_row(self, row: list[int], towards: list[list[int]]) -> None:
        def mean(index: int) -> float:
            others = towards[index]
            if not others:
                return float(self.place[index])
            return sum(self.place[other] for other in others) / len(others)

        row.sort(key=mean)
        for place, index in enumerate(row):
            self.place[index] = place

    def crossings(self) -> int:
        """Count the pairs of edges between neighbouring layers that cross."""
        total = 0
        for row in self.layers:
            passed: list[int] = []
            for index in row:
                ends = sorted(self.place[lower] for lower in self.below[index])
                total += sum(len(passed) - bisect_right(passed, end) for end in ends)
                for end in ends:
                    insort(passed, end)
        return total

    def columns(self) -> list[float]:
        """Return the x of every box and bend's centre."""
        x = [0.0] * len(self.layer)
        for row in self.layers:
            self._spread(row, [0.0] * len(row), [1.0] * len(row), x)
        for sweep in range(PLACE_SWEEPS):
            last = sweep == PLACE_SWEEPS - 1
            for row in self.layers if sweep % 2 == 0 else self.layers[::-1]:
                towards = [self.above] if sweep % 2 == 0 else [self.below]
                self._pull(row, [self.above, self.below] if last else towards, x)
        return x

    def _pull(self, row: list[int], towards: list[list[list[int]]], x: list[float]) -> None:
        """Move a layer's members to the weighted mean of their neighbours."""
        wanted, weights = [], []
        for index in row:
            total = weight = 0.0
            for side in towards:
                for other in side[index]:
                    pull = self._pull_of(index) * self._pull_of(other)
                    total += pull * x[other]
                    weight += pull
            wanted.append(total / weight if weight else x[index])
            weights.append(weight or 0.1)
        self._spread(row, wanted, weights, x)

    def _pull_of(self, index: int) -> float:
        if index >= self.boxes:
            return STRAIGHT
        return MAIN if self.above[index] else 1.0

    def _spread(
        self, row: list[int], wanted: list[float], weights: list[float], x: list[float]
    ) -> None:
        """Set x as near to ``wanted`` as order and gaps allow, in weighted least squares.

        With the gaps taken off this is isotonic regression, solved by pooling neighbours that
        violate the order (Ayer and others, 1955).
        """
        offsets, right = [], 0.0
        for index in row:
            offsets.append(right + self.widths[index] / 2)
            right += self.widths[index] + COLUMN_GAP
        pools: list[tuple[float, float, int]] = []  # mean, weight, members
        for want, weight, offset in zip(wanted, weights, offsets, strict=True):
            mean, mass, members = want - offset, weight, 1
            while pools and pools[-1][0] > mean:
                earlier, other, count = pools.pop()
                mean = (earlier * other + mean * mass) / (other + mass)
                mass += other
                members += count
            pools.append((mean, mass, members))
        start = 0
        for mean, _, members in pools:
            for place in range(start, start + members):
                x[row[place]] = mean + offsets[place]
            start += members
