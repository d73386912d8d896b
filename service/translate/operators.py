"""Python's operators on tensors, as PyTorch's ``Tensor`` defines them."""

from __future__ import annotations

import ast
from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
from typing import Any

from service.translate.arguments import UNKNOWN_DTYPE, describe, literal
from service.translate.folding import (
    COMPARE,
    NESTED,
    UNARY,
    attempt,
    binary,
    holds,
    is_number,
    nested_items,
)
from service.translate.objects import CONTAINERS, Instance
from service.translate.operations import add, apply
from service.translate.reading import A_NUMBER, AT_ONCE, Reading
from service.translate.unreadable import Unreadable
from service.translate.values import (
    Array,
    DType,
    Gradient,
    Method,
    Node,
    Path,
    Several,
    Tensor,
    Unknown,
)

BINARY_OPS: Mapping[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.FloorDiv: "floor_divide",
    ast.Mod: "remainder",
    ast.Pow: "pow",
    ast.MatMult: "matmul",
    ast.BitAnd: "bitwise_and",
    ast.BitOr: "bitwise_or",
    ast.BitXor: "bitwise_xor",
    ast.LShift: "bitwise_left_shift",
    ast.RShift: "bitwise_right_shift",
}
COMMUTING = frozenset({"add", "mul", "bitwise_and", "bitwise_or", "bitwise_xor"})
UNARY_OPS: Mapping[type[ast.unaryop], str] = {
    ast.USub: "neg",
    ast.UAdd: "positive",
    ast.Invert: "bitwise_not",
}
COMPARE_OPS: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
}
MIRRORED: Mapping[str, str] = {
    "eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le",
}  # fmt: skip


def binary_operator(reading: Reading, op: ast.operator, left: Any, right: Any) -> Any:
    """Return ``left op right``; with a number on the left as PyTorch's reflected methods do."""
    if not (isinstance(left, Tensor) or isinstance(right, Tensor)):
        return binary(op, left, right)
    name = BINARY_OPS[type(op)]
    _check_operand(left)
    _check_operand(right)
    if isinstance(left, Tensor):
        return apply(reading, name, [left, right], {})
    if name in COMMUTING:
        return apply(reading, name, [right, left], {})
    if name == "sub":
        return apply(reading, "rsub", [right, left], {})
    if name == "div":
        return apply(reading, "mul", [apply(reading, "reciprocal", [right], {}), left], {})
    return apply(reading, name, [left, right], {})


def _check_operand(value: Any) -> None:
    if isinstance(value, Unknown):
        raise Unreadable(value.reason)
    if not (isinstance(value, Tensor) or is_number(value)):
        raise Unreadable(f"{describe(value)} cannot be computed with a tensor")


def unary_operator(reading: Reading, op: ast.unaryop, operand: Any) -> Any:
    """Return ``op operand``."""
    if not isinstance(operand, Tensor):
        if not is_number(operand) and not (isinstance(op, ast.Not)):
            raise Unreadable(f"{describe(operand)} cannot be computed with")
        return attempt(UNARY[type(op)], operand)
    name = UNARY_OPS.get(type(op))
    if name is None:
        raise Unreadable("not on a tensor asks for its value; torch.logical_not is an op")
    return apply(reading, name, [operand], {})


def compare_operator(reading: Reading, op: ast.cmpop, left: Any, right: Any) -> Any:
    """Return ``left op right``."""
    for one in (left, right):
        _check_known(reading, one)
        if isinstance(one, Unknown):
            raise Unreadable(one.reason)
    if not (isinstance(left, Tensor) or isinstance(right, Tensor)):
        if isinstance(op, ast.Is | ast.IsNot):
            return _is_same(left, right) == isinstance(op, ast.Is)
        in_dict = isinstance(op, ast.In | ast.NotIn) and isinstance(right, dict)
        check_comparable(reading, left, [] if in_dict else right)
        return attempt(COMPARE[type(op)], left, right)
    if isinstance(op, ast.Is | ast.IsNot):
        if left is not right and _may_be_same(left, right):
            raise Unreadable("whether these are one tensor is known only when the graph runs")
        return (left is right) == isinstance(op, ast.Is)
    name = COMPARE_OPS.get(type(op))
    if name is None:
        raise Unreadable("`in` asks for a tensor's value; torch.isin is an op")
    if isinstance(left, Tensor):
        return apply(reading, name, [left, right], {})
    return apply(reading, MIRRORED[name], [right, left], {})


def _is_same(left: Any, right: Any) -> bool:
    """Return ``left is right`` for what is no tensor."""
    kinds = (int, float, complex, str, tuple)
    if all(isinstance(one, kinds) and not isinstance(one, bool) for one in (left, right)):
        raise Unreadable("whether numbers or texts are one object is Python's affair; write ==")
    by_name = isinstance(left, DType | Path) and isinstance(right, DType | Path)
    return bool(left == right) if by_name else left is right


def check_comparable(reading: Reading, *values: Any) -> None:
    """Refuse to compare lists in Python's way where they hold tensors, or are too large."""
    for one in values:
        value = list(one) if isinstance(one, ItemsView | ValuesView) else one
        if isinstance(value, list | tuple | dict):
            reading.spend(nested_items(value))
            _check_without_tensors(value)
        elif isinstance(value, Array):
            raise Unreadable("an array is compared item by item, which is not read here")
        elif isinstance(value, Iterator):
            raise Unreadable("what an iterator holds is not compared here; make a list of it")


