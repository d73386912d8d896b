"""What is refused, each with its status, code, pointer and node."""

from __future__ import annotations

import re
from typing import Any

import pytest

from service.engine.job import Engine
from service.engine.limits import Limits
from tests.engine.asking import leaf, op, problem

X = leaf("x", [1.0, 2.0])


def graph(*ops: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"leaves": [X], "ops": list(ops)} | more


BODIES: dict[str, tuple[bytes, int, str]] = {
    "broken JSON": (b'{"leaves": [', 400, "invalid_json"),
    "an empty body": (b"", 400, "invalid_json"),
    "a bare NaN": (b'{"leaves":[{"id":"a","value":NaN}]}', 400, "invalid_json"),
    "a key given twice": (b'{"leaves":[{"id":"a","id":"b","value":1}]}', 400, "invalid_json"),
    "invalid UTF-8": (b'{"leaves":[{"id":"\xff","value":1}]}', 400, "invalid_json"),
    "200,000 open brackets": (b"[" * 200_000, 400, "invalid_json"),
    "200,000 brackets that close": (b"[" * 200_000 + b"]" * 200_000, 400, "invalid_json"),
    "a list": (b"[]", 422, "invalid_request"),
    "null": (b"null", 422, "invalid_request"),
    "an empty graph": (b"{}", 422, "invalid_request"),
    "lists of nothing": (b'{"leaves":[],"ops":[]}', 422, "invalid_request"),
}


@pytest.mark.parametrize("what", BODIES)
def test_a_body_that_is_no_request_is_refused(what: str) -> None:
    body, status, code = BODIES[what]
    told = problem(body)
    assert (told.status, told.code) == (status, code)


def alone(value: Any, **more: Any) -> dict[str, Any]:
    """Return a graph of one leaf that requires grad unless told otherwise."""
    return {"leaves": [leaf("a", value, **more)]}


def coded(text: str, shape: list[int] | None) -> dict[str, Any]:
    return {"leaves": [{"id": "a", "value_base64": text, "shape": shape}]}


K = leaf("k", 1, requires_grad=False)
TOP = op("t", "topk", "x", k=1)
SUM = op("s", "sum", "x")
UNFIT = {"leaves": [X, leaf("y", [1, 2, 3])], "ops": [op("b", "add", "x", "y")]}
FLOORED = graph(op("f", "floor_divide", "x", other=2), op("b", "sum", "f"))
MISSHAPEN = graph(op("b", "relu", "x"), backward=[{"node": "b", "gradient": [1, 2, 3]}])

