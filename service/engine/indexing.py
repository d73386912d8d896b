"""The index of `getitem`: what stands between the brackets of ``x[...]``, as JSON.

A list of integers, null (a new dimension), ``"..."``, booleans, ``{"slice": [start, stop, step]}``,
``{"ref": id}`` (an index or mask) and nested lists of integers.
"""

from __future__ import annotations

from typing import Any

from service.engine.values import Mismatch, Place, Uses, describe, is_reference

GRAMMAR = (
    'an index is a list of integers, null, "...", true or false, {"slice": [start, stop, step]}, '
    '{"ref": id} and nested lists of integers'
)


def convert_index(value: Any, place: Place, uses: Uses) -> tuple[Any, ...]:
    """Return ``value`` as Python has it between the brackets.

    Raises:
        Mismatch: it is not in the grammar.
    """
    if not isinstance(value, list):
        raise Mismatch(f"must be a list, not {describe(value)}; {GRAMMAR}")
    return tuple(_part(part, place.item(i), uses) for i, part in enumerate(value))


def _part(part: Any, place: Place, uses: Uses) -> Any:
    if part is None or isinstance(part, bool):
        return part
    if isinstance(part, int):
        return _int(part)
    if part == "...":
        return Ellipsis
    if is_reference(part):
        return uses.add(part["ref"], place.label, place.pointer + "/ref")
    if isinstance(part, dict) and part.keys() == {"slice"}:
        return _slice(part["slice"])
    if isinstance(part, list):
        return _positions(part)
    raise Mismatch(f"cannot hold {describe(part)}; {GRAMMAR}")


def _int(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Mismatch(f"cannot hold {describe(value)} here; {GRAMMAR}")
    if not -(2**63) <= value < 2**63:
        raise Mismatch("holds an integer beyond 64 bits")
    return value


def _slice(bounds: Any) -> slice:
    if not isinstance(bounds, list) or len(bounds) not in (2, 3):
        raise Mismatch("holds a slice that is not [start, stop, step]")
    return slice(*(None if bound is None else _int(bound) for bound in bounds))


def _positions(items: list[Any]) -> list[Any]:
    """Return nested lists of integers, or of booleans (a mask), as they are."""
    return [_positions(item) if isinstance(item, list) else _position(item) for item in items]


def _position(item: Any) -> int:
    return item if isinstance(item, bool) else _int(item)
