"""An exported script prints what the service answers, and reading it gives the graph back."""

from __future__ import annotations

import ast
import base64
import inspect
import itertools
import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from service.contract.problem import (
    BadArguments,
    BadValue,
    Cycle,
    GradtraceError,
    UnknownOp,
    UnknownReference,
)
from service.engine import writes
from service.engine.dtypes import DTYPES
from service.translate.exported import GIVE_MEMORY, PREPARED
from service.translate.from_python import from_python
from service.translate.to_python import to_python
from tests.conformance.converter import NotExpressible, convert
from tests.engine.asking import leaf, trace
from tests.engine.bits import bits
from tests.engine.unprepared import NO_MEMORY, NORMS, SIGNS, VIEWS, ZEROS
from tests.golden import CASES
from tests.translate.oracle import executed, tensor_of, trace_of


def printed(source: str) -> dict[str, dict[str, Any]]:
    """Return the lines that a script prints, by node."""
    return {line["id"]: line for line in map(json.loads, executed(source)["printed"].splitlines())}


def compare(request: dict[str, Any], lines: dict[str, dict[str, Any]]) -> None:
    """Hold what a script printed against the service's answer, bit for bit."""
    nodes = trace_of({**request, "encoding": "json"})
    assert list(lines) == list(nodes)
    for name, node in nodes.items():
        dtype = getattr(torch, node["dtype"])
        for field in ("value", "grad"):
            mine, theirs = lines[name][field], node[field]
            assert (mine is None) == (theirs is None), (name, field)
            if mine is not None:
                assert bits(tensor_of(mine, dtype)) == bits(tensor_of(theirs, dtype)), (name, field)


def round_trip(request: dict[str, Any]) -> None:
    """Export, run, compare; import and compare all of the trace."""
    source = to_python(request)
    compare(request, printed(source))
    back = from_python(source)
    settings: dict[str, Any] = {k: request[k] for k in ("encoding", "include") if k in request}
    assert trace({**back, **settings})["nodes"] == trace(request)["nodes"], source


@pytest.mark.parametrize("name", CASES)
def test_every_golden_case_survives_export_and_import(name: str) -> None:
    round_trip(CASES[name]["request"])


