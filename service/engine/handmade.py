"""Ops for which torch declares nothing usable, written by hand, with the reason.

Everything else in the catalogue is derived; an op belongs here only where that cannot be done.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from service.engine.operation import Operation
from service.engine.signature import Kind, Parameter, Signature

TENSOR = Kind("Tensor")
SELF = Parameter("self", TENSOR)
MEMORY_FORMAT = Parameter(
    "memory_format", Kind("memory_format"), required=False, default="preserve_format",
    keyword_only=True,
)  # fmt: skip

TENSOR_PAGE = "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.{}.html"
TENSORS_PAGE = "https://docs.pytorch.org/docs/stable/tensors.html#torch.Tensor.{}"


def _ways(parameters: Sequence[Parameter], **others: Any) -> tuple[Signature]:
    """Return the only way to call an op of these ``parameters``."""
    order = tuple(parameter.name for parameter in parameters if not parameter.keyword_only)
    return (Signature(tuple(parameters), order=order, **others),)


def gradients(
    outputs: Tensor,
    inputs: Sequence[Tensor],
    grad_outputs: Tensor | None = None,
    create_graph: bool = True,
    materialize_grads: bool = False,
) -> tuple[Tensor, ...]:
    """Return d outputs / d input for every input and keep the graph (``torch.autograd.grad``)."""
    return torch.autograd.grad(
        outputs,
        inputs,
        grad_outputs,
        retain_graph=True,
        create_graph=create_graph,
        materialize_grads=materialize_grads,
    )


# `x[index]` is a Python operator: torch declares no schema with its grammar.
GETITEM = Operation(
    "getitem",
    operator.getitem,
    _ways([SELF, Parameter("index", Kind("index", is_list=True))]),
    "Indexes a tensor as x[index] does, with integers, slices, ellipsis, null, masks and tensors.",
    "https://docs.pytorch.org/docs/stable/tensor_view.html",
    "getitem",
)

# Its Python signature takes sequences of outputs and flags that would free the graph.
AUTOGRAD_GRAD = Operation(
    "autograd.grad",
    gradients,
    _ways(
        [
            Parameter("outputs", TENSOR),
            Parameter("inputs", Kind("Tensor", is_list=True)),
            Parameter("grad_outputs", Kind("Tensor", optional=True), False, None, True),
            Parameter("create_graph", Kind("bool"), False, True, True),
            Parameter("materialize_grads", Kind("bool"), False, False, True),
        ],
        outputs=(),
        several=True,
        variable=True,
    ),
    "Computes the gradients of outputs with respect to inputs, as nodes of the graph.",
    "https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad.html",
    "autograd.grad",
    takes_originals=True,
    outputs_as_many_as="inputs",
)

# The method is written `x[start:stop:step]`; only the overload bears the name.
SLICE = Operation(
    "slice",
    torch.ops.aten.slice.Tensor,
    _ways(
        [
            SELF,
            Parameter("dim", Kind("int"), False, 0),
            Parameter("start", Kind("int", optional=True), False, None),
            Parameter("end", Kind("int", optional=True), False, None),
            Parameter("step", Kind("int"), False, 1),
        ]
    ),
    "Takes the elements from start to end along one dimension, step apart.",
    "https://docs.pytorch.org/docs/stable/tensor_view.html",
    "slice",
)


def _attribute(name: str, summary: str) -> Operation:
    """Return the op of a property, which has no signature."""
    call = operator.attrgetter(name)
    return Operation(name, call, _ways([SELF]), summary, TENSORS_PAGE.format(name), name)


def _cast(name: str) -> Operation:
    """Return the op of ``x.float()`` or its like, which are builtins without a schema."""
    return Operation(
        name,
        getattr(Tensor, name),
        _ways([SELF, MEMORY_FORMAT]),
        f"Converts a tensor as Tensor.{name}() does.",
        TENSOR_PAGE.format(name),
        "to",
    )


CASTS = "float double half bfloat16 cfloat cdouble int long short char byte bool".split()
BY_HAND = (
    GETITEM,
    AUTOGRAD_GRAD,
    SLICE,
    _attribute("T", "Returns the tensor with its dimensions reversed."),
    _attribute("H", "Returns a matrix conjugated and transposed."),
    _attribute("mT", "Returns the tensor with its last two dimensions transposed."),
    _attribute("mH", "Returns the last two dimensions conjugated and transposed."),
    *map(_cast, CASTS),
)

STARRED = frozenset(
    "block_diag broadcast_tensors cartesian_prod chain_matmul einsum meshgrid".split()
)
"""Public functions that take their list of tensors as ``*tensors``, which no schema says."""

FLAG_OUTPUTS: Mapping[str, Callable[[Mapping[str, bool]], int]] = {
    "unique": lambda flags: 1 + flags["return_inverse"] + flags["return_counts"],
    "unique_consecutive": lambda flags: 1 + flags["return_inverse"] + flags["return_counts"],
    "lu": lambda flags: 2 + flags["get_infos"],
}
"""How many tensors come back from functions whose flags decide, where no annotation says."""

OVERLOAD_ORDER: Mapping[str, Sequence[str]] = {
    "bernoulli": ("", "p"),
    "histogramdd": ("int_bins", "", "TensorList_bins"),
}
"""Overloads in another order than the schemas', or only some: the public `bernoulli` takes no
tensor for its probability, and to `histogramdd` one number of bins is one for each dimension, not
a list of one."""

SUMMARIES: Mapping[str, tuple[str, str]] = {
    "clamp_max": ("Clamps all elements to at most max.", "torch.clamp"),
    "clamp_min": ("Clamps all elements to at least min.", "torch.clamp"),
    "constant_pad_nd": ("Pads a tensor with a constant.", "torch.nn.functional.pad"),
    "feature_dropout": ("Zeroes whole channels at random.", "torch.nn.functional.dropout2d"),
    "fill": ("Returns a tensor like self, filled with value.", "torch.Tensor.fill_"),
    "native_batch_norm": (
        "Batch normalization, with the mean and inverse deviation of the batch.",
        "torch.nn.functional.batch_norm",
    ),
    "native_dropout": ("Dropout, with the mask that it used.", "torch.nn.functional.dropout"),
    "native_group_norm": (
        "Group normalization, with the mean and inverse deviation of each group.",
        "torch.nn.functional.group_norm",
    ),
    "native_layer_norm": (
        "Layer normalization, with the mean and inverse deviation that it used.",
        "torch.nn.functional.layer_norm",
    ),
    "rsub": ("Subtracts self, scaled by alpha, from other.", "torch.sub"),
    "scalar_tensor": ("Returns a tensor of no dimensions that holds s.", "torch.full"),
    "split_with_sizes": ("Splits a tensor into pieces of the given sizes.", "torch.split"),
}
"""What functions without any docstring do, and the page that comes nearest."""
