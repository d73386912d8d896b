"""Inputs are prepared where a kernel writes into them, or takes them for what they are not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import torch

from tests.engine.asking import leaf, nodes_of, op, trace
from tests.engine.unprepared import NO_MEMORY, NORMS, SIGNS, VIEWS, ZEROS


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


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_read_as_the_elements_that_it_shows(name: str) -> None:
    leaves, view, call = VIEWS[name]
    copied = {**call, "inputs": ["c" if one == "e" else one for one in call["inputs"]]}
    seen = []
    for ops in ([view, call], [view, op("c", "contiguous", "e"), copied]):
        nodes = nodes_of({"leaves": leaves, "ops": ops, "backward": [], "dtype": "float64"})
        seen.append({key: node["value"] for key, node in nodes.items() if key.startswith("o")})
    assert seen[0] == seen[1]


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


@pytest.mark.parametrize(("leaves", "normed"), NORMS)
@pytest.mark.parametrize("include", [["grad"], ["grad", "edges", "health"]])
def test_a_gradient_without_memory_is_passed_back_as_zeros(
    leaves: list[Any], normed: Any, include: list[str]
) -> None:
    nodes = nodes_of({"leaves": leaves, "ops": [normed, *SIGNS], "include": include})
    for one in leaves:
        assert torch.tensor(nodes[one["id"]]["grad"]).count_nonzero() == 0
