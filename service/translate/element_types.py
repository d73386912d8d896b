"""The element type of an op's result, as far as a script shows it.

    element_type(node, default) -> ElementType(kind, dtype), either None where only a run says it

The facts stand in the tables of :mod:`service.translate.element_type_tables`; here is how they go
together. What is not known must not be complex: a result of it and of floats counts as a float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.translate.element_type_tables import (
    ALWAYS,
    COMPLEX,
    COMPLEX_OUTPUTS,
    FLOATS,
    KEEPS,
    KERNEL_PREFIXES,
    MATHS,
    OF_EACH,
    OF_FIRST,
    OF_NUMBERS,
    OF_PARTS,
    PARTS_OF,
    REAL_OUTPUTS,
    REAL_PARTS,
    SOURCES,
    SUMS,
    UNNAMED,
    WHOLE_OUTPUTS,
    WHOLE_SOURCES,
    WITH_NUMBERS,
)
from service.translate.values import ElementType, Node, Ref, references

UNKNOWN = ElementType()


def last_part(op: str | None) -> str:
    """Return the name of an op without what stands before it."""
    parts = (op or "").split(".")
    if parts[0] != "aten" or len(parts) == 1:
        return parts[-1]
    name = parts[1].strip("_")
    return next((name.removeprefix(p) for p in KERNEL_PREFIXES if name.startswith(p)), name)


def kind_of(dtype: str | None) -> str | None:
    """Return the kind of a dtype."""
    if not dtype:
        return None
    for kind in ("complex", "bool"):
        if dtype.startswith(kind):
            return kind
    return "float" if "float" in dtype else "int"


def of_dtype(dtype: str | None) -> ElementType:
    """Return an element type by its dtype alone."""
    return ElementType(kind_of(dtype), dtype)


def element_type(node: Node, default: str) -> ElementType:
    """Return the element type of an op's result, of several the first's.

    Args:
        node: an op, its sources known.
        default: the default dtype of the script.
    """
    name = _rule_of(node)
    if name in ALWAYS:
        return of_dtype(ALWAYS[name])
    if name in OWN_RULES:
        return OWN_RULES[name](node)
    said = node.attrs.get("dtype")
    if said is not None:
        return of_dtype(PARTS_OF.get(said, said) if name in REAL_PARTS else said)
    sources = [ref.type for ref in deciding(node)]
    numbers = numbers_in(node.attrs)
    if not sources:
        return _of_numbers(name, numbers, default)
    if {one.kind for one in sources} <= {"int", "bool"} and complex not in numbers:
        return _of_whole(name, sources, numbers, default)
    return _of_floats(name, sources, numbers)


def _rule_of(node: Node) -> str:
    """Return the name by which the tables know an op."""
    if (node.op or "").startswith("masked.") and node.op != "masked.norm":
        return "masked"  # only floats go the way that they go without a mask
    if node.attrs.get("rounding_mode") is not None:
        return "floor_divide"
    return last_part(node.op)


def deciding(node: Node) -> list[Ref]:
    """Return the tensors that the element type of a result depends on."""
    name = last_part(node.op)
    refs: list[Ref] = references(node.inputs, node.attrs)
    if name in ("to", "type_as"):
        return refs[-1:]  # x.to(y) has the dtype of y
    if name in OF_FIRST:
        return refs[:1]
    if name == "where":
        return refs[1:]  # behind the condition
    if name == "grad":
        return refs[1 : len(node.inputs)]  # of each of its inputs, not of the outputs
    return refs


def numbers_in(attrs: Mapping[str, Any]) -> set[type]:
    """Return the types of the numbers in attrs, sizes aside."""
    numbers = {name: value for name, value in attrs.items() if name not in ("size", "dtype")}
    found: set[type] = {type(value) for value in numbers.values() if isinstance(value, int | float)}
    found |= {complex for value in numbers.values() if isinstance(value, dict) and "im" in value}
    return found | {
        float for value in numbers.values() if value in ("NaN", "Infinity", "-Infinity")
    }


def makes_default(name: str, attrs: Mapping[str, Any]) -> bool:
    """Whether an op without tensors makes the default dtype."""
    of_whole = name in OF_NUMBERS and numbers_in(attrs) <= {int, bool}
    return name in SOURCES and not of_whole


def _of_numbers(name: str, numbers: set[type], default: str) -> ElementType:
    """Return the element type of what an op makes without tensors."""
    if name in WHOLE_SOURCES:
        return of_dtype("int64")
    if name in OF_NUMBERS and numbers <= {int, bool}:
        return of_dtype("bool" if numbers == {bool} and name != "arange" else "int64")
    if name not in SOURCES | OF_NUMBERS:
        return UNKNOWN
    return ElementType("complex") if complex in numbers else of_dtype(default)


def _of_whole(
    name: str, sources: Sequence[ElementType], numbers: set[type], default: str
) -> ElementType:
    """Return the element type of what an op makes of whole numbers and bools."""
    if name in COMPLEX:
        return ElementType("complex")
    operands = numbers if name in WITH_NUMBERS else set[type]()
    if name in MATHS or (name in KEEPS and float in operands):
        return of_dtype(default)
    if name in SUMS:
        return of_dtype("int64")
    if name not in KEEPS:
        return UNKNOWN
    if all(one.kind == "bool" for one in sources):
        return of_dtype("int64" if name == "square" or int in operands else "bool")
    dtypes = {one.dtype for one in sources}
    return ElementType("int", dtypes.pop() if len(dtypes) == 1 else None)


def _of_floats(name: str, sources: Sequence[ElementType], numbers: set[type]) -> ElementType:
    """Return the element type of what an op makes of floats or complex numbers, among others."""
    kinds = {one.kind for one in sources}
    dtypes = {one.dtype for one in sources}
    floats = [dtype for dtype in dtypes if kind_of(dtype) in ("float", "complex")]
    known = name in KEEPS | SUMS | MATHS | FLOATS | REAL_PARTS
    dtype = floats[0] if known and None not in dtypes and len(floats) == 1 else None
    if "complex" in kinds and name in REAL_PARTS:
        return ElementType("float", PARTS_OF.get(dtype or ""))
    if "complex" in kinds:
        return ElementType("complex", dtype)
    if complex in numbers:
        return ElementType("complex", OF_PARTS.get(dtype or ""))
    if name in COMPLEX:
        return ElementType("complex")
    return ElementType("float", dtype) if "float" in kinds else UNKNOWN


def other_types(node: Node, names: Sequence[str | None]) -> dict[int, ElementType]:
    """Return the element types of outputs where they are not that of the first.

    Args:
        node: an op whose own element type is known.
        names: PyTorch's names of its outputs.
    """
    op = last_part(node.op)
    sources = [ref.type for ref in deciding(node)]
    if op in OF_EACH and node.several:
        return dict(enumerate(sources))
    own_names = [name or own for name, own in zip(names, UNNAMED.get(op, names), strict=False)]
    found = {}
    for k, name in enumerate(own_names):
        if name is not None and name in WHOLE_OUTPUTS:
            found[k] = of_dtype(WHOLE_OUTPUTS[name])
        elif name in REAL_OUTPUTS and node.kind == "complex":
            found[k] = ElementType("float", PARTS_OF.get(node.dtype or ""))
        elif name in COMPLEX_OUTPUTS and any(one.kind == "complex" for one in sources):
            found[k] = ElementType("complex", sources[0].dtype)
    return found


# --- ops with a rule of their own ---------------------------------------------------------------


def _bool_or_byte(node: Node) -> ElementType:
    """``all`` and ``any``: of bytes they make bytes."""
    given = deciding(node)[0].type
    if given.dtype == "uint8":
        return of_dtype("uint8")
    known = given.dtype is not None or given.kind in ("bool", "float", "complex")
    return of_dtype("bool") if known else UNKNOWN


def _places(node: Node) -> ElementType:
    return of_dtype("int32" if node.attrs.get("out_int32") else "int64")


def _counts(node: Node) -> ElementType:
    """``bincount``: with weights it adds these up."""
    return of_dtype("int64") if len(deciding(node)) == 1 else ElementType("float")


def _stft(node: Node) -> ElementType:
    """``stft`` makes complex numbers unless told otherwise, ``istft`` floats."""
    is_complex = node.attrs.get("return_complex", last_part(node.op) == "stft")
    return ElementType("complex" if is_complex else "float")


def _doubles(node: Node) -> ElementType:
    kinds = {ref.type.kind for ref in deciding(node)}
    is_complex = "complex" in kinds or complex in numbers_in(node.attrs)
    return of_dtype("complex128" if is_complex else "float64")


OWN_RULES: Mapping[str, Callable[[Node], ElementType]] = {
    "all": _bool_or_byte,
    "any": _bool_or_byte,
    "searchsorted": _places,
    "bucketize": _places,
    "bincount": _counts,
    "stft": _stft,
    "istft": _stft,
    "float_power": _doubles,
}
