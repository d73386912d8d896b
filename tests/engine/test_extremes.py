"""Integers of any length, tensors of many axes or of none: what PyTorch takes, or a problem."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from service.contract.problem import BadRoot
from service.engine.dtypes import DTYPES
from service.engine.job import JSON, SAFETENSORS, Engine
from service.engine.json_text import LONG_TEXT
from service.engine.safetensors_file import read_file, write_file
from service.engine.tensors import root_gradient
from tests.engine.asking import ENGINE, leaf, nodes_of, op, problem, trace

INTEGERS = {"id": "i", "value": [1, 2, 3], "dtype": "int64"}
FLOATS = {"id": "f", "value": [1.0, 2.0]}
BEYOND = [2**64, -(2**63) - 1, 10**30, -(10**300)]
DIGITS = [310, 4300, 4301, 20_000]


def body(request: dict[str, Any], **numbers: str) -> bytes:
    """Return JSON text with numbers of any spelling in the place of strings."""
    text = json.dumps(request)
    for name, number in numbers.items():
        text = text.replace(f'"{name}"', number)
    return text.encode()


def call(kind: str, **attrs: Any) -> dict[str, Any]:
    return {"leaves": [INTEGERS], "ops": [op("y", kind, "i", **attrs)], "backward": []}


CALLS: dict[str, dict[str, Any]] = {
    "add": {"other": "N"},
    "mul": {"other": "N"},
    "pow": {"exponent": "N"},
    "eq": {"other": "N"},
    "clamp": {"max": "N"},
    "full_like": {"fill_value": "N"},
    "sum": {"dim": "N"},
    "aten.add.Scalar": {"other": "N"},
    "getitem": {"index": ["N"]},
    "nn.functional.pad": {"pad": ["N", 0]},
}


@pytest.mark.parametrize("number", BEYOND)
@pytest.mark.parametrize("kind", CALLS)
def test_an_integer_beyond_64_bits_is_no_float_to_an_op(kind: str, number: int) -> None:
    told = problem(body(call(kind, **CALLS[kind]), N=str(number)))
    assert told.code in ("bad_arguments", "op_failed")
    assert told.errors[0].node == "y"


@pytest.mark.parametrize("number", [2**63, 2**64, 10**30])
def test_where_pytorch_wants_a_float_it_takes_such_an_integer(number: int) -> None:
    request = {
        "leaves": [FLOATS],
        "ops": [op("y", "nn.functional.layer_norm", "f", normalized_shape=[2], eps="N")],
        "backward": [],
    }
    y = nodes_of(body(request, N=str(number)))["y"]
    expected = torch.nn.functional.layer_norm(torch.tensor([1.0, 2.0]), (2,), eps=number)
    assert torch.equal(torch.tensor(y["value"]), expected)


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 10**19, -(2**63)])
@pytest.mark.parametrize("kind", ["add", "mul", "eq", "clamp", "masked_fill"])
def test_a_number_of_pytorch_is_an_integer_of_64_bits_signed_or_unsigned(
    kind: str, number: int
) -> None:
    """JavaScript and Go write 1e19 as 10000000000000000000."""
    name = {"clamp": "max", "masked_fill": "value"}.get(kind, "other")
    mask = {"mask": {"ref": "m"}} if kind == "masked_fill" else {}
    tensors: list[dict[str, Any]] = [FLOATS, INTEGERS]
    for tensor in tensors:
        request = {
            "leaves": [tensor, {"id": "m", "dtype": "bool", "value": True}],
            "ops": [op("y", kind, tensor["id"], **{**mask, name: "N"})],
            "backward": [],
        }
        answer = ENGINE.trace(JSON, JSON, body(request, N=str(number)))
        expected: torch.Tensor | str
        try:
            masks = {"mask": torch.tensor(True)} if mask else {}
            dtype = getattr(torch, tensor.get("dtype", "float32"))
            given = torch.tensor(tensor["value"], dtype=dtype)
            expected = getattr(torch, kind)(given, **masks, **{name: number})
        except RuntimeError as error:
            expected = str(error)
        told = json.loads(answer.body)
        if isinstance(expected, str):
            assert told["errors"][0]["message"] in expected
        else:
            value = torch.tensor(told["nodes"][-1]["value"], dtype=expected.dtype)
            assert torch.equal(value, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("count", [1, 300, LONG_TEXT])
def test_a_zero_that_is_spelt_as_an_integer_keeps_its_sign(dtype: str, count: int) -> None:
    """Go's encoding/json writes -0.0 as -0."""
    floats = leaf("x-0", "N", dtype=dtype, requires_grad=True)
    request = {
        "leaves": [floats, leaf("i", "I", dtype="int64", requires_grad=False)],
        "ops": [op("y", "neg", "x-0")],
        "backward": [{"node": "y", "gradient": "N"}],
    }
    numbers = f"[{', '.join(['[-0, -0.0, 0,-0 ]'] * count)}]"
    text = body(request, N=numbers, I="[-0, 9007199254740993]")
    x, i, _ = trace(text)["nodes"]
    assert str(x["value"]) == str([[-0.0, -0.0, 0.0, -0.0]] * count)
    assert str(x["grad"]) == str([[0.0, 0.0, -0.0, 0.0]] * count)
    assert i["value"] == [0, 9007199254740993]


