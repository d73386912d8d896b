"""The lesson's story, click by click, and what else a visitor does first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import ARTIFACTS, OpenPage
from tests.playground.files import EXAMPLES

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

PAUSE_MS = 1_500
"""Time for what must not happen: the page reads 400 ms after the last key."""


def node(page: Page, node_id: str) -> Locator:
    return page.locator(f'#picture [data-node="{node_id}"]')


def until_status(page: Page, node_id: str, status: str) -> None:
    page.wait_for_selector(f'#picture [data-node="{node_id}"][data-status="{status}"]')


def source(page: Page) -> str:
    return page.input_value("#source")


def until_source(page: Page, start: str) -> None:
    """Wait until the editor's text begins with ``start``."""
    page.wait_for_function(
        "start => document.querySelector('#source').value.startsWith(start)", arg=start
    )


def write(page: Page, text: str) -> None:
    page.fill("#source", text)
    page.click("#run")


def test_a_click_turns_the_null_of_c_into_its_gradient_and_says_why(open_page: OpenPage) -> None:
    page = open_page()
    until_status(page, "c", "not_retained")
    assert "grad  null: not retained" in (node(page, "c").text_content() or "")

    node(page, "c").click()

    until_status(page, "c", "retained")
    assert "grad  [[1, 1], [1, 1]]" in (node(page, "c").text_content() or "")
    assert "c.retain_grad()\n" in source(page)
    assert "print(c.grad)  # None: c is not a leaf" in source(page), "comments stay"
    page.wait_for_selector("#message.said")
    assert page.inner_text("#message").startswith("c: retain_grad is on.")
    assert "gradient retained" in page.inner_text("#node")

    node(page, "c").click()

    until_status(page, "c", "not_retained")
    assert "retain_grad()" not in source(page)
    assert "null" in page.inner_text("#node")


def test_the_chain_rule_of_b_is_the_upstream_gradient_a_contribution_and_their_sum(
    open_page: OpenPage,
) -> None:
    page = open_page()
    page.click('[data-row="b"] button')
    panel = page.locator("#node")
    assert "used by c (pow) as" in panel.inner_text()
    upstream = panel.get_by_role("table", name="Upstream gradient of c")
    contribution = panel.get_by_role("table", name="Contribution of c")
    total = panel.get_by_role("table", name="Sum of the contributions to b")
    assert upstream.locator("td").all_inner_texts() == ["1"] * 4
    assert contribution.locator("td").all_inner_texts() == ["6"] * 4
    assert total.locator("td").all_inner_texts() == ["6"] * 4
    assert "passed through b, and was not kept" in panel.inner_text()


def test_contributions_of_several_uses_add_up_to_the_gradient(open_page: OpenPage) -> None:
    page = open_page()
    page.select_option("#example", "fan_out")
    until_status(page, "p", "retained")
    page.click('[data-row="a"] button')
    panel = page.locator("#node")
    assert panel.locator(".uses > li").count() == 3
    total = panel.get_by_role("table", name="Sum of the contributions to a")
    gradient = panel.get_by_role("table", name="Gradient of a")
    assert total.locator("td").all_inner_texts() == ["3", "-3", "7"]
    assert gradient.locator("td").all_inner_texts() == ["3", "-3", "7"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example["id"]))
def test_every_example_draws_all_its_nodes(open_page: OpenPage, example: dict[str, Any]) -> None:
    page = open_page()
    page.select_option("#example", str(example["id"]))
    page.wait_for_function(
        "id => document.querySelector('#example').value === id", arg=example["id"]
    )
    until_source(page, "\n".join(example["source"]))
    page.wait_for_selector("#picture[aria-busy=false]")
    page.wait_for_selector("#table tbody tr")
    page.wait_for_selector("#picture svg")
    rows = page.locator("[data-row]").evaluate_all("rows => rows.map(row => row.dataset.row)")
    drawn = page.locator("[data-node]").evaluate_all("all => all.map(one => one.dataset.node)")
    assert rows == drawn
    assert not page.is_visible("#problem")
    assert page.inner_text("#health") != ""


def test_nan_through_where_is_marked_in_picture_table_and_health(open_page: OpenPage) -> None:
    page = open_page()
    page.select_option("#example", "where_nan")
    page.wait_for_selector('[data-node="safe"]')
    assert "NaN in grad starts here" in (node(page, "x").text_content() or "")
    assert "▲ 1 NaN" in page.inner_text('[data-row="x"]')
    assert "▲ Gradients" in page.inner_text("#health")


def test_python_and_json_are_two_views_of_one_graph(open_page: OpenPage) -> None:
    page = open_page()
    page.click("#tab-json")
    until_source(page, "{")
    graph = json.loads(source(page))
    assert [op["id"] for op in graph["ops"]] == ["a", "b", "c", "out"]

    node(page, "b").click()

    until_status(page, "b", "retained")
    assert json.loads(source(page))["ops"][1]["retain_grad"] is True

    page.click("#tab-python")
    until_source(page, "import")
    assert "b = a + 2" in source(page)
    assert "def show" not in source(page), "the printing is left out"
    until_status(page, "b", "retained")


def test_a_leaf_switched_off_gives_pytorchs_words_at_line_and_node_and_a_way_back(
    open_page: OpenPage,
) -> None:
    page = open_page(refusals=True)
    before = source(page)
    node(page, "a").click()
    page.wait_for_selector("#problem :text('does not require grad')")
    assert "a = torch.ones(2, 2)\n" in source(page)
    assert page.inner_text(".gutter .wrong") == "6"
    assert "failed" in (node(page, "out").get_attribute("class") or "")
    page.click("text=Undo the click")
    page.wait_for_selector("#problem", state="hidden")
    assert source(page) == before


