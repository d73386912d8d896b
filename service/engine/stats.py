"""Statistics of a value or gradient, where ``include`` asks for ``stats``.

Computed in float64, complex elements by their magnitude, bools as 0 and 1. Few elements are counted
in Python; many in blocks that fit the cache, in two passes over the memory (three where the plain
sum overflows): the second knows the mean, and a scale with which no square over- or underflows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from service.engine.writes import own_memory

SMALL = 32
"""Elements up to which Python is quicker than NumPy."""

BLOCK = 1 << 14
"""Elements looked at in one go."""

Numbers = npt.NDArray[np.float64]


class Moments(NamedTuple):
    """Statistics of the finite elements."""

    min: float | None = None
    max: float | None = None
    mean: float | None = None
    std: float | None = None
    norm: float | None = None


class Counts(NamedTuple):
    """Counts over all elements."""

    nan_count: int
    inf_count: int
    zero_count: int


def tensor_stats(tensor: Tensor) -> dict[str, float | None]:
    """Return the contract's statistics of ``tensor``, as JSON numbers.

    ``min``, ``max``, ``mean``, ``std`` (of the population) and ``norm`` are over the finite
    elements: None where there are none, or where the result is beyond float64; all but ``min`` also
    where the magnitude of a complex element is. ``min`` and ``max`` of integers are exact.
    ``numel``, ``nan_count``, ``inf_count``, ``zero_count`` are over all.
    """
    flat = own_memory(tensor.detach().reshape(-1))
    moments, counts = _of_few(flat) if flat.numel() <= SMALL else _of_many(flat)
    return {
        "min": _finite(moments.min),
        "max": _finite(moments.max),
        "mean": _finite(moments.mean),
        "std": _finite(moments.std),
        "norm": _finite(moments.norm),
        "numel": flat.numel(),
        "nan_count": counts.nan_count,
        "inf_count": counts.inf_count,
        "zero_count": counts.zero_count,
    }


def _finite(moment: float | None) -> float | None:
    return moment if moment is not None and math.isfinite(moment) else None


def _scale(largest: float) -> float:
    """Return a power of two of about the size of ``largest``, whose inverse is a float64 too."""
    if not largest:
        return 1.0
    return math.ldexp(1.0, max(math.frexp(largest)[1] - 2, -1022))


def _of_few(flat: Tensor) -> tuple[Moments, Counts]:
    items = flat.tolist()
    finite = [item for item in items if math.isfinite(item.real) and math.isfinite(item.imag)]
    nans = infs = 0
    if len(finite) < len(items):
        nans, infs = int(flat.isnan().sum()), int(flat.isinf().sum())
    counts = Counts(nans, infs, items.count(0))
    if not finite:
        return Moments(), counts
    numbers = [math.hypot(z.real, z.imag) for z in finite] if flat.is_complex() else finite
    low, high = +min(numbers), +max(numbers)  # a bool becomes an int
    if math.isinf(high):
        return Moments(low), counts
    if len(numbers) == 1:
        mean = float(low) + 0.0  # of -0.0 it is 0.0, as a sum's
        return Moments(low, high, mean, 0.0, abs(mean)), counts
    scale = _scale(max(-low, high))
    scaled = [number / scale for number in numbers]
    mean = math.fsum(scaled) / len(scaled)
    std = math.hypot(*[number - mean for number in scaled]) / math.sqrt(len(scaled))
    return Moments(low, high, mean * scale, std * scale, math.hypot(*scaled) * scale), counts


@np.errstate(over="ignore", invalid="ignore")
def _of_many(flat: Tensor) -> tuple[Moments, Counts]:
    blocks = partial(_blocks, flat)
    nans = infs = zeros = count = 0
    low, high = math.inf, -math.inf
    sums = []
    for block, numbers in blocks():
        if numbers.size < len(block):
            nans += int(block.isnan().sum())
            infs += int(block.isinf().sum())
        if numbers.size:
            zeros += numbers.size - int(np.count_nonzero(numbers))
            count += numbers.size
            low, high = min(low, float(numbers.min())), max(high, float(numbers.max()))
            sums.append(float(numbers.sum()))
    counts = Counts(nans, infs, zeros)
    if not count:
        return Moments(), counts
    if math.isinf(high):
        return Moments(low), counts
    scale = _scale(max(-low, high))
    parts = [part / scale for part in sums]
    if not all(map(math.isfinite, parts)):
        parts = [float((numbers / scale).sum()) for _, numbers in blocks()]
    mean = math.fsum(parts) / count
    squares, deviations = [], []
    for _, numbers in blocks():
        scaled = np.multiply(numbers, 1 / scale, out=numbers)
        squares.append(float(np.square(scaled).sum()))
        scaled -= mean
        deviations.append(float(np.square(scaled, out=scaled).sum()))
    std, norm = math.sqrt(math.fsum(deviations) / count), math.sqrt(math.fsum(squares))
    if flat.dtype == torch.int64:
        low, high = (bound.item() for bound in flat.aminmax())
    return Moments(low, high, mean * scale, std * scale, norm * scale), counts


def _blocks(flat: Tensor) -> Iterator[tuple[Tensor, Numbers]]:
    """Yield each block, and what is finite of it as float64 in memory of their own."""
    for start in range(0, flat.numel(), BLOCK):
        block = flat[start : start + BLOCK]
        if block.is_complex():
            numbers = block.to(torch.complex128).abs().numpy(force=True)
            finite = block.isfinite().numpy(force=True)
        else:
            numbers = block.to(torch.float64, copy=True).numpy(force=True)
            finite = np.isfinite(numbers)
        yield block, numbers if finite.all() else numbers[finite]
