"""Methods of tensors, and of Python's lists and dicts."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from weakref import ref

import torch

from service.translate import leaves, passes
from service.translate.arguments import describe, dtype_name
from service.translate.attributes import ASKS_FOR_VALUE, FILLED, check_own_grad, known_shape
from service.translate.builtins_read import items_of
from service.translate.element_types import last_part
from service.translate.folding import attempt, check_items, nested_items
from service.translate.gradients import empty_gradient, tensor_of
from service.translate.in_place import operate
from service.translate.initialisers import fill_parameter
from service.translate.operations import apply
from service.translate.operators import check_comparable
from service.translate.reading import AT_ONCE, Reading
from service.translate.unreadable import Unreadable
from service.translate.values import (
    Data,
    Device,
    DType,
    Gradient,
    Keywords,
    Method,
    Several,
    Tensor,
    Unknown,
    Values,
)


def count_listed(reading: Reading, *values: Any) -> None:
    """Count what stands in the lists that an op is given: an item is as much work as a step."""
    for value in values:
        count = nested_items(value) if isinstance(value, list | tuple | range) else 0
        if isinstance(value, Several):
            count = value.count or 0
        for _ in range(count):
            reading.step()


OPERATORS: Mapping[str, ast.operator] = {
    "add_": ast.Add(), "sub_": ast.Sub(), "mul_": ast.Mult(), "div_": ast.Div(),
}  # fmt: skip
"""Methods that do what an operator in place does."""
FRESH: Mapping[str, str] = {
    "copy_": "x = y.expand_as(x)",
    "fill_": "x = torch.full_like(x, ...)",
    "normal_": "x = torch.randn_like(x)",
    "uniform_": "x = torch.rand_like(x)",
    "zero_": "x = torch.zeros_like(x)",
}
"""What makes a tensor like the one that such a method leaves."""


def in_place(name: str) -> str:
    """Return why a method that works in place is not read."""
    plain = name.rstrip("_")
    instead = "what makes a new tensor"
    if name in FRESH:
        instead = FRESH[name]
    elif _is_method(plain):
        instead = f"x = x.{plain}(...)"
    return (
        f"{name} changes its tensor in place, and a node of a graph never changes: write {instead}"
    )


def _is_method(name: str) -> bool:
    return hasattr(torch.Tensor, name)


def call_method(reading: Reading, method: Method, values: Values, keywords: Keywords) -> Any:
    """Return ``owner.name(*values, **keywords)``."""
    owner, name = method.owner, method.name
    if isinstance(owner, Gradient):
        if name == "detach_":
            return owner
        empty_gradient(reading, owner.tensor, zeros=True)
        return None
    if isinstance(owner, Data):
        with reading.grad_mode(enabled=False):
            return fill_parameter(reading, name, owner.tensor, values, keywords)
    if not isinstance(owner, Tensor):
        if keywords:
            raise Unreadable(f".{name} of {describe(owner)} is read without keywords")
        return _python_method(reading, owner, name, values)
    return _tensor_method(reading, owner, name, values, keywords)


def _tensor_method(
    reading: Reading, owner: Tensor, name: str, values: Values, keywords: Keywords
) -> Any:
    values = [tensor_of(reading, value) for value in values]
    keywords = {key: tensor_of(reading, value) for key, value in keywords.items()}
    count_listed(reading, *values, *keywords.values())
    special = METHODS.get(name)
    if special is not None:
        return special(reading, owner, values, keywords)
    if name in ("view", "reshape") and not keywords and leaves.reshaped(owner, values):
        return owner
    if name.startswith("__"):
        raise Unreadable(f"{name} is not called by its name here; write the operator itself")
    if name in FILLED and owner.is_parameter:
        return fill_parameter(reading, name, owner, values, keywords)
    if name.endswith("_"):
        raise Unreadable(in_place(name))
    if not _is_method(name):
        raise Unreadable(f"a tensor has no method {name}")
    return apply(reading, name, [owner, *values], keywords)


def _operate(
    name: str, reading: Reading, owner: Tensor, values: Values, keywords: Keywords
) -> Tensor:
    """``x.add_(y)`` and its like: what ``x += y`` does."""
    known = {"alpha"} if name in ("add_", "sub_") else set()
    given = [*values, *([keywords["other"]] if "other" in keywords else [])]
    if len(given) != 1 or not keywords.keys() <= known | {"other"}:
        raise Unreadable(in_place(name))
    first = owner.past[0][1].node if owner.past else owner.node
    operate(reading, OPERATORS[name], owner, given[0], keywords.get("alpha"))
    if first.id:
        reading.graph.name(owner.node, first.id)
    return owner


LIST_METHODS = frozenset("append extend insert pop index count copy reverse remove".split())
DICT_METHODS = frozenset("keys values items get".split())


def _python_method(reading: Reading, owner: Any, name: str, values: Values) -> Any:
    if isinstance(owner, list) and name in LIST_METHODS:
        return _list_method(reading, owner, name, values)
    if isinstance(owner, dict) and name in DICT_METHODS:
        found = _attempt_method(owner, name, values)
        if isinstance(found, Tensor):
            found.held = True
        return found  # what is not one value is a view, which follows the dict
    if isinstance(owner, Several) and name in ("count", "index"):
        raise Unreadable("the outputs of an op are read by number or name")
    raise Unreadable(f"{describe(owner)} has no method {name} that is read here")


def _list_method(reading: Reading, owner: list[Any], name: str, values: Values) -> Any:
    if name in ("count", "index", "remove"):
        check_comparable(reading, owner, list(values))
    if name == "extend" and len(values) == 1:
        values = [items_of(reading, values[0])]
        check_items(len(owner) + len(values[0]))
    if name == "copy":
        reading.spend(len(owner))
    elif name in ("insert", "reverse", "remove") or (name == "pop" and values):
        reading.spend(len(owner) // AT_ONCE)
    return _attempt_method(owner, name, values)


def _attempt_method(owner: Any, name: str, values: Values) -> Any:
    return attempt(getattr(owner, name), *values)


def _to(reading: Reading, owner: Tensor, values: Values, keywords: Keywords) -> Any:
    """``x.to(...)``, without the device, which is the request's."""
    kept = []
    for value in values:
        if isinstance(value, Device | str):
            leaves.on_cpu(value)
        else:
            kept.append(value)
    settings = dict(keywords)
    leaves.on_cpu(settings.pop("device", None))
    return apply(reading, "to", [owner, *kept], settings) if kept or settings else owner


