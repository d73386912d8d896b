"""Calls that PyTorch answers wrongly unless service/engine/writes.py prepares their inputs."""

from __future__ import annotations

from typing import Any

from tests.engine.asking import leaf, op


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

ROW = [[1.0, 2.0, 3.0, 5.0]]
SIGNS = [op("y", "sgn", "o"), op("s", "sum", "y")]
NORMS: list[tuple[list[Any], Any]] = [
    ([leaf("x", ROW)], op("o", "nn.functional.group_norm", "x", num_groups=2)),
    ([leaf("x", ROW)], op("o", "aten.group_norm.default", "x", num_groups=2)),
    (
        [leaf("x", [[1.0, 2.0], [3.0, 4.0]]), leaf("w", [[1.0], [2.0]])],
        op("o", "aten._weight_norm.default", "x", "w"),
    ),
]
"""Leaves, and a norm of them that is passed back a gradient without memory by `SIGNS`."""
