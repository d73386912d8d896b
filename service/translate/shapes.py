"""Shapes of results, as far as a script shows them: ``k.shape[-1]`` is a number in a script.

Only what everyday scripts ask for; the shape of any other result is known when the graph runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from service.translate.values import Node, Ref, references

Shape = tuple[int, ...]

ELEMENTWISE = frozenset(
    "add sub rsub mul div pow floor_divide remainder eq ne lt le gt ge maximum minimum where "
    "masked_fill neg positive abs exp log sqrt rsqrt sin cos tan tanh sigmoid relu gelu silu "
    "softplus square reciprocal sign floor ceil round clamp softmax log_softmax dropout detach "
    "clone contiguous to float double half long bool logical_not bitwise_and bitwise_or "
    "bitwise_not cumsum cumprod tril triu zeros_like ones_like full_like rand_like randn_like "
    "leaky_relu elu layer_norm rms_norm isnan isfinite".split()
)
"""Ops whose result has the shape of their tensors, broadcast against each other."""

REDUCTIONS = frozenset(
    "sum mean prod amax amin logsumexp all any norm var std argmax argmin".split()
)


def shape_of_result(node: Node) -> Shape | None:
    """Return the shape of an op's only result, None where it is not known here."""
    last = (node.op or "").rpartition(".")[2]
    refs: list[Ref] = references(node.inputs, node.attrs)
    shapes = [ref.node.shape if ref.output is None else None for ref in refs]
    if not refs:
        size: Any = node.attrs.get("size")
        return tuple(size) if _are_numbers(size) else None
    if any(shape is None for shape in shapes):
        return None
    known = [shape for shape in shapes if shape is not None]
    if last == "to":
        return known[0]
    if last in ELEMENTWISE:
        return broadcast(known)
    if last in REDUCTIONS:
        return _reduced(known[0], node.attrs)
    rule = RULES.get(last)
    try:
        return None if rule is None else rule(known, node.attrs)
    except (IndexError, TypeError, ValueError):
        return None  # PyTorch will say what is wrong


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def broadcast(shapes: Sequence[Shape]) -> Shape | None:
    """Return the shape of an op on tensors of these shapes, None where they do not fit."""
    sizes = []
    for column in zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1):
        wide = {size for size in column if size != 1}
        if len(wide) > 1:
            return None
        sizes.append(wide.pop() if wide else 1)
    return tuple(reversed(sizes))


def _reduced(shape: Shape, attrs: Mapping[str, Any]) -> Shape | None:
    dims = attrs.get("dim")
    if dims is None:
        return tuple(1 for _ in shape) if attrs.get("keepdim") else ()
    dims = dims if isinstance(dims, list) else [dims]
    if not _are_numbers(dims) or not all(-len(shape) <= dim < len(shape) for dim in dims):
        return None
    gone = {dim % len(shape) for dim in dims}
    kept = ((1 if k in gone else size) for k, size in enumerate(shape))
    return (
        tuple(kept)
        if attrs.get("keepdim")
        else tuple(size for k, size in enumerate(shape) if k not in gone)
    )


def _matmul(shapes: Sequence[Shape], _attrs: Mapping[str, Any]) -> Shape | None:
    left, right = shapes
    rows = left[-2:-1]
    columns = right[-1:] if len(right) > 1 else ()
    batch = broadcast([left[:-2], right[:-2]])
    return None if batch is None else (*batch, *rows, *columns)


def _transposed(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    sizes = list(shapes[0])
    one, other = attrs["dim0"], attrs["dim1"]
    sizes[one], sizes[other] = sizes[other], sizes[one]
    return tuple(sizes)


def _last_two_swapped(shapes: Sequence[Shape], _attrs: Mapping[str, Any]) -> Shape:
    *batch, rows, columns = shapes[0]
    return (*batch, columns, rows)


def _viewed(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    sizes = attrs.get("size", attrs.get("shape"))
    if not _are_numbers(sizes):
        return None
    count = math.prod(shapes[0])
    rest = math.prod(size for size in sizes if size != -1)
    return tuple(count // rest if size == -1 else size for size in sizes) if rest else None


def _concatenated(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    dim = attrs.get("dim", 0)
    sizes = list(shapes[0])
    sizes[dim] = sum(shape[dim] for shape in shapes)
    return tuple(sizes)


def _stacked(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    sizes = list(shapes[0])
    dim = attrs.get("dim", 0)
    sizes.insert(dim if dim >= 0 else dim + len(sizes) + 1, len(shapes))
    return tuple(sizes)


def _unsqueezed(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    return _stacked([shapes[0]], attrs)


def _permuted(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    return tuple(shapes[0][dim] for dim in attrs["dims"])


def _linear(shapes: Sequence[Shape], _attrs: Mapping[str, Any]) -> Shape:
    return (*shapes[0][:-1], *shapes[1][:-1])


RULES: Mapping[str, Callable[[Sequence[Shape], Mapping[str, Any]], Shape | None]] = {
    "matmul": _matmul,
    "mm": _matmul,
    "bmm": _matmul,
    "mv": _matmul,
    "dot": _matmul,
    "linear": _linear,
    "transpose": _transposed,
    "mT": _last_two_swapped,
    "T": lambda shapes, _attrs: tuple(reversed(shapes[0])),
    "t": lambda shapes, _attrs: tuple(reversed(shapes[0])),
    "permute": _permuted,
    "view": _viewed,
    "reshape": _viewed,
    "cat": _concatenated,
    "stack": _stacked,
    "unsqueeze": _unsqueezed,
    "mse_loss": lambda _shapes, attrs: () if attrs.get("reduction", "mean") != "none" else None,
    "cross_entropy": lambda _shapes, attrs: (
        () if attrs.get("reduction", "mean") != "none" else None
    ),
}
