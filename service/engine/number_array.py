"""A long list of numbers, read from JSON text without a Python object for each number.

simdjson reads it in chunks: a comma in a list of numbers can only part two elements, so the text is
cut at commas, and the brackets open there are closed before and opened again behind. What remains
when the characters of numbers are taken away are the brackets and commas, and a list is regular if
they are those of a regular list. What does not fit (a string, a ragged list, a number beyond 64
bits) is left to the ordinary parser, so there is one place that explains mistakes.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import simdjson

from service.contract.negative_zero import NEGATIVE_ZERO

CHUNK = 1 << 18
"""Bytes that simdjson reads at once: more fall out of the cache, and memory grows by 13 a byte."""

MAX_AXES = 64
"""As many as NumPy has."""

Text = bytes | mmap.mmap
"""What can be searched and sliced."""

NUMBER_CHARACTERS = b"0123456789+-.eE \t\r\n"


@dataclass(frozen=True, slots=True)
class NumberArray:
    """A list of numbers, nested regularly.

    Attributes:
        numbers: int64 where all of them are, else float64; of the lists' shape.
        text: the JSON text, for the exact look at a number that a dtype may not hold.
    """

    numbers: npt.NDArray[Any]
    text: bytes | memoryview = field(repr=False)

    def tolist(self) -> list[Any]:
        """Return the nested lists of plain Python numbers."""
        lists: list[Any] = orjson.loads(NEGATIVE_ZERO.sub(b"-0.0", self.text))
        return lists


def read_number_array(text: Text, start: int, stop: int) -> NumberArray | None:
    """Return the numbers of a list, ``text`` from ``start`` to ``stop``.

    None where it is not a regular list of numbers.
    """
    parser = simdjson.Parser()
    parts: list[npt.NDArray[Any]] = []
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
        numbers = _numbers(parser, opened + piece + b"]" * depth)
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


def _numbers(parser: simdjson.Parser, text: bytes) -> npt.NDArray[Any] | None:
    try:
        read: Any = parser.parse(text)
        try:
            numbers: npt.NDArray[Any] = np.frombuffer(read.as_buffer(of_type="i"), np.int64)
        except TypeError:
            numbers = np.frombuffer(read.as_buffer(of_type="d"), np.float64)
        if not numbers.all() and NEGATIVE_ZERO.search(text):
            read = parser.parse(NEGATIVE_ZERO.sub(b"-0.0", text))
            numbers = np.frombuffer(read.as_buffer(of_type="d"), np.float64)
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
