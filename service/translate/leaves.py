"""Tensors that a script gives by their numbers: the leaves of the graph."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from service.engine.dtypes import DTYPE_NAMES
from service.translate.arguments import PYTHON_DTYPES, UNKNOWN_DTYPE, describe, dtype_name, literal
from service.translate.attributes import RETURN_ITSELF
from service.translate.element_types import kind_of, last_part
from service.translate.folding import attempt, check_items, flat, is_number
from service.translate.operations import FOR_INFERENCE, check_whole, compute
from service.translate.reading import A_NUMBER, Reading
from service.translate.unreadable import Unreadable
from service.translate.values import (
    Array,
    Base64,
    Device,
    Keywords,
    Node,
    Ref,
    Tensor,
    Values,
    walk,
)

EXACT_INTEGERS = 2**53
TURNS_INFINITE: Mapping[str, float] = {
    "float32": (2 - 2**-24) * 2.0**127,
    "complex64": (2 - 2**-24) * 2.0**127,
    "bfloat16": (2 - 2**-8) * 2.0**127,
    "float16": (2 - 2**-11) * 2.0**15,
}
"""Numbers from here on are rounded to infinity: half a step beyond the largest one."""
NO_INTEGER_GRADIENT = "Only Tensors of floating point and complex dtype can require gradients"
CONSTRUCTORS = frozenset({"tensor", "as_tensor", "asarray", "from_numpy"})
KINDS = "Float Double Half BFloat16 Long Int Short Char Byte Bool".split()
LEGACY: Mapping[str, str | None] = {
    "Tensor": None,
    **{f"{kind}Tensor": DTYPE_NAMES[getattr(torch, f"{kind}Tensor").dtype] for kind in KINDS},
}
"""Old constructors, with their dtype; None is the default dtype."""


def on_cpu(device: Any) -> None:
    """Refuse a device that a script names, as the request says where a graph is computed."""
    name = device.name if isinstance(device, Device) else device
    if name is not None and not (isinstance(name, str) and name.startswith("cpu")):
        raise Unreadable(f"the device {name} is chosen by the request's `device`, not by a script")


def tensor(reading: Reading, values: Values, keywords: Keywords) -> Tensor:
    """Return the leaf that ``torch.tensor(items, dtype=..., requires_grad=...)`` makes."""
    if len(values) != 1 or not keywords.keys() <= {"dtype", "device", "requires_grad", "copy"}:
        raise Unreadable("torch.tensor takes numbers, dtype, device and requires_grad")
    on_cpu(keywords.get("device"))
    dtype = _dtype(keywords.get("dtype"))
    made = leaf(reading, values[0], dtype)
    if keywords.get("requires_grad"):
        require_grad(reading, made)
    return made


def _dtype(value: Any) -> str | None:
    if value is None:
        return None
    name = dtype_name(value)
    if name is None:
        raise Unreadable(f"{describe(value)} is no dtype")
    if not name:
        raise Unreadable(UNKNOWN_DTYPE)
    return name


def legacy(reading: Reading, name: str, values: Values) -> Tensor:
    """Return the leaf that ``torch.FloatTensor([1, 2])`` or its like makes."""
    if len(values) != 1 or not isinstance(values[0], list | tuple | Array):
        raise Unreadable(f"torch.{name} with sizes gives uninitialised memory; use torch.zeros")
    return leaf(reading, values[0], LEGACY[name] or reading.graph.dtype)


def leaf(reading: Reading, items: Any, dtype: str | None) -> Tensor:
    """Append a leaf of nested lists of numbers; without ``dtype`` PyTorch's rule says it."""
    if isinstance(items, Tensor):
        raise Unreadable("this is a tensor already; use .detach().clone()")
    default = reading.graph.dtype
    if isinstance(items, Array):
        dtype, items, default = dtype or items.dtype, _rounded(items), "float64"
    shape = shape_of(items)
    count = math.prod(filter(None, shape))
    check_items(count)
    reading.spend(A_NUMBER * count)
    dtype = dtype or _inferred(items, default)
    fields: dict[str, Any] = {"value": _as_json(items, dtype), "dtype": dtype}
    if math.prod(shape) == 0:
        fields |= {"value": [], "shape": list(shape)}
    node = _node(fields, dtype, shape)
    node.inference = reading.inference
    return Tensor(Ref(reading.graph.add(node)))


