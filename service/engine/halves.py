"""The fewest digits of a half: which float64 to print in place of a float16 or bfloat16.

orjson prints a float64 with the fewest digits that read back to it. The decimal with the fewest
digits that reads back to a half has at most five, and no float64 has two decimals so short, so
printing the float64 next to that decimal prints the decimal. There are 65,536 halves of each kind:
a table maps the bits of a half to its float64, filled when first needed.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal
from functools import cache

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float64]

MAX_DIGITS = 5
"""Enough for every half."""


@cache
def printed_halves(dtype: torch.dtype) -> Floats:
    """Return, by the bits of a half (uint16), the float64 with its fewest digits; some 60 ms.

    NaN and the infinities are themselves, -0.0 keeps its sign.
    """
    table = torch.arange(0x8000, dtype=torch.int32).to(torch.int16).view(dtype).double().numpy()
    left = np.flatnonzero(np.isfinite(table))
    # Halves lie closer together below a power of two than above it: only there a decimal that is
    # not the nearest of its length can read back, and it is the next one above.
    powers = np.frexp(table)[0] == 0.5
    decimals = table.copy()
    for digits in range(1, MAX_DIGITS + 1):
        values = table[left]
        nearest = np.array([float(f"{value:.{digits - 1}e}") for value in values.tolist()])
        same = _read(nearest, dtype) == values
        for at in np.flatnonzero(powers[left] & ~same):
            above = _decimal_above(values[at], digits)
            if _read(above, dtype) == values[at]:
                nearest[at], same[at] = above, True
        decimals[left[same]] = nearest[same]
        left = left[~same]
    return np.concatenate([decimals, -decimals])


def _read(numbers: Floats | float, dtype: torch.dtype) -> Floats:
    """Return what becomes of ``numbers`` when they are read as ``dtype``."""
    read: Floats = torch.as_tensor(numbers, dtype=torch.float64).to(dtype).double().numpy()
    return read


def _decimal_above(value: float, digits: int) -> float:
    """Return the smallest decimal of so many digits that is not below ``value``."""
    return float(Context(digits, ROUND_CEILING).plus(Decimal(float(value))))


def floats_of_halves(tensor: torch.Tensor) -> Floats:
    """Return an array of a half tensor's shape: the float64 to print for each half."""
    dense = tensor.detach().resolve_neg().contiguous()
    bits = dense.view(torch.int16).numpy(force=True).view(np.uint16)
    return printed_halves(tensor.dtype)[bits]