REQUESTS: dict[str, dict[str, tuple[dict[str, Any], str, str | None]]] = {
    "invalid_request": {
        "an unknown field": ({"leaves": [X], "nodes": []}, "/nodes", None),
        "an unknown field of a leaf": ({"leaves": [X | {"grad": 1}]}, "/leaves/0/grad", "x"),
        "a leaf without value": ({"leaves": [{"id": "a"}]}, "/leaves/0", "a"),
        "a leaf with two values": (alone(1, value_base64="AA==", shape=[]), "/leaves/0", "a"),
        "base64 without shape": (coded("AA==", None), "/leaves/0", "a"),
        "an id with a space": ({"leaves": [leaf("a b", 1)]}, "/leaves/0/id", "a b"),
        "a reserved id": ({"leaves": [leaf("__metadata__", 1)]}, "/leaves/0", "__metadata__"),
        "a flag that is a number": (alone(1, requires_grad=1), "/leaves/0/requires_grad", "a"),
        "a device that is not there": (graph(device="cuda:99"), "/device", None),
        "a device beyond PyTorch's own count": (graph(device="cuda:128"), "/device", None),
        "a device that PyTorch takes for the first": (graph(device="cuda:256"), "/device", None),
        "a device with a leading zero": (graph(device="cuda:00"), "/device", None),
        "a device of another kind": (graph(device="meta"), "/device", None),
        "a negative seed": (graph(seed=-1), "/seed", None),
        "a seed beyond 2^63-1": (graph(seed=2**63), "/seed", None),
        "an op without a name": (graph(op("b", "", "x")), "/ops/0/op", "b"),
    },
    "bad_value": {
        "a ragged list": (alone([[1, 2], [3]]), "/leaves/0/value", "a"),
        "base64 of the wrong length": (coded("AAAA", [2]), "/leaves/0/value_base64", "a"),
        "base64 with a strange sign": (coded("AA*AAA==", [1]), "/leaves/0/value_base64", "a"),
        "300 in uint8": (
            alone([1, 300], requires_grad=False, dtype="uint8"), "/leaves/0/value", "a",
        ),
        "1.5 in int64": (alone([1.5], requires_grad=False, dtype="int64"), "/leaves/0/value", "a"),
        "70000 in float16": (alone([70000], dtype="float16"), "/leaves/0/value", "a"),
        "true in float32": (alone([True]), "/leaves/0/value", "a"),
        "a number in bool": (
            alone([1], requires_grad=False, dtype="bool"), "/leaves/0/value", "a",
        ),
        "an integer that requires grad": (
            alone([1], dtype="int64"), "/leaves/0/requires_grad", "a",
        ),
    },
    "duplicate_id": {
        "the same id twice": ({"leaves": [X, leaf("x", 1)]}, "/leaves/1/id", "x"),
        "the same id for a leaf and an op": (graph(op("x", "relu", "x")), "/ops/0/id", "x"),
    },
    "unknown_reference": {
        "an unknown reference": (graph(op("b", "relu", "nope")), "/ops/0/inputs/0", "b"),
        "an unknown reference in attrs": (
            graph(op("b", "add", "x", other={"ref": "nope"})), "/ops/0/attrs/other", "b",
        ),
        "an output of a leaf": (graph(op("b", "relu", "x:0")), "/ops/0/inputs/0", "b"),
        "several outputs by a bare id": (graph(TOP, op("b", "sum", "t")), "/ops/1/inputs/0", "b"),
        "an output that is not there": (graph(TOP, op("b", "sum", "t:2")), "/ops/1/inputs/0", "b"),
        "an output beyond a list's end": (
            graph(op("u", "unbind", "x"), op("b", "sum", "u:2")), "/ops/1/inputs/0", "b",
        ),
        "a root that is not there": (
            graph(SUM, backward=[{"node": "nope"}]), "/backward/0/node", None,
        ),
    },
    "unknown_op": {
        "an unknown op": (graph(op("b", "reluu", "x")), "/ops/0/op", "b"),
    },
    "bad_arguments": {
        "an argument that is not there": (
            graph(op("b", "relu", "x", slope=1)), "/ops/0/attrs/slope", "b",
        ),
        "an argument of the wrong type": (
            graph(op("b", "sum", "x", dim="one")), "/ops/0/attrs/dim", "b",
        ),
        "an argument too few": (graph(op("b", "mul", "x")), "/ops/0/inputs", "b"),
        "an input too many": (graph(op("b", "relu", "x", "x")), "/ops/0/inputs/1", "b"),
    },
    "op_failed": {
        "shapes that do not fit": (UNFIT, "/ops/0", "b"),
    },
    "bad_root": {
        "a vector as root": (graph(op("b", "relu", "x")), "/ops/0", "b"),
        "an untracked root": ({"leaves": [K], "ops": [op("b", "relu", "k")]}, "/ops/0", "b"),
        "several outputs as the default root": (graph(TOP), "/ops/0", "t"),
        "a root's gradient of the wrong shape": (MISSHAPEN, "/backward/0/gradient", "b"),
    },
    "backward_failed": {
        "an op without derivative": (FLOORED, "", None),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "what"), [(code, what) for code, cases in REQUESTS.items() for what in cases]
)
def test_a_request_that_cannot_be_traced_is_refused_where_it_is_wrong(code: str, what: str) -> None:
    request, pointer, node = REQUESTS[code][what]
    told = problem(request)
    first = told.errors[0]
    assert (told.status, told.code, first.code) == (422, code, code)
    assert first.pointer.startswith(pointer)
    assert first.node == node


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (
            UNFIT,
            (
                "The size of tensor a (2) must match the size of tensor b (3) at non-singleton "
                "dimension 0"
            ),
        ),
        (graph(op("b", "relu", "x")), "grad can be implicitly created only for scalar outputs"),
        (
            {"leaves": [leaf("z", [1, 2], dtype="complex64")], "ops": [op("b", "exp", "z")]},
            "grad can be implicitly created only for real scalar outputs but got torch.complex64",
        ),
        (
            {"leaves": [K]},
            "element 0 of tensors does not require grad and does not have a grad_fn",
        ),
        (FLOORED, "derivative for aten::floor_divide is not implemented"),
    ],
)
def test_pytorch_speaks_in_its_own_words(request_: dict[str, Any], words: str) -> None:
    assert problem(request_).detail == words


