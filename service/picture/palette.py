"""The picture's colours, for light and for dark, and the style sheet made of them.

Colours stand literally in the sheet, not as variables, so that viewers outside of browsers draw
them too. Every text reaches 4.5:1 and every line that means something 3:1 against what is behind
it (WCAG 2.2 AA); a test computes this from the table.
"""

from __future__ import annotations

from typing import NamedTuple


class Colour(NamedTuple):
    """One colour in both schemes."""

    light: str
    dark: str


PAPER = Colour("#ffffff", "#14181f")
TEXT = Colour("#1b2430", "#e6ebf2")
SOFT = Colour("#515d6d", "#a7b3c2")
LINE = Colour("#6b7787", "#8593a5")
LEAF = Colour("#e3effc", "#16304d")
LEAF_LINE = Colour("#1f6bb8", "#6cb2f7")
OP = Colour("#f3f5f8", "#222a35")
OP_LINE = Colour("#566273", "#97a5b7")
ROOT = Colour("#f1e8fd", "#33254f")
ROOT_LINE = Colour("#7540bf", "#bd9af5")
GRAD = Colour("#0a6045", "#5fdcae")
FLOW = Colour("#2c8f6c", "#3fae88")
BAD = Colour("#b3201c", "#ff9088")
BAD_PAPER = Colour("#fdeae8", "#4a1d1b")

RULES: tuple[tuple[str, str, Colour], ...] = (
    (".paper", "fill", PAPER),
    ("text", "fill", TEXT),
    (".soft", "fill", SOFT),
    (".grad-text", "fill", GRAD),
    (".bad", "fill", BAD),
    (".card", "fill", OP),
    (".card", "stroke", OP_LINE),
    (".leaf .card", "fill", LEAF),
    (".leaf .card", "stroke", LEAF_LINE),
    (".root .card", "fill", ROOT),
    (".root .card", "stroke", ROOT_LINE),
    (".ring", "stroke", ROOT_LINE),
    (".badge", "fill", BAD_PAPER),
    (".badge", "stroke", BAD),
    (".edge", "stroke", LINE),
    (".tip", "fill", LINE),
    (".edge.tracked", "stroke", FLOW),
    (".tip.tracked", "fill", FLOW),
    (".label", "fill", PAPER),
)
"""Selector, property and colour; later rules win, as in CSS."""

FORM: tuple[tuple[str, str], ...] = (
    (
        "text",
        'font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace',
    ),
    (".name", "font-weight:700;font-size:13px"),
    (".card", "stroke-width:1.5px"),
    (".ring", "fill:none;stroke-width:1.5px"),
    (".null .card", "stroke-dasharray:5 4"),
    (".edge", "fill:none"),
    (".edge.untracked", "stroke-dasharray:3 4"),
    (".edge-text", "font-size:11px"),
    (".key text", "font-size:11px"),
)
"""Selector and declarations of what is the same in both schemes."""

SCOPE = ".gradtrace"
"""The class of the picture, before every selector: a page may take the sheet as its own."""


def style() -> str:
    """Return the style sheet of a picture."""
    form = "\n".join(f"{SCOPE} {selector}{{{body}}}" for selector, body in FORM)
    dark = _rules(light=False)
    return f"{form}\n{_rules(light=True)}\n@media (prefers-color-scheme:dark){{\n{dark}\n}}"


def _rules(*, light: bool) -> str:
    return "\n".join(
        f"{SCOPE} {selector}{{{name}:{colour.light if light else colour.dark}}}"
        for selector, name, colour in RULES
    )
