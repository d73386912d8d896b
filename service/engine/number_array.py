"""A long list of numbers, read from JSON text without a Python object for each number.

simdjson reads it in chunks: a comma in a list of numbers can only part two elements, so the text is
cut at commas, and the brackets open there are closed before and opened again behind. What remains
when the characters of numbers are taken away are the brackets and commas, and a list is regular if
they are those of a regular list. What does not fit (a string, a ragged list, a number beyond 64
bits) is left to the ordinary parser, so there is one place that explains mistakes.

Where simdjson is not there (it has no wheels for the newest Pythons), orjson reads the chunks. It
makes an object for each number of a chunk, and takes twice as long.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from service.contract.negative_zero import NEGATIVE_ZERO

try:
    import simdjson
except ImportError:
    simdjson = None  # type: ignore[assignment]

CHUNK = 1 << 18
"""Bytes that simdjson reads at once: more fall out of the cache, and memory grows by 13 a byte."""

MAX_AXES = 64
"""As many as NumPy has."""

Text = bytes | mmap.mmap
"""What can be searched and sliced."""

NUMBER_CHARACTERS = b"0123456789+-.eE \t\r\n"
TOO_LONG = re.compile(rb"-[0-9]{19}|(?<![.0-9])[0-9]{20}")
"""Where an integer may be beyond 64 bits."""

Numbers = npt.NDArray[Any]
Reader = Callable[[bytes], Numbers]
"""Returns the numbers of a list, nested in any way, as int64 or float64, in one dimension.

It raises TypeError, ValueError or RuntimeError where there is anything else in it.
"""


@dataclass(frozen=True, slots=True)
class NumberArray:
    """A list of numbers, nested regularly.

    Attributes:
        numbers: int64 where all of them are, else float64; of the lists' shape.
        text: the JSON text, for the exact look at a number that a dtype may not hold.
    """

    numbers: Numbers
    text: bytes | memoryview = field(repr=False)

    def tolist(self) -> list[Any]:
        """Return the nested lists of plain Python numbers."""
        lists: list[Any] = orjson.loads(NEGATIVE_ZERO.sub(b"-0.0", self.text))
        return lists


def read_number_array(text: Text, start: int, stop: int) -> NumberArray | None:
    """Return the numbers of a list, ``text`` from ``start`` to ``stop``.

    None where it is not a regular list of numbers.
    """
    read = reader()
    parts: list[Numbers] = []
    structure: list[bytes] = []
    depth, at = 0, start
    while at < stop:
        comma = text.find(b",", at + CHUNK, stop)
        end = stop if comma < 0 else comma
        piece = text[at:end]
        brackets = piece.translate(None, NUMBER_CHARACTERS)  # and commas
        opened = b"[" * depth
        depth += brackets.count(b"[") - brackets.count(b"]")
        if (comma >= 0) != (depth > 0) or depth > MAX_AXES:
            return None
        numbers = _numbers(read, opened + piece + b"]" * depth)
        if numbers is None:
            return None
        parts.append(numbers)
        structure.append(brackets)
        at = end + 1
    numbers = parts[0] if len(parts) == 1 else np.concatenate(parts)
    shape = _shape(b",".join(structure), numbers.size)
    if shape is None or len(shape) > MAX_AXES:
        return None
    return NumberArray(numbers.reshape(shape), memoryview(text)[start:stop])


def reader() -> Reader:
    """Return the fastest reader that is there."""
    if simdjson is None:
        return read_with_orjson
    parser = simdjson.Parser()

    def read(text: bytes) -> Numbers:
        document: Any = parser.parse(text)
        try:
            return np.frombuffer(document.as_buffer(of_type="i"), np.int64)
        except TypeError:
            return np.frombuffer(document.as_buffer(of_type="d"), np.float64)

    return read


def read_with_orjson(text: bytes) -> Numbers:
    """Read as simdjson does, which takes an integer beyond 64 bits for a mistake."""
    items: list[Any] = orjson.loads(text)
    while items and type(items[0]) is list:
        items = list(chain.from_iterable(items))
    kinds = set(map(type, items))
    if not kinds <= {int, float}:
        raise TypeError
    if float not in kinds and all(-(2**63) <= item < 2**63 for item in items):
        return np.array(items, np.int64)
    numbers = np.array(items, np.float64)
    if (abs(numbers) >= 2.0**63).any() and TOO_LONG.search(text):
        raise ValueError
    return numbers


def _numbers(read: Reader, text: bytes) -> Numbers | None:
    try:
        numbers = read(text)
        if not numbers.all() and NEGATIVE_ZERO.search(text):
            numbers = read(NEGATIVE_ZERO.sub(b"-0.0", text))
    except (TypeError, ValueError, RuntimeError):
        return None
    return numbers


def _shape(structure: bytes, numel: int) -> tuple[int, ...] | None:
    """Return the shape of the list that these brackets and commas make, None where it is ragged.

    A row of one number and an empty row look the same here: ``numel`` tells them apart.
    """
    axes = len(structure) - len(structure.lstrip(b"["))
    sizes: list[int] = []
    block = regular = b""
    for level in range(1, axes + 1):
        end = structure.find(b"]" * level) + level
        previous, block = len(block), structure[axes - level : end]
        size = (len(block) - 1) // (previous + 1)
        regular = b"[" + (regular + b",") * (size - 1) + regular + b"]"
        sizes.append(size)
    shape = tuple(reversed(sizes))
    return shape if regular == structure and math.prod(shape) == numel else None
