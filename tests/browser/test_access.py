"""The page by keyboard, for screen readers, behind keys and prefixes, and as a link."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import OpenPage, serving
from tests.browser.test_lesson import node, source, until_status, write
from tests.conftest import missing

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

KEY = "a-key-for-the-test"


@pytest.fixture(scope="module")
def locked() -> Iterator[str]:
    """Return the address of a service that asks for a key."""
    with serving(API_KEYS=KEY) as address:
        yield address


def axe(page: Page) -> list[str]:
    """Return what axe-core finds that is serious or critical."""
    try:
        from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
    except ImportError:
        missing("the package axe-playwright-python")
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {place['html'][:200]} {place['failureSummary']}"
        for rule in found
        if rule["impact"] in {"serious", "critical"}
        for place in rule["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["wide", "phone"])
def test_axe_finds_nothing_serious(open_page: OpenPage, size: tuple[int, int], scheme: str) -> None:
    page = open_page(size=size, scheme=scheme)
    page.select_option("#example", "where_nan")
    page.wait_for_selector('[data-node="safe"]')
    assert axe(page) == []


def test_axe_finds_nothing_serious_in_a_problem(open_page: OpenPage) -> None:
    page = open_page(refusals=True)
    write(page, "import torch\nb = a +* 2\n")
    page.wait_for_selector("#problem :text('line 2')")
    assert axe(page) == []


def test_a_node_is_reached_and_switched_by_keyboard_alone(open_page: OpenPage) -> None:
    page = open_page()
    page.focus("#picture")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.node") == "a"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.node") == "c"
    spoken = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert spoken == "c, pow, null: not retained. retain_grad is off; Enter switches it."
    page.keyboard.press("Enter")
    until_status(page, "c", "retained")
    assert page.evaluate("document.activeElement.dataset.node") == "c", "the focus stays"
    page.keyboard.press("ArrowUp")
    page.keyboard.press(" ")
    assert page.inner_text("#node-name") == "b"
    until_status(page, "b", "not_retained")


def test_the_switch_of_a_node_is_a_checkbox_too(open_page: OpenPage) -> None:
    page = open_page()
    page.click('[data-row="c"] button')
    page.get_by_role("checkbox", name="retain_grad").click()
    until_status(page, "c", "retained")
    assert page.evaluate("document.activeElement.id") == "switch"


def test_control_enter_traces_at_once(open_page: OpenPage) -> None:
    page = open_page()
    page.fill("#source", "import torch\nx = torch.ones(1, requires_grad=True)\nx.backward()\n")
    page.press("#source", "Control+Enter")
    until_status(page, "x", "accumulated")
    assert page.locator("[data-node]").count() == 1


def test_a_link_carries_the_graph_and_nothing_is_stored(open_page: OpenPage) -> None:
    page = open_page()
    script = "import torch\n# ünïcode\nw = torch.ones(3, requires_grad=True)\nw.sum().backward()\n"
    write(page, script)
    page.wait_for_selector('[data-node="w"]')
    page.click("text=Link")
    page.wait_for_function("() => location.hash.startsWith('#graph=')")
    stored = page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
    assert stored == [0, 0, ""]
    fragment = page.evaluate("location.hash")
    other = open_page(fragment)
    assert source(other) == script
    assert other.locator('[data-node="w"]').count() == 1


@pytest.mark.parametrize("fragment", ["#graph=1.AAAA", "#graph=0.!!", "#graph=", "#other=1"])
def test_a_broken_link_opens_the_first_example(open_page: OpenPage, fragment: str) -> None:
    page = open_page(fragment)
    assert node(page, "c").count() == 1


def test_copies_are_a_command_a_script_and_a_graph(open_page: OpenPage, service: str) -> None:
    page = open_page()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])

    def copied(what: str) -> str:
        page.click(f'[data-copy="{what}"]')
        page.wait_for_selector("#copied:has-text('copied')")
        text: str = page.evaluate("navigator.clipboard.readText()")
        page.evaluate("document.querySelector('#copied').replaceChildren()")
        return text

    assert [op["op"] for op in json.loads(copied("json"))["ops"]] == ["ones", "add", "pow", "sum"]
    assert copied("curl").startswith(f"curl -sS {service}v1/trace")
    script = copied("python")
    compile(script, "copied", "exec")
    assert "out.backward()" in script
    assert copied("link").startswith(f"{service}#graph=")


def test_a_key_is_asked_for_kept_for_the_tab_and_can_be_forgotten(
    open_page: OpenPage, locked: str
) -> None:
    page = open_page(home=locked, refusals=True, ready=False)
    page.wait_for_selector("#key-dialog[open]")
    assert axe(page) == []
    page.fill("#key", "wrong")
    page.click("text=Use it")
    page.wait_for_selector("#key-dialog :text('not one of those')")
    page.fill("#key", KEY)
    page.press("#key", "Enter")
    until_status(page, "c", "not_retained")
    assert page.evaluate("Object.values(sessionStorage)") == [KEY]
    assert page.evaluate("localStorage.length") == 0
    page.reload()
    until_status(page, "c", "not_retained")
    assert page.locator("#key-dialog[open]").count() == 0
    page.click("text=Forget key")
    assert page.evaluate("sessionStorage.length") == 0


def test_without_a_key_the_page_says_so(open_page: OpenPage, locked: str) -> None:
    page = open_page(home=locked, refusals=True, ready=False)
    page.wait_for_selector("#key-dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#problem :text('key')")


def test_the_page_works_below_a_path_prefix(open_page: OpenPage, service: str) -> None:
    """A proxy that strips ``/some/where``, as ``GRADTRACE_ROOT_PATH`` is for."""
    asked: list[str] = []

    def proxy(route: Route) -> None:
        url = route.request.url
        asked.append(url)
        route.fulfill(response=route.fetch(url=url.replace("/some/where/", "/")))

    def prepare(page: Page) -> None:
        page.route("**/*", proxy)

    page = open_page(home=f"{service}some/where/", prepare=prepare)
    node(page, "c").click()
    until_status(page, "c", "retained")
    assert [url for url in asked if "/some/where/" not in url] == []


def test_the_policy_of_the_page_is_strict(open_page: OpenPage, service: str) -> None:
    page = open_page()
    policy = page.request.get(service).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.locator("[style], script:not([src]), style").count() == 0
