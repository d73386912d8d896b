"""The first sentence of a docstring of PyTorch's, without the markup of Sphinx and LaTeX."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

SIGNATURE = re.compile(r"\A[\w.]+\(.*?\) *(->[^\n]*)?$", re.MULTILINE | re.DOTALL)
SENTENCE_END = re.compile(r"(?<=[.!?])(?=\s|$)")
ROLE = re.compile(r":[\w:]+:`~?([^`<]*?)\s*(?:<[^`>]*>)?`")
LINK = re.compile(r"`([^`<]+?)\s*(?:<[^`>]*>)?`_+")
EMPHASIS = re.compile(r"(\*+)(\w[^*]*)\1")
MATH = r"\\{_^"
"""One of these is in every formula that is more than plain text."""

FRACTION = re.compile(r"\\frac *\{([^{}]*)\}\{([^{}]*)\}")
GROUP = re.compile(r"\\(?:text|mathbb|operatorname)\{([^{}]*)\}|(?<=[_^])\{([^{}]*)\}")
COMMAND = re.compile(r"\\(left|right|lceil|lfloor) *|\\([A-Za-z]+)")
SYMBOLS: Mapping[str, str] = {
    "alpha": "α", "approx": "≈", "ast": "*", "beta": "β", "geq": "≥", "lceil": "⌈", "left": "",  # noqa: RUF001
    "leq": "≤", "lfloor": "⌊", "neq": "≠", "otimes": "⊗", "Phi": "Φ", "rceil": "⌉", "rfloor": "⌋",
    "right": "", "rightarrow": "→", "times": "×",  # noqa: RUF001
}  # fmt: skip
"""LaTeX's commands that stand for a sign; the others are words, such as exp."""


def summary_of(doc: str | None) -> str:
    """Return the first sentence of a docstring, as plain text."""
    text = SIGNATURE.sub("", inspect.cleandoc(doc or "")).strip()
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        if line and not line.startswith(("..", ">>>")):
            return _plain(SENTENCE_END.split(line, maxsplit=1)[0])
    return ""


def _plain(text: str) -> str:
    text = LINK.sub(r"\1", ROLE.sub(r"\1", text)).replace(":math:", "")
    text = EMPHASIS.sub(r"\2", text.replace("`", ""))
    return (plain_math(text) if any(sign in text for sign in MATH) else text).strip()


def plain_math(text: str) -> str:
    r"""Return LaTeX's ``\frac{x}{1 + |x|}`` as ``x / (1 + |x|)``, and so on."""
    if "{{" in text:  # it was meant for str.format
        text = text.replace("{{", "{").replace("}}", "}")
    before = ""
    while text != before:
        before = text
        text = FRACTION.sub(lambda found: " / ".join(map(_part, found.groups())), text)
        text = GROUP.sub(lambda found: found[1] or found[2] or "", text)
    text = COMMAND.sub(lambda found: SYMBOLS.get(found[1] or found[2], found[2]), text)
    return " ".join(re.sub(r"\\(.)|[{}]", r"\1", text).split())


def _part(text: str) -> str:
    """Return the upper or the lower part of a fraction."""
    return text if re.fullmatch(r"\\?[\w.]+", text) else f"({text})"
