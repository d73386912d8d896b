"""Many small tensors are printed as lists of Python's numbers, which is quicker than as arrays.

A graph of thousands of nodes mostly has tensors of a few numbers, and reaching into each by way of
NumPy costs several times what its numbers cost; ``tolist()`` is a single call. Only float32 needs
more: Python's floats are doubles, and most of those that equal a float32 print with more digits
than it needs. Unless all are short, they go through one array and come back as NumPy's scalars,
which orjson prints with the fewest digits of their own dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from math import isfinite
from typing import Any, Final

import numpy as np
import orjson
import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors as laid_end_to_end
from torch._utils import _unflatten_dense_tensors as taken_apart

from service.engine.write_tensor import MAX_ARRAY_AXES, json_fragment
from service.engine.writes import own_memory

SMALL: Final = 64
"""Elements up to which lists are quicker than an array."""

FLOATS: Final = frozenset({torch.float32, torch.float64})
PRINTED_AS_LISTS: Final = FLOATS | {torch.int64, torch.int32, torch.uint8, torch.bool}

NUMBERS_TO_0: Final = bytes.maketrans(b"123456789.", b"0000000000")
LONG: Final = b"0" * 8
"""Digits and a point that a number of six digits or less does not have."""

NAMES: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def json_fragments(tensors: Sequence[Tensor | None]) -> list[Any]:
    """Return what orjson prints as the nested lists of each tensor; None for None.

    That is what :func:`json_fragment` returns, or lists of numbers and the three strings.
    """
    tensors = _on_cpu(tensors)
    fragments: list[Any] = [None] * len(tensors)
    singles: list[int] = []
    for place, tensor in enumerate(tensors):
        if tensor is None:
            continue
        dtype = tensor.dtype
        few = 0 < tensor.numel() <= SMALL and tensor.dim() <= MAX_ARRAY_AXES
        if not few or dtype not in PRINTED_AS_LISTS:
            fragments[place] = json_fragment(tensor)
            continue
        tree = fragments[place] = own_memory(tensor).tolist()
        if dtype is torch.float32:
            singles.append(place)
        elif dtype is torch.float64 and not _all_finite(flat := _leaves(tree)):
            fragments[place] = _like(tree, iter(_named(flat)))
    if not _are_short(orjson.dumps([fragments[place] for place in singles])):
        _shorten(fragments, singles)
    return fragments


def _are_short(text: bytes) -> bool:
    """Return whether all numbers in ``text`` are finite and have six digits or less.

    Those are the fewest digits of a float32 just as they are of the double that is equal to it,
    since no two decimals of six digits round to the same float32. (A number with an exponent may
    be below the range where that holds.)
    """
    return LONG not in text.translate(NUMBERS_TO_0) and b"e" not in text and b"n" not in text


def _shorten(fragments: list[Any], singles: Sequence[int]) -> None:
    """Give the float32 in the places of ``singles`` the fewest digits of a float32, in place."""
    scalars = [place for place in singles if fragments[place].__class__ is not list]
    rows: list[list[Any]] = []
    for place in singles:
        if fragments[place].__class__ is list:
            rows += _rows(fragments[place])
    numbers = [fragments[place] for place in scalars]
    numbers += chain.from_iterable(rows)
    printed: list[Any] = list(np.array(numbers, np.float32))
    left = iter(printed if _all_finite(numbers) else _named(printed))
    for place in scalars:
        fragments[place] = next(left)
    for row in rows:
        row[:] = islice(left, len(row))


def _on_cpu(tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """Return ``tensors`` with the small ones on the CPU, all of a dtype brought in one copy."""
    for tensor in tensors:
        if tensor is not None:
            if tensor.is_cpu:
                return tensors
            break
    there = list(tensors)
    alike: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for place, tensor in enumerate(tensors):
        if tensor is not None and 0 < tensor.numel() <= SMALL:
            alike.setdefault((tensor.device, tensor.dtype), []).append(place)
    with torch.no_grad():
        for places in alike.values():
            originals = [tensors[place] for place in places]
            joined = laid_end_to_end(originals).cpu()  # type: ignore[no-untyped-call]
            copies = taken_apart(joined, originals)  # type: ignore[no-untyped-call]
            for place, copy in zip(places, copies, strict=True):
                there[place] = copy
    return there


def _all_finite(numbers: list[float]) -> bool:
    """Return whether no number is infinite or NaN; False also where only their sum overflows."""
    total = sum(numbers)
    return total - total == 0


def _named(numbers: list[Any]) -> list[Any]:
    """Return ``numbers`` with the names of those that are not finite in their place."""
    return [number if isfinite(number) else NAMES[repr(float(number))] for number in numbers]


def _rows(tree: list[Any]) -> list[list[Any]]:
    """Return the innermost of nested lists, those of numbers, in their order."""
    rows = [tree]
    while rows[0][0].__class__ is list:
        rows = list(chain.from_iterable(rows))
    return rows


def _leaves(tree: Any) -> list[Any]:
    """Return the numbers of nested lists in their order."""
    return list(chain.from_iterable(_rows(tree))) if tree.__class__ is list else [tree]


def _like(tree: Any, numbers: Iterator[Any]) -> Any:
    """Return lists nested as in ``tree``, of the next ``numbers``."""
    if tree.__class__ is not list:
        return next(numbers)
    if tree[0].__class__ is not list:
        return list(islice(numbers, len(tree)))
    return [_like(branch, numbers) for branch in tree]