def test_several_mistakes_are_told_together_twenty_at_most() -> None:
    told = problem(graph(*(op(f"b{i}", "reluu", "x") for i in range(30))))
    assert len(told.errors) == 20
    assert [error.node for error in told.errors] == [f"b{i}" for i in range(20)]


@pytest.mark.parametrize(
    ("call", "begins", "ends"),
    [
        (op("y", "nn.functional.pad", "x", pad=[1, 1], mode="m" * 5000), "Unrecognised", "m…"),
        (op("y", "reshape", "x", shape=[1] * 5000), "shape '[1, 1, ", "for input of size 2"),
    ],
)
def test_pytorch_repeats_long_arguments_in_short(
    call: dict[str, Any], begins: str, ends: str
) -> None:
    told = problem(graph(call, backward=[]))
    assert told.code == "op_failed"
    assert told.detail.startswith(begins)
    assert told.detail.endswith(ends)
    assert len(told.detail) < 300


def test_long_input_is_not_echoed() -> None:
    told = problem(graph(op("b", "relu", "q" * 150, extra="z" * 5000)))
    assert len(told.model_dump_json()) < 2000


@pytest.mark.parametrize(
    ("limits", "request_", "name"),
    [
        (Limits(max_nodes=2), graph(op("a", "relu", "x"), op("b", "sum", "a")), "max_nodes"),
        (
            Limits(max_elements=8),
            graph(op("a", "expand", "k", size=[3, 3]), op("b", "sum", "a"), leaves=[leaf("k", 1)]),
            "max_elements",
        ),
        (
            Limits(max_elements=8),
            graph(
                op("a", "meshgrid", "k", "k"), op("b", "sum", "a:1"), leaves=[leaf("k", [1] * 3)]
            ),
            "max_elements",
        ),
        (Limits(max_elements=8), {"leaves": [leaf("k", [0] * 9)]}, "max_elements"),
        (
            Limits(max_result_elements=6),
            graph(op("a", "relu", "x"), op("b", "sum", "a")),
            "max_result_elements",
        ),
    ],
)
def test_a_limit_is_named_with_its_value(
    limits: Limits, request_: dict[str, Any], name: str
) -> None:
    told = problem(request_, Engine(limits))
    assert told.code == "limit_exceeded"
    assert f"{name} (GRADTRACE_{name.upper()}) is {getattr(limits, name)}" in told.detail


def test_a_view_of_a_million_million_elements_is_refused_before_anybody_sums_it() -> None:
    told = problem(
        graph(op("e", "expand", "k", size=[2**40]), op("s", "sum", "e"), leaves=[leaf("k", [1])])
    )
    assert (told.code, told.errors[0].node) == ("limit_exceeded", "e")


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
        {"leaves": [X], "ops": [op("a", "add", "x", **{"k" * 100_000: 1})]},
        {"leaves": [X], "ops": [op("a", "add", "x", other={"ref": {"k" * 100_000: 1}})]},
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


def test_a_cycle_is_told_where_the_reference_stands() -> None:
    by_attribute = op("b", "add", "a", other={"ref": "b"})
    told = problem({"leaves": [leaf("a", 1.0)], "ops": [by_attribute]})
    assert (told.code, told.errors[0].pointer) == ("cycle", "/ops/0/attrs/other/ref")
    ops = [op("b", "add", "a", "c"), op("c", "neg", "b")]
    told = problem({"leaves": [leaf("a", 1.0)], "ops": ops})
    assert told.errors[0].pointer == "/ops/0/inputs/1"


@pytest.mark.parametrize("include", [[], ["edges"]])
def test_a_size_is_never_negative(include: list[str]) -> None:
    ops = [op("o", "expand", "a", size=[-1, 0]), op("s", "sum", "o")]
    told = problem({"leaves": [leaf("a", 1.0)], "ops": ops, "include": ["value", *include]})
    assert (told.code, told.errors[0].node) == ("bad_arguments", "o")
    assert "[-1, 0]" in told.detail


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
