"""base64 and safetensors carry the same bits as JSON does."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from safetensors import torch as library

from service.contract.response import TraceResponse
from service.engine import write_tensor
from service.engine.job import JSON, SAFETENSORS
from service.engine.report import LARGE
from tests.engine.asking import ENGINE, leaf, nodes_of, op
from tests.engine.test_golden import as_tensor
from tests.golden import CASES


@pytest.mark.parametrize("name", CASES)
def test_base64_carries_the_bits_that_json_prints(name: str) -> None:
    request = CASES[name]["request"]
    plain = nodes_of(request)
    for id_, node in nodes_of(request | {"encoding": "base64"}).items():
        assert "value" not in node
        assert "grad" not in node
        for field in ("value", "grad"):
            text = node[f"{field}_base64"]
            if text is None:
                assert plain[id_][field] is None
                continue
            real = {"complex64": "float32"}.get(node["dtype"], node["dtype"])
            raw = np.frombuffer(base64.b64decode(text), real)
            printed = as_tensor(plain[id_][field], node["dtype"]).numpy().ravel()
            np.testing.assert_array_equal(raw, printed)


def file_of(request: dict[str, Any], tensors: dict[str, torch.Tensor]) -> bytes:
    return bytes(library.save(tensors, {"request": orjson.dumps(request).decode()}))


def answer_of(body: bytes) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    length = int.from_bytes(body[:8], "little")
    metadata = orjson.loads(body[8 : 8 + length])["__metadata__"]
    return orjson.loads(metadata["response"]), library.load(body)


def test_safetensors_in_and_out_carry_every_tensor() -> None:
    x = torch.randn(3, 4, dtype=torch.float64)
    z = torch.randn(2, dtype=torch.complex128)
    request = {
        "leaves": [
            {"id": "x", "requires_grad": True},
            {"id": "z", "requires_grad": True, "dtype": "complex128"},
        ],
        "ops": [
            op("h", "sin", "x", retain_grad=True),
            op("m", "abs", "z"),
            op("s", "sum", "h"),
            op("t", "sum", "m"),
            op("out", "mul", "s", "t"),
        ],
        "include": ["value", "grad", "edges"],
    }
    body = file_of(request, {"x": x, "z": torch.view_as_real(z).contiguous()})
    answer = ENGINE.trace(SAFETENSORS, SAFETENSORS, body)
    assert (answer.status, answer.headers["content-type"]) == (200, SAFETENSORS)
    response, tensors = answer_of(answer.body)
    TraceResponse.model_validate(response)
    assert all("value" not in node and "grad" not in node for node in response["nodes"])
    x.requires_grad_()
    z.requires_grad_()
    h = x.sin()
    h.retain_grad()
    out = h.sum() * z.abs().sum()
    out.backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert h.grad is not None
    assert z.grad is not None
    assert torch.equal(tensors["value/h"], h)
    assert torch.equal(tensors["grad/x"], x.grad)
    assert torch.equal(tensors["grad/h"], h.grad)
    assert torch.equal(torch.view_as_complex(tensors["grad/z"]), z.grad)
    assert "grad/m" not in tensors
    assert torch.equal(tensors["edge/0"], x.grad)


def test_a_safetensors_request_may_be_answered_in_json_and_the_other_way_round() -> None:
    request = {"leaves": [{"id": "x", "requires_grad": True}], "ops": [op("out", "sum", "x")]}
    answer = ENGINE.trace(SAFETENSORS, JSON, file_of(request, {"x": torch.ones(2)}))
    assert orjson.loads(answer.body)["nodes"][0]["grad"] == [1.0, 1.0]
    plain = {"leaves": [leaf("x", [1.0, 2.0])], "ops": [op("out", "sum", "x")]}
    _, tensors = answer_of(ENGINE.trace(JSON, SAFETENSORS, orjson.dumps(plain)).body)
    assert tensors["grad/x"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("body", [b"", b"\0" * 8, b"\xff" * 64, file_of({}, {}), b'{"a": 1}'])
def test_a_file_that_is_none_is_a_problem(body: bytes) -> None:
    answer = ENGINE.trace(SAFETENSORS, SAFETENSORS, body)
    assert answer.status in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_long_base64_is_a_piece_of_its_own_wherever_it_stands() -> None:
    numbers = np.arange(LARGE, dtype=np.float32)
    text = base64.b64encode(numbers.tobytes()).decode()
    x = {"id": "x", "value_base64": text, "shape": [LARGE], "requires_grad": True}
    ops = [op("h", "neg", "x"), op("out", "sum", "h")]
    include = ["value", "grad", "edges"]
    request = {"leaves": [x], "ops": ops, "encoding": "base64", "include": include}
    answer = ENGINE.trace(JSON, JSON, orjson.dumps(request))
    document = orjson.loads(answer.body)
    TraceResponse.model_validate(document)
    leaf_, h, _ = document["nodes"]
    assert leaf_["value_base64"] == text
    assert h["value_base64"] == base64.b64encode((-numbers).tobytes()).decode()
    minus = base64.b64encode(np.full(LARGE, -1, np.float32).tobytes()).decode()
    assert leaf_["grad_base64"] == document["edges"][0]["grad_base64"] == minus
    assert h["grad_base64"] is None
    assert isinstance(answer.data, list)
    assert [bytes(piece) for piece in answer.data].count(minus.encode()) == 2


@pytest.mark.parametrize("encoding", ["json", "base64"])
def test_what_was_not_asked_for_is_not_written(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(*_: object) -> None:
        raise AssertionError("a tensor was written")

    monkeypatch.setattr(write_tensor, "_array", written)
    monkeypatch.setattr(write_tensor, "_laid_out", written)
    x = leaf("x", [float(number) for number in range(100)], requires_grad=True)
    request = {"leaves": [x], "ops": [op("out", "sum", "x")], "encoding": encoding}
    with pytest.raises(AssertionError, match="was written"):
        write_tensor.base64_text(torch.ones(1))
    [told, _] = nodes_of(request | {"include": ["stats", "notes"]}).values()
    assert told["stats"]["value"]["mean"] == 49.5
    assert "value" not in told


def test_a_slice_of_zeros_without_memory_is_answered_in_every_encoding() -> None:
    """`sgn` gives such zeros back, and `cat` passes a slice of them on: to read it is a SIGSEGV."""
    request = {
        "leaves": [leaf("x", [1.0, 2.0]), leaf("y", [3.0])],
        "ops": [
            op("c", "cat", "x", "y"),
            op("s", "sgn", "c"),
            op("o", "sum", "s"),
            op("g", "autograd.grad", "o", "x", "y"),
        ],
        "backward": [{"node": "o"}],
        "include": ["value", "grad", "stats", "edges", "health"],
    }
    nodes = nodes_of(request)
    assert [nodes[name]["grad"] for name in "xy"] == [[0.0, 0.0], [0.0]]
    assert [nodes[name]["value"] for name in ("g:0", "g:1")] == [[0.0, 0.0], [0.0]]
    coded = nodes_of(request | {"encoding": "base64"})
    assert base64.b64decode(coded["y"]["grad_base64"]) == bytes(4)
    _, tensors = answer_of(ENGINE.trace(JSON, SAFETENSORS, orjson.dumps(request)).body)
    assert tensors["grad/y"].tolist() == [0.0]


@pytest.mark.parametrize("count", [3, 1000])
def test_bytes_that_are_viewed_as_bools_are_0_or_1_in_every_encoding(count: int) -> None:
    """PyTorch keeps the bytes, and any but 0 is true."""
    numbers = [0.0, 2.5, 1.0] * (count // 3)
    request = {
        "leaves": [leaf("x", numbers, requires_grad=False)],
        "ops": [
            op("b", "view", "x", dtype="bool"),
            op("t", "unflatten", "b", dim=0, sizes=[-1, 4]),
        ],
        "backward": [],
    }
    request["ops"].append(op("m", "mT", "t"))
    bools = torch.tensor(numbers).view(torch.bool)
    wanted = {"b": bools, "m": bools.view(-1, 4).mT}
    plain, coded = nodes_of(request), nodes_of(request | {"encoding": "base64"})
    _, tensors = answer_of(ENGINE.trace(JSON, SAFETENSORS, orjson.dumps(request)).body)
    for name, tensor in wanted.items():
        assert plain[name]["value"] == tensor.tolist()
        raw = bytes(map(int, tensor.reshape(-1).tolist()))
        assert base64.b64decode(coded[name]["value_base64"]) == raw
        assert tensors[f"value/{name}"].contiguous().view(-1).view(torch.uint8).tolist() == [*raw]
    again = {"id": "y", "dtype": "bool", "shape": plain["b"]["shape"]}
    again["value_base64"] = coded["b"]["value_base64"]
    assert nodes_of({"leaves": [again], "backward": []})["y"]["value"] == plain["b"]["value"]
