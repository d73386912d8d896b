"""An op of many inputs and many outputs takes lines for their sum, not for their product."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest

from service.picture import graphviz, svg
from service.picture.graph import CROWDED, read
from service.picture.summary import MAX_NODES
from tests.conftest import require_program
from tests.picture.answers import SVG, Json, answer, node, parsed, widths

TITLE = re.compile(r"<title>(.*?)</title>")


def wide(inputs: int, *, edges: bool = False, **changes: Any) -> tuple[Json, Json]:
    """Return leaves, as many outputs of one op of them all, and a stack of these.

    ``changes`` are by the name of a node what is different in it, ``b_3`` for ``b:3``.
    """
    leaves = [f"x{index}" for index in range(inputs)]
    outputs = [f"b:{index}" for index in range(inputs)]
    request = {
        "leaves": [{"id": name, "value": 1, "requires_grad": True} for name in leaves],
        "ops": [
            {"id": "b", "op": "broadcast_tensors", "inputs": leaves},
            {"id": "out", "op": "stack", "inputs": outputs},
        ],
    }
    nodes = [
        *(node(name, None, **changes.get(name, {})) for name in leaves),
        *(
            node(name, "broadcast_tensors", **changes.get(name.replace(":", "_"), {}))
            for name in outputs
        ),
        node("out", "stack"),
    ]
    uses = [(name, "b", place) for place, name in enumerate(leaves)]
    uses += [(name, "out", place) for place, name in enumerate(outputs)]
    told = [
        {"from": name, "to": to, "input": f"tensors[{place}]", "grad": 2.0}
        for name, to, place in uses
    ]
    return request, answer(nodes, **({"edges": told} if edges else {}))


@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("inputs", [2, 9, 100, 1_000])
def test_lines_are_at_most_a_few_times_inputs_and_outputs(inputs: int, edges: bool) -> None:
    request, response = wide(inputs, edges=edges)
    most = CROWDED * 2 * inputs + inputs
    assert len(read(request, response).uses) <= most
    assert graphviz(request, response).count(" -> ") <= most
    picture = svg(request, response)
    assert picture.count('class="use"') <= most
    assert picture.count("data-node=") == (2 * inputs + 1 if 2 * inputs + 1 <= MAX_NODES else 0)


def test_through_a_joint_each_use_tells_once_what_it_contributes() -> None:
    picture = svg(*wide(20, edges=True))
    titles = TITLE.findall(picture)
    assert [title for title in titles if title.startswith("x7 ")] == [
        "x7 → b (tensors[7]) contributes 2"
    ]
    assert [title for title in titles if title.endswith("→ b:7")] == ["b → b:7"]
    joint = next(group for group in parsed(picture).iter(f"{SVG}g") if group.get("data-joint"))
    assert joint.get("data-joint") == "b"
    assert "20 uses, 20 outputs" in "".join(joint.itertext())


def test_few_inputs_and_outputs_have_a_line_each() -> None:
    picture = svg(*wide(8))
    assert "data-joint" not in picture
    assert picture.count('class="use"') == 8 * 8 + 8


def test_the_line_out_of_a_joint_is_as_thick_as_the_gradient_that_comes_back_by_it() -> None:
    width = widths(svg(*wide(20, b_3={"grad": 1e3})))
    assert width["b → b:3"] > width["b → b:4"]


def test_a_line_through_a_joint_is_tracked_where_its_own_end_is() -> None:
    constant = {"requires_grad": False, "grad": None, "grad_status": "constant"}
    titles = TITLE.findall(svg(*wide(20, x3=constant, b_4=constant)))
    assert {title for title in titles if title.endswith(": not tracked")} == {
        "x3 → b: not tracked",
        "b → b:4: not tracked",
        "b:4 → out: not tracked",
    }


def test_what_is_not_finite_passes_through_a_joint_both_ways() -> None:
    request, response = wide(
        20, x3={"value": "NaN"}, b_3={"value": "NaN"}, x5={"grad": "NaN"}, b_5={"grad": "NaN"}
    )
    description = re.findall(r"<desc[^>]*>(.*?)</desc>", svg(request, response))[0]
    assert "NaN in value starts here at x3" in description
    assert "at b:3" not in description
    assert "NaN in grad starts here at b:5" in description
    assert "at x5" not in description


def test_groups_count_the_uses_through_a_joint_once() -> None:
    request, response = wide(1_000)
    picture = svg(request, response)
    assert "x0 to x100 → b:0 to b:100: 101 uses" in picture
    assert "data-joint" not in picture


def test_graphviz_itself_reads_a_joint() -> None:
    text = graphviz(*wide(30, edges=True))
    assert text.count(" -> ") == 3 * 30
    drawn = subprocess.run(
        [require_program("dot"), "-Tplain"], input=text, text=True, capture_output=True
    )
    assert (drawn.returncode, drawn.stderr) == (0, "")
