"""Arguments for ops that are neither in torch's database nor easy to guess."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from service.engine.catalogue import Operation
from tests.fuzz.invented import a_leaf

FRACTIONAL = {"kernel_size": 2, "output_size": 2}

BY_HAND: Mapping[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "bilinear": (("4 3", "4 2", "5 3 2", "5"), {}),
    "conv_tbc": (("4 2 3", "2 3 5", "5"), {"pad": 1}),
    "fake_quantize_per_channel_affine": (
        ("2 3", "constant 2", "int32 2"),
        {"axis": 0, "quant_min": -8, "quant_max": 7},
    ),
    "fake_quantize_per_tensor_affine": (
        ("2 3",),
        {"scale": 0.5, "zero_point": 0, "quant_min": -8, "quant_max": 7},
    ),
    "ger": (("3", "4"), {}),
    "inverse": (("3 3",), {}),
    "max_pool2d": (("1 2 4 4",), {"kernel_size": 2}),
    "max_pool3d": (("1 2 4 4 4",), {"kernel_size": 2}),
    "nn.functional.adaptive_max_pool1d_with_indices": (("2 4",), {"output_size": 2}),
    "nn.functional.adaptive_max_pool2d_with_indices": (("2 4 4",), {"output_size": [2, 3]}),
    "nn.functional.adaptive_max_pool3d_with_indices": (("2 4 4 4",), {"output_size": [2, 3, 2]}),
    "nn.functional.affine_grid": (("1 2 3",), {"size": [1, 2, 3, 4], "align_corners": False}),
    "nn.functional.conv_tbc": (("4 2 3", "2 3 5", "5"), {"pad": 1}),
    "nn.functional.ctc_loss": (
        ("5 2 4", "int64 2 3"),
        {"input_lengths": [5, 4], "target_lengths": [3, 2]},
    ),
    "nn.functional.fold": (("1 8 9",), {"output_size": [4, 4], "kernel_size": 2}),
    "nn.functional.fractional_max_pool2d_with_indices": (("2 4 4",), FRACTIONAL),
    "nn.functional.fractional_max_pool3d_with_indices": (("2 4 4 4",), FRACTIONAL),
    "nn.functional.lp_pool3d": (("2 4 4 4",), {"norm_type": 2, "kernel_size": 2}),
    "nn.functional.max_pool1d_with_indices": (("2 4",), {"kernel_size": 2}),
    "nn.functional.max_pool2d_with_indices": (("2 4 4",), {"kernel_size": [2, 2], "padding": 1}),
    "nn.functional.max_pool3d_with_indices": (("2 4 4 4",), {"kernel_size": [2, 2, 2]}),
    "nn.functional.upsample": (("1 2 4 4",), {"scale_factor": 2, "mode": "bilinear"}),
    "orgqr": (("4 3", "3"), {}),
    "poisson": (("2 3",), {}),
    "select_copy": (("2 3",), {"dim": 1, "index": 0}),
    "view_as_complex_copy": (("constant 3 2",), {}),
}
"""The shape of each tensor, with its dtype where that is not float32, and the other arguments; a
`constant` is of float32 and does not require grad."""


def by_hand(operation: Operation) -> dict[str, Any]:
    """Return the request that the table has for ``operation``."""
    tensors, attrs = BY_HAND[operation.name]
    chance = random.Random(1)  # noqa: S311
    leaves = [_leaf(f"t{number}", words, chance) for number, words in enumerate(tensors)]
    inputs = [leaf["id"] for leaf in leaves]
    op = {"id": "out", "op": operation.name, "inputs": inputs, "attrs": dict(attrs)}
    return {"leaves": leaves, "ops": [op], "backward": [], "seed": 42}


def _leaf(name: str, words: str, chance: random.Random) -> dict[str, Any]:
    first, *others = words.split()
    sizes = [int(size) for size in ([first, *others] if first.isdigit() else others)]
    if first.startswith("int"):
        return a_leaf(name, sizes, first, chance)
    leaf = a_leaf(name, sizes, "float32", chance)
    # positive numbers suit logarithms and rates too
    leaf["value"] = [round(abs(number) + 0.1, 3) for number in leaf["value"]]
    return {**leaf, "requires_grad": first != "constant"}
