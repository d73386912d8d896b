"""Wrong input, quick fingers, broken links and a service that is slow, away or locked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import OpenPage, serving
from tests.browser.test_lesson import node, source, until_source, until_status, write

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROKEN = "import torch\nmine = = broken\n"
SLOW_MS = 1_500
"""Longer than the page waits before it says that it waits."""


def type_in(page: Page, text: str) -> None:
    """Put ``text`` into the editor at once, however long it is."""
    page.evaluate(
        "text => { const area = document.querySelector('#source');"
        " area.value = text; area.dispatchEvent(new Event('input')); }",
        text,
    )


def show_json(page: Page, graph: dict[str, Any]) -> None:
    page.click("#tab-json")
    until_source(page, "{")
    write(page, json.dumps(graph))


def delay(page: Page) -> None:
    """Keep every question to the service waiting for a while."""
    page.evaluate(
        "pause => { const at_once = window.fetch; window.fetch = async (...question) => {"
        " await new Promise((go) => setTimeout(go, pause)); return at_once(...question); }; }",
        SLOW_MS,
    )


def test_a_float_stays_a_float_on_its_way_through_the_page(open_page: OpenPage) -> None:
    """``torch.tensor([1, 2]) * 2.0`` is float32: 2.0 must not turn into 2."""
    page = open_page()
    write(page, "import torch\nx = torch.tensor([1, 2])\ny = x * 2.0\n")
    page.wait_for_selector("#node .flags :text('[2] float32')")
    page.click("#tab-json")
    until_source(page, "{")
    assert '"other": 2.0' in source(page)


def test_integers_beyond_doubles_and_minus_zero_survive_a_click(open_page: OpenPage) -> None:
    page = open_page()
    leaves = [
        {"id": "x", "value": -0.0},
        {"id": "big", "value": [9007199254740993], "dtype": "int64"},
    ]
    show_json(page, {"leaves": leaves, "backward": []})
    until_status(page, "x", "constant")
    assert "value -0" in (node(page, "x").text_content() or "")
    node(page, "x").click()
    until_status(page, "x", "no_backward")
    assert '"value": -0.0' in source(page)
    assert "9007199254740993" in source(page)


def test_a_text_that_cannot_be_read_is_never_written_over(open_page: OpenPage) -> None:
    page = open_page(refusals=True)
    write(page, BROKEN)
    page.wait_for_selector("#problem :text('line 2')")
    assert "null" not in page.inner_text("#problem")
    assert "A click changes nothing" in page.inner_text("#message")
    node(page, "c").click()
    page.click("#tab-json")
    page.wait_for_selector("#problem :text('as JSON as soon as it can be read')")
    assert source(page) == BROKEN
    assert page.get_attribute("#tab-python", "aria-selected") == "true"


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        ('{"leaves": [{"id": "a", "value": 1, "value": 2}]}', "A key is given twice"),
        ('{"leaves": [{"id": "a", "value": 1}], "include": ["bogus"]}', "should be 'value'"),
        ('{"leaves": [{"id": "a", "value": 1}], "encoding": "xml"}', "should be 'json'"),
    ],
)
def test_what_the_service_refuses_is_not_let_by(open_page: OpenPage, graph: str, said: str) -> None:
    page = open_page(refusals=True)
    page.click("#tab-json")
    until_source(page, "{")
    write(page, graph)
    page.wait_for_selector(f'#problem :text("{said}")')
    page.wait_for_selector("#problem :text('Go to line 1')")


def test_json_pasted_as_python_is_read_where_it_belongs(open_page: OpenPage) -> None:
    page = open_page(refusals=True)
    graph = '{"leaves": [{"id": "pasted", "value": 1}], "backward": []}'
    write(page, graph)
    page.wait_for_selector("#problem :text('cannot be read')")
    page.wait_for_selector("#problem :text('This looks like JSON')")
    page.click("#tab-json")
    until_status(page, "pasted", "constant")
    assert source(page) == graph


def test_python_pasted_as_json_is_read_where_it_belongs(open_page: OpenPage) -> None:
    page = open_page(refusals=True)
    page.click("#tab-json")
    until_source(page, "{")
    script = "import torch\npasted = torch.ones(1)\n"
    write(page, script)
    page.wait_for_selector("#problem :text('This looks like Python')")
    page.click("#tab-python")
    until_status(page, "pasted", "constant")
    assert source(page) == script


def test_quick_clicks_on_two_nodes_both_count(open_page: OpenPage) -> None:
    page = open_page()
    until_status(page, "c", "not_retained")
    page.evaluate(
        "() => { for (const id of ['b', 'c']) document.querySelector(`[data-node=${id}]`)"
        ".dispatchEvent(new MouseEvent('click', { bubbles: true })); }"
    )
    until_status(page, "b", "retained")
    until_status(page, "c", "retained")


def test_what_is_typed_after_a_click_is_not_overwritten_by_a_slow_answer(
    open_page: OpenPage,
) -> None:
    page = open_page()
    until_status(page, "c", "not_retained")
    delay(page)
    node(page, "c").click()
    typed = source(page) + "# mine\n"
    type_in(page, typed)
    page.wait_for_timeout(3 * SLOW_MS)
    assert source(page) == typed
    assert page.is_hidden("#about"), "it speaks of the example"


def test_contributions_switched_while_a_graph_is_read_lose_nothing(open_page: OpenPage) -> None:
    page = open_page()
    until_status(page, "c", "not_retained")
    type_in(page, "import torch\nw = torch.ones(1, requires_grad=True)\nw.backward()\n")
    page.click("#run")
    page.click("#contributions")
    until_status(page, "w", "accumulated")


def test_a_slow_answer_is_waited_for_in_words(open_page: OpenPage) -> None:
    page = open_page()
    until_status(page, "c", "not_retained")
    page.evaluate(
        "() => { const at_once = window.fetch; const going = new Promise((go) => {"
        " window.letGo = go; }); window.fetch = async (...question) => {"
        " await going; return at_once(...question); }; }"
    )
    page.click("#run")
    page.wait_for_selector("#message:has-text('Waiting for the service')")
    page.evaluate("window.letGo()")
    page.wait_for_selector("#message:has-text('Click a node')")


def test_a_service_that_is_away_leaves_no_other_graph_on_the_page(open_page: OpenPage) -> None:
    page = open_page(refusals=True)
    until_status(page, "c", "not_retained")
    page.route("**/v1/**", lambda route: route.abort())
    page.select_option("#example", "fan_out")
    page.wait_for_selector("#problem :text('could not be reached')")
    assert page.locator("[data-row], [data-node], .finding").count() == 0
    assert page.is_hidden("#message")
    page.unroute("**/v1/**")
    page.click("#run")
    until_status(page, "p", "retained")
    assert not page.is_visible("#problem")


def test_an_answer_that_breaks_off_is_told(open_page: OpenPage) -> None:
    page = open_page(refusals=True)
    until_status(page, "c", "not_retained")
    page.evaluate(
        "() => { Response.prototype.text = () => Promise.reject(new TypeError('network error')); }"
    )
    page.click("#run")
    page.wait_for_selector("#problem :text('could not be reached')")


@pytest.mark.parametrize("status", [413, 429, 502, 504])
def test_an_answer_that_is_no_problem_document_is_told_by_its_number(
    open_page: OpenPage, status: int
) -> None:
    page = open_page(refusals=True)
    until_status(page, "c", "not_retained")
    page.route("**/v1/**", lambda route: route.fulfill(status=status, body="<html>proxy"))
    page.click("#run")
    page.wait_for_selector(f"#problem :text('answered {status}')")


def test_a_broken_link_says_so_and_back_leads_to_the_example(open_page: OpenPage) -> None:
    page = open_page("#graph=1.AAAA")
    assert "no graph that can be read" in page.inner_text("#about")
    page = open_page()
    page.click("text=Link")
    page.wait_for_function("() => location.hash.startsWith('#graph=')")
    fragment = page.evaluate("location.hash")
    other = open_page()
    other.select_option("#example", "fan_out")
    until_status(other, "p", "retained")
    other.evaluate("fragment => { location.hash = fragment; }", fragment)
    until_status(other, "c", "not_retained")
    assert other.input_value("#example") == ""
    other.go_back()
    other.wait_for_function("() => document.querySelector('#example').value === 'leaf_only'")


def test_a_picture_that_comes_again_is_no_longer_stale(open_page: OpenPage) -> None:
    page = open_page(refusals=True)
    until_status(page, "c", "not_retained")
    text = source(page)
    write(page, BROKEN)
    page.wait_for_selector("#picture.stale")
    write(page, text)
    page.wait_for_selector("#picture:not(.stale) svg")


def test_the_skip_link_leads_to_the_picture_and_keeps_the_address(open_page: OpenPage) -> None:
    page = open_page()
    page.click("text=Link")
    page.wait_for_function("() => location.hash.startsWith('#graph=')")
    fragment = page.evaluate("location.hash")
    page.focus(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "picture-panel"
    assert page.evaluate("location.hash") == fragment


def test_a_graph_too_large_for_a_link_says_so(open_page: OpenPage) -> None:
    page = open_page()
    until_status(page, "c", "not_retained")
    type_in(page, source(page) + "# " + "x" * 4_100_000 + "\n")
    page.click("text=Link")
    page.wait_for_selector("#copied:has-text('Too large for a link')")


def test_nothing_is_copied_of_a_graph_that_the_text_is_not(open_page: OpenPage) -> None:
    page = open_page(refusals=True)
    until_status(page, "c", "not_retained")
    page.fill("#source", BROKEN)
    page.click('[data-copy="json"]')
    page.wait_for_selector("#copied:has-text('Not copied')")


def test_a_key_that_cannot_be_sent_is_refused_in_the_dialog(open_page: OpenPage) -> None:
    with serving(API_KEYS="plain-key") as locked:
        page = open_page(home=locked, refusals=True, ready=False)
        page.wait_for_selector("#key-dialog[open]")
        page.fill("#key", "plain-key\u2026")
        page.click("text=Use it")
        page.wait_for_selector("#key-problem :text('plain English')")
        page.fill("#key", " plain-key ")
        page.press("#key", "Enter")
        until_status(page, "c", "not_retained")


def test_a_summary_says_what_its_cards_are(open_page: OpenPage) -> None:
    page = open_page()
    ops = [{"id": f"h{index + 1}", "op": "tanh", "inputs": [f"h{index}"]} for index in range(310)]
    show_json(page, {"leaves": [{"id": "h0", "value": 1, "requires_grad": True}], "ops": ops})
    page.wait_for_selector("[data-group]")
    assert "each card stands for several nodes" in page.inner_text("#message")


def test_long_names_and_a_narrow_phone_do_not_widen_the_page(open_page: OpenPage) -> None:
    page = open_page(size=(320, 568))
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    long = "A" * 200
    leaf = {"id": long, "value": 1, "requires_grad": True}
    show_json(page, {"leaves": [leaf], "ops": [{"id": "out", "op": "exp", "inputs": [long]}]})
    node(page, "out").click()
    until_status(page, "out", "retained")
    page.click(f'[data-row="{long}"] button')
    for part in ("#node", "#message", "html"):
        assert page.evaluate(
            "part => { const { scrollWidth, clientWidth } = document.querySelector(part);"
            " return scrollWidth <= clientWidth; }",
            part,
        ), part


def test_names_that_javascript_knows_are_names_like_others(open_page: OpenPage) -> None:
    page = open_page()
    names = ["__proto__", "constructor", "toString"]
    leaves = [{"id": name, "value": 1, "requires_grad": True} for name in names]
    ops = [
        {"id": "s", "op": "stack", "inputs": names},
        {"id": "out", "op": "sum", "inputs": ["s"]},
    ]
    show_json(page, {"leaves": leaves, "ops": ops})
    until_status(page, "__proto__", "accumulated")
    node(page, "__proto__").click()
    until_status(page, "__proto__", "constant")


def test_beyond_five_thousand_lines_no_line_has_the_number_of_another(open_page: OpenPage) -> None:
    page = open_page(refusals=True)
    type_in(page, "# a line\n" * 6_000)
    heights = page.evaluate(
        "['.gutter', '#source'].map(part => document.querySelector(part).scrollHeight)"
    )
    assert heights[0] == heights[1]


def many_uses(count: int) -> dict[str, Any]:
    """Return a graph in which ``x`` is used ``count`` times, and ``b`` has as many outputs."""
    return {
        "leaves": [{"id": "x", "value": [1, 2], "requires_grad": True}],
        "ops": [
            {"id": "b", "op": "broadcast_tensors", "inputs": ["x"] * count},
            {"id": "s", "op": "stack", "inputs": [f"b:{index}" for index in range(count)]},
            {"id": "out", "op": "sum", "inputs": ["s"]},
        ],
    }


def test_of_thousands_of_uses_a_few_are_shown_and_the_others_on_demand(open_page: OpenPage) -> None:
    page = open_page()
    show_json(page, many_uses(1_000))
    page.wait_for_selector("#node-name:has-text('out')")
    page.click('[data-row="x"] button')
    panel = page.locator("#node")
    assert "one contribution from each use of it, 1,000 in all" in panel.inner_text()
    assert panel.locator(".uses > li").count() == 20
    assert panel.locator("table").count() < 20 * 7 + 4
    total = panel.get_by_role("table", name="Sum of the contributions to x")
    assert total.locator("td").all_inner_texts() == ["1000", "1000"], "all of them add up"
    panel.get_by_role("button", name="Show more (980 left)").click()
    assert panel.locator(".uses > li").count() == 40
    outputs = panel.locator(".uses > li").first.locator(".flow")
    assert outputs.count() == 5 + 1
    panel.get_by_role("button", name="Show more (995 left)").first.focus()
    page.keyboard.press("Enter")
    assert outputs.count() == 10 + 1
    assert panel.get_by_role("button", name="Show more (990 left)").count() == 1


def test_the_last_of_more_takes_the_focus_along(open_page: OpenPage) -> None:
    page = open_page()
    show_json(page, many_uses(30))
    page.wait_for_selector("#node-name:has-text('out')")
    page.click('[data-row="x"] button')
    page.get_by_role("button", name="Show more (10 left)").focus()
    page.keyboard.press("Enter")
    assert page.locator("#node .uses > li").count() == 30
    assert page.get_by_role("button", name="Show more (10 left)").count() == 0
    place = "[...document.querySelectorAll('.uses > li')].indexOf(document.activeElement)"
    assert page.evaluate(place) == 20
