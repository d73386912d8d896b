"""Python's builtins and the few modules that everyday scripts use beside torch."""

from __future__ import annotations

import ast
import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.translate.arguments import describe, dtype_name
from service.translate.attributes import known_shape
from service.translate.folding import (
    BUILTINS,
    MATH_FUNCTIONS,
    check_items,
    is_number,
    on_numbers,
)
from service.translate.operations import apply
from service.translate.operators import binary_operator
from service.translate.reading import Reading
from service.translate.unreadable import Unreadable
from service.translate.values import Array, Base64, Path, Several, Tensor

IGNORED_MODULES = frozenset({"matplotlib", "warnings", "logging", "time", "os", "sys", "random"})
"""Modules whose calls, as statements of their own, change no number of a graph."""

ON_TENSORS: Mapping[str, str] = {"abs": "abs", "round": "round", "pow": "pow"}


def call_builtin(
    reading: Reading, name: str, values: Sequence[Any], keywords: Mapping[str, Any]
) -> Any:
    """Return what a builtin gives for constants, lists and tensors."""
    if name == "print":
        return None
    if name in ON_TENSORS and values and isinstance(values[0], Tensor):
        return apply(reading, ON_TENSORS[name], list(values), keywords)
    if keywords and name not in ("zip", "enumerate", "sorted"):
        raise Unreadable(f"{name} is read without keywords")
    if name in COLLECTIONS:
        return COLLECTIONS[name](reading, *values)
    if name in BUILTINS:
        if any(isinstance(value, Tensor) for value in values):
            raise Unreadable(f"{name}() of a tensor asks for its value; there is torch.{name}")
        return on_numbers(BUILTINS[name], name, values)
    raise Unreadable(f"{name} is not read here")


def items_of(reading: Reading, value: Any) -> list[Any]:
    """Return the items that a loop goes over.

    Raises:
        Unreadable: their number is known only when the graph runs.
    """
    if isinstance(value, range):
        check_items(len(value))
    if isinstance(value, list | tuple | range | str | dict):
        return list(value)
    if isinstance(value, Several):
        if value.count is None:
            raise Unreadable("how many tensors this is, is known only when the graph runs")
        return [value.output(k) for k in range(value.count)]
    if isinstance(value, Tensor):
        shape = known_shape(value)
        if not shape:
            raise Unreadable("a tensor without dimensions has no items")
        rows = apply(reading, "unbind", [value], {})
        assert isinstance(rows, Several)
        return [rows.output(k) for k in range(shape[0])]
    raise Unreadable(f"{describe(value)} cannot be looped over")


def _len(_reading: Reading, value: Any) -> int:
    if isinstance(value, Tensor):
        shape = known_shape(value)
        if not shape:
            raise Unreadable("len() of a 0-d tensor")
        return shape[0]
    if isinstance(value, Several) and value.count is not None:
        return value.count
    if isinstance(value, list | tuple | range | str | dict):
        return len(value)
    raise Unreadable(f"{describe(value)} has no length that is known here")


def _range(_reading: Reading, *bounds: Any) -> range:
    if not bounds or not all(isinstance(bound, int) for bound in bounds):
        raise Unreadable("the bounds of range are whole numbers that the script says")
    try:
        numbers = range(*bounds)
    except (TypeError, ValueError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    check_items(
        max(numbers.stop - numbers.start, numbers.start - numbers.stop) // abs(numbers.step)
    )
    return numbers


def _zip(reading: Reading, *lists: Any) -> list[Any]:
    return list(zip(*(items_of(reading, one) for one in lists), strict=False))


def _enumerate(reading: Reading, items: Any, start: int = 0) -> list[Any]:
    return list(enumerate(items_of(reading, items), start))


def _sum(reading: Reading, items: Any, start: Any = 0) -> Any:
    """``sum`` as Python does it: from 0, one ``+`` after the other."""
    total = start
    for item in items_of(reading, items):
        total = binary_operator(reading, ast.Add(), total, item)
    return total


def _sorted(reading: Reading, items: Any) -> list[Any]:
    found = items_of(reading, items)
    if not all(is_number(item) for item in found):
        raise Unreadable("sorted is read with numbers; there is torch.sort")
    return sorted(found)


COLLECTIONS: Mapping[str, Callable[..., Any]] = {
    "len": _len,
    "range": _range,
    "zip": _zip,
    "enumerate": _enumerate,
    "sum": _sum,
    "sorted": _sorted,
    "list": lambda reading, items=(): items_of(reading, items),
    "tuple": lambda reading, items=(): tuple(items_of(reading, items)),
    "reversed": lambda reading, items: items_of(reading, items)[::-1],
    "bytearray": lambda _reading, raw: raw,
    "slice": lambda _reading, *bounds: slice(*bounds),
}
NAMES = frozenset({*COLLECTIONS, *BUILTINS, "print"})
"""The builtins that a script can use."""


def call_python_module(path: Path, values: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Return what a function of math, base64 or numpy gives for constants."""
    name = path.parts[-1]
    if path.parts[0] == "math" and name in MATH_FUNCTIONS and not keywords:
        return on_numbers(MATH_FUNCTIONS[name], str(path), values)
    if path.parts == ("base64", "b64decode") and len(values) == 1:
        return _base64(values[0])
    if path.parts in (("numpy", "array"), ("numpy", "asarray")) and len(values) == 1:
        dtype = keywords.get("dtype")
        return Array(values[0], None if dtype is None else dtype_name(dtype))
    if path.parts[0] in IGNORED_MODULES:
        return None
    raise Unreadable(f"{path} is not PyTorch, and nothing of a script is run")


def _base64(text: Any) -> Base64:
    if not isinstance(text, str):
        raise Unreadable("base64.b64decode is read with a string")
    try:
        return Base64(text, len(base64.b64decode(text, validate=True)))
    except binascii.Error as error:
        raise Unreadable(f"this is no base64: {error}") from error
