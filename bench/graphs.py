"""The graphs that are measured."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

SEED: dict[str, Any] = {
    "leaves": [{"id": "a", "value": [[1, 1], [1, 1]], "requires_grad": True}],
    "ops": [
        {"id": "b", "op": "add", "inputs": ["a"], "attrs": {"other": 2}},
        {"id": "c", "op": "pow", "inputs": ["b"], "attrs": {"exponent": 2}},
        {"id": "out", "op": "sum", "inputs": ["c"]},
    ],
    "retain_grad": True,
}
"""The lesson's graph."""

MLP_SIZES = (64, 128, 64)
BATCH = 32


def chain(length: int) -> dict[str, Any]:
    """Return a chain of ``length`` multiplications and a sum, every result retained."""
    ops: list[dict[str, Any]] = [
        {
            "id": f"h{i}",
            "op": "mul",
            "inputs": [f"h{i - 1}" if i else "x"],
            "attrs": {"other": 1.0001},
        }
        for i in range(length)
    ]
    ops.append({"id": "out", "op": "sum", "inputs": [f"h{length - 1}"]})
    return {
        "leaves": [{"id": "x", "value": [1.0], "requires_grad": True}],
        "ops": ops,
        "retain_grad": True,
    }


def mlp(encoding: str) -> dict[str, Any]:
    """Return a 32x64x128x64 perceptron with relu and mean squared error, every result retained."""
    random = np.random.default_rng(0)
    sizes = list(itertools.pairwise(MLP_SIZES))
    leaves = [_leaf("x", random.standard_normal((BATCH, MLP_SIZES[0])), encoding, tracked=False)]
    ops: list[dict[str, Any]] = []
    h = "x"
    for layer, (before, after) in enumerate(sizes):
        weights = random.standard_normal((after, before)) / before**0.5
        leaves.append(_leaf(f"w{layer}", weights, encoding))
        leaves.append(_leaf(f"b{layer}", np.zeros(after), encoding))
        inputs = [h, f"w{layer}", f"b{layer}"]
        ops.append({"id": f"z{layer}", "op": "nn.functional.linear", "inputs": inputs})
        h = f"z{layer}"
        if layer < len(sizes) - 1:
            ops.append({"id": f"r{layer}", "op": "relu", "inputs": [h]})
            h = f"r{layer}"
    leaves.append(
        _leaf("y", random.standard_normal((BATCH, MLP_SIZES[-1])), encoding, tracked=False)
    )
    ops.append({"id": "loss", "op": "nn.functional.mse_loss", "inputs": [h, "y"]})
    return {"leaves": leaves, "ops": ops, "retain_grad": True, "encoding": encoding}


def _leaf(
    name: str, values: npt.NDArray[Any], encoding: str, *, tracked: bool = True
) -> dict[str, Any]:
    numbers = values.astype(np.float32)
    leaf: dict[str, Any] = {"id": name, "requires_grad": tracked}
    if encoding == "base64":
        text = base64.b64encode(numbers.tobytes()).decode()
        return leaf | {"value_base64": text, "shape": list(numbers.shape)}
    return leaf | {"value": numbers.tolist()}


def leaf_of(numbers: npt.NDArray[Any] | None, encoding: str = "json") -> dict[str, Any]:
    """Return a graph of one leaf, doubled and summed; None leaves the value to a file."""
    leaf: dict[str, Any] = {"id": "x", "requires_grad": True}
    if numbers is not None and encoding == "base64":
        leaf |= {
            "value_base64": base64.b64encode(numbers.tobytes()).decode(),
            "shape": [numbers.size],
        }
    elif numbers is not None:
        leaf |= {"value": numbers}
    ops = [
        {"id": "h", "op": "mul", "inputs": ["x"], "attrs": {"other": 2}, "retain_grad": True},
        {"id": "out", "op": "sum", "inputs": ["h"]},
    ]
    return {"leaves": [leaf], "ops": ops, "encoding": encoding}
