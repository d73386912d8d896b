"""Arguments for an op of which only the signature is known."""

from __future__ import annotations

import random
from typing import Any

from service.engine.catalogue import Operation
from service.engine.signature import Parameter

SHAPES: tuple[list[int], ...] = (
    [2, 3],
    [3, 3],
    [4],
    [1, 2, 4, 4],
    [2, 3, 4],
    [1, 2, 3, 4, 4],
    [],
    [6, 6],
)
DTYPES = ("float32", "float32", "float64", "int64", "complex64", "bool")
VALUES: dict[str, tuple[Any, ...]] = {
    "int": (0, 1, 2, 3),
    "float": (0.5, 1.0, 0.0),
    "number": (2, 0.5, 1),
    "bool": (False, True),
    "str": ("mean", "none", "sum", "constant", "floor"),
    "dtype": ("float32", "int64", "complex64"),
    "memory_format": ("contiguous_format", "preserve_format"),
    "any": (1, 2, 0.5, None),
    "index": (0, "...", {"slice": [None, None, 2]}),
}


def invent(operation: Operation, chance: random.Random) -> dict[str, Any]:
    """Return a request that calls ``operation``; whether PyTorch takes it is its own affair."""
    signature = chance.choice(operation.signatures)
    leaves: list[dict[str, Any]] = []
    # Mostly one shape and dtype for all tensors of a call, which is what most ops want.
    shape, dtype = chance.choice(SHAPES), chance.choice(DTYPES)
    attrs: dict[str, Any] = {}
    for parameter in signature.parameters:
        if parameter.required or chance.random() < 0.2:
            attrs[parameter.name] = _argument(parameter, leaves, shape, dtype, chance)
    op = {"id": "out", "op": operation.name, "inputs": [], "attrs": attrs}
    leaves = leaves or [a_leaf("unused", [1], "float32", chance)]
    return {"leaves": leaves, "ops": [op], "backward": [], "seed": 42}


def _argument(
    parameter: Parameter,
    leaves: list[dict[str, Any]],
    shape: list[int],
    dtype: str,
    chance: random.Random,
) -> Any:
    kind = parameter.kind
    if parameter.only is not None:
        return parameter.only

    def one() -> Any:
        if kind.base != "Tensor":
            return chance.choice(VALUES[kind.base])
        own_shape = shape if chance.random() < 0.8 else chance.choice(SHAPES)
        own_dtype = dtype if chance.random() < 0.8 else chance.choice(DTYPES)
        leaf = a_leaf(f"t{len(leaves)}", own_shape, own_dtype, chance)
        leaves.append(leaf)
        return {"ref": leaf["id"]}

    return [one() for _ in range(kind.size or 2)] if kind.is_list else one()


def a_leaf(name: str, shape: list[int], dtype: str, chance: random.Random) -> dict[str, Any]:
    """Return a leaf of small numbers; floating ones require grad."""
    count = 1
    for size in shape:
        count *= size
    tracked = dtype.startswith(("float", "complex", "bfloat"))
    values = [a_number(dtype, chance) for _ in range(count)]
    return {
        "id": name,
        "dtype": dtype,
        "shape": list(shape),
        "value": values,
        "requires_grad": tracked,
    }


def a_number(dtype: str, chance: random.Random) -> Any:
    """Return a small number of ``dtype``, as JSON."""
    if dtype == "bool":
        return chance.random() < 0.5
    if "int" in dtype:
        return chance.randrange(3)
    if dtype.startswith("complex"):
        return [round(chance.gauss(0, 1), 3), round(chance.gauss(0, 1), 3)]
    return round(chance.gauss(0, 1), 3)
