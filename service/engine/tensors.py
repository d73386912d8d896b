"""The tensors that a request gives: its leaves, and the gradients of its roots.

Around it, between the wire and tensors:

    json_text, long_values, number_array   JSON text -> lists and arrays of numbers
    read_tensor                            lists, base64, bytes -> tensors
    write_tensor, small_tensors, halves    tensors -> JSON, base64
    safetensors_file                       safetensors -> tensors -> safetensors
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from service.contract.problem import BadRoot, BadValue, quote
from service.engine.dtypes import DTYPE_NAMES, DTYPES
from service.engine.read_tensor import check_elements, leaf_tensor, tensor_from_base64


def leaf_tensor_of(
    leaf: Mapping[str, Any], default: str, given: Tensor | None, max_elements: int
) -> Tensor:
    """Return the tensor of ``leaf``, a Leaf of the right form, without ``requires_grad``.

    Args:
        leaf: the JSON object.
        default: the request's dtype.
        given: the leaf's tensor where it came beside the JSON (safetensors).
        max_elements: the tensor may have.

    Raises:
        BadValue, LimitExceeded: with a pointer relative to the leaf.
    """
    dtype = leaf.get("dtype") or default
    shape = leaf.get("shape")
    kind = DTYPES[dtype] if given is None else given.dtype
    if leaf.get("requires_grad") and not (kind.is_floating_point or kind.is_complex):
        raise BadValue(
            "only leaves of a floating point or complex dtype can require grad, "
            f"not {DTYPE_NAMES[kind]}",
            pointer="/requires_grad",
        )
    if given is not None:
        return _given(given, leaf.get("dtype"), default, shape, max_elements)
    text = leaf.get("value_base64")
    if text is not None:
        return tensor_from_base64(text, shape or (), dtype, max_elements)
    return leaf_tensor(leaf.get("value"), shape, dtype, max_elements)


def _given(
    tensor: Tensor, dtype: str | None, default: str, shape: list[int] | None, max_elements: int
) -> Tensor:
    """Return a tensor of a safetensors file as the leaf's words want it."""
    pairs = tensor.dtype == torch.float64 and tensor.shape[-1:] == (2,)
    if (dtype or default) == "complex128" and pairs:
        tensor = torch.view_as_complex(tensor)
    if dtype == "complex128" and tensor.dtype == torch.float64:
        raise BadValue(
            "a complex128 tensor travels as float64 with a last axis of two, but the shape is "
            f"{quote([*tensor.shape])}",
            pointer="/shape",
        )
    if dtype is not None and tensor.dtype != DTYPES[dtype]:
        raise BadValue(
            f"the leaf says {dtype}, its tensor is {DTYPE_NAMES[tensor.dtype]}", pointer="/dtype"
        )
    check_elements(tensor.numel(), max_elements)
    try:
        # Never a view, as in leaf_tensor.
        return (tensor if shape is None else tensor.view(shape)).detach()
    except RuntimeError:
        raise BadValue(
            f"the shape {quote(shape)} does not suit a tensor of shape {quote([*tensor.shape])}",
            pointer="/shape",
        ) from None


def root_gradient(root: Mapping[str, Any], node: Tensor, max_elements: int) -> Tensor | None:
    """Return the gradient that ``root`` gives, of the dtype and on the device of ``node``, or None.

    Raises:
        BadRoot: it has another shape than the node.
        BadValue, LimitExceeded: as for a leaf, with a pointer relative to the root.
    """
    value, text = root.get("gradient"), root.get("gradient_base64")
    dtype = DTYPE_NAMES[node.dtype]
    if text is not None:
        gradient = tensor_from_base64(text, node.shape, dtype, max_elements, "/gradient_base64")
    elif value is not None:
        shape: Sequence[int] | None = None
        if value == []:  # of every dtype and, where the node is empty, of the node's shape
            shape = [0] if node.numel() else node.shape
        elif not node.numel() and _prints_as(value, node.shape):
            shape = node.shape
        gradient = leaf_tensor(value, shape, dtype, max_elements, "/gradient")
    else:
        return None
    if gradient.shape != node.shape:
        raise BadRoot(
            f"the gradient has the shape {quote([*gradient.shape])}, the node has "
            f"{quote([*node.shape])}",
            pointer="/gradient",
        )
    return gradient if node.device.type == "cpu" else gradient.to(node.device)


def _prints_as(value: Any, sizes: Sequence[int]) -> bool:
    """Return whether an answer has ``value`` for a tensor without elements: no list behind a 0."""
    rows = [value]
    for size in sizes:
        if any(type(row) is not list or len(row) != size for row in rows):
            return False
        rows = list(chain.from_iterable(rows))
        if not rows:
            break
    return True