ROUNDED: Mapping[str, str] = {"float32": "f", "float16": "e"}
"""Formats of `struct` that round a number as a float dtype does."""


def _rounded(array: Array) -> Any:
    """Return an array's numbers as its dtype holds them, which another dtype starts from."""
    dtype = array.dtype
    if dtype is None or dtype in ("float64", "complex128"):
        return array.items

    def one(item: Any) -> Any:
        if isinstance(item, list | tuple | range):
            return [one(part) for part in item]
        if dtype in ROUNDED and isinstance(item, float) and math.isfinite(item):
            try:
                return struct.unpack(ROUNDED[dtype], struct.pack(ROUNDED[dtype], item))[0]
            except OverflowError:
                return math.copysign(math.inf, item)
        if kind_of(dtype) == "int" and isinstance(item, float):
            return attempt(int, item)
        return bool(item) if dtype == "bool" else item

    return one(array.items)


def _node(fields: dict[str, Any], dtype: str, shape: tuple[int, ...]) -> Node:
    return Node(fields=fields, kind=kind_of(dtype), dtype=dtype, shape=shape)


def from_bytes(reading: Reading, raw: Base64, dtype: Any) -> Tensor:
    """Return the leaf that ``torch.frombuffer`` makes of bytes in base64."""
    name = _dtype(dtype)
    if name is None:
        raise Unreadable("torch.frombuffer needs a dtype")
    shape = (raw.size // getattr(torch, name).itemsize,)
    fields = {"value_base64": raw.text, "shape": list(shape), "dtype": name}
    return Tensor(Ref(reading.graph.add(_node(fields, name, shape))))


def reshaped(made: Tensor, sizes: Sequence[Any]) -> bool:
    """Give a leaf that was just made, and has no name yet, another shape, if it is one."""
    node = made.node
    sizes = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], list | tuple) else sizes
    fresh = node.op is None and not (node.id or node.used or node.requires_grad or made.held)
    if not fresh or node.shape is None or not all(type(size) is int for size in sizes):
        return False
    shape = list(sizes)
    if shape.count(-1) == 1:
        rest = math.prod(size for size in shape if size != -1)
        shape[shape.index(-1)] = math.prod(node.shape) // rest if rest else 0
    if math.prod(shape) != math.prod(node.shape) or min(shape, default=0) < 0:
        return False
    node.shape = tuple(shape)
    node.fields["shape"] = shape
    return True


def shape_of(items: Any, known: dict[int, tuple[int, ...]] | None = None) -> tuple[int, ...]:
    """Return the shape of nested lists.

    Args:
        items: numbers in lists; the same list may stand in many places.
        known: the shapes of the lists that have been looked at, by their identity.

    Raises:
        Unreadable: they are ragged, or hold something that is no number.
    """
    if not isinstance(items, list | tuple | range):
        if not is_number(items):
            reason = f"torch.tensor is read with numbers, not with {describe(items)}"
            hint = "; torch.stack keeps the graph" if isinstance(items, Tensor) else ""
            raise Unreadable(reason + hint)
        return ()
    known = {} if known is None else known
    if id(items) not in known:
        shapes = {shape_of(item, known) for item in items}
        if len(shapes) > 1:
            raise Unreadable("the rows of this list differ in length or depth")
        known[id(items)] = (len(items), *(shapes.pop() if shapes else ()))
    return known[id(items)]


def _inferred(items: Any, default: str) -> str:
    """Return the dtype that ``torch.tensor`` gives to these numbers."""
    types = {type(item) for item in flat(items)}
    if complex in types:
        return "complex128" if default == "float64" else "complex64"
    if float in types or not types:
        return default
    return "int64" if int in types else PYTHON_DTYPES["bool"]


