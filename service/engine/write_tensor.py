"""A tensor becomes the answer's JSON or base64; the tensor itself is only ever read.

Numbers are printed by orjson straight from the tensor's memory, floats with the fewest digits that
read back to the same float of the dtype. orjson writes a float that is not finite as null, so the
nulls are replaced, in order, by the three strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pybase64
import torch
from torch import Tensor

from service.engine.halves import floats_of_halves
from service.engine.writes import own_memory

OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY
LARGE = 4096
"""Elements from which on a look at the numbers is quicker than one at the printed text."""

HALVES: Final = frozenset({torch.float16, torch.bfloat16})

MAX_ARRAY_AXES = 63
"""NumPy has 64, and a complex tensor needs one more for its pairs."""


def json_fragment(tensor: Tensor) -> Any:
    """Return what ``orjson.dumps(..., option=OPT_SERIALIZE_NUMPY)`` prints as nested lists.

    That is ready text, or an array that shares the tensor's memory and is printed in place. Any
    dtype of the contract; a complex element is ``[re, im]``, a float that is not finite one of
    "NaN", "Infinity" and "-Infinity".
    """
    tensor = own_memory(tensor)
    if not tensor.numel():
        return orjson.Fragment(_empty(tensor.shape))
    if tensor.dim() > MAX_ARRAY_AXES:
        return orjson.Fragment(_nested(tensor))
    array = _array(tensor)
    if not array.ndim:
        array = array[()]  # orjson takes NumPy's scalars, but no array without axes
    if array.dtype.kind != "f":
        return array
    if array.size > LARGE and np.isfinite(array).all():
        return array
    text = orjson.dumps(array, option=OPTIONS)
    return orjson.Fragment(_with_names(text, array) if b"null" in text else text)


def _empty(sizes: Sequence[int]) -> bytes:
    """Return the text of a tensor without elements: the sizes behind the first 0 have no lists."""
    text = b"[]"
    for size in reversed(sizes[: sizes.index(0)]):
        text = b"[" + b",".join([text] * size) + b"]"
    return text


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    """Return the numbers to print: of the tensor's shape, C-contiguous."""
    halves = tensor.dtype in HALVES
    array: npt.NDArray[Any] = floats_of_halves(tensor) if halves else tensor.numpy(force=True)
    if tensor.dtype == torch.bool:
        array = _zeros_and_ones(array)
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    if array.dtype.kind == "c":
        part = array.real.dtype
        return array.reshape(-1).view(part).reshape(*array.shape, 2)
    return array


def _with_names(text: bytes, array: npt.NDArray[Any]) -> bytes:
    """Put the names of the numbers that are not finite in the place of the nulls in ``text``."""
    flat = array.reshape(-1)
    odd = flat[~np.isfinite(flat)]
    names = np.where(np.isnan(odd), b'"NaN"', np.where(odd > 0, b'"Infinity"', b'"-Infinity"'))
    pieces = text.split(b"null")
    both: list[bytes] = [b""] * (2 * len(pieces) - 1)
    both[::2] = pieces
    both[1::2] = names.tolist()
    return b"".join(both)


def _nested(tensor: Tensor) -> bytes:
    """Return the text of a tensor with more axes than NumPy has; most of them are of size 1."""
    rows = [orjson.dumps(json_fragment(item), option=OPTIONS) for item in tensor.reshape(-1)]
    for size in reversed(tensor.shape):
        rows = [b"[" + b",".join(rows[at : at + size]) + b"]" for at in range(0, len(rows), size)]
    return rows[0]


def base64_text(tensor: Tensor) -> str:
    """Return the tensor's row-major little-endian bytes in base64, of any dtype of the contract."""
    return pybase64.b64encode_as_string(_laid_out(tensor))


def base64_bytes(tensor: Tensor) -> bytes:
    """Return :func:`base64_text` in ASCII."""
    coded: bytes = pybase64.b64encode(_laid_out(tensor))
    return coded


def raw_bytes(tensor: Tensor) -> memoryview:
    """Return the tensor's row-major little-endian bytes, without a copy where they lie so."""
    return memoryview(_laid_out(tensor).reshape(-1).view(np.uint8))


def _laid_out(tensor: Tensor) -> Any:
    """Return the tensor as a C-contiguous array of the same bytes."""
    tensor = own_memory(tensor)
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.detach().resolve_neg().contiguous().view(torch.int16)
    if tensor.dim() > MAX_ARRAY_AXES or not tensor.numel():
        tensor = tensor.detach().reshape(-1)
    array: npt.NDArray[Any] = tensor.numpy(force=True)
    if tensor.dtype == torch.bool:
        array = _zeros_and_ones(array)
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _zeros_and_ones(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the same bools of the bytes 0 and 1: what PyTorch views as bool keeps its bytes.

    Any but 0 is true, and printed as true.
    """
    raw = array.view(np.uint8)
    return raw != 0 if raw.size and raw.max() > 1 else array