def test_a_script_stands_alone_in_a_fresh_interpreter() -> None:
    request = CASES["softmax_cross_entropy"]["request"]
    environment = {"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error"}
    run = subprocess.run(
        [sys.executable, "-"], input=to_python(request), capture_output=True, text=True,
        cwd="/", env=environment, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    compare(request, {line["id"]: line for line in map(json.loads, run.stdout.splitlines())})


def test_the_lessons_graph_reads_like_the_lesson() -> None:
    source = to_python(CASES["seed_retained"]["request"])
    body = source[source.index("torch.manual_seed") :]
    assert body == (
        "torch.manual_seed(0)\n\n"
        "a = torch.tensor([[1.0, 1.0], [1.0, 1.0]], requires_grad=True)\n\n"
        "b = a + 2\nc = b ** 2\nout = torch.sum(c)\n\n"
        "for tensor in (b, c, out):\n"
        "    if tensor.requires_grad:\n"
        "        tensor.retain_grad()\n\n"
        "out.backward()\n\n"
        'show("a", a)\nshow("b", b)\nshow("c", c)\nshow("out", out)\n'
    )


VALUES: dict[str, Any] = {
    "float64": [0.1, "NaN", "Infinity", "-Infinity", -0.0, 5e-324, 1e300, 3],
    "float32": [0.1, "NaN", "Infinity", "-Infinity", -0.0, 1e-45, 16777217, 3],
    "float16": [0.1, "NaN", "Infinity", "-Infinity", -0.0, 6e-8, 65504, 2049.0000001],
    "bfloat16": [0.1, "NaN", "Infinity", "-Infinity", -0.0, 1e-40, 3, 257.0000001],
    "complex64": [[0.1, "NaN"], ["-Infinity", -0.0], [1, 2]],
    "complex128": [[0.1, "NaN"], ["-Infinity", -0.0], [1, 2]],
    "int64": [2**63 - 1, -(2**63), 0],
    "int32": [2**31 - 1, -1],
    "int16": [-(2**15), 5],
    "int8": [-128, 127],
    "uint8": [255, 0],
    "bool": [True, False],
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_leaves_of_every_dtype_and_spelling_are_exact(dtype: str) -> None:
    raw = bytes(range(7, 7 + 2 * DTYPES[dtype].itemsize))
    raw = b"\x00\x01" if dtype == "bool" else raw
    value = VALUES[dtype]
    round_trip(
        {
            "dtype": dtype,
            "leaves": [
                {"id": "list", "value": value},
                {"id": "row", "value": [value, value]},
                {"id": "flat", "value": value + value, "shape": [2, 1, len(value)]},
                {"id": "one", "value": value[0]},
                {"id": "bytes", "value_base64": base64.b64encode(raw).decode(), "shape": [2, 1]},
                {"id": "none", "value": [], "shape": [0, 3]},
                {"id": "no_bytes", "value_base64": "", "shape": [2, 0], "dtype": "float64"},
                {"id": "others", "value": [1.0, 2.0], "dtype": "float32", "requires_grad": True},
            ],
            "ops": [{"id": "sum", "op": "sum", "inputs": ["others"]}],
        }
    )


REQUESTS: dict[str, dict[str, Any]] = {
    "ids that are no names": {
        "leaves": [{"id": "layer/0.weight", "value": [1.0, 2.0], "requires_grad": True}],
        "ops": [
            {"id": "lambda", "op": "mul", "inputs": ["layer/0.weight"], "attrs": {"other": 2}},
            {"id": "layer_0_weight", "op": "exp", "inputs": ["lambda"]},
            {"id": "0", "op": "sum", "inputs": ["layer_0_weight"]},
            {"id": "torch", "op": "neg", "inputs": ["0"]},
            {"id": "show", "op": "neg", "inputs": ["torch"]},
        ],
    },
    "ops out of order, with seeds": {
        "seed": 5,
        "leaves": [{"id": "x", "value": [1.0, 2.0], "requires_grad": True}],
        "ops": [
            {"id": "noise", "op": "rand", "attrs": {"size": [2]}},
            {"id": "again", "op": "rand", "attrs": {"size": [2]}, "seed": 5},
            {"id": "mask", "op": "bernoulli", "inputs": ["noise"]},
            {"id": "drop", "op": "nn.functional.dropout", "inputs": ["x"], "attrs": {"p": 0.25}},
            {"id": "out", "op": "dot", "inputs": ["drop", "again"]},
        ],
    },
    "sources that require grad": {
        "ops": [
            {"id": "w", "op": "ones", "attrs": {"size": [2, 2]}, "requires_grad": True},
            {"id": "k", "op": "full", "attrs": {"size": [2], "fill_value": "NaN"}},
            {"id": "s", "op": "add", "inputs": ["k", "k"], "requires_grad": True},
            {"id": "y", "op": "matmul", "inputs": ["w", "s"], "retain_grad": True},
        ],
        "backward": [{"node": "y", "gradient": ["Infinity", -0.5]}],
    },
    "several roots, twice the same, complex": {
        "dtype": "complex128",
        "leaves": [{"id": "z", "value": [[1, 2], [3, -4]], "requires_grad": True}],
        "ops": [
            {"id": "sq", "op": "mul", "inputs": ["z", "z"], "retain_grad": True},
            {"id": "n", "op": "linalg.vector_norm", "inputs": ["sq"]},
            {"id": "c", "op": "conj", "inputs": ["sq"]},
            {"id": "r", "op": "real", "inputs": ["c"]},
        ],
        "backward": [
            {"node": "sq", "gradient": [[1, 0], ["NaN", 2]]},
            {"node": "n"},
            {"node": "n"},
            {"node": "r", "gradient_base64": base64.b64encode(bytes(16)).decode()},
        ],
    },
    "gradients as nodes": {
        "retain_grad": True,
        "leaves": [
            {"id": "x", "value": [1.0, 2.0, 3.0], "requires_grad": True},
            {"id": "v", "value": [1.0, 0.0, -1.0]},
        ],
        "ops": [
            {"id": "y", "op": "pow", "inputs": ["x"], "attrs": {"exponent": 3}},
            {"id": "s", "op": "sum", "inputs": ["y"]},
            {"id": "g", "op": "autograd.grad", "inputs": ["s", "x"]},
            {"id": "h", "op": "autograd.grad", "inputs": ["g:0", "x"],
             "attrs": {"grad_outputs": {"ref": "v"}, "create_graph": False}},
            {"id": "p", "op": "sum", "inputs": ["g:0"]},
        ],
    },
    "outputs by name, by number and unknown in number": {
        "leaves": [{"id": "x", "value": [[3.0, 1.0, 2.0]], "requires_grad": True}],
        "ops": [
            {"id": "t", "op": "sort", "inputs": ["x"], "attrs": {"dim": 1, "descending": True}},
            {"id": "u", "op": "unbind", "inputs": ["t:values"], "attrs": {"dim": 1}},
            {"id": "g", "op": "getitem", "inputs": ["x"],
             "attrs": {"index": [0, None, "...", {"ref": "t:indices"}]}},
            {"id": "h", "op": "getitem", "inputs": ["g"],
             "attrs": {"index": [True, {"slice": [None, 1, None]}, {"slice": [0, None, 2]}]}},
            {"id": "c", "op": "cat", "inputs": ["t:0", "x"], "attrs": {"dim": 0}},
            {"id": "m", "op": "pow", "inputs": ["c"], "attrs": {"self": -2.5}},
            {"id": "o", "op": "add", "inputs": ["u:0", "u:2"]},
        ],
        "backward": [
            {"node": "o", "gradient": [2.0]},
            {"node": "h", "gradient": [[[[1.0, 2.0, "-Infinity"]]]]},
        ],
    },
    "exact overloads and copies": {
        "leaves": [
            {"id": "x", "value": [[1.0, 2.0], [3.0, 4.5]], "requires_grad": True},
            {"id": "mean", "value": [0.0, 0.0]},
            {"id": "var", "value": [1.0, 1.0]},
        ],
        "ops": [
            {"id": "n", "op": "nn.functional.batch_norm", "inputs": ["x", "mean", "var"],
             "attrs": {"training": True}},
            {"id": "a", "op": "aten.add.Tensor", "inputs": ["n", "x"], "attrs": {"alpha": 3}},
            {"id": "s", "op": "aten.select.int", "inputs": ["a"], "attrs": {"dim": 0, "index": 1}},
            {"id": "l", "op": "slice", "inputs": ["s"], "attrs": {"end": 1}},
            {"id": "t", "op": "as_strided", "inputs": ["l"],
             "attrs": {"size": [1, 1], "stride": [1, 1]}},
            {"id": "f", "op": "flatten", "inputs": ["t"], "retain_grad": True},
            {"id": "d", "op": "to", "inputs": ["f"], "attrs": {"dtype": "float64"}},
        ],
        "backward": [{"node": "d"}, {"node": "f"}],
    },
    "a gradient that another dtype would round": {
        "dtype": "float64",
        "leaves": [{"id": "x", "value": [0.5, 2.0], "requires_grad": True}],
        "ops": [{"id": "y", "op": "special.i1e", "inputs": ["x"]}],
        "backward": [{"node": "y", "gradient": [0.1, 2.0]}],
    },
    "an id that means something to Python": {
        "leaves": [{"id": "__warningregistry__", "value": [1.0], "requires_grad": True}],
        "ops": [{"id": "__y__", "op": "T", "inputs": ["__warningregistry__"]}],
    },
    "signs of zeros behind a negative view": {
        "leaves": [{"id": "z", "dtype": "complex64", "value": [[0, 7], [7, 1], [0, 0]] * 4}],
        "ops": [{"id": "y", "op": "aten._neg_view.default", "inputs": ["z"]}],
        "backward": [],
    },
    "a list of outputs behind another output": {
        "leaves": [{"id": "x", "value": [[1.0, 2.0], [3.0, 4.0], [2.0, 2.0]]}],
        "ops": [
            {"id": "h", "op": "histogramdd", "inputs": ["x"], "attrs": {"bins": 2}},
            {"id": "i", "op": "histogramdd", "inputs": ["x"], "attrs": {"bins": [2, 3]}},
            {"id": "w", "op": "sum", "inputs": ["h:hist"]},
            {"id": "y", "op": "sum", "inputs": ["h:2"]},
            {"id": "z", "op": "sum", "inputs": ["i:1"]},
        ],
        "backward": [],
    },
    "a transpose that is its input": {
        "leaves": [{"id": "x", "value": 1.5, "requires_grad": True}],
        "ops": [
            {"id": "m", "op": "mT", "inputs": ["x"], "retain_grad": True},
            {"id": "h", "op": "H", "inputs": ["x"], "retain_grad": True},
            {"id": "a", "op": "adjoint", "inputs": ["x"], "retain_grad": True},
            {"id": "p", "op": "mul", "inputs": ["m", "h"]},
            {"id": "y", "op": "mul", "inputs": ["p", "a"]},
        ],
    },
    "forward only": {
        "leaves": [{"id": "x", "value": 2.0, "requires_grad": True}],
        "ops": [{"id": "y", "op": "sin", "inputs": ["x"], "retain_grad": True}],
        "backward": [],
    },
    "the gradient of a node without elements": {
        "leaves": [{"id": "x", "value": [], "shape": [1, 0, 3], "requires_grad": True}],
        "ops": [{"id": "y", "op": "exp", "inputs": ["x"], "retain_grad": True}],
        "backward": [{"node": "y", "gradient": [[]]}, {"node": "x", "gradient": []}],
    },
    "a leaf alone": {"leaves": [{"id": "x", "value": 2.0, "requires_grad": True}]},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*deprecated:UserWarning")
@pytest.mark.parametrize("name", REQUESTS)
def test_requests_of_every_shape_print_what_the_service_answers(name: str) -> None:
    request = REQUESTS[name]
    source = to_python(request)
    compare(request, printed(source))
    back = trace_of(from_python(source))
    assert back == trace_of(request)


C = {"id": "c", "value": [[1.0, -2.0], [3.0, 0.5]]}
NUMBERS: list[Any] = [-2, 1.5, -0.0, True, "NaN", "-Infinity", {"re": -1, "im": 2}]
COMPARISONS = "eq ne lt le gt ge".split()
OPERATORS = "add sub mul div floor_divide remainder pow matmul".split() + COMPARISONS


def operators() -> Iterator[dict[str, Any]]:
    """Yield every op that is written as an operator: tensors, and numbers on either side."""
    yield {"op": "neg", "inputs": ["c"]}
    for op in OPERATORS:
        right = "exponent" if op == "pow" else "other"
        yield {"op": op, "inputs": ["c", "d"]}
        yield {"op": op, "inputs": ["c"], "attrs": {"self": {"ref": "d"}}}
        yield from ({"op": op, "inputs": ["c"], "attrs": {right: number}} for number in NUMBERS)
        yield from ({"op": op, "inputs": ["c"], "attrs": {"self": number}} for number in NUMBERS)


@pytest.mark.parametrize("tracked", ["leaf", "op"])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_operators_with_numbers_on_either_side_are_exact(dtype: str, tracked: str) -> None:
    value = [[[1, 2], [0, -1]], [[3, 0], [1, 1]]] if dtype == "complex64" else C["value"]
    leaf = {"value": value, "dtype": dtype, "requires_grad": tracked == "leaf"}
    leaves = [{"id": "c", **leaf}, {"id": "d", **leaf}]
    done = 0
    for spec in operators():
        compares = spec["op"] in COMPARISONS
        ops = [
            {"id": "b", **spec, "requires_grad": tracked == "op" and not compares},
            {"id": "s", "op": "sum", "inputs": ["b"]},
            {"id": "r", "op": "real", "inputs": ["s"]},
        ]
        backward = [] if compares else [{"node": "r"}]
        request = {"leaves": leaves, "ops": ops, "backward": backward}
        try:
            trace_of(request)
        except AssertionError:
            continue  # the service refuses it, as PyTorch does
        round_trip(request)
        done += 1
    assert done > 50


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"op": "neg", "inputs": ["c"]}, "b = (-c).requires_grad_()"),
        ({"op": "exp", "inputs": ["c"]}, "b = torch.exp(c).requires_grad_()"),
        (
            {"op": "pow", "inputs": ["c"], "attrs": {"self": -2}},
            "b = ((-2) ** c).requires_grad_()",
        ),
        (
            {"op": "pow", "inputs": ["c"], "attrs": {"self": {"re": 1, "im": -2}}},
            "b = (complex(1.0, -2.0) ** c).requires_grad_()",
        ),
    ],
)
def test_requires_grad_is_of_the_result_of_an_operator(spec: dict[str, Any], line: str) -> None:
    ops = [
        {"id": "b", **spec, "requires_grad": True},
        {"id": "n", "op": "linalg.vector_norm", "inputs": ["b"]},
    ]
    request = {"leaves": [C], "ops": ops}
    assert f"\n{line}\n" in to_python(request)
    round_trip(request)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
