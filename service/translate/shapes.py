"""Shapes of results, as far as a script shows them: ``k.shape[-1]`` is a number in a script.

Only what everyday scripts ask for; the shape of any other result is known when the graph runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, TypeGuard

from service.translate.values import Node, Ref, references

Shape = tuple[int, ...]

ELEMENTWISE = frozenset(
    "add sub rsub mul div pow floor_divide remainder eq ne lt le gt ge maximum minimum where "
    "masked_fill neg positive abs exp log sqrt rsqrt sin cos tan tanh sigmoid relu gelu silu "
    "softplus square reciprocal sign floor ceil round clamp softmax log_softmax dropout detach "
    "clone contiguous to float double half long bool logical_not bitwise_and bitwise_or "
    "bitwise_not cumsum cumprod tril triu zeros_like ones_like full_like rand_like randn_like "
    "leaky_relu elu layer_norm rms_norm isnan isfinite relu6 selu celu mish hardtanh hardswish "
    "hardsigmoid logsigmoid softsign softmin dropout2d".split()
)
"""Ops whose result has the shape of their tensors, broadcast against each other."""

REDUCTIONS = frozenset(
    "sum mean prod amax amin logsumexp all any norm var std argmax argmin".split()
)


def shape_of_result(node: Node) -> Shape | None:
    """Return the shape of an op's result, or of each of several, None where it is not known."""
    last = (node.op or "").rpartition(".")[2]
    refs: list[Ref] = references(node.inputs, node.attrs)
    shapes = [ref.shape for ref in refs]
    if node.op == "autograd.grad":
        each = {ref.shape for ref in node.inputs[1:]}
        return each.pop() if len(each) == 1 else None
    if any(shape is None for shape in shapes):
        return None
    known = [shape for shape in shapes if shape is not None]
    try:
        if not refs:
            return _made(last, node.attrs)
        if node.several:
            found = SEVERAL_RULES.get(last)
            return None if found is None else found(known[0], node.attrs)
        if last == "to":
            return known[0]
        if last in ELEMENTWISE:
            return broadcast(known)
        if last in REDUCTIONS:
            return _reduced(known[0], node.attrs)
        rule = RULES.get(last)
        return None if rule is None else rule(known, node.attrs)
    except (ArithmeticError, IndexError, TypeError, ValueError):
        return None  # PyTorch will say what is wrong


def _made(name: str, attrs: Mapping[str, Any]) -> Shape | None:
    """Return the shape of what an op makes without tensors."""
    size: Any = attrs.get("size")
    if name in ("linspace", "logspace"):
        size = [attrs.get("steps")]
    elif name == "eye":
        size = [attrs.get("n"), attrs.get("m", attrs.get("n"))]
    elif name == "randperm":
        size = [attrs.get("n")]
    elif name == "arange":
        start, end, step = attrs.get("start", 0), attrs.get("end"), attrs.get("step", 1)
        whole = are_numbers([start, end, step])
        if whole or "float" in attrs.get("dtype", "float"):
            size = [max(math.ceil((end - start) / step), 0)]  # in float64, as PyTorch
    return tuple(size) if are_numbers(size) else None


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


def _reduced(shape: Shape, attrs: Mapping[str, Any]) -> Shape | None:
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


def _indexed(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    """Return the shape of ``x[...]`` for numbers, slices, None and ``...`` alone."""
    index = attrs["index"]
    if len(shapes) > 1 or any(isinstance(item, bool | list) for item in index):
        return None
    left = len(shapes[0]) - sum(item is not None and item != "..." for item in index)
    if left < 0 or index.count("...") > 1:
        return None
    sizes = list(shapes[0])
    found: list[int] = []
    for item in index if "..." in index else [*index, "..."]:
        if item is None:
            found.append(1)
        elif item == "...":
            found.extend(sizes.pop(0) for _ in range(left))
        elif isinstance(item, int):
            sizes.pop(0)
        else:
            found.append(len(range(*slice(*item["slice"]).indices(sizes.pop(0)))))
    return tuple(found)


def _windowed(shape: Shape, attrs: Mapping[str, Any], kernel: Sequence[int], stride: Any) -> Shape:
    """Return the sizes that a window gives that goes over the last dimensions of a shape."""

    def each(value: Any) -> list[int]:
        numbers = value if isinstance(value, list) else [value]
        return numbers * len(kernel) if len(numbers) == 1 else numbers

    sizes = shape[len(shape) - len(kernel) :]
    padding, dilation = each(attrs.get("padding", 0)), each(attrs.get("dilation", 1))
    rows = zip(sizes, padding, dilation, kernel, each(stride), strict=True)
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


def _best(shape: Shape, attrs: Mapping[str, Any]) -> Shape:
    dim = attrs.get("dim", -1) % len(shape)
    return (*shape[:dim], attrs["k"], *shape[dim + 1 :])


SEVERAL_RULES: Mapping[str, Callable[[Shape, Mapping[str, Any]], Shape | None]] = {
    "topk": _best,
    "sort": lambda shape, _attrs: shape,
    **dict.fromkeys(("max", "min", "median"), _reduced),
}
"""Ops with several outputs of one shape."""


def _pooled_to(shapes: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape | None:
    size = attrs["output_size"]
    size = size if isinstance(size, list) else [size, size]
    return (*shapes[0][:-2], *size) if are_numbers(size) and len(size) == 2 else None


RULES: Mapping[str, Callable[[Sequence[Shape], Mapping[str, Any]], Shape | None]] = {
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot"), _matmul),
    "linear": lambda shapes, _attrs: (*shapes[0][:-1], *shapes[1][:-1]),
    "transpose": _transposed,
    "mT": lambda shapes, _attrs: _transposed(shapes, {"dim0": -2, "dim1": -1}),
    **dict.fromkeys(("T", "t"), lambda shapes, _attrs: shapes[0][::-1]),
    "permute": lambda shapes, attrs: tuple(shapes[0][dim] for dim in attrs["dims"]),
    **dict.fromkeys(("view", "reshape"), _viewed),
    "cat": _concatenated,
    "stack": _stacked,
    "unsqueeze": lambda shapes, attrs: _stacked(shapes[:1], attrs),
    "flatten": _flattened,
    "getitem": _indexed,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolved),
    **dict.fromkeys(("max_pool2d", "avg_pool2d"), _pooled),
    "adaptive_avg_pool2d": _pooled_to,
    **dict.fromkeys(("batch_norm", "group_norm", "prelu"), lambda shapes, _attrs: shapes[0]),
    "embedding": lambda shapes, _attrs: (*shapes[0], *shapes[1][1:]),
    "one_hot": _one_hot,
    **dict.fromkeys(("mse_loss", "cross_entropy"), _lost),
}
