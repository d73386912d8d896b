"""What PyTorch would write into, or read beyond, gets a tensor of its own.

Nodes are nodes: no op may change another node's value or see more of it than its elements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from service.engine.values import Hole


def own_copy(tensor: Tensor) -> Tensor:
    """Return a copy that may be written into."""
    return tensor.clone()


def own_copy_of_one(tensor: Tensor) -> Tensor:
    """Return ``tensor``, where it is a single observation a copy.

    A copy is one use of the tensor: what is passed back within the op would be added up before the
    other uses' gradients, and the last bits would not be PyTorch's.
    """
    return tensor.clone() if tensor.dim() == 0 or tensor.shape[-1] == 1 else tensor


def own_memory(tensor: Tensor) -> Tensor:
    """Return ``tensor``, where it is zeros without memory a copy that has some.

    Some backward passes make such zeros. Kernels that trust a pointer read foreign memory instead,
    `tolist` and NumPy refuse them, and to read a slice of them ends the process.
    """
    return tensor.clone() if tensor._is_zerotensor() else tensor


def own_elements(tensor: Tensor) -> Tensor:
    """Return ``tensor``, where it is not contiguous, or has no memory, a copy that is and has."""
    return tensor.clone() if tensor._is_zerotensor() else tensor.contiguous()


def own_rows(tensor: Tensor) -> Tensor:
    """Return ``tensor``, a contiguous copy where its rows are one element apart and overlap.

    Of zeros without memory a copy, too.
    """
    if tensor._is_zerotensor():
        return tensor.clone()
    dims = list(zip(tensor.stride(), tensor.shape, strict=True))
    overlaps = bool(dims) and dims[-1][0] == 1 and any(s == 1 < n for s, n in dims[:-1])
    return tensor.contiguous() if overlaps else tensor


def own_storage(tensor: Tensor) -> Tensor:
    """Return ``tensor`` where it fills its storage, else a contiguous copy that does."""
    dense = torch.ops.aten.is_non_overlapping_and_dense.default(tensor)
    fills = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if dense and fills else tensor.clone(memory_format=torch.contiguous_format)


def give_memory(result: Any) -> Any:
    """Have what is passed back to the call that returned ``result`` lie in memory; return it.

    The gradient of `sgn`, and that of the gradient of `abs`, are zeros without any.
    """
    function = (result if isinstance(result, Tensor) else result[0]).grad_fn
    if function is not None:
        function.register_prehook(
            lambda grads: tuple(grad if grad is None else own_memory(grad) for grad in grads)
        )
    return result


GIVEN_MEMORY = frozenset({"group_norm", "native_group_norm", "_weight_norm"})
"""Kernels whose backward pass reads zeros without memory as if they had some."""


@dataclass(frozen=True)
class Preparation:
    """What is done to some parameters of an op before it sees them."""

    parameters: tuple[str, ...]
    prepare: Callable[[Tensor], Tensor]
    when: tuple[str, ...] = ()
    """The parameters one of which must be given, and not null, for this to matter."""


STATISTICS = Preparation(("running_mean", "running_var"), own_copy)
"""Training writes the running statistics."""
RENORM = Preparation(("input", "weight"), own_copy, when=("max_norm",))
"""max_norm scales rows of the weight in place, which embedding_bag takes before or after input."""
CENTRED = Preparation(("self",), own_copy_of_one, when=("fweights", "aweights"))
"""One observation with weights is centred in place."""
SELECTED = Preparation(("self", "input"), own_elements, when=("dim",))
"""Along an expanded dim, whose stride is 0, what lies behind the first element is read."""
LABELS = Preparation(("targets",), own_elements)
"""The samples of concatenated labels are looked for without their stride."""
SCALED = Preparation(("weight", "bias"), own_elements)
"""Read without their strides."""
SCALES = Preparation(("weight", "bias"), own_memory)
STATES = Preparation(("input", "hx"), own_memory)
NORMED = Preparation(("v", "g"), own_memory)
KEYS = Preparation(("key", "value"), own_memory)
"""Zeros without memory are read as if they had some."""
QUERY = Preparation(("query",), own_rows)
"""The result takes the query's strides, sorted, and is written as if its rows were whole."""
ATTENDED = Preparation(("query", "key", "value"), own_elements)
"""The stride of the last dim is taken for 1."""
BAGS = Preparation(("indices", "offsets"), own_elements)
"""Read without their strides."""
STRIDED = Preparation(("self",), own_storage)
"""Strides reach whatever shares the storage of a view."""

PREPARATIONS: Mapping[str, Sequence[Preparation]] = {
    "batch_norm": [STATISTICS],
    "instance_norm": [STATISTICS],
    "native_batch_norm": [STATISTICS],
    "embedding": [RENORM],
    "embedding_bag": [RENORM],
    "cov": [CENTRED],
    "ctc_loss": [LABELS],
    "group_norm": [SCALES],
    "native_group_norm": [SCALED],
    "_weight_norm": [NORMED],
    "lstm": [STATES],
    "scaled_dot_product_attention": [QUERY, KEYS],
    "_scaled_dot_product_flash_attention_for_cpu": [ATTENDED],
    "_embedding_bag": [BAGS],
    "_embedding_bag_forward_only": [BAGS],
    "median": [SELECTED],
    "nanmedian": [SELECTED],
    "as_strided": [STRIDED],
    "as_strided_copy": [STRIDED],
    "as_strided_scatter": [STRIDED],
}


def prepared_uses(base: str, named: Mapping[str, Any]) -> dict[int, Callable[[Any], Any]]:
    """Return what to do to some of the tensors that a call uses, by the number of the use."""
    uses = {}
    for row in PREPARATIONS.get(base, ()):
        if row.when and all(named.get(name) is None for name in row.when):
            continue
        for parameter in row.parameters:
            value = named.get(parameter)
            holes = value if isinstance(value, list) else [value]
            uses.update({hole.number: row.prepare for hole in holes if isinstance(hole, Hole)})
    return uses
