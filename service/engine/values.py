"""From JSON in `attrs` to what PyTorch takes: numbers, dtypes, lists, and holes for tensors.

A tensor is not there yet when a call is bound, so ``{"ref": "id"}`` becomes a :class:`Hole` that
running fills.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.contract.problem import pointer, quote
from service.engine.dtypes import DTYPES
from service.engine.signature import MEMORY_FORMATS, Kind

NONFINITE: Mapping[str, float] = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How a request spells the numbers that JSON has no spelling for."""


class Mismatch(Exception):
    """A value that a parameter does not take; the text says what it takes."""


@dataclass(frozen=True, slots=True)
class Hole:
    """The place of a tensor in a bound call: the ``number``-th use."""

    number: int


@dataclass(slots=True)
class Uses:
    """The tensors that a call uses, in the order of its parameters."""

    references: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    """The parameter's name, `tensors[0]` in a list."""
    pointers: list[str] = field(default_factory=list)
    """Where in the op the reference stands, as a JSON Pointer."""

    def add(self, reference: str, label: str, place: str) -> Hole:
        """Note a use and return its place in the call."""
        self.references.append(reference)
        self.labels.append(label)
        self.pointers.append(place)
        return Hole(len(self.references) - 1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: the parameter's label, and the pointer into the op."""

    label: str
    pointer: str

    def item(self, index: int) -> Place:
        """Return the place of one item of a list that stands here."""
        return Place(f"{self.label}[{index}]", self.pointer + pointer(index))


def is_reference(value: Any) -> bool:
    """Return whether ``value`` is ``{"ref": "id"}``."""
    return isinstance(value, dict) and value.keys() == {"ref"} and isinstance(value["ref"], str)


def describe(value: Any) -> str:
    """Return a JSON value in a few words, for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'the string "{quote(value)}"'
    if isinstance(value, (int, float)):
        return f"the number {quote(value)}"
    if is_reference(value):
        return "a tensor"
    return "a list" if isinstance(value, list) else "an object"


def convert(kind: Kind, value: Any, place: Place, uses: Uses, *, expand: bool = False) -> Any:
    """Return ``value`` as PyTorch takes it where a ``kind`` is expected.

    Args:
        kind: the parameter's type.
        value: parsed JSON.
        place: where it stands.
        uses: takes note of every tensor.
        expand: whether a single number for `int[N]` must become N of them, as the exact overloads
            want it.

    Raises:
        Mismatch: the parameter does not take it.
    """
    if value is None and kind.optional:
        return None
    if not kind.is_list:
        if kind.loose and isinstance(value, list):
            return [_item(kind, item, place.item(i), uses) for i, item in enumerate(value)]
        return _item(kind, value, place, uses)
    if isinstance(value, list):
        return [
            None
            if item is None and (kind.optional_items or kind.loose)
            else _item(kind, item, place.item(i), uses)
            for i, item in enumerate(value)
        ]
    if kind.base in ("int", "float", "number") and value is not None:
        single = _item(kind, value, place, uses)
        if kind.loose or (kind.size and not expand):
            return single
        return [single] * (kind.size or 1)
    raise _expected(kind, value)


def _item(kind: Kind, value: Any, place: Place, uses: Uses) -> Any:
    """Return one value, or one item of a list."""
    if kind.base == "Tensor":
        if is_reference(value):
            return uses.add(value["ref"], place.label, place.pointer + "/ref")
        if kind.number_too and value is not None:
            return _number(kind, value)
        raise _expected(kind, value)
    if kind.base == "any":
        return _anything(kind, value, place, uses)
    if kind.base == "int" and kind.loose:  # some annotations say int where a float will do
        return _float(kind, value)
    return CONVERTERS[kind.base](kind, value)


def _expected(kind: Kind, value: Any) -> Mismatch:
    or_number = " or a number" if kind.base == "Tensor" and kind.number_too else ""
    hint = '; a node is {"ref": "id"}' if kind.base == "Tensor" and isinstance(value, str) else ""
    return Mismatch(f"must be {kind.text}{or_number}, not {describe(value)}{hint}")


def _int(kind: Kind, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _expected(kind, value)
    if not -(2**63) <= value < 2**63:
        raise Mismatch("must be an integer of 64 bits")
    return value


def _float(kind: Kind, value: Any) -> float:
    if isinstance(value, str) and value in NONFINITE:
        return NONFINITE[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _expected(kind, value)
    return value


def _number(kind: Kind, value: Any) -> bool | int | float | complex:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:  # a Scalar of PyTorch is an int64 or a uint64
            raise Mismatch("must be an integer of 64 bits, signed or unsigned")
        return value
    if isinstance(value, dict) and value.keys() == {"re", "im"}:
        return complex(_float(kind, value["re"]), _float(kind, value["im"]))
    return _float(kind, value)


def _bool(kind: Kind, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _expected(kind, value)


def _str(kind: Kind, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _expected(kind, value)


def _dtype(_: Kind, value: Any) -> Any:
    if isinstance(value, str) and value in DTYPES:
        return DTYPES[value]
    raise Mismatch(f"must be a dtype ({', '.join(DTYPES)}), not {describe(value)}")


def _memory_format(_: Kind, value: Any) -> Any:
    if isinstance(value, str) and value in MEMORY_FORMATS:
        return MEMORY_FORMATS[value]
    raise Mismatch(f"must be a memory format ({', '.join(MEMORY_FORMATS)}), not {describe(value)}")


def _anything(kind: Kind, value: Any, place: Place, uses: Uses) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if is_reference(value):
        return uses.add(value["ref"], place.label, place.pointer + "/ref")
    if isinstance(value, list):
        return [_anything(kind, item, place.item(i), uses) for i, item in enumerate(value)]
    if isinstance(value, str):
        return NONFINITE.get(value, value)
    return _number(kind, value)


CONVERTERS: Mapping[str, Callable[[Kind, Any], Any]] = {
    "number": _number,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "str": _str,
    "dtype": _dtype,
    "memory_format": _memory_format,
}