@pytest.mark.parametrize(
    "spec",
    [
        {"op": "bitwise_not", "inputs": ["c"]},
        *({"op": f"bitwise_{name}", "inputs": ["c", "c"]} for name in ("and", "or", "xor")),
        *(
            {"op": f"bitwise_{name}", "inputs": ["c"], "attrs": {side: number}}
            for name in ("and", "or", "xor")
            for side in ("self", "other")
            for number in (True, 2)
        ),
    ],
    ids=str,
)
def test_bitwise_operators_are_exact(spec: dict[str, Any], dtype: str) -> None:
    leaf = {"id": "c", "value": [True, False] if dtype == "bool" else [1, 6], "dtype": dtype}
    round_trip({"leaves": [leaf], "ops": [{"id": "b", **spec}], "backward": []})


def test_whole_numbers_with_a_complex_number_can_require_grad() -> None:
    leaf = {"id": "c", "value": [1, -2], "dtype": "int64"}
    op = {"id": "b", "op": "mul", "inputs": ["c"], "attrs": {"other": {"re": 1, "im": -2}}}
    norm = {"id": "n", "op": "linalg.vector_norm", "inputs": ["b"]}
    round_trip({"leaves": [leaf], "ops": [{**op, "requires_grad": True}, norm]})


@pytest.mark.parametrize(
    ("index", "source"),
    [
        ([[0, 1]], "x[[0, 1]]"),
        ([[[0, 1], [1, 0]]], "x[[[0, 1], [1, 0]],]"),
        ([[[0, 1]]], "x[[[0, 1]],]"),
        ([[[[1]]]], "x[[[[1]]],]"),
        ([[]], "x[[]]"),
        ([[[]]], "x[[[]],]"),
        ([[[True, False], [False, True]]], "x[[[True, False], [False, True]],]"),
        ([[[0], [1]], [0, 1]], "x[[[0], [1]], [0, 1]]"),
        ([[0, 1], None, [[1, 0]]], "x[[0, 1], None, [[1, 0]]]"),
        (["...", [[1, 0]]], "x[..., [[1, 0]]]"),
        ([], "x[()]"),
    ],
)
def test_lists_in_an_index_are_tensors_of_positions(index: list[Any], source: str) -> None:
    request = {
        "leaves": [{"id": "x", "value": [[1.0, 2.0], [4.0, 8.0]], "requires_grad": True}],
        "ops": [
            {"id": "g", "op": "getitem", "inputs": ["x"], "attrs": {"index": index}},
            {"id": "s", "op": "sum", "inputs": ["g"]},
        ],
    }
    assert f"\ng = {source}\n" in to_python(request)
    round_trip(request)