def test_a_float_that_is_as_large_stays_a_float() -> None:
    request = {"leaves": [FLOATS], "ops": [op("y", "mul", "f", other=2.0**64)], "backward": []}
    assert trace(request)["nodes"][1]["value"] == [1.8446744e19, 3.689349e19]


def test_the_same_graph_with_the_integer_is_another_graph() -> None:
    request = call("mul", other="N")
    assert trace(body(request, N="1e30"))["warnings"] == []
    assert problem(body(request, N=f"1{'0' * 30}")).code == "bad_arguments"


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_a_leaf_of_floats_takes_such_an_integer(dtype: str) -> None:
    """JavaScript spells 1e20 so."""
    value: Any = ["N", 0] if dtype == "complex64" else "N"
    request = {"leaves": [leaf("a", value, dtype=dtype)], "backward": []}
    node = nodes_of(body(request, N="1" + "0" * 20))["a"]
    assert node["value"] == ([1e20, 0] if dtype == "complex64" else 1e20)


@pytest.mark.parametrize("digits", DIGITS)
@pytest.mark.parametrize("long", [False, True])
def test_a_number_of_many_digits_is_a_bad_value_where_it_stands(digits: int, long: bool) -> None:
    number = "1" * digits
    filler = ["x" * 50] * (LONG_TEXT // 50) if long else []
    places: dict[str, dict[str, Any]] = {
        "/leaves/0/value": {"leaves": [leaf("a", "N", note=filler)]},
        "/leaves/0/value/1": {"leaves": [leaf("a", [0.5, "N"])], "ops": filler},
        "/ops/0/attrs/other": {"leaves": [FLOATS], "ops": [op("a", "add", "f", other="N")]},
        "/backward/0/gradient": {"leaves": filler, "backward": [{"node": "f", "gradient": "N"}]},
    }
    for place, request in places.items():
        told = problem(body(request, N=number))
        assert (told.code, told.errors[0].pointer) == ("bad_value", place)
        assert told.errors[0].node == (None if "backward" in place else "a")
        assert len(told.model_dump_json()) < 1000
    told = problem(body({"leaves": [FLOATS], "seed": "N"}, N=number))
    assert (told.code, told.errors[0].pointer) == ("invalid_request", "/seed")
    told = problem(f"[{number}]".encode())
    assert told.code == "invalid_request"


def test_many_digits_behind_the_point_are_a_number_like_others() -> None:
    numbers = ["0." + "12345678901234567890" * 3, "0.00000000000000000000000001", "-3.0" + "0" * 30]
    request = {"leaves": [leaf("a", list("NMK"), dtype="float64")], "backward": []}
    text = body(request, N=numbers[0], M=numbers[1], K=numbers[2])
    assert nodes_of(text)["a"]["value"] == [float(number) for number in numbers]


def test_a_safetensors_header_with_such_a_number_is_refused() -> None:
    header = b'{"a":{"dtype":"F32","shape":[%b],"data_offsets":[0,4]}}' % (b"1" * 5000)
    file = len(header).to_bytes(8, "little") + header + bytes(4)
    answer = ENGINE.trace(SAFETENSORS, SAFETENSORS, file)
    assert json.loads(answer.body)["code"] == "invalid_request"


@pytest.mark.parametrize("shape", [[0, 2**63], [0, 2**62, 8], [0, 2**63 - 1, 2**63 - 1]])
def test_a_shape_that_no_tensor_can_have_is_a_bad_value(shape: list[int]) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    file = len(header).to_bytes(8, "little") + header
    answer = ENGINE.trace(SAFETENSORS, SAFETENSORS, file)
    assert json.loads(answer.body)["code"] == "bad_value"


MANY_AXES = {
    "leaves": [leaf("a", [1.5])],
    "ops": [op("b", "reshape", "a", shape=[1] * 70)],
}


@pytest.mark.parametrize("encoding", ["json", "base64"])
def test_more_axes_than_numpy_has_are_traced(encoding: str) -> None:
    includes = ["value", "grad", "stats", "edges", "notes", "health"]
    answer = trace(MANY_AXES | {"include": includes, "encoding": encoding, "retain_grad": True})
    assert answer["nodes"][1]["shape"] == [1] * 70
    assert answer["nodes"][0]["stats"]["grad"]["max"] == 1.0
    assert answer["health"]["nonfinite_value"] is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axes", [250, 300])
def test_more_axes_than_orjson_nests_lists_are_traced(dtype: str, axes: int) -> None:
    one: Any = True if dtype == "bool" else [1, 0] if dtype.startswith("complex") else 1
    request = {
        "leaves": [leaf("a", [one], dtype=dtype, requires_grad=False)],
        "ops": [op("b", "reshape", "a", shape=[1] * axes)],
        "backward": [],
    }
    value = trace(request)["nodes"][1]["value"]
    for _ in range(axes):
        [value] = value
    assert value == one


def test_a_nan_in_many_axes_is_found() -> None:
    request = {"leaves": [leaf("a", ["NaN"])], "ops": [op("b", "reshape", "a", shape=[1] * 70)]}
    health = trace(request | {"include": ["health"]})["health"]
    assert health["nonfinite_value"]["kind"] == "NaN"


def test_a_relu_of_many_axes_is_diagnosed() -> None:
    request = {
        "leaves": [leaf("a", [-1.0])],
        "ops": [op("b", "reshape", "a", shape=[1] * 70), op("c", "relu", "b")],
    }
    [dead] = trace(request | {"include": ["health"]})["health"]["dead_relus"]
    assert (dead["node"], dead["inactive_fraction"]) == ("c", 1.0)


def test_a_root_of_many_axes_takes_a_gradient() -> None:
    roots = [{"node": "b", "gradient_base64": "AAAAQA=="}]
    assert nodes_of(MANY_AXES | {"backward": roots})["a"]["grad"] == [2.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool])
