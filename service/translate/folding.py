"""Arithmetic on Python's own constants, bounded: what a script computes without tensors."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from service.translate.reading import MAX_ITEMS
from service.translate.unreadable import Unreadable
from service.translate.values import Unknown, Values

MAX_BITS = 4096
TEN_BITS = (10).bit_length()

BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
}
COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}

MATH_CONSTANTS: Mapping[str, float] = {
    name: getattr(math, name) for name in ("pi", "e", "inf", "nan", "tau")
}
MATH_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    name: getattr(math, name)
    for name in (
        "sqrt exp log log2 log10 log1p expm1 sin cos tan asin acos atan atan2 sinh cosh tanh "
        "floor ceil trunc fabs hypot degrees radians copysign erf isnan isinf isfinite"
    ).split()
}
BUILTINS: Mapping[str, Callable[..., Any]] = {
    "abs": abs,
    "bool": bool,
    "complex": complex,
    "divmod": divmod,
    "float": float,
    "int": int,
    "max": max,
    "min": min,
    "pow": lambda base, exponent: binary(ast.Pow(), base, exponent),
    "round": lambda number, ndigits=None: _rounded(number, ndigits),
}
"""Calls on numbers alone."""

RAISED = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError)
"""What Python's own operations raise on constants that do not suit them."""
NUMBERS = (bool, int, float, complex)


def is_number(value: Any) -> bool:
    """Whether a value is one of Python's numbers."""
    return isinstance(value, NUMBERS)


def binary(op: ast.operator, left: Any, right: Any) -> Any:
    """Return ``left op right`` of constants.

    Raises:
        Unreadable: Python would raise, or the result is larger than a script needs.
    """
    if isinstance(left, Unknown) or isinstance(right, Unknown):
        return _unknown(left, right)
    if isinstance(left, list | tuple) or isinstance(right, list | tuple):
        return _sequences(op, left, right)
    if not (is_number(left) and is_number(right)):
        if isinstance(left, str) and isinstance(right, str) and isinstance(op, ast.Add):
            check_items(len(left) + len(right))
            return left + right
        if isinstance(op, ast.Mult) and isinstance(left, str) and isinstance(right, int):
            check_items(len(left) * max(right, 0))
            return left * right
        raise Unreadable("only numbers, lists and tensors can be computed with")
    if isinstance(op, ast.Pow) and isinstance(left, int) and isinstance(right, int):
        check_bits(left.bit_length() * max(right, 1))
    if isinstance(op, ast.LShift) and isinstance(right, int):
        check_bits(right)
    function = BINARY.get(type(op))
    if function is None:
        raise Unreadable("this operator is not defined for numbers")
    result = attempt(function, left, right)
    if isinstance(result, int):
        check_bits(result.bit_length())
    return result


def _rounded(number: Any, ndigits: Any) -> Any:
    """Return ``round(number, ndigits)``, which divides an integer by a power of ten."""
    if isinstance(number, int) and isinstance(ndigits, int):
        check_bits(-ndigits * TEN_BITS)
    return round(number, ndigits)


def check_bits(bits: int) -> None:
    """Refuse a number that no script needs."""
    if bits > MAX_BITS:
        raise Unreadable(f"an integer of more than {MAX_BITS} bits")


def _sequences(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(op, ast.Add) and type(left) is type(right):
        check_items(len(left) + len(right))
        return left + right
    if isinstance(op, ast.Mult):
        items, count = (left, right) if isinstance(left, list | tuple) else (right, left)
        if isinstance(count, int):
            check_items(len(items) * max(count, 0))
            return items * count
    raise Unreadable("lists can be joined with + and repeated with *, nothing else")


def _unknown(left: Any, right: Any) -> Unknown:
    """Return the result of an operator where one side is not known, to be printed at most."""
    for value in (left, right):
        if not (isinstance(value, Unknown | str) or is_number(value)):
            raise Unreadable(next(v for v in (left, right) if isinstance(v, Unknown)).reason)
    return left if isinstance(left, Unknown) else right


def flat(items: Any) -> Iterator[Any]:
    """Yield what stands in nested lists, in order."""
    if isinstance(items, list | tuple | range):
        for item in items:
            yield from flat(item)
    else:
        yield items


NESTED = frozenset({list, tuple, dict})


def holds(items: Iterable[Any], kinds: frozenset[type]) -> bool:
    """Whether an item is of one of these very types; much faster than a loop over a long list."""
    return not kinds.isdisjoint(map(type, items))


def nested_items(value: Any) -> int:
    """Return how many items nested lists hold in all, those that stand in many places as often.

    Raises:
        Unreadable: more than a script needs, as in a list that holds itself.
    """
    waiting = [value]
    count = lists = 0
    while waiting:
        items = waiting.pop()
        items = items.values() if isinstance(items, dict) else items
        inner: list[Any] = []
        if holds(items, NESTED):
            inner = [item for item in items if isinstance(item, list | tuple | dict) and item]
        waiting.extend(inner)
        count += len(items) - len(inner)
        lists += len(inner)
        check_items(max(count, lists, len(waiting)))
    return count + lists


def check_items(count: int) -> None:
    """Refuse a list that no script needs."""
    if count > MAX_ITEMS:
        raise Unreadable(f"a list of more than {MAX_ITEMS} items")


def attempt(function: Callable[..., Any], *values: Any) -> Any:
    """Call ``function`` on constants; what Python raises is the reason."""
    try:
        return function(*values)
    except RAISED as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def on_numbers(function: Callable[..., Any], name: str, values: Values) -> Any:
    """Call a whitelisted function of numbers (or lists of them)."""
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    if not all(is_number(value) or isinstance(value, str) for value in flat):
        raise Unreadable(f"{name} is read here only with numbers")
    if any(isinstance(value, str) and len(value) > MAX_BITS for value in flat):
        raise Unreadable(f"a text of more than {MAX_BITS} characters is no number of so many bits")
    result = attempt(function, *values)
    if isinstance(result, int):
        check_bits(result.bit_length())  # as int("ff", 16) makes one of a text of any length
    return result