@pytest.mark.parametrize("need_weights", [False, True])
def test_an_output_that_is_none_is_no_node(need_weights: bool) -> None:
    shapes = {"q": [2, 1, 4], "w": [12, 4], "b": [12], "out": [4, 4], "bias": [4]}
    leaves = [
        {
            "id": name,
            "value": [math.sin(k) for k in range(math.prod(shape))],
            "shape": shape,
            "requires_grad": True,
        }
        for name, shape in shapes.items()
    ]
    attention = {
        "id": "a",
        "op": "nn.functional.multi_head_attention_forward",
        "inputs": ["q", "q", "q", "w", "b", "out", "bias"],
        "attrs": {
            "embed_dim_to_check": 4, "num_heads": 2, "bias_k": None, "bias_v": None,
            "add_zero_attn": False, "dropout_p": 0.0, "need_weights": need_weights,
        },
        "retain_grad": True,
    }  # fmt: skip
    request = {"leaves": leaves, "ops": [attention, {"id": "s", "op": "sum", "inputs": ["a:0"]}]}
    round_trip(request)
    assert ("a:1" in trace_of(request)) is need_weights


SEVERAL: dict[str, dict[str, Any]] = {
    "unbind": {"inputs": ["x"]},
    "split": {"inputs": ["x"], "attrs": {"split_size": 1}},
    "chunk": {"inputs": ["x"], "attrs": {"chunks": 2}},
    "hsplit": {"inputs": ["x"], "attrs": {"sections": 2}},
    "tensor_split": {"inputs": ["x"], "attrs": {"sections": 2}},
    "meshgrid": {"inputs": ["v", "v"], "attrs": {"indexing": "ij"}},
    "broadcast_tensors": {"inputs": ["x", "v"]},
    "gradient": {"inputs": ["x"]},
    "var_mean": {"inputs": ["x"]},
}
"""Ops of several outputs, of most of which only the run knows how many."""


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("flags", [["retain_grad"], ["requires_grad"], []], ids=str)
def test_flags_of_an_op_with_several_outputs_come_back(name: str, flags: list[str]) -> None:
    tracked = "requires_grad" not in flags
    request = {
        "leaves": [
            {"id": "x", "value": [[1.0, 2.0], [3.0, 5.0]], "requires_grad": tracked},
            {"id": "v", "value": [1.0, 2.0], "requires_grad": tracked},
        ],
        "ops": [
            {"id": "track", "op": name, **SEVERAL[name], **dict.fromkeys(flags, True)},
            {"id": "retain", "op": "sum", "inputs": ["track:0"]},
        ],
    }
    round_trip(request)
    first, _ = from_python(to_python(request))["ops"]
    assert {flag for flag in first if flag in ("retain_grad", "requires_grad")} == set(flags)