def _type(reading: Reading, owner: Tensor, values: Values, _keywords: Keywords) -> Any:
    dtype = dtype_name(values[0]) if values else None
    if dtype is None:
        raise Unreadable(".type() is read with a dtype")
    return apply(reading, "to", [owner], {"dtype": DType(dtype)})


def _clone(reading: Reading, owner: Tensor, values: Values, keywords: Keywords) -> Any:
    fresh = "value_base64" in owner.node.fields and not (owner.node.id or owner.held)
    return owner if fresh else apply(reading, "clone", [owner, *values], keywords)


PARTS = frozenset("split chunk unbind tensor_split hsplit vsplit dsplit split_with_sizes".split())
"""Ops whose outputs are all parts of one tensor."""


def _retain(reading: Reading, owner: Tensor, *_arguments: Any) -> None:
    """``x.retain_grad()``; after a backward pass there is nothing left of it to keep."""
    node = owner.node
    if owner.ref.output is not None and last_part(node.op) in PARTS:
        raise Unreadable("the gradient of one part alone cannot be kept; write part = part * 1")
    if not (owner.ref.tracked or node.half_cut):
        raise Unreadable("can't retain_grad on Tensor that has requires_grad=False")
    if node.op is None or node.retain_grad:
        return
    check_own_grad(owner)
    passes.retain(reading, node)
    reading.retained.append(ref(owner))


def _requires_grad(reading: Reading, owner: Tensor, values: Values, keywords: Keywords) -> Tensor:
    wanted = values[0] if values else keywords.get("requires_grad", True)
    return (leaves.require_grad if wanted else leaves.forget_grad)(reading, owner)


def _size(_reading: Reading, owner: Tensor, values: Values, keywords: Keywords) -> Any:
    shape = known_shape(owner)
    at = values[0] if values else keywords.get("dim")
    if at is None:
        return shape
    if not (isinstance(at, int) and -len(shape) <= at < len(shape)):
        raise Unreadable(f"there is no dimension {at if isinstance(at, int) else describe(at)}")
    return shape[at]


def _where(reading: Reading, owner: Tensor, values: Values, keywords: Keywords) -> Any:
    """``x.where(condition, other)``: the condition is the first argument, not the tensor."""
    settings = dict(keywords)
    condition = values[0] if values else settings.pop("condition", None)
    return apply(reading, "where", [condition, owner, *values[1:]], settings)


def _number(_reading: Reading, owner: Tensor, *_arguments: Any) -> Unknown:
    """``x.item()``, to be noted and printed: what is computed with it is no part of a graph."""
    if owner.ref.shape is not None and math.prod(owner.ref.shape) != 1:
        count = math.prod(owner.ref.shape)
        raise Unreadable(f"a Tensor with {count} elements cannot be converted to Scalar")
    return Unknown(ASKS_FOR_VALUE.format(".item()"))


METHODS: Mapping[str, Callable[..., Any]] = {
    "backward": passes.backward,
    "retain_grad": _retain,
    "requires_grad_": _requires_grad,
    "to": _to,
    "type": _type,
    "cpu": lambda _reading, owner, *_arguments: owner,
    "clone": _clone,
    "where": _where,
    "size": _size,
    **dict.fromkeys(
        ("dim", "ndimension"), lambda _reading, owner, *_arguments: len(known_shape(owner))
    ),
    **dict.fromkeys(
        ("numel", "nelement"), lambda _reading, owner, *_arguments: math.prod(known_shape(owner))
    ),
    "cuda": lambda *_arguments: leaves.on_cpu("cuda"),
    "item": _number,
    "tolist": lambda *_arguments: Unknown(ASKS_FOR_VALUE.format(".tolist()")),
    **{name: partial(_operate, name) for name in OPERATORS},
}
