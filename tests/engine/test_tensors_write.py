"""A tensor's JSON reads back to the same bits, with the fewest digits of its own dtype."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pybase64
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from service.engine.dtypes import DTYPES
from service.engine.halves import printed_halves
from service.engine.read_tensor import leaf_tensor
from service.engine.small_tensors import json_fragments
from service.engine.write_tensor import LARGE, base64_text, json_fragment
from tests.engine.bits import bits, tensors

HALVES = ["float16", "bfloat16"]


def text_of(tensor: Tensor) -> bytes:
    return orjson.dumps(json_fragment(tensor), option=orjson.OPT_SERIALIZE_NUMPY)


def text_together(tensors: Sequence[Tensor | None]) -> bytes:
    return orjson.dumps(json_fragments(tensors), option=orjson.OPT_SERIALIZE_NUMPY)


@given(tensors())
def test_what_is_printed_reads_back_to_the_same_bits(tensor: Tensor) -> None:
    before = bits(tensor)
    name = str(tensor.dtype).removeprefix("torch.")
    shape = list(tensor.shape) if not tensor.numel() else None
    value = orjson.loads(text_of(tensor))
    again = leaf_tensor([] if shape else value, shape, name, 1000)
    assert bits(again) == before == bits(tensor)


@given(tensors())
def test_the_lists_are_nested_as_pytorch_nests_them(tensor: Tensor) -> None:
    plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    wanted = (
        torch.zeros_like(plain, dtype=torch.float64).tolist() if plain.numel() else plain.tolist()
    )

    def shape(value: Any) -> Any:
        return [shape(item) for item in value] if isinstance(value, list) else 0

    assert shape(orjson.loads(text_of(tensor))) == shape(wanted)


@given(st.lists(st.one_of(st.none(), tensors()), max_size=8))
def test_tensors_printed_together_are_printed_like_each_alone(some: list[Tensor | None]) -> None:
    alone = [b"null" if tensor is None else text_of(tensor) for tensor in some]
    assert text_together(some) == b"[" + b",".join(alone) + b"]"


@given(tensors(["float32", "float64"]))
def test_floats_have_the_digits_that_numpy_finds_fewest(tensor: Tensor) -> None:
    for item in tensor[tensor.isfinite()].reshape(-1):
        shortest = np.format_float_scientific(item.numpy()[()], unique=True, trim="-")
        assert digits(text_of(item)) == digits(shortest.encode())


def digits(text: bytes) -> bytes:
    """Return the digits that count of a decimal."""
    mantissa = text.lower().split(b"e")[0].replace(b".", b"").replace(b"-", b"")
    return mantissa.lstrip(b"0").rstrip(b"0")


@pytest.mark.parametrize("name", HALVES)
def test_every_half_reads_back_to_its_own_bits(name: str) -> None:
    every = torch.arange(-0x8000, 0x8000, dtype=torch.int32).to(torch.int16).view(DTYPES[name])
    value = orjson.loads(text_of(every))
    assert bits(leaf_tensor(value, None, name, 10**6)) == bits(every)
    assert text_of(every[:5]) == text_of(every)[: len(text_of(every[:5])) - 1] + b"]"


@pytest.mark.parametrize("name", HALVES)
def test_every_decimal_lies_between_the_midpoints_to_the_halves_beside_it(name: str) -> None:
    """So a reader that rounds a decimal straight to the half, ties to even, gets the same."""
    values = torch.arange(0x7C00 if name == "float16" else 0x7F80, dtype=torch.int32)
    exact = [Fraction(x) for x in values.to(torch.int16).view(DTYPES[name]).double().tolist()]
    printed = [Fraction(repr(x)) for x in printed_halves(DTYPES[name])[: len(exact)].tolist()]
    middles = [(low + high) / 2 for low, high in pairwise(exact)]
    for index, middle in enumerate(middles):
        if index % 2:
            assert printed[index] < middle <= printed[index + 1]
        else:
            assert printed[index] <= middle < printed[index + 1]


@pytest.mark.parametrize("name", HALVES)
def test_no_half_has_a_shorter_decimal(name: str) -> None:
    """By an independent search: every decimal of up to three digits, read as the half."""
    shortest: dict[int, int] = {}
    exponents = range(-46, 39) if name == "bfloat16" else range(-12, 6)
    for length in (3, 2, 1):
        mantissas = np.arange(10 ** (length - 1), 10**length)
        decimals = [float(f"{m}e{e}") for e in exponents for m in mantissas.tolist()]
        read = torch.tensor(decimals, dtype=torch.float64).to(DTYPES[name]).view(torch.int16)
        shortest |= dict.fromkeys(read.tolist(), length)
    table = printed_halves(DTYPES[name])
    for index in range(1, 0x7C00 if name == "float16" else 0x7F80):
        length = len(digits(repr(float(table[index])).encode()))
        assert length == shortest.get(index, length)
        assert index in shortest or length > 3


def test_halves_print_as_people_write_them() -> None:
    half = torch.tensor([0.1, 65504, 6e-8, -0.0, 1 / 3], dtype=torch.float16)
    assert text_of(half) == b"[0.1,65500.0,6e-8,-0.0,0.3333]"
    brain = torch.tensor([0.1, 3e38, 9e-41, 256, 1 / 3], dtype=torch.bfloat16)
    assert text_of(brain) == b"[0.1,3e+38,9e-41,256.0,0.334]"


def test_numbers_that_are_not_finite_are_the_three_strings_in_their_places() -> None:
    odd = [math.nan, 1.5, math.inf, -math.inf]
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        text = text_of(torch.tensor(odd, dtype=dtype))
        assert text == b'["NaN",1.5,"Infinity","-Infinity"]'
        assert text_of(torch.tensor(math.inf, dtype=dtype)) == b'"Infinity"'
    pair = torch.tensor([complex(math.nan, 2), complex(-0.0, -math.inf)])
    assert text_of(pair) == b'[["NaN",2.0],[-0.0,"-Infinity"]]'
    many = torch.zeros(LARGE, 2)
    many[7, 1] = -math.inf
    many[LARGE - 1, 0] = math.nan
    value = orjson.loads(text_of(many))
    assert value[7] == [0.0, "-Infinity"]
    assert value[-1] == ["NaN", 0.0]


ODD_LAYOUTS: dict[str, Callable[[], Tensor]] = {
    "transposed": lambda: torch.arange(6.0).reshape(2, 3).t(),
    "expanded": lambda: torch.tensor([[1.5], [2.5]]).expand(2, 3),
    "expanded scalar": lambda: torch.tensor(1.0).expand(4),
    "strided": lambda: torch.arange(9)[::3],
    "one element with a stride": lambda: torch.tensor([1 + 2j]).imag,
    "conjugate": lambda: torch.tensor([[1 + 2j, 3 - 4j]]).conj(),
    "conjugate, transposed": lambda: torch.tensor([[1 + 2j, 3 - 4j]]).conj().t(),
    "negative bit": lambda: torch.tensor([1 + 2j, 3 - 4j]).conj().imag,
    "without storage": lambda: torch._efficientzerotensor((2, 3)),
    "tracked": lambda: torch.ones(2, requires_grad=True) * 2,
    "half, transposed": lambda: torch.arange(6).reshape(2, 3).to(torch.bfloat16).t(),
    "half, expanded": lambda: torch.tensor([0.5]).to(torch.float16).expand(3),
    "half, tracked": lambda: torch.ones(2, dtype=torch.bfloat16, requires_grad=True) * 3,
    "half, negative bit": lambda: torch._neg_view(torch.tensor([0.5, -2]).to(torch.float16)),
    "bfloat16, negative bit": lambda: torch._neg_view(torch.tensor([0.5, -2]).to(torch.bfloat16)),
    "a slice without storage": lambda: torch._efficientzerotensor((5,))[2:],
    "a number without storage": lambda: torch._efficientzerotensor((5,))[2],
    "a long slice without storage": lambda: torch._efficientzerotensor((5000,))[2:],
    "a half slice without storage": lambda: torch._efficientzerotensor((5,), dtype=torch.half)[2:],
    "half without storage": lambda: torch._efficientzerotensor((2,), dtype=torch.bfloat16),
    "empty": lambda: torch.zeros(2, 0, 3),
    "empty, expanded": lambda: torch.zeros(1).expand(0, 1),
    "no axes, bool": lambda: torch.tensor(True),
    "no axes, complex": lambda: torch.tensor(1 - 2j, dtype=torch.complex128),
    "more axes than NumPy has": lambda: torch.tensor([1.5, math.nan]).reshape([1] * 69 + [2]),
    "more axes than NumPy has, finite": lambda: torch.tensor([1.5]).reshape([1] * 70),
    "of 64 axes, complex": lambda: torch.tensor([1j]).reshape([1] * 64),
}


@pytest.mark.parametrize("layout", ODD_LAYOUTS)
def test_every_layout_is_printed(layout: str) -> None:
    tensor = ODD_LAYOUTS[layout]()
    plain = tensor.detach().clone()
    numbers = (torch.view_as_real(plain.resolve_conj()) if plain.is_complex() else plain).tolist()
    assert repr(orjson.loads(text_of(tensor))).replace("'NaN'", "nan") == repr(numbers)
    assert text_together([tensor]) == b"[" + text_of(tensor) + b"]"
    raw = pybase64.b64decode(base64_text(tensor))
    made = torch.frombuffer(bytearray(raw), dtype=tensor.dtype) if raw else torch.empty(0)
    assert bits(made.reshape(tensor.shape).to(tensor.dtype)) == bits(plain)


@given(tensors())
def test_base64_is_of_the_raw_bytes(tensor: Tensor) -> None:
    raw = tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    assert pybase64.b64decode(base64_text(tensor), validate=True) == raw


@given(st.sampled_from(list(DTYPES)))
def test_an_empty_tensor_of_every_dtype_is_an_empty_list(name: str) -> None:
    assert text_of(torch.empty(0, dtype=DTYPES[name])) == b"[]"
    assert base64_text(torch.empty(0, 2, dtype=DTYPES[name])) == ""


@pytest.mark.parametrize("halvings", range(12))
def test_short_numbers_are_printed_with_the_digits_of_float32(halvings: int) -> None:
    """Doubles of six digits or less are printed as they are: float32 has no fewer for them."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.float32) * 37 / 2**halvings
    some = list(every.split(16))
    assert text_together(some) == b"[" + b",".join(text_of(tensor) for tensor in some) + b"]"
    for tensor in some:
        assert text_together([tensor]) == b"[" + text_of(tensor) + b"]"