def test_a_file_takes_tensors_of_many_axes(dtype: torch.dtype) -> None:
    tensor = torch.ones([1] * 70, dtype=dtype)
    _, read = read_file(write_file({"a": tensor}, {}), 10)
    assert torch.equal(read["a"], tensor)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ([0, 10**8], []),
        ([2, 0, 10**8], [[], []]),
        ([1, 2, 0, 10**12, 3], [[[], []]]),
    ],
)
@pytest.mark.parametrize("encoding", ["json", "base64"])
def test_sizes_behind_a_zero_are_no_elements(shape: list[int], text: Any, encoding: str) -> None:
    request = {"leaves": [leaf("a", [], shape=shape)], "backward": [], "encoding": encoding}
    [node] = trace(request, Engine())["nodes"]
    assert node["shape"] == shape
    if encoding == "json":
        assert node["value"] == text
    else:
        assert node["value_base64"] == ""


def test_as_many_empty_lists_as_an_answer_may_have_elements() -> None:
    request = {"leaves": [leaf("a", [], shape=[10**8, 0])], "backward": []}
    assert problem(request).code == "limit_exceeded"
    roots = [{"node": "a", "gradient": []}]
    assert problem(request | {"include": ["grad"], "backward": roots}).code == "limit_exceeded"
    roots = [{"node": "b", "gradient": []}]
    edges = {"include": ["edges"], "ops": [op("b", "neg", "a")], "backward": roots}
    assert problem(request | edges).code == "limit_exceeded"
    assert trace(request | {"encoding": "base64"})["nodes"][0]["value_base64"] == ""


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_an_empty_gradient_for_a_node_that_is_not_empty_has_the_wrong_shape(
    dtype: torch.dtype,
) -> None:
    with pytest.raises(BadRoot, match=r"the gradient has the shape \[0\], the node has \[3\]"):
        root_gradient({"node": "a", "gradient": []}, torch.ones(3, dtype=dtype), 10)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("shape", [[0], [2, 0], [1, 0, 3], [2, 3, 0]])
