"""Edges: what each use contributes; asking for them changes no bit of anything else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.engine.asking import leaf, op, trace

X = leaf("x", [0.5, -1.25, 2.0])
GRAPHS: dict[str, dict[str, Any]] = {
    "fan-out": {
        "leaves": [X],
        "ops": [
            op("a", "sin", "x"),
            op("b", "exp", "x"),
            op("c", "mul", "a", "b"),
            op("out", "sum", "c"),
        ],
    },
    "one node twice in one op": {
        "leaves": [X],
        "ops": [
            op("h", "tanh", "x"),
            op("c", "cat", "h", "h"),
            op("p", "pow", "c", exponent=3),
            op("out", "sum", "p"),
        ],
    },
    "a square": {"leaves": [X], "ops": [op("s", "mul", "x", "x"), op("out", "sum", "s")]},
    "several outputs": {
        "leaves": [X],
        "ops": [
            op("t", "topk", "x", k=2),
            op("m", "mul", "t:values", "t:0"),
            op("s", "sum", "m"),
            op("n", "sum", "x"),
            op("out", "add", "s", "n"),
        ],
    },
    "a composite op": {
        "leaves": [X, leaf("y", [1.0, 2.0, 3.0])],
        "ops": [
            op("l", "nn.functional.mse_loss", "x", "y"),
            op("c", "cosine_similarity", "x", "y", dim=0),
            op("out", "add", "l", "c"),
        ],
    },
    "a reference in attrs": {
        "leaves": [X],
        "ops": [op("s", "add", "x", other={"ref": "x"}, alpha=3), op("out", "sum", "s")],
    },
    "random numbers": {
        "leaves": [leaf("x", [[1.0, 2.0, 3.0, 4.0]])],
        "ops": [
            op("d", "nn.functional.dropout", "x", p=0.5),
            op("s", "mul", "d", "x"),
            op("out", "sum", "s"),
        ],
        "seed": 3,
    },
    "complex": {
        "dtype": "complex64",
        "leaves": [leaf("z", [[1.0, 2.0], [3.0, -4.0]])],
        "ops": [
            op("s", "mul", "z", "z"),
            op("m", "mul", "s", "z"),
            op("a", "abs", "m"),
            op("out", "sum", "a"),
        ],
    },
    "sums in another order": {
        "leaves": [leaf("t", [0.1, 0.2, 0.3, 0.7]), leaf("v", [0.3, 0.1, 0.9, 0.2])],
        "ops": [
            op("d", "diff", "t"),
            op("m", "mul", "t", "v"),
            op("s", "sum", "d"),
            op("n", "sum", "m"),
            op("out", "mul", "s", "n"),
        ],
    },
}


@pytest.mark.parametrize("what", GRAPHS)
def test_edges_and_health_asked_for_together_are_what_each_is_alone(what: str) -> None:
    edges = trace(GRAPHS[what] | {"include": ["edges"]})
    health = trace(GRAPHS[what] | {"include": ["health"]})
    assert trace(GRAPHS[what] | {"include": ["edges", "health"]}) == edges | health


@pytest.mark.parametrize("what", GRAPHS)
def test_contributions_add_up_to_the_gradient_and_change_no_bit_of_it(what: str) -> None:
    request = {**GRAPHS[what], "retain_grad": True}
    plain = trace(request)
    with_edges = trace(request | {"include": ["value", "grad", "edges"]})
    assert plain["nodes"] == with_edges["nodes"]
    assert "edges" not in plain
    roots = {request["ops"][-1]["id"]}
    sums: dict[str, torch.Tensor] = {}
    for edge in with_edges["edges"]:
        if edge["grad"] is not None:
            part = torch.tensor(edge["grad"], dtype=torch.float64)
            sums[edge["from"]] = sums.get(edge["from"], torch.zeros(())) + part
    for node in with_edges["nodes"]:
        if node["grad"] is not None and node["id"] not in roots:
            total = torch.tensor(node["grad"], dtype=torch.float64)
            torch.testing.assert_close(sums[node["id"]], total, rtol=1e-5, atol=1e-6)


def test_an_edge_names_the_parameter_and_the_place_in_a_list() -> None:
    answer = trace(GRAPHS["one node twice in one op"] | {"include": ["edges"]})
    edges = [(edge["from"], edge["to"], edge["input"]) for edge in answer["edges"]]
    assert edges == [
        ("x", "h", "self"),
        ("h", "c", "tensors[0]"),
        ("h", "c", "tensors[1]"),
        ("c", "p", "self"),
        ("p", "out", "self"),
    ]


def test_each_of_two_uses_in_one_op_has_its_own_contribution() -> None:
    answer = trace(GRAPHS["a square"] | {"include": ["edges"]})
    uses = [edge["grad"] for edge in answer["edges"] if edge["from"] == "x"]
    assert uses == [[0.5, -1.25, 2.0], [0.5, -1.25, 2.0]]


def test_an_untracked_use_contributes_null() -> None:
    request = {
        "leaves": [X, leaf("k", [1, 1, 1], requires_grad=False)],
        "ops": [op("m", "mul", "x", "k"), op("out", "sum", "m")],
    }
    answer = trace(request | {"include": ["edges"]})
    assert [edge["grad"] for edge in answer["edges"] if edge["from"] == "k"] == [None]


def test_autograd_grad_takes_the_originals_and_has_no_edges() -> None:
    request = {
        "leaves": [leaf("x", 3.0)],
        "ops": [
            op("y", "pow", "x", exponent=3),
            op("g", "autograd.grad", "y", "x"),
            op("out", "mul", "g:0", "g:0"),
        ],
        "include": ["edges", "grad"],
    }
    answer = trace(request)
    assert {edge["to"] for edge in answer["edges"]} == {"y", "out"}
    assert answer["nodes"][0]["grad"] == 2 * 27.0 * 18.0


def test_forward_only_edges_are_null() -> None:
    answer = trace(GRAPHS["fan-out"] | {"include": ["edges"], "backward": []})
    assert {edge["grad"] for edge in answer["edges"]} == {None}
