"""What works in place: a tensor that names hold becomes the next node, or is refused.

A node of a graph never changes. Where PyTorch would change other tensors with it, would raise, or
would keep what a graph cannot, the script is refused.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from functools import cache
from types import FunctionType
from typing import Any

import torch

from service.translate.arguments import describe
from service.translate.element_types import kind_of, last_part
from service.translate.folding import is_number
from service.translate.leaves import require_grad
from service.translate.operations import LIKE_ANOTHER, apply, compute
from service.translate.operators import BINARY_OPS, binary_operator
from service.translate.passes import was_passed
from service.translate.reading import Reading
from service.translate.shape_rules import broadcast
from service.translate.unreadable import Unreadable
from service.translate.values import DType, Node, Tensor, Values, references, walk

KEEPS_DTYPE = (
    "an in-place operator keeps the dtype of its left side, and the dtypes are known only when the "
    "graph runs; write x = x ... instead"
)
ORDER = ("bool", "int", "float", "complex")
"""Kinds of tensors; one that is written into takes its own kind and those before it."""


def check_changeable(reading: Reading, held: Tensor) -> None:
    """Refuse a tensor that PyTorch would not change in place, or not alone."""
    node = held.node
    if node.inference and not reading.inference:
        raise Unreadable("Inplace update to inference tensor outside InferenceMode is not allowed.")
    if node.requires_grad and reading.grad_enabled:
        raise Unreadable(
            "a leaf Variable that requires grad is being used in an in-place operation."
        )
    if node.shares_memory and _is_seen_elsewhere(held):
        raise Unreadable(
            "this would also change the tensors that share memory with it as views; write "
            "x = x ... instead"
        )
    if node.tracked and not node.requires_grad and not reading.grad_enabled:
        raise Unreadable(
            "in place under no_grad this changes the value of a tensor, and its history stays as "
            "it was, which a graph cannot say; write x = x ... instead"
        )
    if node.retain_grad and was_passed(reading, node):
        raise Unreadable("this tensor keeps a gradient from before; write x = x ... instead")


def _is_seen_elsewhere(held: Tensor) -> bool:
    """Whether another tensor that the script still has may look at the memory of this one.

    What is a view itself counts as one that has, but for ``detach``, whose history is its own.
    """
    node = held.node
    if node.is_view and (node.op != "detach" or (node.tracked and not node.requires_grad)):
        return True
    family = _family(node)
    return any(member.kept for member in family) or any(
        one is not held and (one.now.node if isinstance(one, Tensor) else one.node) is member
        for member in family
        for holder in member.holders
        if (one := holder()) is not None
    )


def _family(node: Node) -> set[Node]:
    """Return the nodes that may share memory with one."""

    def near(one: Node) -> list[Node]:
        made_of = references(one.inputs) if one.is_view else []
        made_of = made_of[:1] if last_part(one.op) in LIKE_ANOTHER else made_of
        return [*one.views, *one.twins, *(ref.node for ref in made_of)]

    return set(walk([node], near))


def become(reading: Reading, held: Tensor, result: Tensor) -> None:
    """Let every name that holds a tensor hold what was computed in its place."""
    node = held.node
    for one in _family(node):
        one.overwritten = True  # what looks at it is another value from now on, too
    if node.retain_grad:
        node.retain_grad, result.node.retain_grad = False, result.node.tracked
    if node.requires_grad:
        require_grad(reading, result)
    held.move(result.ref, len(reading.graph.roots))


def operate(
    reading: Reading, op: ast.operator, held: Tensor, value: Any, alpha: Any = None
) -> None:
    """Read ``held op= value``; ``alpha`` times the value, as ``add_`` and ``sub_`` have it."""
    if not (isinstance(value, Tensor) or is_number(value)):
        raise Unreadable(f"{describe(value)} cannot be computed with a tensor")
    check_changeable(reading, held)
    _check_shape(reading, held, value)
    dtype = held.ref.type.dtype
    one_float = reading.graph.float_dtypes | {reading.graph.dtype}
    converts = _converts(op, held, value, one_float=len(one_float) == 1)
    if alpha is None:
        result = binary_operator(reading, op, held, value)
    else:
        result = compute(reading, BINARY_OPS[type(op)], held, value, alpha=alpha)
    result.node.overwrites = held.node
    if converts:
        result = compute(reading, "to", result, dtype=DType(dtype or ""))
        result.node.shares_memory = False  # with nothing that has a name
    become(reading, held, result)


def apply_maybe_in_place(
    reading: Reading, name: str, values: Values, settings: Mapping[str, Any]
) -> Any:
    """Call an op; with ``inplace=True`` its tensor becomes the result."""
    if not _takes_inplace(name):
        return apply(reading, name, values, settings)
    rest = dict(settings)
    in_place = rest.pop("inplace", False)
    held = values[0] if values else rest.get("input")
    if not in_place or not isinstance(held, Tensor):
        return apply(reading, name, values, rest)
    check_changeable(reading, held)
    result = compute(reading, name, *values, **rest)
    result.node.overwrites = held.node
    become(reading, held, result)
    return held


@cache
def _takes_inplace(name: str) -> bool:
    """Whether PyTorch's function has the keyword: some of those that are written in Python do."""
    function = getattr(torch.nn.functional, name.removeprefix("nn.functional."), None)
    if not isinstance(function, FunctionType) or not name.startswith("nn.functional."):
        return False
    return "inplace" in inspect.signature(function).parameters


def _check_shape(reading: Reading, held: Tensor, value: Any) -> None:
    """Refuse a value that makes the result outgrow ``held``, as PyTorch does in place.

    Where a run alone knows the shapes, an op beside the way says it: one that raises there. Its
    result goes nowhere: a tensor without dimensions promotes no dtype, an expanded one does.
    """
    own = held.ref.shape
    other = value.ref.shape if isinstance(value, Tensor) else ()
    if own is not None and other is not None:
        if broadcast([own, other]) not in (own, None):
            raise Unreadable(
                f"a tensor of shape {list(own)} cannot hold the result, which has the shape of "
                f"{list(other)} too"
            )
    elif value is not held and other != ():
        compute(reading, "expand_as", value, held)


def _converts(op: ast.operator, held: Tensor, value: Any, *, one_float: bool) -> bool:
    """Whether the result has to be converted back, as PyTorch keeps the dtype of the left side.

    ``one_float``: all floats of the script are of one dtype.
    """
    left = held.ref.type.kind
    right = _kind(value)
    if isinstance(op, ast.Div) and left in ("bool", "int"):
        right = "float" if right in ("bool", "int", None) else right
    if left is None or right is None:
        raise Unreadable(KEEPS_DTYPE)
    if ORDER.index(right) > ORDER.index(left):
        raise Unreadable(f"result type {right} cannot be cast to {left}, the type on the left")
    if not isinstance(value, Tensor):
        return False
    dtypes = (held.ref.type.dtype, value.ref.type.dtype)
    if right != left and left != "complex":
        return False
    if left == right == "float" and one_float:
        return False
    if None in dtypes:
        raise Unreadable(KEEPS_DTYPE)
    return dtypes[0] != dtypes[1]


def _kind(value: Any) -> str | None:
    if isinstance(value, Tensor):
        return value.ref.type.kind
    return kind_of({bool: "bool", int: "int64", float: "float", complex: "complex"}[type(value)])
