"""``value.name``: modules and their constants, properties and methods of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from service.contract.request import DType as ContractDType
from service.translate.folding import MATH_CONSTANTS, is_number
from service.translate.gradients import gradient_tensor
from service.translate.operations import apply
from service.translate.reading import Reading
from service.translate.unreadable import Unreadable
from service.translate.values import (
    Device,
    DType,
    Gradient,
    MemoryFormat,
    Method,
    Path,
    Several,
    Tensor,
)

DTYPE_NAMES: dict[str, str] = {
    **{dtype.value: dtype.value for dtype in ContractDType},
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "cfloat": "complex64",
    "cdouble": "complex128",
    "long": "int64",
    "int": "int32",
    "short": "int16",
}
MEMORY_FORMATS = frozenset(
    {"contiguous_format", "preserve_format", "channels_last", "channels_last_3d"}
)
PROPERTIES = frozenset({"T", "mT", "H", "mH", "real", "imag"})
"""Properties of tensors that are ops."""

ASKS_FOR_VALUE = (
    "{} asks for numbers, which are there only when the graph runs; the trace shows them"
)
VALUES = frozenset({"item", "tolist", "numpy", "__array__", "storage", "data_ptr"})
NO_PART_OF_A_GRAPH = frozenset({"grad_fn", "register_hook", "_version", "names", "output_nr"})


def attribute(reading: Reading, owner: Any, name: str) -> Any:
    """Return ``owner.name``."""
    if isinstance(owner, Path):
        return _of_path(owner, name)
    if isinstance(owner, Tensor):
        return _of_tensor(reading, owner, name)
    if isinstance(owner, Several):
        if name in owner.names:
            return owner.output(owner.names.index(name))
        raise Unreadable(f"this op has no output called {name}")
    if isinstance(owner, Gradient):
        if name in ("zero_", "detach_"):
            return Method(owner, name)
        return attribute(reading, gradient_tensor(reading, owner), name)
    if is_number(owner) and name in ("real", "imag"):
        return getattr(owner, name)
    return Method(owner, name)


def _of_path(owner: Path, name: str) -> Any:
    last = owner.parts[-1]
    if last in ("math", "numpy", "torch") and len(owner.parts) == 1:
        if name in MATH_CONSTANTS:
            return MATH_CONSTANTS[name]
        if last != "math" and name in DTYPE_NAMES:
            return _number_type(last, name)
        if name == "newaxis":
            return None
        if name in MEMORY_FORMATS:
            return MemoryFormat(name)
    return Path((*owner.parts, name))


def _number_type(module: str, name: str) -> DType | Path:
    if module == "torch":
        return DType(DTYPE_NAMES[name])
    return DType({"int": "int64", "float": "float64"}.get(name, DTYPE_NAMES[name]))


def _of_tensor(reading: Reading, owner: Tensor, name: str) -> Any:
    if name in PROPERTIES:
        return apply(reading, name, [owner], {})
    if name in FACTS:
        return FACTS[name](owner)
    if name == "data":
        raise Unreadable(".data hides a tensor from autograd; write .detach()")
    if name in VALUES:
        raise Unreadable(ASKS_FOR_VALUE.format(f".{name}()"))
    if name in NO_PART_OF_A_GRAPH:
        raise Unreadable(f".{name} cannot be part of a graph")
    return Method(owner, name)


def known_shape(owner: Tensor) -> tuple[int, ...]:
    """Return the shape of a tensor where the script shows it."""
    if owner.node.shape is None or owner.ref.output is not None:
        raise Unreadable("this shape is known only when the graph runs; write the number")
    return owner.node.shape


FACTS: Mapping[str, Callable[[Tensor], Any]] = {
    "grad": Gradient,
    "shape": known_shape,
    "ndim": lambda owner: len(known_shape(owner)),
    "dtype": lambda owner: DType(owner.node.dtype or ""),
    "device": lambda _owner: Device("cpu"),
    "requires_grad": lambda owner: owner.node.tracked,
    "is_leaf": lambda owner: owner.node.requires_grad or not owner.node.tracked,
}
"""What the script itself says of a tensor; an empty dtype is one that it does not say."""