def _as_json(items: Any, dtype: str) -> Any:
    if isinstance(items, list | tuple | range):
        return [_as_json(item, dtype) for item in items]
    kind = kind_of(dtype)
    if kind == "bool":
        return bool(items)
    if kind == "complex":
        return [_float(attempt(float, part), dtype) for part in (items.real, items.imag)]
    if isinstance(items, complex):
        raise Unreadable(f"a complex number does not fit {dtype}")
    if kind == "int":
        if isinstance(items, float) and not math.isfinite(items):
            raise Unreadable(f"{items} does not fit {dtype}")
        if not -(2**63) <= (number := int(items)) < 2**63:
            raise Unreadable("Overflow when unpacking long long")
        return number
    return _float(items, dtype)


def _float(number: float, dtype: str) -> Any:
    """Return a number of a float dtype as JSON: infinite where rounding makes it so."""
    if isinstance(number, int) and abs(number) <= EXACT_INTEGERS:
        number = int(number)
    else:
        number = attempt(float, number)
    if abs(number) >= TURNS_INFINITE.get(dtype, math.inf):
        number = math.copysign(math.inf, number)
    return literal(number)


def require_grad(reading: Reading, given: Tensor) -> Tensor:
    """Let autograd track a tensor from here on; what was computed from it before stays untracked.

    Raises:
        Unreadable: it is of integers or bools.
    """
    node = given.node
    check_whole(node)
    if given.ref.type.kind in ("int", "bool"):
        raise Unreadable(NO_INTEGER_GRADIENT)
    if node.tracked:
        return given
    if node.inference and not reading.inference:
        raise Unreadable(FOR_INFERENCE)
    _check_unseen(given)
    if node.used or not node.is_source or given.ref.output is not None:
        copy = compute(reading, "clone", given)
        copy.node.shares_memory = node.shares_memory
        copy.node.twins.append(node)
        node.twins.append(copy.node)
        _replace(reading, given, copy)
        node = copy.node
    node.requires_grad = node.tracked = True
    return given


def forget_grad(reading: Reading, given: Tensor) -> Tensor:
    """Stop tracking a leaf from here on."""
    node = given.node
    check_whole(node)
    if not node.requires_grad:
        if given.ref.tracked:
            raise Unreadable("you can only change requires_grad flags of leaf variables.")
        return given
    if node.used:
        _check_unseen(given)
        _replace(reading, given, compute(reading, "detach", given))
    else:
        node.requires_grad = node.tracked = False
    return given


def _check_unseen(given: Tensor) -> None:
    """Refuse a tensor whose views the script still has: they require grad as soon as it does."""

    def near(one: Node) -> Iterator[Node]:
        yield from (view for view in one.views if view.op != "detach")
        if one.op == "autograd.grad":
            yield from one.twins
        if one.is_view and not one.is_own and last_part(one.op) in RETURN_ITSELF:
            yield from (ref.node for ref in one.inputs)

    others = (one for one in walk([given.node], near) if one is not given.node)
    holders = {holder() for holder in given.node.holders} - {None, given}
    are_one = holders and given.node.op == "autograd.grad"  # its outputs may be the very same
    if are_one or any(holder() is not None for one in others for holder in one.holders):
        raise Unreadable(
            "this also changes whether other tensors require grad that are views of this one, "
            "or the very same; write x = x.detach() first, or take them afterwards"
        )


def _replace(reading: Reading, old: Tensor, new: Tensor) -> None:
    """Let every name that holds ``old`` hold ``new``, under the next id of that name."""
    stem, _, count = old.node.id.rpartition(".")
    if old.node.id:
        reading.graph.name(new.node, stem if count.isdigit() and stem else old.node.id)
    old.move(new.ref, len(reading.graph.roots))


def as_leaf(reading: Reading, value: Any, requires_grad: bool) -> Tensor:
    """Return what ``Variable(value)`` and ``nn.Parameter(value)`` make: a leaf of its own."""
    if not isinstance(value, Tensor):
        raise Unreadable(f"a tensor is needed here, not {describe(value)}")
    made = value
    node = value.node
    if node.id or node.used or node.tracked or node.is_view or value.held:
        made = compute(reading, "detach", value)
    return require_grad(reading, made) if requires_grad else made
