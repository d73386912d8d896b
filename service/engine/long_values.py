"""Long values, cut out of the request's text before it is parsed.

The text is searched in strides; where a stride has no quote, it may be in the middle of a long list
of numbers or a long string of base64. If a leaf's or root's key stands before that, it is cut out
and a mark takes its place. A list goes through :func:`read_number_array`; base64 stays where it is
in the text, to be checked when it is decoded. Whether each mark stands where it may is seen after
parsing. Nothing long is copied: of 10 MB each copy would cost as much as decoding it.
"""

from __future__ import annotations

import mmap
import secrets
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from service.engine.number_array import NumberArray, Text, read_number_array

STRIDE = 1 << 12
"""A value shorter than this many bytes is not worth cutting out."""

LIST_KEYS = (b'"value"', b'"gradient"')
BASE64_KEYS = (b'"value_base64"', b'"gradient_base64"')
PLACES = (
    ("leaves", ("value", "value_base64")),
    ("backward", ("gradient", "gradient_base64")),
)
"""Where marks may stand: keys of the objects in a list of the document."""

LONGEST_KEY = 32
"""Bytes before a value in which its key is looked for, blanks and all."""

BLANKS = b" \t\r\n"
BLANKS_AND_COMMA = BLANKS + b","
MARK = secrets.token_hex(16)
"""What no client can write where a value was cut out."""

LongValue = NumberArray | memoryview
"""Numbers, or base64 in ASCII."""


class CutText(NamedTuple):
    """A JSON text without its long values, and these by the marks left in their place."""

    text: bytes
    values: dict[str, LongValue]


def text_of(body: bytes | memoryview) -> Text:
    """Return ``body`` as what can be searched: as it is, where it is bytes or the view of a map."""
    if isinstance(body, memoryview) and isinstance(body.obj, mmap.mmap):
        return body.obj
    return bytes(body)


def cut_long_values(text: Text) -> CutText | None:
    """Cut the long values out of ``text``; None where there is none."""
    pieces: list[bytes] = []
    values: dict[str, LongValue] = {}
    end = 0
    for start, stop, value in _long_values(text):
        mark = f"{MARK} {len(values)}"
        values[mark] = value
        pieces += [text[end:start], b'"%s"' % mark.encode()]
        end = stop
    return CutText(b"".join([*pieces, text[end:]]), values) if values else None


def restore(document: Any, values: dict[str, LongValue]) -> bool:
    """Put ``values`` in the place of their marks; return whether all of them were in PLACES."""
    left = dict(values)
    for holder, key in _places(document):
        if isinstance(mark := holder.get(key), str) and mark in left:
            holder[key] = left.pop(mark)
    return not left


def spell_out(document: Any, *, numbers: bool = True) -> None:
    """Make strings, and with ``numbers`` lists, again of the long values in ``document``."""
    for holder, key in _places(document):
        value = holder.get(key)
        if isinstance(value, memoryview):
            holder[key] = str(value, "ascii")
        elif numbers and isinstance(value, NumberArray):
            holder[key] = value.tolist()


def _places(document: Any) -> Iterator[tuple[dict[str, Any], str]]:
    if not isinstance(document, dict):
        return
    for part, keys in PLACES:
        holders = document.get(part)
        for holder in holders if isinstance(holders, list) else ():
            if isinstance(holder, dict):
                yield from ((holder, key) for key in keys)


def _long_values(text: Text) -> Iterator[tuple[int, int, LongValue]]:
    """Yield from where to where in ``text`` a long value is, and the value."""
    at = 0
    while at < len(text):
        quote = text.find(b'"', at)
        after = len(text) if quote < 0 else quote
        if after - at >= STRIDE:
            before = text.rfind(b'"', 0, at) + 1
            if _follows(text, before - 1, BASE64_KEYS):
                string = memoryview(text)[before:after]
                if text.find(b"\\", before, after) < 0 and _is_printable(string):
                    yield before - 1, after + 1, string
            elif _follows(text, start := text.find(b"[", before, after), LIST_KEYS):
                brace = text.find(b"}", start, after)
                stop = after if brace < 0 else brace
                while text[stop - 1] in BLANKS_AND_COMMA:
                    stop -= 1
                array = read_number_array(text, start, stop)
                if array is not None:
                    yield start, stop, array
        at = after + STRIDE


def _is_printable(string: memoryview) -> bool:
    """Return whether ``string`` is ASCII without the control characters that JSON wants escaped."""
    codes = np.frombuffer(string, np.uint8)
    return bool(codes.min() >= ord(" ") and codes.max() < 128)


def _follows(text: Text, start: int, keys: tuple[bytes, ...]) -> bool:
    """Return whether the value that begins at ``start`` is that of one of ``keys``."""
    before = text[max(0, start - LONGEST_KEY) : max(0, start)].rstrip(BLANKS)
    return before.endswith(b":") and before[:-1].rstrip(BLANKS).endswith(keys)
