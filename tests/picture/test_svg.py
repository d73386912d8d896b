"""The picture is well-formed, says the same thing every time, and hides nothing."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from service.picture import svg
from tests.golden import CASES
from tests.picture.answers import SVG, answer, chain, golden, node, parsed, widths

REAL = [name for name in CASES if "complex" not in name]


def drawn(picture: str) -> dict[str, ET.Element]:
    """Return the drawn nodes by id."""
    groups = parsed(picture).iter(f"{SVG}g")
    return {group.get("data-node", ""): group for group in groups if group.get("data-node")}


def words(element: ET.Element) -> str:
    return "\n".join(text for text in element.itertext())


@pytest.mark.parametrize("name", REAL)
def test_every_node_of_a_golden_case_is_drawn_with_name_op_status_and_tooltip(name: str) -> None:
    request, response = golden(name)
    nodes = drawn(svg(request, response))
    assert list(nodes) == [node["id"] for node in response["nodes"]]
    for traced in response["nodes"]:
        group = nodes[traced["id"]]
        assert group.get("data-status") == traced["grad_status"]
        title = group.find(f"{SVG}title")
        assert title is not None
        assert title.text is not None
        assert title.text.startswith(traced["id"] + ": " + (traced["op"] or "leaf"))
        assert traced["note"] in title.text


@pytest.mark.parametrize("name", REAL)
def test_the_same_trace_gives_the_same_text(name: str) -> None:
    assert svg(*golden(name)) == svg(*golden(name))


def test_the_lesson_says_why_two_gradients_are_null() -> None:
    nodes = drawn(svg(*golden("seed_leaf_only")))
    assert "grad  [[6, 6], [6, 6]]" in words(nodes["a"])
    for name in ("b", "c"):
        assert "grad  null: not retained" in words(nodes[name])
        assert "null" in (nodes[name].get("class") or "").split()
    assert "root" in (nodes["out"].get("class") or "").split()
    retained = drawn(svg(*golden("seed_retained")))
    assert "grad  [[1, 1], [1, 1]]" in words(retained["c"])


def test_leaves_ops_and_roots_differ_in_form_not_only_in_colour() -> None:
    nodes = drawn(svg(*golden("seed_retained")))
    leaf, op, root = (nodes[name].findall(f"{SVG}rect") for name in ("a", "b", "out"))
    assert (leaf[0].get("rx"), op[0].get("rx")) == ("16", "3")
    assert (len(leaf), len(op), len(root)) == (1, 1, 2)
    assert "leaf" in words(nodes["a"])
    assert "root" in words(nodes["out"])


def test_the_picture_has_a_role_a_title_a_description_and_no_script() -> None:
    picture = svg(*golden("seed_leaf_only"))
    root = parsed(picture)
    ids = {element.get("id"): element for element in root.iter() if element.get("id")}
    assert root.get("role") == "img"
    labels = [ids[name] for name in (root.get("aria-labelledby") or "").split()]
    assert labels[0].text == "Graph of 4 nodes: 1 leaf and 3 op results"
    assert "Backward starts from out." in (labels[1].text or "")
    assert "No gradient, not retained: b, c, out." in (labels[1].text or "")
    assert "script" not in picture
    assert "http" not in picture.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_nan_is_marked_where_it_starts_and_only_named_further_on() -> None:
    nodes = drawn(svg(*golden("nonfinite")))
    assert "NaN in value starts here" in words(nodes["l"])
    assert "NaN in value starts here" in words(nodes["s"])
    assert "inf in value starts here" in words(nodes["l"])
    assert "starts here" not in words(nodes["out"])
    assert "▲ NaN in value" in words(nodes["out"])
    assert "NaN in grad starts here" in words(nodes["x"])


def test_a_gradients_nan_starts_at_the_last_node_that_has_it_also_past_unretained_ones() -> None:
    request, _ = chain(["x", "h", "k", "out"])
    response = answer(
        [
            node("x", None, grad="NaN"),
            node("h", grad="NaN"),
            node("k", grad=None, grad_status="not_retained"),
            node("out"),
        ]
    )
    nodes = drawn(svg(request, response))
    assert "NaN in grad starts here" in words(nodes["h"])
    assert "starts here" not in words(nodes["x"])


def test_edges_show_what_each_use_contributes() -> None:
    request, response = golden("fan_out")
    ends = [("p", "input"), ("p", "other"), ("s", "other")]
    grads = [[1.0, -2.0, 3.0], [1.0, -2.0, 3.0], [1.0, 1.0, 1.0]]
    response["edges"] = [
        {"from": "a", "to": to, "input": name, "grad": grad}
        for (to, name), grad in zip(ends, grads, strict=True)
    ]
    picture = svg(request, response)
    titles = [title.text or "" for title in parsed(picture).iter(f"{SVG}title")]
    assert "a → p (input) contributes [1, -2, 3]" in titles
    assert "a → s (other) contributes [1, 1, 1]" in titles
    assert re.findall(r'"edge-text"[^>]*>([^<]*)<', picture).count("[1, -2, 3]") == 2


def test_a_use_without_an_edge_is_thin_where_edges_were_asked_for() -> None:
    request, response = golden("fan_out")
    response["edges"] = [{"from": "a", "to": "p", "input": "input", "grad": [3.0, -3.0, 7.0]}]
    thickness = widths(svg(request, response))
    assert thickness["a → s"] < thickness["a → p (input) contributes [3, -3, 7]"]


def test_a_larger_gradient_makes_a_thicker_edge_and_an_untracked_one_is_dashed() -> None:
    request, _ = chain(["x", "h", "k", "out"])
    nodes = [node("x", None, grad=1e-3), node("h", grad=1.0), node("k", grad=1e-9), node("out")]
    thickness = widths(svg(request, answer(nodes)))
    assert thickness["h → k"] > thickness["x → h"] > thickness["k → out"]
    nodes[0] |= {"requires_grad": False, "grad": None, "grad_status": "constant"}
    picture = svg(request, answer(nodes))
    assert "x → h: not tracked" in picture
    assert 'class="edge untracked"' in picture
    assert "grad  null: constant" in picture


def test_foreign_words_are_escaped_and_signs_that_xml_lacks_replaced() -> None:
    request, response = chain(["x", "out"])
    response["nodes"][1]["op"] = "<script>alert('1')</script>"
    response["nodes"][1]["note"] = 'a "quoted" & \x00 note'
    response["warnings"] = ["</desc><script>\x1b"]
    picture = svg(request, response)
    parsed(picture)
    assert "<script" not in picture
    assert "\x00" not in picture
    assert "PyTorch warns: &lt;/desc&gt;&lt;script&gt;\ufffd" in picture


def test_a_long_value_is_cut_and_its_range_shown() -> None:
    request, response = chain(["x", "out"])
    many: list[Any] = [float(index) for index in range(100_000)]
    response["nodes"][0] = node("x", None, value=many, shape=[100_000])
    picture = svg(request, response)
    assert "value 0 to 1e5<" in picture
    assert len(picture) < 12_000


def test_complex_elements_are_written_as_one_number() -> None:
    request, response = chain(["z", "out"])
    response["nodes"][0] |= {
        "value": [[3.0, -4.0], [0.0, 1.0]],
        "dtype": "complex64",
        "shape": [2],
    }
    assert "value [3-4i, 0+1i]" in svg(request, response)


def test_a_named_output_is_found_by_its_name() -> None:
    request = {
        "leaves": [{"id": "x", "value": [1, 2], "requires_grad": True}],
        "ops": [
            {"id": "t", "op": "topk", "inputs": ["x"], "attrs": {"k": 1}},
            {"id": "out", "op": "sum", "inputs": ["t:indices"]},
        ],
    }
    nodes = [node("x", None), node("t:0", "topk"), node("t:1", "topk"), node("out", "sum")]
    picture = svg(request, answer(nodes), lambda op: ["values", "indices"] if op == "topk" else [])
    assert set(widths(picture)) == {"x → t:0", "x → t:1", "t:1 → out"}


def test_an_op_of_several_outputs_tells_of_its_contribution_once() -> None:
    request = {
        "leaves": [{"id": "x", "value": [1, 2], "requires_grad": True}],
        "ops": [{"id": "t", "op": "unbind", "inputs": ["x"]}],
    }
    nodes = [node("x", None), node("t:0", "unbind"), node("t:1", "unbind")]
    edges = [{"from": "x", "to": "t", "input": "self", "grad": [1.0, 1.0]}]
    picture = svg(request, answer(nodes, edges=edges))
    assert set(widths(picture)) == {"x → t:0 (self) contributes [1, 1]", "x → t:1 (self)"}


def test_references_in_attrs_are_edges_too() -> None:
    request = {
        "leaves": [{"id": "x", "value": [1, 2]}, {"id": "i", "value": 0}],
        "ops": [
            {
                "id": "g",
                "op": "getitem",
                "inputs": ["x"],
                "attrs": {"index": [{"ref": "i"}, {"slice": [None, None, None]}]},
            }
        ],
    }
    picture = svg(request, answer([node("x", None), node("i", None), node("g", "getitem")]))
    assert set(widths(picture)) == {"x → g", "i → g (index)"}


def test_forward_only_says_so() -> None:
    request, response = chain(["x", "out"])
    request["backward"] = []
    for traced in response["nodes"]:
        traced |= {"grad": None, "grad_status": "no_backward"}
    picture = svg(request, response)
    assert "No backward pass." in picture
    assert "null: no backward" in picture


def test_coordinates_are_plain_numbers() -> None:
    for number in re.findall(r' d="([^"]+)"', svg(*golden("micrograd_sanity"))):
        assert re.fullmatch(r"[MCclhz0-9. -]+", number)


def test_gradients_near_the_ends_of_float64_are_drawn_by_their_size() -> None:
    """Their squares are infinite or zero; so is the quotient of the largest and the smallest."""
    request, _ = chain(["x", "h", "out"])
    nodes = [node("x", None, grad=1e-300), node("h", grad=1e250), node("out")]
    edges = [
        {"from": "x", "to": "h", "input": "self", "grad": [1e-300] * 30},
        {"from": "h", "to": "out", "input": "self", "grad": [1e250] * 30},
    ]
    picture = svg(request, answer(nodes, edges=edges))
    assert "size 5.477e250" in picture
    assert "size 5.477e-300" in picture
    assert sorted(widths(picture).values()) == [1.3, 5.5]


def test_a_large_integer_is_as_short_as_a_large_float() -> None:
    request, response = chain(["x", "out"])
    response["nodes"][0] |= {"value": 1_234_567, "dtype": "int64"}
    assert "value 1.235e6<" in svg(request, response)


def test_thousands_of_references_in_attrs_are_read_in_a_moment() -> None:
    request = {
        "leaves": [{"id": "x", "value": 1, "requires_grad": True}],
        "ops": [{"id": "s", "op": "stack", "attrs": {"tensors": [{"ref": "x"}] * 3_000}}],
    }
    assert (
        len(re.findall('class="use"', svg(request, answer([node("x", None), node("s")])))) == 3000
    )


def test_a_gradient_of_nan_alone_has_no_size() -> None:
    request, _ = chain(["x", "out"])
    many = ["NaN"] * 30
    nodes = [node("x", None, grad=many, shape=[30]), node("out")]
    edges = [{"from": "x", "to": "out", "input": "self", "grad": many}]
    picture = svg(request, answer(nodes, edges=edges))
    assert "size 0" not in picture
    assert ">[NaN, NaN, NaN,\u2026<" in picture
    ids = [f"n{index}" for index in range(400)]
    request, _ = chain(ids)
    nodes = [node(name, None if name == "n0" else "relu", grad="NaN") for name in ids]
    picture = svg(request, answer(nodes))
    assert "gradient in 20 of 20" in picture
    assert "together of size" not in picture
