"""Boxes stand in layers, never on one another, and the same every time."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from service.picture.graph import topological
from service.picture.layout import COLUMN_GAP, place

Edges = list[tuple[int, int]]


def graph(seed: int, count: int, edges: int) -> Edges:
    """Return a random graph without cycles; numbers do not follow the order."""
    order = random.Random(seed)  # noqa: S311 - a test's graph
    names = list(range(count))
    order.shuffle(names)
    pairs = [sorted(order.sample(range(count), 2)) for _ in range(edges)]
    return [(names[a], names[b]) for a, b in pairs]


@pytest.mark.parametrize(
    ("count", "edges"), [(1, 0), (3, 2), (12, 16), (60, 90), (300, 450), (300, 5_000)]
)
def test_edges_run_downwards_and_boxes_do_not_touch(count: int, edges: int) -> None:
    sizes = [(80.0 + 10 * (index % 5), 40.0 + 6 * (index % 3)) for index in range(count)]
    links = graph(count, count, edges)
    placed = place(sizes, links)
    for source, target in links:
        assert placed.centres[source][1] < placed.centres[target][1]
    boxes = sorted(
        (y, x - width / 2, x + width / 2)
        for (x, y), (width, _) in zip(placed.centres, sizes, strict=True)
    )
    for (row, _, right), (next_row, left, _) in pairwise(boxes):
        assert row != next_row or left >= right + COLUMN_GAP - 1e-6
    for (x, y), (width, height) in zip(placed.centres, sizes, strict=True):
        assert x - width / 2 >= -1e-6
        assert x + width / 2 <= placed.width + 1e-6
        assert y - height / 2 >= -1e-6
        assert y + height / 2 <= placed.height + 1e-6


def test_the_same_graph_is_placed_the_same_every_time() -> None:
    sizes = [(100.0, 50.0)] * 60
    first = place(sizes, graph(7, 60, 90))
    assert all(place(sizes, graph(7, 60, 90)) == first for _ in range(5))


def test_a_chain_is_a_straight_line() -> None:
    placed = place([(100.0, 50.0)] * 300, [(index, index + 1) for index in range(299)])
    assert {x for x, _ in placed.centres} == {50.0}


def test_a_tree_has_no_crossings_and_a_parent_stands_between_its_children() -> None:
    placed = place([(50.0, 20.0)] * 7, [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2)])
    x = [centre[0] for centre in placed.centres]
    assert max(x[3], x[4]) < min(x[5], x[6]) or max(x[5], x[6]) < min(x[3], x[4])
    assert min(x[1], x[2]) < x[0] < max(x[1], x[2])


def test_a_long_edge_bends_once_in_each_layer_that_it_passes() -> None:
    placed = place([(50.0, 20.0)] * 4, [(0, 1), (1, 2), (2, 3), (0, 3)])
    assert len(placed.bends[0, 3]) == 2
    assert placed.bends[0, 1] == []


def test_a_leaf_stands_just_above_its_first_use() -> None:
    placed = place([(50.0, 20.0)] * 4, [(0, 1), (1, 2), (3, 2)])
    assert placed.centres[3][1] == placed.centres[1][1]


@pytest.mark.parametrize(("count", "rows", "in_one"), [(8, 1, 8), (25, 4, 8), (300, 18, 17)])
def test_boxes_without_an_edge_make_no_endless_row(count: int, rows: int, in_one: int) -> None:
    chain = [(count + index, count + index + 1) for index in range(3)]
    placed = place([(100.0, 50.0)] * (count + 4), chain)
    alone = [y for _, y in placed.centres[:count]]
    assert len(set(alone)) == rows
    assert max(map(alone.count, set(alone))) == in_one
    assert placed.width <= (in_one + 1) * (100.0 + COLUMN_GAP)


def test_a_cycle_and_an_edge_to_itself_are_placed_all_the_same() -> None:
    placed = place([(50.0, 20.0)] * 3, [(0, 1), (1, 2), (2, 0), (1, 1)])
    assert len({y for _, y in placed.centres}) == 3


def test_no_boxes_take_no_room() -> None:
    assert place([], []).width == 0


def test_topological_keeps_the_given_order_where_it_may() -> None:
    assert topological(4, [(2, 0)]) == [1, 2, 3, 0]
