"""A leaf's value becomes the very tensor that torch.tensor makes of it, or a problem."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pybase64
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from service.contract.problem import BadRoot, BadValue, GradtraceError, LimitExceeded
from service.engine.dtypes import COMPLEX_PARTS, DTYPES
from service.engine.number_array import NumberArray
from service.engine.read_tensor import leaf_tensor, tensor_from_base64, tensor_from_bytes
from service.engine.tensors import leaf_tensor_of, root_gradient
from tests.engine.bits import FINITE, bits, tensors

MANY = 10**6
REAL = [name for name in DTYPES if name not in COMPLEX_PARTS]
FLOATS = [name for name, dtype in DTYPES.items() if dtype.is_floating_point]
INTEGERS = ["int64", "int32", "int16", "int8", "uint8"]


def as_array(value: Any) -> NumberArray:
    """Return ``value`` as it comes when the text is long."""
    flat = np.array(value).reshape(-1).tolist()
    integers = all(type(item) is int and -(2**63) <= item < 2**63 for item in flat)
    kind = np.int64 if integers else np.float64
    return NumberArray(np.array(value, kind), json.dumps(value).encode())


def refusal(value: Any, dtype: str, shape: list[int] | None = None) -> tuple[str, str]:
    """Return pointer and message of the problem that ``value`` makes."""
    with pytest.raises(BadValue) as caught:
        leaf_tensor(value, shape, dtype, MANY)
    assert caught.value.errors[0].message == caught.value.detail
    return caught.value.errors[0].pointer, caught.value.detail


@st.composite
def near_the_edges(draw: st.DrawFn) -> float:
    """Return a number where rounding to a float dtype is decided: ties, subnormals, the largest."""
    dtype = DTYPES[draw(st.sampled_from(FLOATS))]
    raw = draw(st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize))
    half_way = torch.frombuffer(bytearray(raw), dtype=dtype).double().item()
    gap = half_way * draw(
        st.sampled_from([2.0**-8, 2.0**-9, 2.0**-11, 2.0**-12, 2.0**-24, 2.0**-25])
    )
    near = half_way + gap + draw(st.sampled_from([-1, 0, 1])) * math.ulp(half_way + gap)
    return near if math.isfinite(near) else 1.0


@given(st.sampled_from(FLOATS), st.lists(FINITE | near_the_edges() | st.integers(-(2**70), 2**70)))
def test_floats_round_as_pytorch_rounds_them(dtype: str, numbers: list[float]) -> None:
    wanted = torch.tensor(numbers, dtype=DTYPES[dtype])
    for value in (numbers, *([as_array(numbers)] if numbers else [])):
        if wanted.isinf().any():
            first = int(wanted.isinf().nonzero()[0])
            pointer, message = refusal(value, dtype)
            assert pointer == f"/value/{first}"
            assert "infinite" in message
        else:
            assert bits(leaf_tensor(value, None, dtype, MANY)) == bits(wanted)


@given(st.sampled_from(FLOATS), st.lists(near_the_edges(), min_size=33, max_size=40))
def test_many_floats_round_as_pytorch_rounds_them(dtype: str, numbers: list[float]) -> None:
    wanted = torch.tensor(numbers, dtype=DTYPES[dtype])
    if not wanted.isinf().any():
        assert bits(leaf_tensor(numbers, None, dtype, MANY)) == bits(wanted)


@given(st.sampled_from(INTEGERS), st.data())
def test_integers_that_fit_are_exact_and_others_are_refused(
    dtype: str, data: st.DataObject
) -> None:
    info = torch.iinfo(DTYPES[dtype])
    edges = st.integers(info.max - 3, info.max + 3) | st.integers(info.min - 3, info.min + 3)
    numbers = data.draw(st.lists(st.integers(info.min, info.max) | edges, min_size=1, max_size=40))
    out = [index for index, item in enumerate(numbers) if not info.min <= item <= info.max]
    for value in (numbers, as_array(numbers)):
        if out:
            pointer, message = refusal(value, dtype)
            assert pointer == f"/value/{out[0]}"
            assert "out of range" in message
        else:
            tensor = leaf_tensor(value, None, dtype, MANY)
            assert tensor.dtype == DTYPES[dtype]
            assert tensor.tolist() == numbers


@given(tensors())
def test_bytes_and_base64_are_taken_bit_for_bit(tensor: Tensor) -> None:
    name = str(tensor.dtype).removeprefix("torch.")
    raw = tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    text = pybase64.b64encode_as_string(raw)
    for read in (
        tensor_from_bytes(memoryview(raw), tensor.shape, name, MANY),
        tensor_from_base64(text, list(tensor.shape), name, MANY),
    ):
        assert read.dtype == tensor.dtype
        assert read.shape == tensor.shape
        again = read.flatten().view(torch.uint8).numpy().tobytes() if read.numel() else b""
        assert again == raw


@pytest.mark.parametrize("dtype", REAL)
def test_a_nested_list_keeps_its_shape(dtype: str) -> None:
    value: Any = [[[0, 1], [1, 0], [0, 0]]]
    value = [[[bool(x) for x in r] for r in p] for p in value] if dtype == "bool" else value
    tensor = leaf_tensor(value, None, dtype, MANY)
    assert bits(tensor) == bits(torch.tensor(value, dtype=DTYPES[dtype]))
    assert tensor.is_contiguous()
    assert not tensor.requires_grad


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("shape", [[0], [0, 3], [2, 0, 5]])
def test_an_empty_list_with_a_zero_in_shape_suits_every_dtype(dtype: str, shape: list[int]) -> None:
    tensor = leaf_tensor([], shape, dtype, MANY)
    assert (tensor.dtype, list(tensor.shape)) == (DTYPES[dtype], shape)


def test_a_number_alone_has_no_axes() -> None:
    assert bits(leaf_tensor(2, None, "float32", MANY)) == bits(torch.tensor(2.0))
    assert bits(leaf_tensor("-Infinity", None, "float16", MANY)) == bits(
        torch.tensor(-math.inf, dtype=torch.float16)
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_three_strings_and_the_sign_of_zero_are_kept(dtype: str) -> None:
    value = ["NaN", "Infinity", "-Infinity", -0.0, 0]
    wanted = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 0.0], dtype=DTYPES[dtype])
    assert bits(leaf_tensor(value, None, dtype, MANY)) == bits(wanted)
    assert bits(leaf_tensor(as_array([-0.0, 1.5]), None, dtype, MANY)) == bits(
        torch.tensor([-0.0, 1.5], dtype=DTYPES[dtype])
    )


@pytest.mark.parametrize("dtype", COMPLEX_PARTS)
def test_a_complex_value_has_pairs_and_its_shape_does_not_count_them(dtype: str) -> None:
    value = [[1, -0.0], ["NaN", "-Infinity"], [0.1, 5]]
    tensor = leaf_tensor(value, None, dtype, MANY)
    wanted = torch.tensor(
        [complex(1, -0.0), complex(math.nan, -math.inf), complex(0.1, 5)], dtype=DTYPES[dtype]
    )
    assert bits(tensor) == bits(wanted)
    assert leaf_tensor(value, [1, 3], dtype, MANY).shape == (1, 3)
    assert leaf_tensor([1, 2], None, dtype, MANY).shape == ()
    assert leaf_tensor(as_array([[1, 2]] * 3), [3, 1], dtype, MANY).shape == (3, 1)


@pytest.mark.parametrize(
    ("value", "dtype", "pointer", "words"),
    [
        ([300], "uint8", "/value/0", "300 is out of range for uint8"),
        ([[0, -1]], "uint8", "/value/0/1", "out of range"),
        ([1.5], "int64", "/value/0", "no integer"),
        (1.5, "int8", "/value", "no integer"),
        ([2**63], "int64", "/value/0", "out of range"),
        ([1e20], "int64", "/value/0", "out of range"),
        ([-9.3e18], "int64", "/value/0", "out of range"),
        ([0, 9007199254740993.0], "int64", "/value/1", "all digits"),
        ([-9.223372036854776e18], "int64", "/value/0", "all digits"),
        (["NaN"], "int64", "/value/0", "no number"),
        ([[0, 1], [2, 70000]], "float16", "/value/1/1", "infinite"),
        ([65520], "float16", "/value/0", "infinite"),
        ([65519.999999999], "float16", "/value/0", "infinite"),
        ([1e39], "float32", "/value/0", "infinite"),
        ([[1e39, 0]], "complex64", "/value/0/0", "too large for complex64: it would turn infinite"),
        ([[0, 10**400]], "complex128", "/value/0/1", "too large for complex128"),
        ([3.39e38, 3.4e38], "bfloat16", "/value/1", "infinite"),
        ([10**400], "float64", "/value/0", "infinite"),
        ([1, True], "float32", "/value/1", "true is no number"),
        ([True], "int64", "/value/0", "true is no number"),
        ([None], "float32", "/value/0", "null is no number"),
        ([True, 1], "bool", "/value/1", "true and false"),
        (["true"], "bool", "/value/0", "true and false"),
        ([1.0, "nan"], "float32", "/value/1", "only strings"),
        (["1"], "float32", "/value/0", "only strings"),
        (["inf\n" * 100], "float32", "/value/0", "only strings"),
        ([{"re": 1}], "complex64", "/value", "last axis of two"),
        ([[{}, 1]], "complex64", "/value/0/0", "an object is no number, as complex64 needs"),
        ([1, 2, 3], "complex64", "/value", "last axis of two"),
        (1, "complex64", "/value", "last axis of two"),
        ([], "complex64", "/value", "last axis of two"),
        ([[1, 2], [3]], "float32", "/value/1", "ragged"),
        ([[1, 2], 3], "float32", "/value/1", "ragged"),
        ([1, [2]], "float32", "/value/1", "a list is no number"),
        ([[[1], [2]], [[3], []]], "float32", "/value/1/1", "ragged"),
        ([[], [1]], "float32", "/value/1", "ragged"),
        ([[1], {}], "float32", "/value/1", "ragged"),
    ],
)
def test_what_does_not_fit_is_named(value: Any, dtype: str, pointer: str, words: str) -> None:
    where, message = refusal(value, dtype)
    assert where == pointer
    assert words in message
    assert len(message) < 200


@pytest.mark.parametrize(
    ("numbers", "dtype", "pointer"),
    [
        ([0, 300], "uint8", "/value/1"),
        ([0.5, 1.5], "int64", "/value/0"),
        ([1, 2.0**52 + 2, 2.5], "int64", "/value/2"),
        ([1, 2.0**53, 2.5], "int64", "/value/1"),
        ([0, 2**64 - 1], "int64", "/value/1"),
        ([0.0, 7e4], "float16", "/value/1"),
        ([0, 1], "bool", "/value/0"),
    ],
)
def test_an_element_of_a_long_array_is_named_too(numbers: Any, dtype: str, pointer: str) -> None:
    assert refusal(as_array(numbers), dtype)[0] == pointer


def test_an_integer_of_a_mixed_array_is_not_rounded_by_the_floats_beside_it() -> None:
    exact = NumberArray(np.array([0.0, 2.0**53]), b"[0.0, 9007199254740993]")
    assert leaf_tensor(exact, None, "int64", MANY).tolist() == [0, 2**53 + 1]
    assert leaf_tensor(as_array([1.0, -5.0]), None, "int8", MANY).tolist() == [1, -5]


def test_integers_spelt_as_floats_are_integers() -> None:
    assert leaf_tensor([1.0, -0.0, 2e3], None, "int16", MANY).tolist() == [1, 0, 2000]
    assert leaf_tensor([1 - 2.0**53], None, "int64", MANY).tolist() == [1 - 2**53]


@pytest.mark.parametrize("value", [[1, 2, 3], as_array([1, 2, 3])])
def test_a_shape_that_does_not_suit_is_refused(value: Any) -> None:
    assert "has 4 elements, the value has 3" in refusal(value, "float32", [2, 2])[1]
    assert refusal(value, "float32", [])[0] == "/value"


def test_sizes_are_bounded_before_memory_is_taken() -> None:
    calls: list[Callable[[], Tensor]] = [
        lambda: leaf_tensor([1, 2, 3], None, "float32", 2),
        lambda: leaf_tensor([1, 2, 3], [3, 1], "int8", 2),
        lambda: leaf_tensor(as_array([1, 2, 3]), None, "float32", 2),
        lambda: tensor_from_base64("AA==", [2**40, 2**40], "float32", MANY),
        lambda: tensor_from_bytes(memoryview(b""), [2**62, 2**62], "float32", MANY),
    ]
    for call in calls:
        with pytest.raises(LimitExceeded, match=r"max_elements .* is (2|1000000)$"):
            call()
    assert leaf_tensor([[1, 2]] * 2, None, "complex64", 2).numel() == 2


@pytest.mark.parametrize("shape", [[2**62, 2**62, 0], [0, 2**63 - 1, 2**63 - 1]])
def test_a_shape_that_pytorch_cannot_have_is_refused(shape: list[int]) -> None:
    assert "no tensor can have" in refusal([], "float32", shape)[1]
    with pytest.raises(BadValue, match="no tensor can have"):
        tensor_from_base64("", shape, "float64", MANY)


def test_lists_nested_deeper_than_numpy_goes_are_refused() -> None:
    deep: Any = 1.0
    for _ in range(65):
        deep = [deep]
    assert "more than 64" in refusal(deep, "float32")[1]
    assert leaf_tensor(deep[0], None, "float32", MANY).shape == (1,) * 64


@pytest.mark.parametrize("text", ["AAAA", "AAAAAA=", "AAAAAA", "AAA AAA==", "AAAA-_AA", "Ä", "="])
def test_base64_is_read_strictly(text: str) -> None:
    with pytest.raises(BadValue) as caught:
        tensor_from_base64(text, [1], "float32", MANY)
    assert caught.value.errors[0].pointer == "/value_base64"


def test_a_bool_is_a_byte_of_0_or_1() -> None:
    assert tensor_from_bytes(memoryview(b"\0\1"), [2], "bool", MANY).tolist() == [False, True]
    with pytest.raises(BadValue, match="byte 1 is 2"):
        tensor_from_bytes(memoryview(b"\1\2\3"), [3], "bool", MANY)


def test_no_tensor_shares_memory_with_what_it_was_made_of() -> None:
    raw, array = bytearray(8), as_array([0.0, 0.0])
    made = [
        tensor_from_bytes(memoryview(raw), [1], "float64", MANY),
        leaf_tensor(array, None, "float64", MANY),
        leaf_tensor(as_array([0, 0]), None, "int64", MANY),
    ]
    for tensor in made:
        tensor.add_(1)
        assert tensor.data_ptr() % 64 == 0
    assert not any(raw)
    assert not array.numbers.any()


def test_no_leaf_is_a_view() -> None:
    """What autograd makes of a view may take its flags from the base, which requires no grad."""
    pairs = torch.zeros(30, 2, dtype=torch.float64)
    made = [
        leaf_tensor([[0.0] * 20] * 2, None, "float32", MANY),
        leaf_tensor([[0] * 20] * 2, None, "int64", MANY),
        leaf_tensor([[True] * 20] * 2, None, "bool", MANY),
        leaf_tensor([0.0] * 40, None, "float32", MANY),
        leaf_tensor([0.0] * 4, [2, 2], "float32", MANY),
        leaf_tensor([0.0, 1.0], None, "complex64", MANY),
        leaf_tensor([[0.0, 1.0]], None, "complex128", MANY),
        leaf_tensor(as_array([[0.5] * 20] * 2), None, "float32", MANY),
        tensor_from_bytes(memoryview(bytes(8)), [2, 1], "float32", MANY),
        leaf_tensor_of({"dtype": "complex128"}, "float32", pairs, MANY),
        leaf_tensor_of({"shape": [2, 30]}, "float32", pairs, MANY),
    ]
    assert not [tensor for tensor in made if tensor._is_view()]


def test_a_leaf_is_read_in_the_words_of_the_contract() -> None:
    leaf = {"id": "a", "value": [1, 2], "dtype": None, "shape": None, "requires_grad": True}
    assert bits(leaf_tensor_of(leaf, "float64", None, MANY)) == bits(torch.tensor([1, 2]).double())
    leaf = {"id": "a", "value_base64": "AACAPw==", "shape": [1]}
    assert leaf_tensor_of(leaf, "float32", None, MANY).tolist() == [1.0]
    with pytest.raises(BadValue, match="not int64") as caught:
        leaf_tensor_of({"value": 1, "requires_grad": True}, "int64", None, MANY)
    assert caught.value.errors[0].pointer == "/requires_grad"


def test_a_tensor_that_comes_beside_the_leaf_keeps_its_own_dtype() -> None:
    pairs = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    assert leaf_tensor_of({"id": "a"}, "float32", pairs, MANY).data_ptr() == pairs.data_ptr()
    assert leaf_tensor_of({"dtype": "complex128"}, "float32", pairs, MANY).tolist() == [1 + 2j]
    assert leaf_tensor_of({}, "complex128", pairs, MANY).dtype == torch.complex128
    assert leaf_tensor_of({"shape": [2]}, "float32", pairs, MANY).shape == (2,)
    for leaf in ({"dtype": "float32"}, {"shape": [3]}, {"dtype": "float32", "shape": [2]}):
        with pytest.raises(BadValue):
            leaf_tensor_of(leaf, "float32", pairs, MANY)


def test_a_root_gradient_is_of_the_shape_and_dtype_of_its_node() -> None:
    node = torch.zeros(2, dtype=torch.complex64)
    gradient = root_gradient({"node": "a", "gradient": [[1, 0], [0, 1]]}, node, MANY)
    assert gradient is not None
    assert bits(gradient) == bits(torch.tensor([1, 1j]).to(torch.complex64))
    assert root_gradient({"node": "a", "gradient": None}, node, MANY) is None
    empty = root_gradient({"node": "a", "gradient": []}, torch.zeros(0, 3), MANY)
    assert empty is not None
    assert empty.shape == (0, 3)
    cases: list[tuple[dict[str, Any], type[GradtraceError], str]] = [
        ({"gradient": [[1, 0]]}, BadRoot, "/gradient"),
        ({"gradient": [[1, 0], [1, "x"]]}, BadValue, "/gradient/1/1"),
        ({"gradient_base64": "AACAPw=="}, BadValue, "/gradient_base64"),
    ]
    for root, kind, pointer in cases:
        with pytest.raises(kind) as caught:
            root_gradient(root, node, MANY)
        assert caught.value.errors[0].pointer == pointer