TENSORS = frozenset({Tensor, Several, Array, Gradient})


def _check_without_tensors(value: Any) -> None:
    items = value.values() if isinstance(value, dict) else value
    if not holds(items, NESTED | TENSORS):
        return
    for item in items:
        if isinstance(item, list | tuple | dict):
            _check_without_tensors(item)
        elif isinstance(item, Tensor | Several | Array | Gradient):
            raise Unreadable("comparing lists asks for the values of the tensors in them")


NAMES = frozenset({DType, Method, Path})


def _check_known(reading: Reading, value: Any) -> None:
    """Refuse to compare what is not known here."""
    items = value if isinstance(value, list | tuple) else [value]
    reading.spend(len(value if isinstance(value, str) else items) // AT_ONCE)
    if not holds(items, NAMES):
        return
    for item in items:
        if isinstance(item, DType) and not item.name:
            raise Unreadable(UNKNOWN_DTYPE)
        if isinstance(item, Method) or (isinstance(item, Path) and not item.is_plain):
            name = f".{item.name}" if isinstance(item, Method) else str(item)
            raise Unreadable(f"{name} is not read here, so that it cannot decide anything")


def _may_be_same(left: Any, right: Any) -> bool:
    """Whether one of two tensors may be the other: some ops return what they were given."""
    both = isinstance(left, Tensor) and isinstance(right, Tensor)
    return both and left.node.shares_memory and right.node.shares_memory


def index(reading: Reading, value: Any, key: Any) -> Any:
    """Return ``value[key]``."""
    if isinstance(value, list | tuple | str | range | dict):
        if isinstance(key, Tensor):
            raise Unreadable("a list cannot be indexed with a tensor, whose value is not known")
        item = attempt(_item, value, key)
        if isinstance(item, Tensor):
            item.held = True
        return item
    if isinstance(value, Several):
        return _output(value, key)
    if isinstance(value, Instance) and value.of in CONTAINERS:
        return _module(reading, value, key)
    if not isinstance(value, Tensor):
        raise Unreadable(f"{describe(value)} cannot be indexed")
    keys = list(key) if isinstance(key, tuple) or _is_read_as_tuple(key) else [key]
    for item in keys:
        if isinstance(item, list | range):
            reading.spend(A_NUMBER * (nested_items(item) if isinstance(item, list) else len(item)))
    attrs = {"index": [_index_item(item) for item in keys]}
    return add(reading, Node("getitem", inputs=[value.ref], attrs=attrs))


def _module(reading: Reading, container: Instance, key: Any) -> Instance | None:
    """Return a module of a container; a slice is a container of the same modules."""
    if container.of == "ModuleDict":
        return attempt(_item, container.modules, key)  # type: ignore[no-any-return]
    reading.spend(len(container.modules) // (1 if isinstance(key, slice) else AT_ONCE))
    if not isinstance(key, slice):
        return attempt(_item, list(container.modules.values()), key)  # type: ignore[no-any-return]
    part = dict(list(container.modules.items())[key])
    if container.of == "ModuleList":
        part = {str(k): one for k, one in enumerate(part.values())}
    return Instance(container.of, {"training": True}, modules=part, is_ready=True)


NO_NUMBERS = (list, tuple, range, slice, Tensor, type(Ellipsis))


def _is_read_as_tuple(key: Any) -> bool:
    """Whether PyTorch takes a list for a tuple of indices, as it does with a list of lists."""
    return (
        isinstance(key, list)
        and len(key) < 32
        and any(item is None or isinstance(item, NO_NUMBERS) for item in key)
    )


def _item(value: Any, key: Any) -> Any:
    try:
        return value[key]
    except (IndexError, KeyError) as error:
        raise ValueError(f"nothing is at {key!r}") from error


def _output(value: Several, key: Any) -> Any:
    if isinstance(key, slice) and value.count is not None:
        return tuple(value.output(k) for k in range(value.count)[key])
    if not isinstance(key, int):
        raise Unreadable("the outputs of an op are numbered from 0")
    if value.count is None:
        if key < 0:
            raise Unreadable("how many outputs there are is known only when it runs")
        return value.output(key)
    if not -value.count <= key < value.count:
        raise Unreadable(f"there are {value.count} outputs, and none has the number {key}")
    return value.output(key % value.count)


def _index_item(item: Any) -> Any:
    if item is Ellipsis:
        return "..."
    if item is None or isinstance(item, bool | int):
        return item
    if isinstance(item, Tensor):
        return item.ref
    if isinstance(item, slice):
        parts = [item.start, item.stop, item.step]
        if not all(part is None or isinstance(part, int) for part in parts):
            raise Unreadable("the bounds of a slice are whole numbers that the script says")
        return {"slice": parts}
    if isinstance(item, list | range):
        return _index_list(list(item))
    raise Unreadable(f"{describe(item)} is no index")


def _index_list(items: Sequence[Any]) -> Any:
    flat = list(items)
    while any(isinstance(item, list) for item in flat):
        flat = [part for item in flat for part in (item if isinstance(item, list) else [item])]
    if not all(isinstance(item, int) for item in flat):
        raise Unreadable("a list that indexes a tensor holds whole numbers, or true and false")
    return literal(list(items))
