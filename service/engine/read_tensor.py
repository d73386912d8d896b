"""A leaf's value becomes a tensor of its dtype, or a problem; nothing is changed in silence.

    leaf_tensor          numbers in nested lists
    tensor_from_base64   base64 of raw bytes
    tensor_from_bytes    raw bytes

Each makes memory of PyTorch's own, aligned as PyTorch aligns it: what a kernel's last bits are may
depend on that. Numbers round as ``torch.tensor(list, dtype=...)`` rounds them: to float64, and from
there to the dtype (by way of float32 to the halves).

Lists take the fast path when a look at the types of the numbers and at the largest proves that all
of them fit; else every element is looked at, and the first that does not fit is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
import pybase64
import torch
from torch import Tensor

from service.contract.problem import BadValue, LimitExceeded, quote
from service.contract.request import MAX_AXES
from service.engine.dtypes import COMPLEX_PARTS, DTYPES, INTEGERS
from service.engine.limits import allocation_failed
from service.engine.number_array import NumberArray
from service.engine.values import NONFINITE


class Span(NamedTuple):
    """What a number may be so that it surely fits a dtype."""

    kinds: frozenset[type]
    low: float
    high: float


def _span(name: str) -> Span:
    if name == "bool":
        return Span(frozenset({bool}), 0, 1)
    if name in INTEGERS:
        integers = np.iinfo(INTEGERS[name])
        return Span(frozenset({int}), int(integers.min), int(integers.max))
    largest = torch.finfo(DTYPES[name]).max
    return Span(frozenset({int, float}), -largest, largest)


SPANS: Final = {name: _span(name) for name in DTYPES}
"""Of every dtype. Beyond the largest float a number may still round to it; rounding decides."""

EXACT_FLOATS: Final = 2**53
"""From here on the float that was read may differ from the number that was written."""
SMALL = 32
"""Elements up to which Python's own functions are quicker than NumPy's."""

Numbers = list[Any] | npt.NDArray[Any]
Refuse = Callable[[int, str], NoReturn]


def leaf_tensor(
    value: Any,
    shape: Sequence[int] | None,
    dtype: str,
    max_elements: int,
    field: str = "/value",
) -> Tensor:
    """Return the tensor that ``value`` says, on the CPU, in fresh memory.

    Args:
        value: a number, a string of NONFINITE, true or false, nested lists of these, or a
            NumberArray; complex ones have a last axis of two, ``[re, im]``.
        shape: the tensor's shape (a complex one's without the pair); None for the lists' own.
        dtype: a name of the contract.
        max_elements: the tensor may have.
        field: where the value is; pointers begin with it.

    Raises:
        BadValue: a ragged list, the wrong number of elements for ``shape``, something that is not
            a number, or a number that ``dtype`` cannot hold; with a pointer to the element.
        LimitExceeded: more than ``max_elements``.
    """
    pairs = dtype in COMPLEX_PARTS
    array = isinstance(value, NumberArray)
    axes, flat = _from_array(value, dtype, field) if array else _flatten(value, field)
    if len(axes) - pairs > MAX_AXES:
        raise BadValue(f"the lists are nested more than {MAX_AXES} deep", pointer=field)
    check_elements(len(flat) // 2 if pairs else len(flat), max_elements)
    few = isinstance(flat, list) and len(flat) <= SMALL
    if few and shape is None and not pairs and not array and _all_fit(flat, dtype):
        return torch.tensor(value, dtype=DTYPES[dtype])
    if shape is not None and not len(flat) and 0 in shape:
        return empty(shape, dtype, max_elements)
    if pairs and (not axes or axes[-1] != 2):
        raise BadValue(f"a {dtype} value has a last axis of two, [re, im]", pointer=field)
    sizes = axes[:-1] if pairs else axes
    if shape is not None:
        sizes = _reshaped(sizes, shape, field)

    def refuse(index: int, why: str) -> NoReturn:
        raise BadValue(why, pointer=field + _place(index, axes))

    # No view: what autograd makes of one may take after its base, which requires no grad.
    return _tensor(flat, dtype, refuse).view(tuple(sizes)).detach()


def _from_array(array: NumberArray, dtype: str, field: str) -> tuple[Sequence[int], Numbers]:
    """Return the shape and the elements of ``array``, as a list where some may not fit."""
    if _array_fits(array.numbers, dtype):
        return array.numbers.shape, array.numbers.reshape(-1)
    return _flatten(array.tolist(), field)


def _place(index: int, axes: Sequence[int]) -> str:
    """Return the pointer to the element that is number ``index`` in row-major order."""
    place = ""
    for size in reversed(axes):
        index, at = divmod(index, size)
        place = f"/{at}{place}"
    return place


def empty(shape: Sequence[int], dtype: str, max_elements: int) -> Tensor:
    """Return a tensor of ``shape`` whose elements are not set yet; sizes as :func:`leaf_tensor`."""
    check_elements(math.prod(shape), max_elements)
    try:
        return torch.empty(tuple(shape), dtype=DTYPES[dtype])
    except (RuntimeError, TypeError) as error:
        if allocation_failed(error):
            raise
        raise BadValue(
            f"no tensor can have the shape {quote(list(shape))}", pointer="/shape"
        ) from None


def check_elements(count: int, max_elements: int) -> None:
    """Raise LimitExceeded where ``count`` elements are too many for one tensor."""
    if count > max_elements:
        raise LimitExceeded(
            f"the tensor has {quote(count)} elements, but max_elements (GRADTRACE_MAX_ELEMENTS) "
            f"is {max_elements}"
        )


def _reshaped(sizes: Sequence[int], shape: Sequence[int], field: str) -> Sequence[int]:
    count, wanted = math.prod(sizes), math.prod(shape)
    if count != wanted:
        raise BadValue(
            f"the shape {quote(list(shape))} has {quote(wanted)} elements, the value has {count}",
            pointer=field,
        )
    return shape


def _flatten(value: Any, field: str) -> tuple[Sequence[int], list[Any]]:
    """Return the shape of nested lists, and their elements in row-major order."""
    if type(value) is not list:
        return (), [value]
    sizes = [len(value)]
    level = value
    while level and type(level[0]) is list:
        size = len(level[0])
        for row in level:
            if type(row) is not list or len(row) != size:
                _refuse_ragged(value, sizes, size, field)
        sizes.append(size)
        level = list(chain.from_iterable(level))
    return sizes, level


def _refuse_ragged(value: list[Any], sizes: Sequence[int], size: int, field: str) -> NoReturn:
    """Name the first row of the level below ``sizes`` that is not a list of ``size``."""
    level, places = value, [(at,) for at in range(sizes[0])]
    for count in sizes[1:]:
        level = list(chain.from_iterable(level))
        places = [(*place, at) for place in places for at in range(count)]  # type: ignore[misc]
    for place, row in zip(places, level, strict=True):
        if type(row) is not list or len(row) != size:
            what = f"has {len(row)} elements" if type(row) is list else "is no list"
            raise BadValue(
                f"the list is ragged: this {what} where the first of its rank has {size} elements",
                pointer=field + "".join(f"/{at}" for at in place),
            )
    raise AssertionError("no row is ragged")


def _tensor(flat: Numbers, dtype: str, refuse: Refuse) -> Tensor:
    if dtype == "bool":
        assert isinstance(flat, list)
        return _bools(flat, refuse)
    if dtype in INTEGERS:
        return _integers(flat, dtype, refuse)
    tensor = _floats(flat, dtype, refuse)
    return torch.view_as_complex(tensor.view(-1, 2)) if dtype in COMPLEX_PARTS else tensor


# Fast paths: a look at all elements at once proves that every one fits.


def _all_fit(flat: Numbers, dtype: str) -> bool:
    span = SPANS[dtype]
    if not span.kinds.issuperset(map(type, flat)):
        return False
    return not flat or (min(flat) >= span.low and max(flat) <= span.high)


def _array_fits(numbers: npt.NDArray[Any], dtype: str) -> bool:
    span = SPANS[dtype]
    low, high = numbers.min(), numbers.max()
    if dtype == "bool" or not (low >= span.low and high <= span.high):
        return False
    if dtype not in INTEGERS or numbers.dtype == np.int64:
        return True
    # Larger ones may have been integers that float64 rounds.
    exact = bool(-low < EXACT_FLOATS and high < EXACT_FLOATS)
    return exact and bool((numbers == np.rint(numbers)).all())


def _floats(flat: Numbers, dtype: str, refuse: Refuse) -> Tensor:
    """Return the numbers as ``dtype`` has them, a complex one both parts of each."""
    part = DTYPES[COMPLEX_PARTS.get(dtype, dtype)]
    if isinstance(flat, np.ndarray):
        return _from_numpy(flat, np.float64).to(part, copy=True)
    if not SPANS[dtype].kinds.issuperset(map(type, flat)):
        flat = [_number(item, index, dtype, refuse) for index, item in enumerate(flat)]
    try:
        exact = torch.from_numpy(np.array(flat, np.float64))
    except OverflowError:
        _refuse_large(flat, dtype, refuse)
    tensor = exact.to(part, copy=True)
    turned = tensor.isinf() & ~exact.isinf()
    if turned.any():
        index = int(turned.nonzero()[0])
        refuse(index, f"{_spelt(flat[index])} is too large for {dtype}: it would turn infinite")
    return tensor


def _from_numpy(flat: npt.NDArray[Any], dtype: type[np.generic]) -> Tensor:
    """Return the same numbers; PyTorch warns of an array that nobody may write."""
    return torch.from_numpy(flat.astype(dtype, copy=not flat.flags.writeable))


def _refuse_large(flat: list[Any], dtype: str, refuse: Refuse) -> NoReturn:
    for index, item in enumerate(flat):
        try:
            float(item)
        except OverflowError:
            refuse(index, f"{_spelt(item)} is too large for {dtype}: it would turn infinite")
    raise AssertionError("every number fits")


def _integers(flat: Numbers, dtype: str, refuse: Refuse) -> Tensor:
    if isinstance(flat, np.ndarray):
        return _from_numpy(flat, np.int64).to(DTYPES[dtype], copy=True)
    if not _all_fit(flat, dtype):
        flat = [_integer(item, index, dtype, refuse) for index, item in enumerate(flat)]
    return torch.from_numpy(np.array(flat, INTEGERS[dtype])).clone()


def _bools(flat: list[Any], refuse: Refuse) -> Tensor:
    if not _all_fit(flat, "bool"):
        for index, item in enumerate(flat):
            if type(item) is not bool:
                refuse(index, f"{_spelt(item)} is no bool: a bool leaf takes true and false")
    return torch.from_numpy(np.array(flat, np.bool_)).clone()


# Slow paths: one element at a time.


def _number(item: Any, index: int, dtype: str, refuse: Refuse) -> float:
    if type(item) is float or type(item) is int:
        return item
    if type(item) is not str or item not in NONFINITE:
        refuse(index, _no_number(item, dtype))
    return NONFINITE[item]


def _integer(item: Any, index: int, dtype: str, refuse: Refuse) -> int:
    if type(item) is not int and type(item) is not float:
        refuse(index, _no_number(item, dtype))
    _, low, high = SPANS[dtype]
    if not (low <= item <= high):
        refuse(index, f"{_spelt(item)} is out of range for {dtype}: {low} to {high}")
    # Integers beyond 64 bits are read as floats, too.
    if type(item) is float and abs(item) >= EXACT_FLOATS:
        refuse(
            index,
            f"{_spelt(item)} is what a float keeps of a number that may be out of range: {dtype} "
            f"takes {low} to {high}, from 2^53 on with all digits, no point and no exponent",
        )
    if item != int(item):
        refuse(index, f"{_spelt(item)} is no integer, as {dtype} needs")
    return int(item)


def _no_number(item: Any, dtype: str) -> str:
    if type(item) is str and dtype not in INTEGERS:
        return f'"{quote(item)}" is no number; the only strings are "NaN", "Infinity", "-Infinity"'
    return f"{_spelt(item)} is no number, as {dtype} needs"


def _spelt(item: Any) -> str:
    if type(item) is list:
        return "a list"
    if type(item) is dict:
        return "an object"
    if type(item) is str:
        return f'"{quote(item)}"'
    names: dict[Any, str] = {None: "null", True: "true", False: "false"}
    return names[item] if item is None or type(item) is bool else quote(item)


def tensor_from_base64(
    text: str | memoryview,
    shape: Sequence[int],
    dtype: str,
    max_elements: int,
    field: str = "/value_base64",
) -> Tensor:
    """Return the tensor whose row-major little-endian bytes ``text`` says in base64 (RFC 4648).

    Raises:
        BadValue: another alphabet, padding or length, or a bool that is neither 0 nor 1.
        LimitExceeded: more than ``max_elements``.
    """
    check_elements(math.prod(shape), max_elements)
    try:
        raw = pybase64.b64decode(text, validate=True)
    except ValueError:
        why = "this is not base64 with the standard alphabet and padding"
        raise BadValue(why, pointer=field) from None
    return tensor_from_bytes(memoryview(raw), shape, dtype, max_elements, field)


def tensor_from_bytes(
    raw: memoryview, shape: Sequence[int], dtype: str, max_elements: int, field: str = ""
) -> Tensor:
    """Return the tensor whose row-major little-endian bytes are ``raw``; see tensor_from_base64."""
    tensor = empty(shape, dtype, max_elements)
    if len(raw) != tensor.nbytes:
        raise BadValue(
            f"there are {len(raw)} bytes, but a {dtype} tensor of shape {quote(list(shape))} "
            f"has {tensor.nbytes}",
            pointer=field,
        )
    if not raw:
        return tensor
    read = np.frombuffer(raw, np.uint8)
    if dtype == "bool" and read.max() > 1:
        index = int(np.argmax(read > 1))
        raise BadValue(
            f"byte {index} is {read[index]}, but the bytes of a bool are 0 or 1", pointer=field
        )
    flat = tensor.view(-1)  # NumPy has fewer axes than PyTorch
    array = (flat.view(torch.int16) if tensor.dtype == torch.bfloat16 else flat).numpy()
    array[:] = read.view(array.dtype)
    return tensor
