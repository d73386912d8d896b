"""Integers of any length, tensors of many axes or of none: what PyTorch takes, or a problem."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson
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


def test_roots_are_refused_in_pytorchs_order() -> None:
    """It makes the implicit gradients of all roots before it looks who requires grad."""
    request = {
        "leaves": [leaf("x", [1.0, 2.0]), leaf("k", 1.0, requires_grad=False)],
        "ops": [op("y", "neg", "x")],
    }
    told = problem(request | {"backward": [{"node": "k"}, {"node": "y"}]})
    assert told.detail == "grad can be implicitly created only for scalar outputs"
    assert told.errors[0].pointer == "/backward/1"
    told = problem(request | {"backward": [{"node": "x", "gradient": [1, 1]}, {"node": "k"}]})
    assert told.detail.startswith("element 1 of tensors does not require grad")
    assert (told.errors[0].pointer, told.errors[0].node) == ("/backward/1", "k")


@pytest.mark.parametrize(
    "request_",
    [
        {"leaves": [FLOATS], "ops": [op("a", "add", "f", **{"k" * 100_000: 1})]},
        {"leaves": [FLOATS], "ops": [op("a", "add", "f", other={"ref": {"k" * 100_000: 1}})]},
        {
            "leaves": [leaf("f", [1.0])],
            "ops": [op("a", "nn.functional.mse_loss", "f", "f", reduction="k" * 100_000)],
        },
        {"leaves": [{"id": "a", "value_base64": "", "shape": [2**62] * 64}]},
    ],
)
def test_what_came_is_not_sent_back_at_length(request_: dict[str, Any]) -> None:
    assert len(problem(request_).model_dump_json()) < 25_000


def test_a_key_given_twice_below_a_long_key_is_told_in_short() -> None:
    told = problem(b'{"%b":{"a":1,"a":2}}' % (b"k" * 100_000))
    assert told.code == "invalid_json"
    assert len(told.model_dump_json()) < 1000


def test_a_control_character_in_long_base64_is_no_json() -> None:
    request = {"leaves": [{"id": "a", "value_base64": "N", "shape": [10_000]}], "backward": []}
    for sign in ("\n", "\x01"):
        text = "A" * 20_000 + sign + "A" * 33_333
        assert problem(body(request, N=f'"{text}"')).code == "invalid_json"
        escaped = text.replace(sign, f"\\u{ord(sign):04x}")
        assert problem(body(request, N=f'"{escaped}"')).code == "bad_value"


def test_a_cycle_is_told_where_the_reference_stands() -> None:
    by_attribute = op("b", "add", "a", other={"ref": "b"})
    told = problem({"leaves": [leaf("a", 1.0)], "ops": [by_attribute]})
    assert (told.code, told.errors[0].pointer) == ("cycle", "/ops/0/attrs/other/ref")
    ops = [op("b", "add", "a", "c"), op("c", "neg", "b")]
    told = problem({"leaves": [leaf("a", 1.0)], "ops": ops})
    assert told.errors[0].pointer == "/ops/0/inputs/1"


def test_a_note_says_nothing_that_autograd_does_not_do() -> None:
    """`norm` with p 0 is on the way to its input, and passes it no gradient."""
    request = {
        "leaves": [leaf("x", [1.0, 2.0, 3.0])],
        "ops": [op("h", "mul", "x", other=1), op("n", "norm", "h", p=0)],
        "include": ["notes"],
    }
    notes = {name: node["note"] for name, node in nodes_of(request).items()}
    assert "passed" not in notes["h"]
    assert "the ops between pass it none" in notes["x"]


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


@pytest.mark.parametrize("include", [[], ["edges"]])
def test_a_size_is_never_negative(include: list[str]) -> None:
    ops = [op("o", "expand", "a", size=[-1, 0]), op("s", "sum", "o")]
    told = problem({"leaves": [leaf("a", 1.0)], "ops": ops, "include": ["value", *include]})
    assert (told.code, told.errors[0].node) == ("bad_arguments", "o")
    assert "[-1, 0]" in told.detail


@pytest.mark.parametrize("name", ["median", "nanmedian", "masked.median", "aten.median.dim"])
@pytest.mark.parametrize("dim", [0, 1])
def test_a_median_along_an_expanded_dim_is_that_of_the_elements(name: str, dim: int) -> None:
    value = [[4.0, 1.0, 3.0, 2.0]]
    ops = [op("e", "expand", "x", size=[64, 4]), op("m", name, "e", dim=dim)]
    request = {"leaves": [leaf("x", value)], "ops": [*ops, op("s", "sum", "e")]}
    request["backward"] = [{"node": "s"}]
    nodes = nodes_of(request)
    median = nodes.get("m") or nodes["m:0"]
    assert median["value"] == [value[0], [2.0] * 64][dim]
    assert nodes["x"]["grad"] == [[64.0] * 4]


def test_the_gradient_of_a_covariance_is_added_up_as_pytorch_adds_it_up() -> None:
    random = torch.Generator().manual_seed(0)
    for _ in range(20):
        x, direct, way = (torch.randn(3, 3, generator=random) for _ in range(3))
        tracked = x.clone().requires_grad_()
        torch.autograd.backward([torch.cov(tracked), tracked * 0.1], [way, direct])
        roots = [
            {"node": node, "gradient": to.tolist()} for node, to in (("c", way), ("m", direct))
        ]
        ops = [op("c", "cov", "x"), op("m", "mul", "x", other=0.1)]
        nodes = nodes_of({"leaves": [leaf("x", x.tolist())], "ops": ops, "backward": roots})
        assert tracked.grad is not None
        assert torch.equal(torch.tensor(nodes["x"]["grad"]), tracked.grad)


@pytest.mark.parametrize(("weights", "dtype"), [("aweights", "float32"), ("fweights", "int64")])
@pytest.mark.parametrize("name", ["cov", "aten.cov.default"])
def test_the_covariance_of_one_observation_leaves_it_as_it_was(
    name: str, weights: str, dtype: str
) -> None:
    counts = leaf("w", [2], requires_grad=False, dtype=dtype)
    ops = [op("m", "mul", "x", "x"), op("c", name, "m", **{weights: {"ref": "w"}})]
    request = {"leaves": [leaf("x", [3.0]), counts], "ops": [*ops, op("s", "sum", "m")]}
    x, _, m, _, s = trace(request)["nodes"]
    assert (x["grad"], m["value"], m["grad_fn"], s["value"]) == ([6], [9], "MulBackward0", 9)


def integers(name: str, value: Any) -> dict[str, Any]:
    return leaf(name, value, requires_grad=False, dtype="int64")


SCORES = [[[-0.5, -1.0, -2.0, -3.0]] * 2] * 3
ROWS = [[[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]]]
BAG = {"bias": None, "N": 1, "C": 4, "HxW": 1, "group": 1, "eps": 1e-5}
VIEWS: dict[str, tuple[list[Any], Any, Any]] = {
    "labels in steps": (
        [leaf("x", SCORES), integers("v", [1, 0, 2, 0, 3, 0, 1, 0])],
        op("e", "slice", "v", step=2),
        op("o", "nn.functional.ctc_loss", "x", "e", input_lengths=[3, 3], target_lengths=[2, 2],
           reduction="none"),
    ),
    "one label": (
        [leaf("x", SCORES), integers("v", 2)],
        op("e", "expand", "v", size=[4]),
        op("o", "aten.ctc_loss.IntList", "x", "e", input_lengths=[3, 3], target_lengths=[2, 2],
           reduction=0),
    ),
    "one scale": (
        [leaf("x", [[1.0, 2.0, 3.0, 4.0]]), leaf("v", 2.0)],
        op("e", "expand", "v", size=[4]),
        op("o", "native_group_norm", "x", "e", **BAG),
    ),
    "queries that overlap": (
        [leaf("v", [[[1.0, 2.0, 3.0, 4.0, 5.0]]]), leaf("x", ROWS)],
        op("e", "unfold", "v", dimension=-1, size=4, step=1),
        op("o", "nn.functional.scaled_dot_product_attention", "e", "x", "x"),
    ),
    "one value": (
        [leaf("v", 2.0), leaf("x", ROWS)],
        op("e", "expand", "v", size=[1, 1, 2, 4]),
        op("o", "aten._scaled_dot_product_flash_attention_for_cpu.default", "x", "x", "e"),
    ),
    "one index": (
        [leaf("x", [[1.0], [2.0], [3.0]]), integers("v", 1), integers("z", [0, 1])],
        op("e", "expand", "v", size=[4]),
        op("o", "aten._embedding_bag.default", "x", "e", "z"),
    ),
    "offsets in steps": (
        [leaf("x", [[1.0], [2.0], [3.0]], dtype="float32"), integers("i", [1, 0, 2, 0]),
         integers("v", [0, 0, 1, 0])],
        op("e", "slice", "v", step=2),
        op("o", "aten._embedding_bag.default", "x", "i", "e"),
    ),
}  # fmt: skip
"""Leaves, a view of one of them, and an op whose kernel does not look at its strides."""


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_read_as_the_elements_that_it_shows(name: str) -> None:
    leaves, view, call = VIEWS[name]
    copied = {**call, "inputs": ["c" if one == "e" else one for one in call["inputs"]]}
    seen = []
    for ops in ([view, call], [view, op("c", "contiguous", "e"), copied]):
        nodes = nodes_of({"leaves": leaves, "ops": ops, "backward": [], "dtype": "float64"})
        seen.append({key: node["value"] for key, node in nodes.items() if key.startswith("o")})
    assert seen[0] == seen[1]


NO_MEMORY = [op("a", "sgn", "z"), op("g", "autograd.grad", "a", "z", grad_outputs={"ref": "z"})]
"""`g:0` are zeros without memory, as the backward pass of `sgn` makes them."""
HEADS = [[[[1.0, 2.0], [3.0, 4.0]]]]
ATTENTION = "nn.functional.scaled_dot_product_attention"
ZEROS: dict[str, tuple[dict[str, Any], Any, Any]] = {
    **{
        f"{name} of them": ({}, [1.0, 2.0, 3.0], op("o", name, "g:0", dim=0))
        for name in ("median", "nanmedian", "masked.median", "aten.nanmedian.dim")
    },
    **{
        f"attention with them as {name}": (
            {"k": HEADS},
            HEADS,
            op("o", ATTENTION, "k", "k", **{name: {"ref": "g:0"}}),
        )
        for name in ("query", "key", "value")
    },
    "flash attention with them as value": (
        {"k": HEADS},
        HEADS,
        op("o", "aten._scaled_dot_product_flash_attention_for_cpu.default", "k", "k", "g:0"),
    ),
    **{
        f"group norm with them as {name}": (
            {"k": [[1.0, 5.0, 2.0, 3.0]]},
            [1.0, 2.0, 3.0, 4.0],
            op("o", "nn.functional.group_norm", "k", **{name: {"ref": "g:0"}}, num_groups=2),
        )
        for name in ("weight", "bias")
    },
    "a native group norm with them as weight": (
        {"k": [[1.0, 2.0, 3.0, 4.0]]},
        [1.0, 2.0, 3.0, 4.0],
        op("o", "native_group_norm", "k", "g:0", **BAG),
    ),
    "a weight norm with them as v": (
        {"k": [[1.0], [2.0]]},
        [[1.0, 2.0], [3.0, 4.0]],
        op("o", "aten._weight_norm.default", "g:0", "k"),
    ),
}
"""Leaves, what is as large as the zeros, and an op whose kernel trusts that they have memory."""


@pytest.mark.parametrize("name", ZEROS)
def test_zeros_without_memory_are_read_as_zeros(name: str) -> None:
    given, like, call = ZEROS[name]
    leaves = [leaf("z", like), *(leaf(each, value) for each, value in given.items())]
    found = nodes_of({"leaves": leaves, "ops": [*NO_MEMORY, call], "backward": []})
    text = orjson.dumps(call).replace(b'"g:0"', b'"zeros"')
    real = op("zeros", "mul", "z", other=0.0)
    expected = nodes_of({"leaves": leaves, "ops": [real, orjson.loads(text)], "backward": []})
    for node in expected.keys() - {"zeros"} - {each["id"] for each in leaves}:
        assert found[node]["value"] == expected[node]["value"]


ROW = [[1.0, 2.0, 3.0, 5.0]]


@pytest.mark.parametrize("place", range(3))
def test_states_without_memory_are_read_as_zeros(place: int) -> None:
    ways = {"has_biases": False, "num_layers": 1, "dropout": 0.0, "train": False}
    ways |= {"bidirectional": False, "batch_first": False}
    leaves = [leaf("z", [[[1.0] * 4]]), leaf("w", [[1.0] * 4] * 16)]

    def ask(zeros: str) -> Any:
        given = ["h"] * 3
        given[place] = zeros
        x, *hx = ({"ref": name} for name in given)
        ops = [
            *NO_MEMORY,
            op("zeros", "mul", "z", other=0.0),
            op("h", "mul", "z", other=2.0),
            op("o", "aten.lstm.input", input=x, hx=hx, params=[{"ref": "w"}] * 2, **ways),
        ]
        nodes = nodes_of({"leaves": leaves, "ops": ops, "backward": []})
        return [nodes[f"o:{k}"]["value"] for k in range(3)]

    assert ask("g:0") == ask("zeros")


SIGNS = [op("y", "sgn", "o"), op("s", "sum", "y")]
NORMS: list[tuple[list[Any], Any]] = [
    ([leaf("x", ROW)], op("o", "nn.functional.group_norm", "x", num_groups=2)),
    ([leaf("x", ROW)], op("o", "aten.group_norm.default", "x", num_groups=2)),
    (
        [leaf("x", [[1.0, 2.0], [3.0, 4.0]]), leaf("w", [[1.0], [2.0]])],
        op("o", "aten._weight_norm.default", "x", "w"),
    ),
]


@pytest.mark.parametrize(("leaves", "normed"), NORMS)
@pytest.mark.parametrize("include", [["grad"], ["grad", "edges", "health"]])
def test_a_gradient_without_memory_is_passed_back_as_zeros(
    leaves: list[Any], normed: Any, include: list[str]
) -> None:
    nodes = nodes_of({"leaves": leaves, "ops": [normed, *SIGNS], "include": include})
    for one in leaves:
        assert torch.tensor(nodes[one["id"]]["grad"]).count_nonzero() == 0


def test_a_message_of_pytorchs_holds_no_addresses_of_this_process() -> None:
    for given, wrong in [
        (leaf("x", [1.0, 2.0]), op("y", "unflatten", "x", dim=0, sizes=[3, -3, 2])),
        (
            leaf("x", [[[[1.0] * 4] * 4]]),
            op("y", "nn.functional.fractional_max_pool2d", "x", kernel_size=1,
               output_ratio=[1e30, 0.5]),
        ),
    ]:  # fmt: skip
        told = problem({"leaves": [given], "ops": [wrong]})
        assert told.code == "op_failed"
        assert not re.search(r"0x[0-9a-f]{6}|frame #|Exception raised|/", told.detail)


def test_a_gradient_is_retained_where_a_write_left_its_function_out_of_date() -> None:
    """`g:0` is a view whose base `as_strided_scatter` wrote into on its way back."""
    request = {
        "leaves": [leaf("x", [2.0]), leaf("y", [3.0], requires_grad=False), leaf("c", [0.5])],
        "ops": [
            op("s", "as_strided_scatter", "x", "y", size=[1], stride=[1], storage_offset=0),
            op("g", "autograd.grad", "s", "x", grad_outputs={"ref": "c"}),
        ],
        "retain_grad": True,
        "backward": [{"node": "g:0"}],
    }
    found = nodes_of(request)["g:0"]
    assert (found["retains_grad"], found["grad_status"], found["grad"]) == (True, "retained", [1.0])
