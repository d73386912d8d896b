"""The page's modules by themselves, in the browser that runs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def page(browser: Browser, service: str) -> Iterator[Page]:
    """Return the page, open."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_S * 1000)
    opened = context.new_page()
    opened.goto(service)
    opened.wait_for_selector("body[data-ready]")
    yield opened
    context.close()


@pytest.fixture
def call(page: Page) -> Any:
    """Return a function that calls an exported function of a module with plain arguments."""

    def call_one(module: str, name: str, *arguments: Any) -> Any:
        return page.evaluate(
            "async ([module, name, values]) =>"
            " (await import(`./playground/${module}.js`))[name](...values)",
            [module, name, list(arguments)],
        )

    return call_one


TEXT = '{\n "leaves": [],\n "a/b": {"~": [1,\n  2, {"x": "}"}\n ]}, "ops": [\n  {"id": "q"}]\n}'


@pytest.mark.parametrize(
    ("pointer", "line"),
    [
        ("", 1),
        ("/leaves", 2),
        ("/a~1b/~0/0", 3),
        ("/a~1b/~0/1", 4),
        ("/a~1b/~0/2/x", 4),
        ("/ops/0/id", 6),
        ("/ops/0/missing", 6),
        ("/nowhere", 1),
    ],
)
def test_a_pointer_leads_to_its_line(call: Any, pointer: str, line: int) -> None:
    assert call("jsontext", "lineOf", TEXT, pointer) == line


def test_a_very_long_string_is_read(call: Any) -> None:
    """A regular expression that tries each sign apart has no stack for it."""
    text = '{\n"value": "' + "A" * 9_000_000 + '\\n",\n]'
    assert call("jsontext", "syntaxLine", text) == 3
    assert call("jsontext", "lineOf", text.replace("]", '"ops": 1}'), "/ops") == 3


TRACE: dict[str, Any] = {
    "nodes": [
        {"id": "x", "grad": None, "shape": [2]},
        {"id": "t:0", "grad": None, "shape": [2]},
        {"id": "t:1", "grad": None, "shape": [2]},
    ],
    "edges": [{"from": "x", "to": "t", "input": "self", "grad": [5, 7]}],
}


@pytest.mark.parametrize(
    ("root", "own", "total"),
    [
        ({"node": "t:0", "gradient": [5, 7]}, [[5, 7]], [5, 7]),
        ({"node": "t:0"}, [[1, 1]], [1, 1]),
        ({"node": "t:0", "gradient_base64": "AAAA"}, [None], None),
        ({"node": "t:values", "gradient": [5, 7]}, [], None),
    ],
)
def test_a_start_that_the_page_cannot_read_is_no_gradient_of_ones(
    call: Any, root: dict[str, Any], own: list[Any], total: Any
) -> None:
    request = {"leaves": [{"id": "x"}], "ops": [{"id": "t", "op": "sort"}], "backward": [root]}
    rule = call("chain", "chainRule", TRACE, request, TRACE["nodes"][1])
    assert (rule["own"], rule.get("total")) == (own, total)
    assert (rule["named"] is not None) == (root["node"] == "t:values")
    upstream = call("chain", "chainRule", TRACE, request, TRACE["nodes"][0])["uses"][0]["outputs"]
    assert upstream[0].get("gradient") == total


def test_short_json_stands_on_one_line(call: Any) -> None:
    value = {"leaves": [{"id": "a", "value": [[1, 1], [1, 1]]}, {"id": "bbbbbbbbbbbb", "value": 1}]}
    assert call("jsontext", "pretty", value) == (
        '{\n  "leaves": [\n    {"id": "a", "value": [[1, 1], [1, 1]]},\n'
        '    {"id": "bbbbbbbbbbbb", "value": 1}\n  ]\n}'
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{\n"a": [1,\n2,]}', 3),
        ('{"a": 1\n"b": 2}', 2),
        ("[1,\n\nNaN]", 3),
        ("[1]\n[2]", 2),
        ('{"a":\n', 2),
        ("[\n'a']", 2),
        ('["a\nb"]', 1),
        ("[01]", 1),
        ('{"a": 1,\n"a": 2}', 2),
        ('{"a": 1,\n"b":\n{"c": [], "\\u0063": 1}}', 3),
        ('{"a": {"a": [{"a": 1}, {"a": "a"}]}, "b": "a"}\n', 0),
    ],
)
def test_what_is_not_json_is_found_at_its_line(call: Any, text: str, line: int) -> None:
    assert call("jsontext", "syntaxLine", text) == line


SCRIPT = "import torch\na = torch.ones(2)  # one\nfor i in range(2):\n    b = a * 2\nb.sum()\n"