def test_a_broken_script_shows_the_error_at_its_line(open_page: OpenPage) -> None:
    page = open_page(refusals=True)
    write(page, "import torch\na = torch.ones(2, requires_grad=True)\nb = a +* 2\n")
    page.wait_for_selector("#problem :text('line 3')")
    assert page.inner_text(".gutter .wrong") == "3"
    assert page.get_attribute("#source", "aria-invalid") == "true"
    page.click("text=Go to line 3")
    selected = page.evaluate(
        "() => { const a = document.querySelector('#source');"
        " return a.value.slice(a.selectionStart, a.selectionEnd); }"
    )
    assert selected == "b = a +* 2"
    write(page, "import torch\na = torch.ones(2, requires_grad=True)\nb = a.sum()\nb.backward()\n")
    page.wait_for_selector("#problem", state="hidden")
    assert page.locator(".gutter .wrong").count() == 0


def test_broken_json_and_an_unknown_op_show_their_line(open_page: OpenPage) -> None:
    page = open_page(refusals=True)
    page.click("#tab-json")
    until_source(page, "{")
    write(page, '{\n  "leaves": [],\n  "ops": [}\n}')
    page.wait_for_selector("#problem :text('not valid JSON')")
    assert page.inner_text(".gutter .wrong") == "3"
    write(
        page,
        '{\n "leaves": [{"id": "x", "value": 1}],\n'
        ' "ops": [\n  {"id": "y", "op": "exp", "inputs": ["x"]},\n'
        '  {"id": "z", "op": "expp",\n   "inputs": ["y"]}\n ]\n}',
    )
    page.wait_for_selector("#problem :text('expp')")
    assert page.inner_text(".gutter .wrong") == "5"


def test_three_hundred_nodes_stay_usable(open_page: OpenPage) -> None:
    page = open_page()
    ops = [
        {"id": f"h{index}", "op": "tanh" if index % 2 else "exp", "inputs": [f"h{index - 1}"]}
        for index in range(1, 299)
    ]
    graph = {
        "leaves": [{"id": "h0", "value": [0.5, 0.25], "requires_grad": True}],
        "ops": [*ops, {"id": "out", "op": "sum", "inputs": ["h298"]}],
    }
    page.click("#tab-json")
    until_source(page, "{")
    write(page, json.dumps(graph))
    until_status(page, "h298", "not_retained")
    assert page.locator("[data-node]").count() == 300
    assert page.locator("[data-row]").count() == 300
    node(page, "h150").click()
    until_status(page, "h150", "retained")
    before = page.locator("#picture svg").bounding_box()
    page.click("text=Fit")
    after = page.locator("#picture svg").bounding_box()
    assert before is not None
    assert after is not None
    assert after["height"] < before["height"] / 5


def test_what_was_typed_is_read_once_however_soon_run_is_clicked(open_page: OpenPage) -> None:
    page = open_page()
    until_status(page, "c", "not_retained")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/v1/")[2]))

    write(page, source(page).replace("b ** 2", "b ** 3"))

    page.wait_for_selector('#picture [data-node="c"]:has-text("27")')
    page.wait_for_timeout(PAUSE_MS)
    assert asked.count("import/python") == asked.count("trace") / 2 == 1, "trace and picture"


def test_what_was_typed_is_read_before_the_editor_shows_it_in_other_words(
    open_page: OpenPage,
) -> None:
    page = open_page()
    until_status(page, "c", "not_retained")
    page.fill("#source", source(page).replace("b ** 2", "b ** 3"))

    page.click("#tab-json")

    until_source(page, "{")
    page.wait_for_timeout(PAUSE_MS)
    assert '"exponent": 3' in source(page)
    assert not page.is_visible("#problem")


def test_a_large_graph_is_shown_as_a_summary(open_page: OpenPage) -> None:
    page = open_page()
    ops = [
        {"id": f"block{index // 100}.h{index}", "op": "tanh", "inputs": [before]}
        for index in range(1, 600)
        for before in [f"block{(index - 1) // 100}.h{index - 1}" if index > 1 else "x"]
    ]
    page.click("#tab-json")
    until_source(page, "{")
    leaf = {"id": "x", "value": 0.5, "requires_grad": True}
    write(page, json.dumps({"leaves": [leaf], "ops": ops}))
    page.wait_for_selector('[data-group="block5"]')
    assert page.input_value("#example") == "", "it is no example any more"
    assert page.locator("[data-row]").count() == 300
    page.click("text=Show more")
    page.locator("[data-row]").nth(599).wait_for(state="attached")
    assert page.locator("[data-row]").count() == 600


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["wide", "phone"])
def test_nothing_sticks_out_and_screenshots_are_kept(
    open_page: OpenPage, size: tuple[int, int], scheme: str
) -> None:
    page = open_page(size=size, scheme=scheme)
    node(page, "c").click()
    until_status(page, "c", "retained")
    across = page.evaluate("document.documentElement.scrollWidth")
    assert across <= size[0]
    ARTIFACTS.mkdir(exist_ok=True)
    name = f"playground-{size[0]}x{size[1]}-{scheme}"
    page.screenshot(path=ARTIFACTS / f"{name}.png")
    page.screenshot(path=ARTIFACTS / f"{name}-whole.png", full_page=True)
