"""Leaves, gradients and arguments as Python source."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from service.contract.problem import BadValue, quote
from service.engine.values import NONFINITE, Hole
from service.translate.folding import flat

WIDTH = 96
INFERRED = frozenset({"float32", "int64", "bool", "complex64"})
"""Dtypes that ``torch.tensor`` gives to such numbers of itself."""
INTEGER_DTYPES = frozenset({"int64", "int32", "int16", "int8", "uint8"})


def leaf_source(leaf: Mapping[str, Any], default: str) -> str:
    """Return the expression that makes a leaf, without ``requires_grad``.

    Args:
        leaf: a Leaf of the contract, checked.
        default: the request's dtype.

    Raises:
        BadValue: the numbers do not fill the shape.
    """
    dtype = leaf.get("dtype") or default
    shape = leaf.get("shape")
    if leaf.get("value_base64"):
        text = json.dumps(leaf["value_base64"])
        return f"from_base64({text}, {tuple(shape or ())}, torch.{dtype})"
    value = [] if leaf.get("value") is None else leaf["value"]
    shape = _shape(value, dtype) if shape is None else shape
    items = list(_numbers(value, dtype))
    if len(items) != math.prod(shape):
        raise BadValue(f"{len(items)} numbers do not fill the shape {shape}", pointer="/value")
    said = "" if items and dtype in INFERRED else f", dtype=torch.{dtype}"
    if math.prod(shape) == 0:
        flat = f"torch.tensor([]{said or ', dtype=torch.' + dtype})"
        return f"{flat}.reshape({tuple(shape)})" if list(shape) != [0] else flat
    return f"torch.tensor({_nested(items, shape)}{said})"


def _shape(value: Any, dtype: str) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape[:-1] if dtype.startswith("complex") else shape


def _numbers(value: Any, dtype: str) -> Iterator[str]:
    """Yield the source of each element."""
    numbers = flat(value)
    if dtype.startswith("complex"):
        for real, imaginary in zip(numbers, numbers, strict=True):
            yield f"complex({_float(real)}, {_float(imaginary)})"
    elif dtype in INTEGER_DTYPES:
        yield from (repr(int(item)) for item in numbers)
    elif dtype == "bool":
        yield from (repr(bool(item)) for item in numbers)
    else:
        yield from map(_float, numbers)


def _float(value: Any) -> str:
    """Return a number of JSON, or one of the three strings, as a float of Python."""
    return number_source(float(_number(value)))


def _number(value: Any) -> float:
    """Return a number of JSON, or what one of the three strings means."""
    if isinstance(value, str):
        value = NONFINITE.get(value, value)
    if not isinstance(value, int | float):
        raise BadValue(f"{quote(value)} is no number", pointer="/gradient")
    return value


def number_source(value: complex) -> str:
    """Return a number as Python source that reads back exactly."""
    if isinstance(value, complex):
        return f"complex({number_source(value.real)}, {number_source(value.imag)})"
    if isinstance(value, float) and not math.isfinite(value):
        return "torch.nan" if math.isnan(value) else "torch.inf" if value > 0 else "-torch.inf"
    return repr(value)


def _nested(items: Sequence[str], shape: Sequence[int]) -> str:
    if not shape:
        return items[0]
    if len(shape) == 1:
        return f"[{', '.join(items)}]"
    size = math.prod(shape[1:])
    rows = [_nested(items[k * size : (k + 1) * size], shape[1:]) for k in range(shape[0])]
    line = f"[{', '.join(rows)}]"
    return line if len(line) <= WIDTH else "[\n    " + ",\n    ".join(rows) + ",\n]"


def json_source(value: Any) -> str:
    """Return nested lists of JSON numbers as Python source."""
    if isinstance(value, list):
        return f"[{', '.join(map(json_source, value))}]"
    return number_source(_number(value))


def argument_source(value: Any, tensors: Sequence[str]) -> str:
    """Return a bound argument as Python source.

    Args:
        value: of a template, with a :class:`Hole` where a tensor goes.
        tensors: the source of the tensor of each use.
    """
    if isinstance(value, Hole):
        return tensors[value.number]
    if isinstance(value, list):
        return f"[{', '.join(argument_source(item, tensors) for item in value)}]"
    if isinstance(value, tuple):
        inner = ", ".join(argument_source(item, tensors) for item in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, torch.dtype | torch.memory_format):
        return str(value)
    if isinstance(value, int | float | complex) and not isinstance(value, bool):
        return number_source(value)
    return repr(value)


def index_source(index: Sequence[Any], tensors: Sequence[str]) -> str:
    """Return what stands between the brackets of ``x[...]``."""
    parts = [_index_part(part, tensors) for part in index]
    if len(parts) == 1:
        # PyTorch takes nested lists by themselves for a tuple, one index for each dimension.
        nested = isinstance(index[0], list) and any(isinstance(one, list) for one in index[0])
        return parts[0] + "," * nested
    return ", ".join(parts) if parts else "()"


def _index_part(part: Any, tensors: Sequence[str]) -> str:
    if part is Ellipsis:
        return "..."
    if isinstance(part, slice):
        bounds = ["" if bound is None else repr(bound) for bound in (part.start, part.stop)]
        step = "" if part.step is None else f":{part.step}"
        return ":".join(bounds) + step
    return argument_source(part, tensors)
