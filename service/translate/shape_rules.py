"""How the shape of a result follows from those of its tensors, op by op.

A rule gets the shapes of the tensors in the order of the call, and the other arguments by name; it
returns None where it does not know. What PyTorch refuses may be answered in any way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, TypeGuard

from service.translate.values import Ref

Shape = tuple[int, ...]
Rule = Callable[[Sequence[Shape], Mapping[str, Any]], Shape | None]


def are_numbers(value: Any) -> TypeGuard[list[int]]:
    """Whether a value is a list of whole numbers, as sizes and dimensions are."""
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


def _like_first(shapes: Sequence[Shape], _attrs: Mapping[str, Any]) -> Shape:
    """Return the shape of the first tensor."""
    return shapes[0]


def _like_second(shapes: Sequence[Shape], _attrs: Mapping[str, Any]) -> Shape:
    """Return the shape of the second tensor, an index."""
    return shapes[1]


def reduced(shape: Shape, attrs: Mapping[str, Any]) -> Shape | None:
    """Return the shape of a sum over some dimensions, or over all."""
    dims = attrs.get("dim")
    if dims is None:
        return tuple(1 for _ in shape) if attrs.get("keepdim") else ()
    dims = dims if isinstance(dims, list) else [dims]
    are_there = are_numbers(dims) and all(-len(shape) <= dim < len(shape) for dim in dims)
    if not dims or not are_there:
        return None
    gone = {dim % len(shape) for dim in dims}
    if attrs.get("keepdim"):
        return tuple(1 if k in gone else size for k, size in enumerate(shape))
    return tuple(size for k, size in enumerate(shape) if k not in gone)


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


def _viewed(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    sizes = attrs.get("size", attrs.get("shape"))
    if not are_numbers(sizes):
        return None
    count = math.prod(shapes[0])
    rest = math.prod(size for size in sizes if size != -1)
    return tuple(count // rest if size == -1 else size for size in sizes) if rest else None


def _concatenated(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    dim = attrs.get("dim", 0)
    shapes = [shape for shape in shapes if shape != (0,)] or shapes  # PyTorch passes over those
    sizes = list(shapes[0])
    sizes[dim] = sum(shape[dim] for shape in shapes)
    return tuple(sizes)


def _stacked(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    sizes = list(shapes[0])
    dim = attrs.get("dim", 0)
    sizes.insert(dim if dim >= 0 else dim + len(sizes) + 1, len(shapes))
    return tuple(sizes)


def _flattened(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    shape = shapes[0] or (1,)
    start, end = attrs.get("start_dim", 0) % len(shape), attrs.get("end_dim", -1) % len(shape)
    return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


WHOLE = {"slice": [None, None, None]}


def _indexed(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    """Return the shape of ``x[...]``, where no mask picks items."""
    index = attrs["index"]
    left = len(shapes[0]) - sum(item is not None and item != "..." for item in index)
    if left < 0 or index.count("...") > 1 or any(isinstance(item, bool) for item in index):
        return None
    at = index.index("...") if "..." in index else len(index)
    sizes = list(shapes[0])
    found: list[int] = []
    picks: list[Shape] = []
    places: list[int] = []
    for item in [*index[:at], *[WHOLE] * left, *index[at + 1 :]]:
        size = 1 if item is None else sizes.pop(0)
        if item is None:
            found.append(size)
        elif isinstance(item, dict):
            found.append(len(range(*slice(*item["slice"]).indices(size))))
        elif (picked := _picked(item)) is None:
            return None
        elif picked:  # of a single number nothing is left
            picks.append(picked)
            places.append(len(found))
    wide = broadcast(picks)
    front = places[0] if len(set(places)) == 1 else 0
    return None if wide is None else (*found[:front], *wide, *found[front:])


def _picked(item: Any) -> Shape | None:
    """Return the shape of whole numbers that pick items, None where they may be a mask."""
    if isinstance(item, Ref):
        return item.shape if item.type.kind == "int" and item.type.dtype != "uint8" else None
    sizes = []
    while isinstance(item, list):
        sizes.append(len(item))
        item = item[0] if item else 0
    return tuple(sizes) if type(item) is int else None


def _selected(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    sizes = list(shapes[0])
    del sizes[attrs["dim"]]
    return tuple(sizes)


def _narrowed(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    sizes = list(shapes[0])
    sizes[attrs["dim"]] = attrs["length"]
    return tuple(sizes)


def _index_selected(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    sizes = list(shapes[0])
    if sizes:
        sizes[attrs["dim"]] = math.prod(shapes[1])
    return tuple(sizes)


def _squeezed(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    shape, dims = shapes[0], attrs.get("dim")
    if dims is None:
        return tuple(size for size in shape if size != 1)
    dims = dims if isinstance(dims, list) else [dims]
    if not are_numbers(dims):
        return None
    gone = {dim % len(shape) for dim in dims} if shape else set()
    return tuple(size for k, size in enumerate(shape) if size != 1 or k not in gone)


def _expanded(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    sizes = attrs["size"]
    if not are_numbers(sizes):
        return None
    own = (1,) * (len(sizes) - len(shapes[0])) + shapes[0]
    return tuple(n if size == -1 else size for n, size in zip(own, sizes, strict=True))


def _repeated(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    times = attrs["repeats"]
    if not are_numbers(times):
        return None
    own = (1,) * (len(times) - len(shapes[0])) + shapes[0]
    return tuple(n * count for n, count in zip(own, times, strict=True))


def _outer(shapes: Sequence[Shape], _attrs: Mapping[str, Any]) -> Shape:
    return (*shapes[0], *shapes[1])


def _diagonal(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    offset = attrs.get("diagonal", 0)
    if len(shapes[0]) == 1:
        return (shapes[0][0] + abs(offset),) * 2
    rows, columns = shapes[0]
    return (max(0, min(rows + min(offset, 0), columns - max(offset, 0))),)


def _swapped(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    one, other = (attrs.get(f"axis{k}", attrs.get(f"dim{k}")) for k in (0, 1))
    return _transposed(shapes, {"dim0": one, "dim1": other})


def _joined(at: int) -> Rule:
    """Return the rule of hstack (1) and vstack (0), which join along this dimension."""

    def rule(shapes: Sequence[Shape], _attrs: Mapping[str, Any]) -> Shape:
        least = 1 if at else 2
        wide = [(1,) * (least - len(shape)) + shape for shape in shapes]
        return _concatenated(wide, {"dim": min(at, len(wide[0]) - 1)})

    return rule


def _padded(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    pad = attrs["pad"]
    if not are_numbers(pad):
        return None
    sizes = list(shapes[0])
    for k in range(len(pad) // 2):
        sizes[-1 - k] += pad[2 * k] + pad[2 * k + 1]
    return tuple(sizes)


def _einsum(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    equation = attrs["equation"].replace(" ", "")
    terms, arrow, result = equation.partition("->")
    if not arrow or not equation.replace(",", "").replace("->", "").isalpha():
        return None
    sizes: dict[str, int] = {}
    for term, shape in zip(terms.split(","), shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = size if sizes.get(letter, 1) == 1 else sizes[letter]
    return tuple(sizes[letter] for letter in result) if result else ()


def _attention(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    query, key, value, *mask = shapes
    batch = query[:-2]
    plain = batch == key[:-2] == value[:-2] and not attrs.get("enable_gqa")
    is_spread = any(broadcast([batch, one[:-2]]) != batch for one in mask)
    return (*query[:-1], value[-1]) if plain and not is_spread else None


def _extreme(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    """Return the shape of ``max(x)``, or of ``max(x, y)``; a mask comes with its dim."""
    of_two = len(shapes) > 1 and "dim" not in attrs
    return broadcast(shapes) if of_two else reduced(shapes[0], attrs)


def _unconvolved(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    given, weight = shapes[:2]
    axes = len(weight) - 2

    steps, pads, extras, gaps = (
        _each(attrs.get(name, default), axes)
        for name, default in (("stride", 1), ("padding", 0), ("output_padding", 0), ("dilation", 1))
    )
    rows = zip(given[-axes:], weight[2:], steps, pads, extras, gaps, strict=True)
    sizes = [
        (n - 1) * step - 2 * pad + gap * (k - 1) + extra + 1 for n, k, step, pad, extra, gap in rows
    ]
    return (*given[: len(given) - axes - 1], weight[1] * attrs.get("groups", 1), *sizes)


def _each(value: Any, axes: int) -> list[int]:
    """Return a number for each axis."""
    numbers = value if isinstance(value, list) else [value]
    return numbers * axes if len(numbers) == 1 else numbers


def _windowed(shape: Shape, attrs: Mapping[str, Any], kernel: Sequence[int], stride: Any) -> Shape:
    """Return the sizes that a window gives that goes over the last dimensions of a shape."""
    sizes = shape[len(shape) - len(kernel) :]
    padding, dilation, steps = (
        _each(value, len(kernel))
        for value in (attrs.get("padding", 0), attrs.get("dilation", 1), stride)
    )
    rows = zip(sizes, padding, dilation, kernel, steps, strict=True)
    return tuple((n + 2 * pad - gap * (k - 1) - 1) // step + 1 for n, pad, gap, k, step in rows)


def _convolved(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    given, weight = shapes[:2]
    sizes = _windowed(given, attrs, weight[2:], attrs.get("stride", 1))
    return (*given[: len(given) - len(weight) + 1], weight[0], *sizes)


def _pooled(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    kernel = attrs["kernel_size"]
    kernel = kernel if isinstance(kernel, list) and len(kernel) == 2 else [kernel] * 2
    if attrs.get("ceil_mode") or not are_numbers(kernel):
        return None
    sizes = _windowed(shapes[0], attrs, kernel, attrs.get("stride") or kernel)
    return (*shapes[0][:-2], *sizes)


def _one_hot(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    count = attrs.get("num_classes", -1)
    return (*shapes[0], count) if count > 0 else None


def _lost(_shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    by_name = not attrs.keys() & {"reduce", "size_average"}  # the old way to say it
    return () if by_name and attrs.get("reduction", "mean") in ("mean", "sum") else None


def _lost_each(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    each = attrs.get("reduction") == "none" and len(shapes) == 2
    return broadcast(shapes) if each else _lost(shapes, attrs)


def _best(shape: Shape, attrs: Mapping[str, Any]) -> Shape:
    dim = attrs.get("dim", -1) % len(shape)
    return (*shape[:dim], attrs["k"], *shape[dim + 1 :])


def _pooled_to(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    size = attrs["output_size"]
    size = size if isinstance(size, list) else [size, size]
    return (*shapes[0][:-2], *size) if are_numbers(size) and len(size) == 2 else None


SEVERAL_RULES: Mapping[str, Callable[[Shape, Mapping[str, Any]], Shape | None]] = {
    "topk": _best,
    "sort": lambda shape, _attrs: shape,
    **dict.fromkeys(("max", "min", "median"), reduced),
}
"""Ops with several outputs of one shape."""
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot"), _matmul),
    "linear": lambda shapes, _attrs: (*shapes[0][:-1], *shapes[1][:-1]),
    "addmm": lambda shapes, _attrs: (shapes[1][0], shapes[2][1]),
    "addmv": lambda shapes, _attrs: shapes[1][:1],
    "baddbmm": lambda shapes, _attrs: (*shapes[1][:2], shapes[2][2]),
    **dict.fromkeys(("outer", "ger"), _outer),
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    "transpose": _transposed,
    **dict.fromkeys(("swapaxes", "swapdims"), _swapped),
    "mT": lambda shapes, _attrs: _transposed(shapes, {"dim0": -2, "dim1": -1}),
    **dict.fromkeys(("T", "t"), lambda shapes, _attrs: shapes[0][::-1]),
    "permute": lambda shapes, attrs: tuple(shapes[0][dim] for dim in attrs["dims"]),
    **dict.fromkeys(("view", "reshape"), _viewed),
    "ravel": lambda shapes, _attrs: (math.prod(shapes[0]),),
    "squeeze": _squeezed,
    "expand": _expanded,
    "repeat": _repeated,
    "cat": _concatenated,
    "stack": _stacked,
    "hstack": _joined(1),
    "vstack": _joined(0),
    "unsqueeze": lambda shapes, attrs: _stacked(shapes[:1], attrs),
    "flatten": _flattened,
    "getitem": _indexed,
    "select": _selected,
    "narrow": _narrowed,
    "index_select": _index_selected,
    "diag": _diagonal,
    **dict.fromkeys(("gather", "take"), _like_second),
    **dict.fromkeys(
        "scatter scatter_add index_add index_copy index_fill batch_norm group_norm prelu".split(),
        _like_first,
    ),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolved),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _unconvolved),
    **dict.fromkeys(("max_pool2d", "avg_pool2d"), _pooled),
    "adaptive_avg_pool2d": _pooled_to,
    "pad": _padded,
    "embedding": lambda shapes, _attrs: (*shapes[0], *shapes[1][1:]),
    "one_hot": _one_hot,
    "cross_entropy": _lost,
    **dict.fromkeys(
        "mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy "
        "binary_cross_entropy_with_logits".split(),
        _lost_each,
    ),
    "nll_loss": _lost,
    **dict.fromkeys(("max", "min", "median", "nanmedian"), _extreme),
}