def test_what_an_answer_prints_of_an_empty_node_can_be_its_gradient(
    shape: list[int], dtype: str
) -> None:
    request = {"leaves": [leaf("a", [], shape=shape, dtype=dtype)], "backward": []}
    printed = nodes_of(request)["a"]["value"]
    node = nodes_of(request | {"backward": [{"node": "a", "gradient": printed}]})["a"]
    assert node["grad"] == printed
    assert node["grad_status"] == "accumulated"


@pytest.mark.parametrize("gradient", [[[]], [[], [], []], [[[], []]], [[[]], [[]]]])
def test_lists_of_an_empty_tensor_of_another_shape_are_no_gradient(gradient: Any) -> None:
    with pytest.raises(BadRoot):
        root_gradient({"node": "a", "gradient": gradient}, torch.ones(2, 0, 3), 10)


def test_a_control_character_in_long_base64_is_no_json() -> None:
    request = {"leaves": [{"id": "a", "value_base64": "N", "shape": [10_000]}], "backward": []}
    for sign in ("\n", "\x01"):
        text = "A" * 20_000 + sign + "A" * 33_333
        assert problem(body(request, N=f'"{text}"')).code == "invalid_json"
        escaped = text.replace(sign, f"\\u{ord(sign):04x}")
        assert problem(body(request, N=f'"{escaped}"')).code == "bad_value"


@pytest.mark.parametrize("count", [3, LONG_TEXT])
def test_an_exponent_of_minus_zero_is_no_negative_zero(count: int) -> None:
    numbers = f"[{'1e-0,' * count}9007199254740993]"
    request = {"leaves": [leaf("i", "I", dtype="int64", requires_grad=False)], "backward": []}
    assert nodes_of(body(request, I=numbers))["i"]["value"] == [1] * count + [9007199254740993]
    assert problem(body(request, I=f"[{'1e-0,' * count}300]").replace(b"int64", b"int8")).code == (
        "bad_value"
    )


@pytest.mark.parametrize("count", [9, 9000])
def test_lists_are_nested_as_deep_as_a_tensor_may_be(count: int) -> None:
    request = {"leaves": [leaf("a", "N", requires_grad=False)], "backward": [], "include": []}
    deep = "[" * 65 + ",".join(["1"] * count) + "]" * 65
    assert "nested more than 64 deep" in problem(body(request, N=deep)).detail
    pairs = "[" * 64 + ",".join(["[1,2]"] * count) + "]" * 64
    request["leaves"] = [leaf("a", "N", dtype="complex64", requires_grad=False)]
    assert nodes_of(body(request, N=pairs))["a"]["shape"] == [1] * 63 + [count]


@pytest.mark.parametrize("text", ['{"leaves":{"x":1e400}}', '{"ops":{"0":[1e400]}}'])
def test_a_number_that_is_too_large_may_stand_where_no_list_does(text: str) -> None:
    assert problem(text.encode()).code == "bad_value"
