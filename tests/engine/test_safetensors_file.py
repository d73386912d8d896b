"""Files are those of the safetensors package, both ways; what is none is a problem."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from service.contract.problem import (
    BadValue,
    GradtraceError,
    InvalidJson,
    InvalidRequest,
    LimitExceeded,
)
from service.engine.dtypes import DTYPES
from service.engine.job import SAFETENSORS
from service.engine.report import Node
from service.engine.safetensors_file import (
    file_pieces,
    read_file,
    read_request,
    write_answer,
    write_file,
)
from tests.engine.asking import ENGINE
from tests.engine.bits import bits, tensors

MANY = 10**6
THEIRS = [name for name in DTYPES if name != "complex128"]
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(
    lambda name: name != "__metadata__"
)
CONTENTS = st.dictionaries(NAMES, tensors(THEIRS), max_size=5)


def file_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@given(CONTENTS, st.dictionaries(NAMES, NAMES, max_size=2))
def test_the_package_reads_what_is_written(
    contents: dict[str, Tensor], metadata: dict[str, str]
) -> None:
    body = write_file(contents, metadata)
    read = safetensors.torch.load(body)
    assert {name: bits(tensor) for name, tensor in read.items()} == {
        name: bits(tensor) for name, tensor in contents.items()
    }
    assert read_file(body, MANY)[0] == metadata


@given(CONTENTS)
def test_what_the_package_writes_is_read(contents: dict[str, Tensor]) -> None:
    body = safetensors.torch.save(contents, {"a": "b"})
    metadata, read = read_file(memoryview(body), MANY)
    assert metadata == {"a": "b"}
    assert {name: bits(tensor) for name, tensor in read.items()} == {
        name: bits(tensor) for name, tensor in contents.items()
    }


def test_complex128_travels_as_pairs_of_float64() -> None:
    tensor = torch.tensor([[1 + 2j, 3 - 4j]], dtype=torch.complex128)
    read = safetensors.torch.load(write_file({"z": tensor, "c": tensor.conj()}, {}))
    assert bits(torch.view_as_complex(read["z"])) == bits(tensor)
    assert read["c"].tolist() == [[[1.0, -2.0], [3.0, 4.0]]]


def test_every_tensor_is_aligned_in_the_file() -> None:
    mixed = {"a": torch.ones(3, dtype=torch.int8), "b": torch.ones(1, dtype=torch.float64)}
    body = write_file(mixed, {"k": "v"})
    length = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + length])
    assert length % 8 == 0
    assert header["b"]["data_offsets"][0] % 8 == 0


def test_views_are_written_as_they_look_and_never_touched() -> None:
    base = torch.arange(6.0)
    views = {"t": base.reshape(2, 3).t(), "e": base[:1].expand(3), "s": base[::2]}
    views["z"] = torch._efficientzerotensor((2,))
    read = safetensors.torch.load(write_file(views, {}))
    assert {name: tensor.tolist() for name, tensor in read.items()} == {
        "t": [[0, 3], [1, 4], [2, 5]],
        "e": [0, 0, 0],
        "s": [0, 2, 4],
        "z": [0, 0],
    }


def test_what_is_read_is_memory_of_its_own() -> None:
    body = bytearray(write_file({"a": torch.zeros(4)}, {}))
    tensor = read_file(memoryview(body), MANY)[1]["a"]
    tensor += 1
    assert not any(body[-16:])


NO_FILES: dict[str, bytes] = {
    "nothing": b"",
    "half a length": b"\0\0\0",
    "a header that is not there": (100).to_bytes(8, "little") + b"{}",
    "a header of 2^64 bytes": b"\xff" * 8,
    "an empty header": file_of(b""),
    "a header that is not JSON": file_of(b"{"),
    "a header that is not UTF-8": file_of(b'{"\xff":1}'),
    "a header that is a list": file_of([]),
    "a name given twice": file_of(b'{"a":1,"a":1}'),
    "deep nesting": file_of(b"[" * 100_000),
    "a huge number": file_of(b'{"a":1e400}'),
    "metadata of numbers": file_of({"__metadata__": {"a": 1}}),
    "metadata that is a list": file_of({"__metadata__": []}),
    "a tensor that is no object": file_of({"a": 1}),
    "a tensor without a shape": file_of({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, b"0" * 4),
    "an unknown field": file_of({"a": entry() | {"x": 1}}, b"0" * 4),
    "a shape of strings": file_of({"a": entry(shape=["1"])}, b"0" * 4),
    "a shape of bools": file_of({"a": entry(shape=[True])}, b"0" * 4),
    "a negative size": file_of({"a": entry(shape=[-1, -1])}, b"0" * 4),
    "a fractional size": file_of({"a": entry(shape=[1.0])}, b"0" * 4),
    "three offsets": file_of({"a": entry(offsets=[0, 4, 4])}, b"0" * 4),
    "negative offsets": file_of({"a": entry(offsets=[-4, 0])}, b"0" * 4),
    "offsets that run back": file_of({"a": entry(offsets=[4, 0])}, b"0" * 4),
    "a shape that needs more": file_of({"a": entry(shape=[2])}, b"0" * 4),
    "a shape of 2^124": file_of({"a": entry(shape=[2**62, 2**62])}, b"0" * 4),
    "a shape of more digits than Python prints": file_of(
        {"a": entry(shape=[2**62] * 400)}, b"0" * 4
    ),
    "offsets of many digits": file_of({"a": entry(offsets=[0, 10**4000])}, b"0" * 4),
    "more axes than a tensor may have": file_of({"a": entry(shape=[1] * 1025)}, b"0" * 4),
    "bytes that are not there": file_of({"a": entry()}, b"0" * 3),
    "bytes too many": file_of({"a": entry()}, b"0" * 5),
    "a gap": file_of({"a": entry(offsets=[4, 8])}, b"0" * 8),
    "an overlap": file_of({"a": entry(), "b": entry()}, b"0" * 4),
    "a partial overlap": file_of({"a": entry(), "b": entry(offsets=[2, 6])}, b"0" * 6),
}


@pytest.mark.parametrize("what", NO_FILES)
def test_what_is_no_file_is_an_invalid_request(what: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_file(NO_FILES[what], MANY)
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize("dtype", ["U16", "F8_E4M3", "f32", 1, None, ["F32"]])
def test_a_dtype_that_the_contract_does_not_have_is_a_bad_value(dtype: Any) -> None:
    with pytest.raises(BadValue, match="there are: F64"):
        read_file(file_of({"a": entry(dtype=dtype)}, b"0" * 4), MANY)


def test_a_bool_is_a_byte_of_0_or_1() -> None:
    with pytest.raises(BadValue, match="tensor flag: byte 0 is 2"):
        read_file(file_of({"flag": entry("BOOL", [1], [0, 1])}, b"\2"), MANY)


def test_a_tensor_has_no_more_elements_than_allowed() -> None:
    with pytest.raises(LimitExceeded, match=r"is 3$"):
        read_file(write_file({"a": torch.zeros(4)}, {}), 3)


@given(st.data())
def test_a_damaged_file_is_a_problem_or_another_file(data: st.DataObject) -> None:
    request = json.dumps({"leaves": [{"id": "a"}]})
    good = write_file({"a": torch.ones(2, dtype=torch.bool)}, {"request": request})
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with suppress(GradtraceError):
        read_request(bytes(damaged), MANY)


def test_a_request_is_in_the_metadata_and_its_tensors_under_the_ids() -> None:
    request = {"leaves": [{"id": "a"}, {"id": "b", "value": 2}, {"id": "c", "value": None}]}
    tensors = {"a": torch.ones(2), "c": torch.zeros(1)}
    parsed, read = read_request(write_file(tensors, {"request": json.dumps(request)}), MANY)
    assert [leaf["id"] for leaf in parsed["leaves"]] == ["a", "b", "c"]
    assert [leaf["value"] for leaf in parsed["leaves"]] == [0, 2, 0]
    assert {name: tensor.tolist() for name, tensor in read.items()} == {"a": [1, 1], "c": [0]}


@pytest.mark.parametrize(
    ("metadata", "kind", "pointer"),
    [
        ({}, InvalidRequest, ""),
        ({"request": "{"}, InvalidJson, ""),
        ({"request": "[]"}, InvalidRequest, ""),
        ({"request": "{}"}, InvalidRequest, ""),
        ({"request": '{"leaves":[1, {"id": 2}, {"id": "b"}]}'}, InvalidRequest, ""),
        ({"request": '{"leaves":[{"id": "a", "value": 1}]}'}, InvalidRequest, "/leaves/0/value"),
    ],
)
def test_a_request_that_does_not_suit_its_file_is_refused(
    metadata: dict[str, str], kind: type[GradtraceError], pointer: str
) -> None:
    with pytest.raises(kind) as caught:
        read_request(write_file({"a": torch.ones(1)}, metadata), MANY)
    assert caught.value.errors[0].pointer == pointer


@pytest.mark.parametrize("place", ['"leaves":[%s]', '"ops":{"0":%s}', '"__metadata__":{"a":%s}'])
@pytest.mark.parametrize("number", ["1e400", "-1" + "0" * 400])
def test_what_is_wrong_with_the_header_is_nowhere_in_the_request(place: str, number: str) -> None:
    with pytest.raises(InvalidRequest, match="header") as caught:
        read_request(file_of(("{" + place % number + "}").encode()), MANY)
    (error,) = caught.value.errors
    assert (error.pointer, error.node) == ("", None)


def test_a_number_that_is_too_large_is_found_in_the_request_of_a_file() -> None:
    request = '{"leaves":[{"id":"a"}],"ops":[{"id":"b","op":"add","attrs":{"other":1e400}}]}'
    with pytest.raises(BadValue) as caught:
        read_request(write_file({"a": torch.ones(1)}, {"request": request}), MANY)
    (error,) = caught.value.errors
    assert (error.pointer, error.node) == ("/ops/0/attrs/other", "b")


def test_an_answer_has_the_tensors_that_were_asked_for() -> None:
    nodes = [
        Node({"id": "a"}, torch.ones(1), None, ()),
        Node({"id": "b:0"}, torch.zeros(2), torch.full((2,), 3.0), ()),
    ]
    names = {
        (): set(),
        ("value",): {"value/a", "value/b:0"},
        ("value", "grad", "stats"): {"value/a", "value/b:0", "grad/b:0"},
    }
    for include, wanted in names.items():
        body = b"".join(write_answer({"nodes": [{"id": "a"}], "device": "cpu"}, nodes, include))
        assert set(safetensors.torch.load(body)) == wanted
        assert json.loads(read_file(body, MANY)[0]["response"])["device"] == "cpu"


def test_a_large_tensor_is_a_piece_of_its_own_and_small_ones_are_joined() -> None:
    large = torch.arange(100_000, dtype=torch.float64)
    tensors = {"a": torch.ones(3), "b": large, "c": torch.zeros(2), "d": torch.zeros(1)}

    pieces = file_pieces(tensors, {})

    assert [len(piece) for piece in pieces[1:]] == [large.nbytes, 4 * (3 + 2 + 1)]
    assert isinstance(pieces[1], memoryview)
    read = safetensors.torch.load(b"".join(pieces))
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def refused(leaf: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[str, str]:
    request = json.dumps({"leaves": [leaf], "backward": []})
    answer = ENGINE.trace(SAFETENSORS, SAFETENSORS, write_file(tensors, {"request": request}))
    told = json.loads(answer.body)
    assert (answer.status, told["errors"][0]["node"]) == (422, "a")
    return told["errors"][0]["pointer"], told["detail"]


def test_a_leaf_without_tensor_or_value_is_told_what_is_missing() -> None:
    place, words = refused({"id": "a"}, {})
    assert place == "/leaves/0"
    assert words == "the file has no tensor a, and the leaf has no value of its own"


def test_how_complex128_travels_is_said_where_it_came_in_another_way() -> None:
    place, words = refused({"id": "a", "dtype": "complex128"}, {"a": torch.ones(3).double()})
    assert place == "/leaves/0/shape"
    assert "float64 with a last axis of two, but the shape is [3]" in words
