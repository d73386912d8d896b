"""Answers that are not the service's, browsers that keep nothing, and the focus of a keyboard."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import OpenPage
from tests.browser.test_lesson import source, until_source, until_status, write
from tests.browser.test_trouble import show_json, type_in

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route


@pytest.mark.parametrize(
    "document",
    [
        {"detail": "go away", "errors": None},
        {"detail": "go away", "errors": {"message": "x"}},
        {"detail": "go away", "errors": [None, 3, {"message": None}]},
    ],
)
def test_a_problem_of_another_form_is_told_all_the_same(
    open_page: OpenPage, document: dict[str, Any]
) -> None:
    page = open_page(refusals=True)
    until_status(page, "c", "not_retained")
    page.route("**/v1/**", lambda route: route.fulfill(status=429, body=json.dumps(document)))
    page.click("#run")
    page.wait_for_selector("#problem :text('go away')")
    assert "answered 429" in page.inner_text("#problem") or "was 429" in page.inner_text("#problem")
    assert page.get_attribute("#picture", "aria-busy") == "false"


@pytest.mark.parametrize("path", ["trace", "import/python"])
def test_a_page_to_sign_in_is_no_answer(open_page: OpenPage, path: str) -> None:
    page = open_page(refusals=True)
    until_status(page, "c", "not_retained")

    def sign_in(route: Route) -> None:
        route.fulfill(status=200, content_type="text/html", body="<html>Sign in")

    page.route(f"**/v1/{path}", sign_in)
    page.click("#run")
    page.wait_for_selector("#problem :text('gave another answer')")
    assert "JSON" not in page.inner_text("#problem")


def test_without_the_examples_a_link_is_still_opened(open_page: OpenPage) -> None:
    first = open_page()
    until_status(first, "c", "not_retained")
    first.click("text=Link")
    first.wait_for_function("() => location.hash.startsWith('#graph=')")

    def prepare(page: Page) -> None:
        page.route("**/examples.json", lambda route: route.fulfill(status=503, body="<html>"))

    page = open_page(first.evaluate("location.hash"), refusals=True, prepare=prepare)
    until_status(page, "c", "not_retained")
    page = open_page(refusals=True, prepare=prepare)
    assert "could not be loaded" in page.inner_text("#about")
    write(page, "import torch\nw = torch.ones(1, requires_grad=True)\nw.backward()\n")
    until_status(page, "w", "accumulated")


def test_a_browser_that_keeps_nothing_shows_the_page(open_page: OpenPage) -> None:
    """With cookies blocked, Chromium raises where a page asks for its storage."""

    def prepare(page: Page) -> None:
        page.add_init_script(
            "Object.defineProperty(window, 'sessionStorage', { get() {"
            " throw new DOMException('denied', 'SecurityError'); } });"
        )

    until_status(open_page(prepare=prepare), "c", "not_retained")


def test_a_link_in_the_panel_keeps_the_focus_in_the_panel(open_page: OpenPage) -> None:
    page = open_page()
    until_status(page, "c", "not_retained")
    page.click('[data-row="b"] button')
    page.focus("#node .uses .link")
    page.keyboard.press("Enter")
    page.wait_for_selector("#node-name:has-text('c')")
    assert page.evaluate("document.activeElement.id") == "node"


def test_undoing_a_click_leaves_the_focus_on_the_picture(open_page: OpenPage) -> None:
    page = open_page(refusals=True)
    show_json(
        page,
        {"leaves": [{"id": "x", "value": 1, "requires_grad": True}], "ops": []},
    )
    until_status(page, "x", "accumulated")
    page.click('#picture [data-node="x"]')
    page.get_by_role("button", name="Undo the click").focus()
    page.keyboard.press("Enter")
    until_status(page, "x", "accumulated")
    assert page.evaluate("document.activeElement.id") == "picture"


def test_json_that_is_too_deep_for_the_browser_is_not_called_invalid(open_page: OpenPage) -> None:
    page = open_page(refusals=True)
    page.click("#tab-json")
    until_source(page, "{")
    deep = '{"leaves": ' + "[" * 100_000 + "]" * 100_000 + "}"
    type_in(page, deep)
    page.wait_for_selector("#problem .problem-title")
    assert "not valid JSON" not in page.inner_text("#problem")
    assert source(page) == deep


def chain(length: int, gradient: list[Any]) -> dict[str, Any]:
    ops = [
        {"id": f"h{k}", "op": "mul", "inputs": [f"h{k - 1}" if k else "x"], "attrs": {"other": 1}}
        for k in range(length)
    ]
    return {
        "leaves": [{"id": "x", "value": [1, 2], "requires_grad": True}],
        "ops": ops,
        "backward": [{"node": f"h{length - 1}", "gradient": gradient}],
    }


@pytest.mark.parametrize(
    ("gradient", "said"),
    [
        (["Infinity", "Infinity"], "Too few gradients are finite"),
        (["NaN", "NaN"], "Too few gradients are finite"),
        ([0, 0], "Gradients are zero."),
        ([1, 1], "Gradients keep their size"),
    ],
)
def test_what_is_said_of_the_flow_is_true(
    open_page: OpenPage, gradient: list[Any], said: str
) -> None:
    page = open_page()
    show_json(page, chain(12, gradient))
    page.wait_for_selector('[data-row="h11"]')
    assert said in page.inner_text("#health")


def test_levels_that_are_not_shown_are_counted(open_page: OpenPage) -> None:
    page = open_page()
    show_json(page, chain(40, [1, 1]))
    page.wait_for_selector('[data-row="h39"]')
    levels = page.locator("#health .levels li")
    assert levels.count() == 24
    page.locator("#health").get_by_role("button", name="Show more (17 left)").click()
    assert levels.count() == 41
