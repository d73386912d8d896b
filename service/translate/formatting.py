"""What an f-string makes of a constant, by Python's own ``format``, bounded in length."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from service.translate.folding import attempt, check_items, flat, is_number, nested_items
from service.translate.unreadable import Unreadable
from service.translate.values import Unknown

MAX_WIDTH = 1000
MAX_ITEMS = 1000
CONVERSIONS: Mapping[int, Callable[[Any], str]] = {ord("r"): repr, ord("s"): str, ord("a"): ascii}


def text_of(value: Any, conversion: int, spec: Any) -> Any:
    """Return ``{value!conversion:spec}`` as text, or :class:`Unknown` where it is not known here.

    Raises:
        Unreadable: Python would raise, or the text is longer than a script needs.
    """
    if isinstance(spec, Unknown):
        return spec
    if not _is_plain(value):
        return Unknown("this text has a part that is there only when the script runs")
    check_items(sum(len(text) for text in flat(value) if isinstance(text, str)))
    if any(int(digits) > MAX_WIDTH for digits in re.findall(r"\d{1,9}", spec)):
        raise Unreadable(f"a text of more than {MAX_WIDTH} places")
    if conversion in CONVERSIONS:
        value = attempt(CONVERSIONS[conversion], value)
    return attempt(format, value, spec)


def _is_plain(value: Any) -> bool:
    """Whether the text of a value is the same wherever the script runs."""
    if isinstance(value, list | tuple):
        is_short = len(value) <= MAX_ITEMS and nested_items(value) <= MAX_ITEMS
        return is_short and all(map(_is_plain, value))
    return value is None or isinstance(value, str) or is_number(value)
