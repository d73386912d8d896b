"""Numbers and tensors as short text for a card, and as longer but bounded text for a tooltip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

WORDS = {"Infinity": "inf", "-Infinity": "-inf", "NaN": "NaN"}


def number(value: Any) -> str:
    """Return one element as text: four significant digits, ``inf`` and ``NaN`` in words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return WORDS.get(value, value)
    if isinstance(value, int):
        return str(value) if abs(value) < 1_000_000 else _trimmed(f"{value:.3e}")
    return _trimmed(f"{value:.4g}")


def _trimmed(text: str) -> str:
    """Return ``1e-05`` as ``1e-5``: a card has little room."""
    mantissa, mark, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else text


def complex_number(pair: Sequence[Any]) -> str:
    """Return ``[re, im]`` as ``re+imi``."""
    real, imaginary = number(pair[0]), number(pair[1])
    return f"{real}{'' if imaginary.startswith('-') else '+'}{imaginary}i"


def tensor(value: Any, limit: int, *, is_complex: bool = False) -> str:
    """Return nested lists as text of at most ``limit`` signs, cut with an ellipsis.

    No more of ``value`` is read than is shown, so a large tensor costs no more than a small one.
    """
    parts: list[str] = []
    length = 0
    for part in _pieces(value, is_complex):
        parts.append(part)
        length += len(part)
        if length > limit:
            return cut("".join(parts), limit)
    return "".join(parts)


def _pieces(value: Any, is_complex: bool) -> Iterator[str]:
    if not isinstance(value, list):
        yield number(value)
    elif is_complex and len(value) == 2 and not isinstance(value[0], list):
        yield complex_number(value)
    else:
        yield "["
        for index, item in enumerate(value):
            if index:
                yield ", "
            yield from _pieces(item, is_complex)
        yield "]"


def cut(text: str, limit: int) -> str:
    """Return ``text``, its end replaced by an ellipsis where it is longer than ``limit``."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def cut_middle(text: str, limit: int) -> str:
    """Return ``text`` without its middle where it is too long: ids differ at their ends."""
    if len(text) <= limit:
        return text
    head = (limit - 1) // 2
    return text[:head] + "…" + text[len(text) - (limit - 1 - head) :]


def shape(sizes: Sequence[int]) -> str:
    """Return a shape as ``[2, 3]``; a tensor without axes is a ``scalar``."""
    return f"[{', '.join(map(str, sizes))}]" if sizes else "scalar"


def plural(count: int, word: str) -> str:
    """Return ``1 node``, ``2 nodes``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
