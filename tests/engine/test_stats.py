"""The statistics are those of NumPy and PyTorch in float64, whatever the tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from service.contract.response import TensorStats
from service.engine import stats
from service.engine.stats import SMALL, tensor_stats
from tests.engine.bits import bits, tensors

SIZES = [1, 5, SMALL, SMALL + 1, 64, 65, 191]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the large tensors of these tests small ones."""
    monkeypatch.setattr(stats, "BLOCK", 64)


def oracle(tensor: Tensor) -> dict[str, Any]:
    """Return the statistics by the definitions, with fractions."""
    items = [item for item in tensor.reshape(-1).tolist() if item == item]
    finite = [item for item in items if not (math.isinf(item.real) or math.isinf(item.imag))]
    numbers = [abs(item) if tensor.is_complex() else item for item in finite]
    exact = [Fraction(number) for number in numbers]
    mean = sum(exact) / len(exact)
    scale = Fraction(max(map(abs, exact))) or Fraction(1)
    deviation = math.sqrt(sum(((x - mean) / scale) ** 2 for x in exact) / len(exact))
    return {
        "min": float(min(numbers)),
        "max": float(max(numbers)),
        "mean": float(mean),
        "std": float(scale) * deviation,
        "norm": float(scale) * math.sqrt(sum((x / scale) ** 2 for x in exact)),
        "numel": tensor.numel(),
        "nan_count": int(tensor.isnan().sum()),
        "inf_count": int(tensor.isinf().sum()),
        "zero_count": int((tensor == 0).sum()),
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.complex64, torch.int8, torch.bool]
)
def test_they_are_what_the_definitions_say(size: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(size)
    tensor = (torch.randn(size, 2, generator=generator, dtype=torch.float64) * 3).to(dtype)[:, 0]
    if dtype.is_complex:
        tensor = torch.complex(*torch.randn(2, size, generator=generator))
    wanted = oracle(tensor)
    told = tensor_stats(tensor)
    assert told == pytest.approx(wanted, rel=1e-12, abs=1e-13)
    for exact in ("min", "max", "numel", "nan_count", "inf_count", "zero_count"):
        assert dtype.is_complex or told[exact] == wanted[exact]


@given(tensors())
def test_they_are_always_numbers_of_json_and_leave_the_tensor_alone(tensor: Tensor) -> None:
    before = bits(tensor)
    told = tensor_stats(tensor)
    TensorStats.model_validate(told, strict=True)
    assert list(told) == list(TensorStats.model_fields)
    for value in told.values():
        assert value is None or math.isfinite(value)
    assert bits(tensor) == before


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_neither_large_nor_small_numbers_are_lost(numbers: list[float]) -> None:
    tensor = torch.tensor(numbers, dtype=torch.float64)
    try:
        wanted = oracle(tensor)
    except OverflowError:
        assume(False)
    told = tensor_stats(tensor)
    spread = max(map(abs, numbers)) * 1e-12
    for name, value in wanted.items():
        if math.isfinite(value):
            assert told[name] == pytest.approx(value, rel=1e-12, abs=spread)
        else:
            assert told[name] is None


@pytest.mark.parametrize("copies", [1, SMALL, 100])
def test_elements_that_are_not_finite_are_counted_and_left_out(copies: int) -> None:
    tensor = torch.tensor([math.nan, math.inf, 3.0, -math.inf, 0.0]).repeat(copies)
    told = tensor_stats(tensor)
    assert (told["min"], told["max"], told["mean"]) == (0.0, 3.0, 1.5)
    assert (told["std"], told["norm"]) == pytest.approx((1.5, 3 * math.sqrt(copies)))
    assert told["nan_count"] == told["zero_count"] == copies
    assert told["inf_count"] == 2 * copies


@pytest.mark.parametrize("copies", [1, SMALL])
def test_a_complex_element_may_be_nan_and_infinite_at_once_as_in_pytorch(copies: int) -> None:
    tensor = torch.tensor([3 + 4j, complex(math.inf, math.nan), 0j]).repeat(copies)
    told = tensor_stats(tensor)
    assert (told["min"], told["max"], told["mean"]) == (0.0, 5.0, 2.5)
    assert told["nan_count"] == told["inf_count"] == told["zero_count"] == copies


@pytest.mark.parametrize("zeros", [1, 50_000])
def test_a_complex_element_may_be_finite_and_its_magnitude_not(zeros: int) -> None:
    large = torch.tensor([complex(1.7e308, 1.7e308), 1.7e308, 1.7e308], dtype=torch.complex128)
    told = tensor_stats(torch.cat([large, torch.zeros(zeros, dtype=torch.complex128), large]))
    assert told["min"] == 0.0
    assert told["max"] is told["mean"] is told["std"] is told["norm"] is None
    assert (told["zero_count"], told["inf_count"]) == (zeros, 0)


@pytest.mark.parametrize("size", [2, SMALL + 2])
def test_the_largest_float64_overflow_nothing_but_the_norm(size: int) -> None:
    told = tensor_stats(torch.full((size,), 1.7e308, dtype=torch.float64))
    assert told["min"] == told["max"] == 1.7e308
    assert told["std"] == pytest.approx(0.0, abs=1.7e308 * 1e-15)
    assert told["mean"] == pytest.approx(1.7e308)
    assert told["norm"] is None
    assert tensor_stats(torch.full((size,), 1e200, dtype=torch.float64))["norm"] == pytest.approx(
        1e200 * math.sqrt(size)
    )
    tiny = tensor_stats(torch.full((size,), 5e-324, dtype=torch.float64))
    assert tiny["mean"] == tiny["min"] == 5e-324


def test_sums_that_overflow_both_ways_are_no_error() -> None:
    """The block of the largest sums up to inf, that of the smallest to -inf."""
    largest = torch.full((64,), 1.7e308, dtype=torch.float64)
    told = tensor_stats(torch.cat([largest, -largest]))
    assert (told["min"], told["max"], told["mean"]) == (-1.7e308, 1.7e308, 0.0)
    assert told["std"] == pytest.approx(1.7e308)
    assert told["norm"] is None


@pytest.mark.parametrize("size", [2, SMALL + 2])
def test_integers_are_exact(size: int) -> None:
    tensor = torch.tensor([2**63 - 1, -(2**63)] * (size // 2))
    told = tensor_stats(tensor)
    assert (told["min"], told["max"]) == (-(2**63), 2**63 - 1)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_an_empty_tensor_has_counts_only(shape: tuple[int, ...]) -> None:
    told = tensor_stats(torch.empty(shape))
    assert [told[name] for name in ("min", "max", "mean", "std", "norm")] == [None] * 5
    assert [told[name] for name in ("numel", "nan_count", "inf_count", "zero_count")] == [0] * 4


@pytest.mark.parametrize("size", [5, SMALL + 8])
def test_a_tensor_of_nothing_finite_has_counts_only(size: int) -> None:
    told = tensor_stats(torch.full((size,), math.nan))
    assert told["min"] is told["norm"] is None
    assert told["nan_count"] == size


LAYOUTS: list[Callable[[], Tensor]] = [
    lambda: torch.arange(6.0).reshape(2, 3).t(),
    lambda: torch.tensor([1.0, 2.0]).reshape(2, 1).expand(2, 50),
    lambda: torch.tensor([1 + 2j, 3 - 4j]).conj().imag,
    lambda: torch._efficientzerotensor((3,)),
    lambda: torch._efficientzerotensor((100,)),
    lambda: torch.ones(2, 40, requires_grad=True) * 2,
    lambda: torch.tensor(-7, dtype=torch.int16),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_taken(layout: Callable[[], Tensor]) -> None:
    tensor = layout()
    plain = tensor.detach().clone().double().numpy()
    told = tensor_stats(tensor)
    assert told["mean"] == pytest.approx(plain.mean())
    assert told["std"] == pytest.approx(plain.std())
    assert told["norm"] == pytest.approx(np.linalg.norm(plain))


@pytest.mark.parametrize(("largest", "passes"), [(1.0, 2), (1e308, 3)])
def test_memory_is_passed_over_twice_and_once_more_where_the_sum_overflows(
    largest: float, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    blocks = stats._blocks

    def counted(flat: Tensor) -> Iterator[tuple[Tensor, stats.Numbers]]:
        nonlocal read
        for block, numbers in blocks(flat):
            read += len(block)
            yield block, numbers

    monkeypatch.setattr(stats, "_blocks", counted)
    assert tensor_stats(torch.full((6_400,), largest, dtype=torch.float64))["mean"] == largest
    assert read == passes * 6_400
