"""Above 300 nodes the picture shows namespaces, quickly and with nothing lost in the counts."""

from __future__ import annotations

import re

import pytest

from service.picture import svg
from service.picture.summary import MAX_GROUPS, MAX_NODES
from tests.picture.answers import chain, node, parsed

COUNT = re.compile(r">([\d,]+) nodes?(?: · root)?<")


def groups(picture: str) -> list[str]:
    return [name for element in parsed(picture).iter() if (name := element.get("data-group"))]


def test_300_nodes_are_drawn_one_by_one_and_301_as_a_summary() -> None:
    ids = [f"n{index}" for index in range(MAX_NODES)]
    assert svg(*chain(ids)).count("data-node=") == MAX_NODES
    assert "data-node=" not in svg(*chain([*ids, "last"]))


def test_each_namespace_is_one_card() -> None:
    ids = ["x"] + [f"block{index // 40}.h{index}" for index in range(400)]
    assert groups(svg(*chain(ids))) == ["x"] + [f"block{index}" for index in range(10)]


def test_what_stands_before_and_behind_the_layers_is_not_one_card() -> None:
    """An input and a loss in one card would draw an edge backwards over the whole picture."""
    ids = ["x", "embedded", *(f"block{index // 100}.h{index}" for index in range(300)), "a", "loss"]
    assert groups(svg(*chain(ids))) == ["x", "embedded", "block0", "block1", "block2", "a to loss"]


def test_a_deeper_namespace_is_used_where_it_still_gives_few_cards() -> None:
    ids = [f"model/layer{index // 50}/h{index}" for index in range(400)]
    assert groups(svg(*chain(ids))) == [f"model/layer{index}" for index in range(8)]


@pytest.mark.parametrize(
    "ids",
    [
        [f"n{index}" for index in range(5_000)],
        [f"layer{index // 2}.h{index}" for index in range(5_000)],
        [f"n{index}" if index % 3 else f"a.b{index % 7}.c{index}" for index in range(5_000)],
    ],
    ids=["without namespaces", "too many namespaces", "mixed"],
)
def test_there_are_few_cards_and_every_node_is_counted_once(ids: list[str]) -> None:
    picture = svg(*chain(ids))
    assert 2 <= len(groups(picture)) <= MAX_GROUPS
    assert sum(int(count.replace(",", "")) for count in COUNT.findall(picture)) == len(ids)


def test_namespaces_that_use_each_other_in_a_circle_are_drawn() -> None:
    picture = svg(*chain([f"{'ab'[index % 2]}.h{index}" for index in range(400)]))
    assert groups(picture) == ["a", "b"]
    assert "a → b: 200 uses" in picture
    assert "b → a: 199 uses" in picture


def test_a_nan_is_marked_in_the_namespace_where_it_starts() -> None:
    request, response = chain([f"{'abcd'[index // 100]}.h{index}" for index in range(400)])
    nodes = response["nodes"]
    for index in range(150, 400):
        nodes[index] = node(nodes[index]["id"], value="NaN")
    picture = svg(request, response)
    starts = picture.index("NaN in value starts here</text>")
    assert picture.index('data-group="b"') < starts < picture.index('data-group="c"')


def test_twenty_thousand_nodes_make_a_small_picture() -> None:
    picture = svg(*chain([f"n{index}" for index in range(20_000)]))
    assert len(picture) < 50_000
    assert "20,000 nodes" in picture