@pytest.mark.parametrize("flag", ["retain_grad", "requires_grad"])
def test_a_conversion_to_nothing_is_a_node_of_its_own(flag: str) -> None:
    leaf = {"id": "x", "value": [1.0, 2.0], "requires_grad": flag == "retain_grad"}
    to = {"id": "t", "op": "to", "inputs": ["x"], flag: True}
    round_trip({"leaves": [leaf], "ops": [to, {"id": "s", "op": "sum", "inputs": ["t"]}]})


def test_outputs_retained_after_a_backward_pass_keep_nothing() -> None:
    request = {
        "leaves": [{"id": "x", "value": [1.0, 2.0], "requires_grad": True}],
        "ops": [{"id": "u", "op": "unbind", "inputs": ["x"], "retain_grad": True}],
        "backward": [{"node": "u:0"}],
    }
    source = to_python(request)
    late = source.replace("\nretain(u)\n", "\n").replace("\nshow(", "\nretain(u)\n\nshow(", 1)
    assert late != source
    assert "retain_grad" not in from_python(late)["ops"][0]
    assert from_python(source)["ops"][0]["retain_grad"]


def samples() -> Iterator[Any]:
    """Yield two samples of every fifteenth op of torch's database."""
    from torch.testing._internal.common_methods_invocations import op_db

    for op in op_db[::15]:
        if torch.float32 in op.dtypes:
            tracked = bool(op.supports_autograd)
            given = op.sample_inputs("cpu", torch.float32, tracked)  # type: ignore[no-untyped-call]
            yield from ((op, sample) for _, sample in zip(range(2), given, strict=False))


