"""Tensors of random bits, and what it means that two are the same bit for bit."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from service.engine.dtypes import DTYPES

INTEGER_OF = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

SHAPES = st.lists(st.integers(0, 4), max_size=4).filter(lambda shape: len(shape) < 4 or 0 in shape)

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def tensors(draw: st.DrawFn, dtypes: list[str] | None = None) -> Tensor:
    """Return a tensor of any dtype and of random bits, every NaN and infinity among them."""
    dtype = DTYPES[draw(st.sampled_from(dtypes or list(DTYPES)))]
    shape = draw(SHAPES)
    numel = torch.Size(shape).numel()
    if dtype == torch.bool:
        bools = draw(st.lists(st.booleans(), min_size=numel, max_size=numel))
        return torch.tensor(bools, dtype=dtype).reshape(shape)
    raw = draw(st.binary(min_size=numel * dtype.itemsize, max_size=numel * dtype.itemsize))
    if not numel:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape)


def bits(tensor: Tensor) -> list[Any]:
    """Return what tells two tensors of a dtype apart; all NaN are one, as in JSON."""
    flat = tensor.detach().resolve_conj().resolve_neg().reshape(-1)
    if flat.is_complex():
        flat = torch.view_as_real(flat).reshape(-1)
    if flat.is_floating_point():
        flat = torch.where(flat.isnan(), torch.full_like(flat, torch.nan), flat)
    integers: list[int] = flat.contiguous().view(INTEGER_OF[flat.itemsize]).tolist()
    return [tensor.dtype, *tensor.shape, *integers]
