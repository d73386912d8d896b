"""Every text and every line of the picture can be read in light and in dark (WCAG 2.2 AA)."""

from __future__ import annotations

import pytest

from service.picture import palette
from service.picture.palette import Colour

TEXTS = [
    (text, behind)
    for text in ("TEXT", "SOFT", "GRAD", "BAD")
    for behind in ("OP", "LEAF", "ROOT", "PAPER")
] + [("BAD", "BAD_PAPER")]
LINES = [
    ("LEAF_LINE", "PAPER"),
    ("LEAF_LINE", "LEAF"),
    ("OP_LINE", "PAPER"),
    ("OP_LINE", "OP"),
    ("ROOT_LINE", "PAPER"),
    ("ROOT_LINE", "ROOT"),
    ("LINE", "PAPER"),
    ("FLOW", "PAPER"),
    ("BAD", "BAD_PAPER"),
]


def luminance(colour: str) -> float:
    """Return the relative luminance of ``#rrggbb``, as WCAG 2.2 defines it."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_measured_as_the_standard_does() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("front", "behind", "least"),
    [*((*pair, 4.5) for pair in TEXTS), *((*pair, 3) for pair in LINES)],
)
def test_text_reaches_four_and_a_half_to_one_and_lines_three(
    front: str, behind: str, least: float, scheme: str
) -> None:
    colours: list[Colour] = [getattr(palette, front), getattr(palette, behind)]
    assert contrast(*(getattr(colour, scheme) for colour in colours)) >= least


def test_the_sheet_has_both_schemes_and_only_rules_of_the_picture() -> None:
    sheet = palette.style()
    assert palette.PAPER.light in sheet
    assert palette.PAPER.dark in sheet.partition("prefers-color-scheme:dark")[2]
    rules = [line for line in sheet.splitlines() if "{" in line and "@media" not in line]
    assert all(rule.startswith(".gradtrace ") for rule in rules)
