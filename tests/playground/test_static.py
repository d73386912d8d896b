"""The page's files fit together, load nothing from elsewhere and hold nothing inline."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.picture.test_contrast import contrast
from tests.playground.files import EXAMPLES, STATIC

TEXT_FILES = sorted(
    path for path in STATIC.iterdir() if path.suffix in {".html", ".js", ".css", ".json"}
)
KNOWN_HOST = "http://www.w3.org/2000/svg"


class Page(HTMLParser):
    """Collects the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def values(self, name: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(name))]


@pytest.fixture(scope="module")
def index() -> Page:
    return Page((STATIC / "index.html").read_text())


@pytest.mark.parametrize("path", TEXT_FILES, ids=lambda path: path.name)
def test_no_file_names_another_host(path: Path) -> None:
    text = path.read_text().replace(KNOWN_HOST, "")
    assert not re.search(r"https?:|['\"(]//", text)


@pytest.mark.parametrize("path", TEXT_FILES, ids=lambda path: path.name)
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 330


def test_nothing_is_inline(index: Page) -> None:
    assert not index.values("style")
    assert all(attributes.get("src") for tag, attributes in index.elements if tag == "script")
    assert not [
        name for _, attributes in index.elements for name in attributes if name.startswith("on")
    ]


def test_every_address_is_relative_and_there(index: Page) -> None:
    asked = [*index.values("src"), *index.values("href")]
    assert not [address for address in asked if address.startswith("/")]
    for address in asked:
        if address.startswith("playground/"):
            assert (STATIC / address.removeprefix("playground/")).is_file(), address


def test_every_module_that_is_imported_is_there() -> None:
    for path in STATIC.glob("*.js"):
        for name in re.findall(r'from "\./([\w.]+)"', path.read_text()):
            assert (STATIC / name).is_file(), f"{path.name} imports {name}"


def test_every_module_says_what_it_is_for() -> None:
    for path in [*STATIC.glob("*.js"), *STATIC.glob("*.css")]:
        assert path.read_text().startswith("/* "), path.name


def test_no_module_parses_markup() -> None:
    for path in STATIC.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\(", path.read_text())


def test_labels_and_descriptions_lead_somewhere(index: Page) -> None:
    ids = index.values("id")
    assert len(ids) == len(set(ids))
    for name in ("for", "aria-labelledby", "aria-describedby", "aria-controls"):
        assert set(index.values(name)) <= set(ids), name


def test_examples_have_a_title_a_reason_and_a_source() -> None:
    assert len({example["id"] for example in EXAMPLES}) == len(EXAMPLES) >= 8
    for example in EXAMPLES:
        assert set(example) == {"id", "title", "about", "source"}
        assert len(example["about"]) < 120


def colours(text: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text))


SHEET = (STATIC / "base.css").read_text()
LIGHT = colours(SHEET.partition("@media")[0])
DARK = LIGHT | colours(SHEET.partition("@media")[2])


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read_on_what_is_behind_it(scheme: dict[str, str]) -> None:
    pairs = [
        *((text, paper) for text in ("text", "soft") for paper in ("ground", "paper", "raised")),
        *((token, "paper") for token in ("word", "string", "digits", "accent", "good", "bad")),
        ("accent-text", "accent"),
        ("text", "accent-soft"),
        ("soft", "accent-soft"),
        ("accent", "accent-soft"),
        ("good", "good-soft"),
        ("bad", "bad-soft"),
        ("text", "bad-soft"),
    ]
    low = {pair: contrast(scheme[pair[0]], scheme[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in low.items() if ratio < 4.5} == {}
    assert contrast(scheme["control"], scheme["paper"]) >= 3


@pytest.mark.parametrize(
    ("rules", "text"),
    [(0, LIGHT["text"]), (1, DARK["text"])],
    ids=["light", "dark"],
)
def test_numbers_can_be_read_on_every_cell_of_a_heat_map(rules: int, text: str) -> None:
    sheet = (STATIC / "parts.css").read_text()
    start = sheet.index(".heat.minus-1")
    parts = sheet[start : sheet.index("/* Table")].split("@media")
    cells = re.findall(r"\.heat\.(?:minus|plus)-\d \{ background: (#[0-9a-f]{6})", parts[rules])
    assert len(cells) == 12
    assert min(contrast(text, cell) for cell in cells) >= 4.5
