"""``value.name``: modules and their constants, properties and methods of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from service.engine.dtypes import DTYPE_NAMES
from service.translate.arguments import UNKNOWN_DTYPE, describe
from service.translate.element_types import kind_of, last_part
from service.translate.folding import MATH_CONSTANTS, is_number
from service.translate.gradients import gradient_of, gradient_tensor
from service.translate.members import member, of_class, of_parent
from service.translate.objects import Class, Instance, Parent
from service.translate.operations import DROPOUTS, apply, check_whole
from service.translate.reading import Reading
from service.translate.unreadable import Unreadable
from service.translate.values import (
    UNINITIALISED,
    Data,
    Device,
    DType,
    Gradient,
    MemoryFormat,
    Method,
    Node,
    Path,
    Several,
    Tensor,
    references,
    walk,
)

DTYPES: Mapping[str, str] = {
    name: DTYPE_NAMES[dtype]
    for name, dtype in vars(torch).items()
    if isinstance(dtype, torch.dtype) and dtype in DTYPE_NAMES
}
"""Dtypes of the contract by all names that PyTorch has for them."""
MEMORY_FORMATS = frozenset(
    {"contiguous_format", "preserve_format", "channels_last", "channels_last_3d"}
)
PROPERTIES = frozenset({"T", "mT", "H", "mH", "real", "imag"})
"""Properties of tensors that are ops."""

ASKS_FOR_VALUE = (
    "{} asks for numbers, which are there only when the graph runs; the trace shows them"
)
UNSURE_FLAGS = frozenset({"requires_grad", "requires_grad_", "is_leaf", "retains_grad"})
MAY_BE_CONSTANT = (
    "whether this requires grad is known only when the graph runs, as a derivative that leads here "
    "may be a constant"
)
MAY_BE_NONE = (
    "whether this .grad is None is known only when the graph runs, as a derivative that leads here "
    "may be a constant"
)
HIDDEN = ".data hides a tensor from autograd; write .detach()"
FILLED = frozenset("fill_ zero_ uniform_ normal_ copy_".split())
"""Methods that give all numbers of a tensor anew."""
VALUES = frozenset({"numpy", "__array__", "storage", "data_ptr"})
NO_PART_OF_A_GRAPH = frozenset({"grad_fn", "register_hook", "_version", "names", "output_nr"})


def attribute(reading: Reading, owner: Any, name: str) -> Any:
    """Return ``owner.name``."""
    read = OWNERS.get(type(owner))
    if read is not None:
        return read(reading, owner, name)
    if is_number(owner) and name in ("real", "imag"):
        return getattr(owner, name)
    return Method(owner, name)


def _of_several(_reading: Reading, owner: Several, name: str) -> Tensor:
    if name in owner.names:
        return owner.output(owner.names.index(name))
    raise Unreadable(f"this op has no output called {name}")


def _of_gradient(reading: Reading, owner: Gradient, name: str) -> Any:
    if name in ("zero_", "detach_"):
        return Method(owner, name)
    if name == "requires_grad_":
        raise Unreadable(".grad.requires_grad_() is not read")
    return attribute(reading, gradient_tensor(reading, owner), name)


def _of_data(_reading: Reading, owner: Data, name: str) -> Method:
    if name not in FILLED:
        raise Unreadable(HIDDEN)
    return Method(owner, name)


def _of_setting(_reading: Reading, owner: Device | DType, name: str) -> Any:
    """Return a fact of a device or a dtype."""
    if isinstance(owner, Device):
        kind, _, number = owner.name.partition(":")
        facts: dict[str, Any] = {"type": kind, "index": int(number) if number.isdigit() else None}
    else:
        if not owner.name:
            raise Unreadable(UNKNOWN_DTYPE)
        kind = kind_of(owner.name) or ""
        facts = {"is_floating_point": kind == "float", "is_complex": kind == "complex"}
    if name not in facts:
        raise Unreadable(f"{describe(owner)} has no .{name} that is read here")
    return facts[name]


def _of_path(_reading: Reading, owner: Path, name: str) -> Any:
    last = owner.parts[-1]
    if last in ("math", "numpy", "torch") and len(owner.parts) == 1:
        if name in MATH_CONSTANTS:
            return MATH_CONSTANTS[name]
        if last != "math" and name in DTYPES:
            own = {"int": "int64", "float": "float64"} if last == "numpy" else {}
            return DType(own.get(name, DTYPES[name]))
        if name == "newaxis":
            return None
        if name in MEMORY_FORMATS:
            return MemoryFormat(name)
    return Path((*owner.parts, name))


def _of_tensor(reading: Reading, owner: Tensor, name: str) -> Any:
    """Return an attribute of a tensor: an op, a fact that the script shows, or a method."""
    if owner.now.node.stale == UNINITIALISED and owner.is_parameter:
        return _of_empty(owner, name)
    if name in ("grad", "requires_grad", "is_leaf"):
        check_whole(owner.node)
    if owner.node.unsure and name in UNSURE_FLAGS:
        raise Unreadable(MAY_BE_CONSTANT)
    if name in PROPERTIES:
        return apply(reading, name, [owner], {})
    if name == "grad":
        check_own_grad(owner)
        return gradient_of(reading, owner)
    if name in FACTS:
        return FACTS[name](owner)
    if name in VALUES:
        raise Unreadable(ASKS_FOR_VALUE.format(f".{name}()"))
    if name in NO_PART_OF_A_GRAPH:
        raise Unreadable(f".{name} cannot be part of a graph")
    return Method(owner, name)


def _of_empty(owner: Tensor, name: str) -> Any:
    """Return what is known of a parameter before it is filled."""
    if name in ("data", "shape", "ndim"):
        return FACTS[name](owner)
    if name in FILLED or name in ("size", "dim", "numel", "nelement", "ndimension"):
        return Method(owner, name)
    raise Unreadable(UNINITIALISED)


def known_shape(owner: Tensor) -> tuple[int, ...]:
    """Return the shape of a tensor where the script shows it."""
    shape = owner.now.shape
    if shape is None:
        raise Unreadable("this shape is known only when the graph runs; write the number")
    return shape


RETURN_ITSELF = frozenset(
    "to type_as float double half bfloat16 cfloat cdouble conj contiguous positive real "
    "atleast_1d atleast_2d atleast_3d sum_to_size resolve_conj resolve_neg conj_physical "
    "cartesian_prod flatten broadcast_tensors mT H adjoint".split()
) | DROPOUTS  # fmt: skip
"""Ops that can return the very tensor that they were given."""


ITSELF = "whether this is the very tensor is known only when the graph runs"


def _may_be_itself(node: Node) -> bool:
    """Whether a node may be the very tensor that its op was given."""
    if node.op == "autograd.grad":
        return bool(node.twins)
    return last_part(node.op) in RETURN_ITSELF and node.is_view and not node.is_own


def _given(node: Node) -> Iterator[Node]:
    """Return the nodes whose very tensor a node may be, through however many ops."""

    def given_to(one: Node) -> list[Node]:
        if not _may_be_itself(one):
            return []
        is_gradient = one.op == "autograd.grad"
        refs = references(one.attrs) if is_gradient else references(one.inputs, one.attrs)
        return [ref.node for ref in refs]

    return (one for one in walk([node], given_to) if one is not node)


def _returned(node: Node) -> Iterator[Node]:
    """Return the nodes that may be the very tensor of a node, through however many ops."""
    found = walk([node], lambda one: filter(_may_be_itself, (*one.views, *one.twins)))
    return (one for one in found if one is not node)


def may_be_parameter(owner: Tensor) -> bool:
    """Whether a result may be the very leaf that its op was given."""
    return any(one.requires_grad for one in _given(owner.now.node))


def _check_itself(owner: Tensor) -> None:
    """Refuse to say of a result what differs where it is the very leaf that was given."""
    if owner.node.tracked and may_be_parameter(owner):
        raise Unreadable(ITSELF)


def check_own_grad(owner: Tensor) -> None:
    """Refuse to look at, or set, a gradient that another node may hold, as it is the same tensor.

    A leaf holds its own, whatever other names it has.
    """
    check_whole(owner.node)
    _check_itself(owner)
    node = owner.node
    others = () if node.requires_grad else (*_given(node), *_returned(node))
    if any(one.retain_grad for one in others):
        raise Unreadable(ITSELF)


def check_there(reading: Reading, gradient: Gradient) -> None:
    """Refuse to say that a gradient is there where it is not if some derivative is constant."""
    of = gradient.tensor
    if not gradient.there or of.zeroed:
        return
    since = of.since if gradient.replaced == of.replaced else 0
    for k, root in enumerate(reading.graph.roots[since : gradient.roots], since):
        node = of.at_root(k).node
        # a pass that PyTorch does not refuse fills at least one leaf
        is_only = {one for one in root.filled if one.requires_grad} == {node}
        if node in root.filled and (is_only or _leads_to(root.ref.node, node)):
            return
    raise Unreadable(MAY_BE_NONE)


def _leads_to(root: Node, node: Node) -> bool:
    """Whether autograd leads from a root to a node without a derivative in between."""
    found = walk([root], lambda one: () if one.op == "autograd.grad" else one.followed)
    return node in found and not node.unsure


def _is_leaf(owner: Tensor) -> bool:
    _check_itself(owner)
    return owner.node.requires_grad or not owner.ref.tracked


def _data(owner: Tensor) -> Data:
    if not owner.is_parameter:
        raise Unreadable(HIDDEN)
    return Data(owner)


def _retains_grad(owner: Tensor) -> bool:
    check_own_grad(owner)
    return owner.node.retain_grad


FACTS: Mapping[str, Callable[[Tensor], Any]] = {
    "shape": known_shape,
    "ndim": lambda owner: len(known_shape(owner)),
    "dtype": lambda owner: DType(owner.ref.type.dtype or ""),
    "device": lambda _owner: Device("cpu"),
    "requires_grad": lambda owner: owner.ref.tracked,
    "is_leaf": _is_leaf,
    "data": _data,
    "retains_grad": _retains_grad,
    **dict.fromkeys(
        ("is_cuda", "is_sparse", "is_quantized", "is_mps", "is_meta", "is_nested"),
        lambda _owner: False,
    ),
}
"""What the script itself says of a tensor; an empty dtype is one that it does not say."""

OWNERS: Mapping[type, Callable[[Reading, Any, str], Any]] = {
    Path: _of_path,
    Tensor: _of_tensor,
    Several: _of_several,
    Gradient: _of_gradient,
    Data: _of_data,
    Device: _of_setting,
    DType: _of_setting,
    Instance: member,
    Class: lambda _reading, owner, name: of_class(owner, name),
    Parent: lambda _reading, owner, name: of_parent(owner, name),
}