def test_retain_grad_goes_behind_the_last_assignment_and_away_again(call: Any) -> None:
    on = call("script", "withRetainGrad", SCRIPT, "b", True)
    assert on == SCRIPT.replace("    b = a * 2\n", "    b = a * 2\n    b.retain_grad()\n")
    assert call("script", "withRetainGrad", on, "b", False) == SCRIPT
    assert call("script", "withRetainGrad", SCRIPT, "c", True) is None
    assert call("script", "withRetainGrad", SCRIPT, "b", False) is None


@pytest.mark.parametrize(
    ("off", "on"),
    [
        ("a = torch.ones(2)", "a = torch.ones(2, requires_grad=True)"),
        ("a = torch.ones(2)  # why", "a = torch.ones(2, requires_grad=True)  # why"),
        ("a = torch.ones(2).double()", "a = torch.ones(2).double().requires_grad_()"),
    ],
)
def test_requires_grad_comes_and_goes(call: Any, off: str, on: str) -> None:
    assert call("script", "withRequiresGrad", off, "a", True) == on
    assert call("script", "withRequiresGrad", on, "a", False) == off


def test_numbers_are_short_and_never_lose_what_they_are(call: Any) -> None:
    values = [1, -0.0, 1.5, 1e-9, 123456789.0, 0.1 + 0.2, "NaN", "-Infinity", True, None]
    words = [call("tensor", "number", value) for value in values]
    assert words == ["1", "-0", "1.5", "1e-9", "1.23e8", "0.3", "NaN", "-inf", "true", "\u2013"]


def test_contributions_add_up_element_by_element_nan_and_inf_too(call: Any) -> None:
    assert call("tensor", "sum", [[1, [2, 3]], None, [1, [1, "NaN"]]]) == [2, [3, "NaN"]]
    assert call("tensor", "sum", ["Infinity", 1]) == "Infinity"
    assert call("tensor", "sum", [None, None]) is None


def test_a_picture_is_stripped_of_what_could_run_or_load(page: Page) -> None:
    hostile = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"><style>.x{}</style>'
        '<script>alert(1)</script><g onclick="alert(2)"><a href="javascript:alert(3)"/>'
        '<image href="http://127.0.0.1:9/x"/><foreignObject/><rect class="x"/></g></svg>'
    )
    kept = page.evaluate(
        "async (text) => { const { parse } = await import('./playground/picture.js');"
        " const { root, style } = parse(text);"
        " return [style, new XMLSerializer().serializeToString(root)]; }",
        hostile,
    )
    assert kept[0] == ".x{}"
    assert kept[1].endswith('height="1"><g><rect class="x"/></g></svg>')


def test_numbers_are_written_as_they_were_read(page: Page) -> None:
    text = '{"a":[2.0,2,-0.0,9007199254740993,1e400,1.50],"b":true,"c":"2.0"}'
    written = page.evaluate(
        "async (text) => { const { read, write } = await import('./playground/exact.js');"
        " const value = read(text); return [write(value), value.a[0] + value.a[1]]; }",
        text,
    )
    assert written == [text, 4]


def test_warnings_of_a_graph_without_a_diagnosis_are_shown(page: Page) -> None:
    words = page.evaluate(
        "async () => { const { healthPanel } = await import('./playground/health.js');"
        " return healthPanel({ response: { warnings: ['beware'] } }, () => {})"
        ".map((part) => part.textContent).join(' '); }"
    )
    assert "beware" in words


def test_the_chain_rule_of_thousands_of_uses_looks_at_what_is_asked_for(page: Page) -> None:
    """It counts how often a node's id or an edge's end is read: not for each pair of them."""
    reads = page.evaluate(
        "async (count) => { const { chainRule } = await import('./playground/chain.js');"
        " let reads = 0;"
        " const counting = (name, value, rest) => ({ ...rest,"
        "   get [name]() { reads += 1; return value; } });"
        " const nodes = [counting('id', 'x', { grad: null, shape: [] })];"
        " const edges = [];"
        " for (let k = 0; k < count; k += 1) {"
        "   nodes.push(counting('id', `t:${k}`, { grad: 1, shape: [] }));"
        "   edges.push(counting('from', 'x', { to: 't', input: `tensors[${k}]`, grad: 1 }));"
        " }"
        " const request = { leaves: [{ id: 'x' }], ops: [{ id: 't' }], backward: [] };"
        " const { uses, total } = chainRule({ nodes, edges }, request, nodes[0]);"
        " const shown = uses.slice(0, 20).map((use) => use.outputs[0].gradient);"
        " return { reads, total, shown: shown.length }; }",
        1_000,
    )
    assert reads["total"] == 1_000
    assert reads["reads"] < 10 * 1_000