def test_samples_of_torchs_own_database_survive_export_and_import() -> None:
    done = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for op, sample in samples():
            try:
                request = convert(op, sample).request
            except NotExpressible:
                continue
            if op.name == "linalg.lstsq":  # two direct calls of it differ as well
                continue
            round_trip(request)
            done += 1
    assert done > 40


X = {"id": "x", "value": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({"leaves": [X], "backward": [{"node": "q"}]}, UnknownReference),
        ({"leaves": [X], "backward": [{"node": "x:0"}]}, UnknownReference),
        ({"leaves": [X], "ops": [{"id": "a", "op": "neg", "inputs": ["q"]}]}, UnknownReference),
        (
            {
                "ops": [
                    {"id": "a", "op": "neg", "inputs": ["b"]},
                    {"id": "b", "op": "neg", "inputs": ["a"]},
                ]
            },
            Cycle,
        ),
        ({"leaves": [{"id": "x", "value": [[1], [2, 3]]}]}, BadValue),
        ({"leaves": [X], "ops": [{"id": "a", "op": "nag", "inputs": ["x"]}]}, UnknownOp),
        ({"leaves": [X], "ops": [{"id": "a", "op": "neg"}]}, BadArguments),
    ],
)
def test_no_script_is_written_for_a_graph_that_is_none(
    request_: dict[str, Any], kind: type[GradtraceError]
) -> None:
    with pytest.raises(kind):
        to_python(request_)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_that_an_op_gets_a_copy_of_is_exported_so(name: str) -> None:
    leaves, view, call = VIEWS[name]
    round_trip({"leaves": leaves, "ops": [view, call], "backward": [], "dtype": "float64"})


def body_of(source: str) -> str:
    """Return what a function does, without its docstring and types."""
    [function] = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    return ast.dump(ast.Module(function.body[1:], []))


def test_what_an_exported_script_does_before_an_op_is_what_the_engine_does() -> None:
    rows = itertools.chain.from_iterable(writes.PREPARATIONS.values())
    assert {row.prepare.__name__ for row in rows} == set(PREPARED)
    for name, source in {**PREPARED, "give_memory": GIVE_MEMORY}.items():
        expected = body_of(inspect.getsource(getattr(writes, name)))
        assert body_of(source.replace("torch.Tensor", "Tensor")) == expected


@pytest.mark.parametrize("retained", [True, False])
def test_what_reads_zeros_without_memory_is_exported_so(retained: bool) -> None:
    for leaves, normed in NORMS:
        round_trip({"leaves": leaves, "ops": [normed, *SIGNS], "retain_grad": retained})
    for given, like, call in ZEROS.values():
        leaves = [leaf("z", like), *(leaf(each, value) for each, value in given.items())]
        round_trip({"leaves": leaves, "ops": [*NO_MEMORY, call], "backward": []})
