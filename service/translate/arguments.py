"""A call as Python writes it, by position and name, as `inputs` and `attrs` of an op."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from service.engine.catalogue import Operation
from service.engine.signature import Kind, Parameter, Signature
from service.translate.folding import check_items
from service.translate.objects import Class, Instance
from service.translate.unreadable import Unreadable
from service.translate.values import (
    Data,
    DType,
    Keywords,
    MemoryFormat,
    Method,
    Path,
    Ref,
    Several,
    Tensor,
    Unknown,
    Values,
)

NUMPY_NAMES: Mapping[str, str] = {
    "axis": "dim",
    "keepdims": "keepdim",
    "x": "input",
    "a": "input",
    "x1": "input",
    "x2": "other",
    "split_size_or_sections": "split_size",
}
"""Keywords that PyTorch takes as NumPy, or a function of its own in Python, spells them."""

MEANINGLESS: Mapping[str, frozenset[Any]] = {
    "inplace": frozenset({False}),
    "out": frozenset({None}),
    "generator": frozenset({None}),
    "layout": frozenset({None}),
    "pin_memory": frozenset({False, None}),
    "non_blocking": frozenset({True, False}),
}
"""Keywords that a request cannot say, with the values that change nothing."""

UNKNOWN_DTYPE = "this dtype is known only when the graph runs; write its name"

PYTHON_DTYPES: Mapping[str, str] = {
    "float": "float64",
    "int": "int64",
    "bool": "bool",
    "complex": "complex128",
}


def bind_python(
    name: str, signature: inspect.Signature, values: Values, keywords: Keywords
) -> inspect.BoundArguments:
    """Return the arguments of ``name``, which PyTorch wrote in Python, as Python binds them.

    Raises:
        Unreadable: it does not take them.
    """
    try:
        return signature.bind(*values, **keywords)
    except TypeError as error:
        raise Unreadable(f"TypeError: {name}: {error}") from error


def dtype_name(value: Any) -> str | None:
    """Return the dtype that a value of the script names, None where it names none."""
    if isinstance(value, DType):
        return value.name
    if isinstance(value, Path) and value.parts[0] == "builtins":
        return PYTHON_DTYPES.get(value.parts[-1])
    return None


def literal(value: Any) -> Any:
    """Return a value of the script as JSON of `attrs`, tensors as :class:`Ref`."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | complex):
        return _number(value)
    if isinstance(value, list | tuple | range):
        return [literal(item) for item in value]
    if isinstance(value, Tensor):
        return value.ref
    if isinstance(value, MemoryFormat):
        return value.name
    if isinstance(value, Several) and value.count is not None:
        check_items(value.count)
        return [value.output(k).ref for k in range(value.count)]
    dtype = dtype_name(value)
    if dtype is None:
        raise Unreadable(f"{describe(value)} cannot be an argument here")
    if not dtype:
        raise Unreadable(UNKNOWN_DTYPE)
    return dtype


def _number(value: complex) -> Any:
    if isinstance(value, complex):
        return {"re": _number(value.real), "im": _number(value.imag)}
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def describe(value: Any) -> str:
    """Return what a value is, for a message."""
    if isinstance(value, Tensor):
        return "a tensor"
    if isinstance(value, Path):
        return str(value).removeprefix("builtins.")
    if isinstance(value, Data):
        return "the .data of a tensor"
    if isinstance(value, Method):
        return f".{value.name}"
    if isinstance(value, Instance):
        return f"an instance of {value.kind}"
    if isinstance(value, Class):
        return f"the class {value.name}"
    if isinstance(value, Unknown):
        return "a value that is there only when the script runs"
    return f"a {type(value).__name__}"


def arguments(
    operation: Operation, positional: Values, keywords: Keywords
) -> tuple[list[Ref], dict[str, Any]]:
    """Return `inputs` and `attrs` that mean the call ``operation(*positional, **keywords)``.

    Raises:
        Unreadable: no signature takes the arguments.
    """
    keywords = _settable(keywords)
    for exact in (True, False):
        for signature in operation.signatures:
            given = _fit(signature, positional, keywords, exact=exact)
            if given is not None:
                return _request_form(operation, signature, given)
    shown = "; ".join(f"{operation.name}{each.text}" for each in operation.signatures[:6])
    raise Unreadable(f"the arguments fit none of the signatures of {operation.name}: {shown}")


def _settable(keywords: Keywords) -> dict[str, Any]:
    kept = {}
    for name, value in keywords.items():
        allowed = MEANINGLESS.get(name)
        if allowed is None:
            kept[name] = value
        elif not isinstance(value, bool | None) or value not in allowed:
            raise Unreadable(f"the argument {name} cannot be part of a graph")
    return kept


def _fit(
    signature: Signature, positional: Values, keywords: Keywords, *, exact: bool
) -> dict[str, Any] | None:
    """Return the arguments by parameter, or None where they do not fit."""
    for packed in _packings(signature, positional):
        given = _by_name(signature, packed, keywords)
        if given is not None and all(
            _suits(signature.by_name[name], value, exact=exact) for name, value in given.items()
        ):
            return given
    return None


def _packings(signature: Signature, positional: Values) -> list[Sequence[Any]]:
    """Return the ways to read ``x.view(2, 3)``: as it stands, and with a list at its end."""
    ways: list[Sequence[Any]] = [positional]
    if signature.star is not None:
        at = next(k for k, p in enumerate(signature.parameters) if p.name == signature.star)
        return [[*positional[:at], list(positional[at:])], *ways]
    places = [p for p in signature.parameters if not p.keyword_only]
    at = len(places) - 1
    only = at == 0 or (at == 1 and places[0].kind.base == "Tensor")
    if only and _takes_ints(places[at].kind, positional[at:]):
        ways.insert(0, [*positional[:at], list(positional[at:])])
    return ways


def _takes_ints(kind: Kind, values: Values) -> bool:
    """Whether PyTorch makes a list of these whole numbers by itself.

    It does not where one number stands for all dimensions, nor in its functions in Python.
    """
    takes = kind.is_list and kind.base == "int" and not kind.loose
    are_ints = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    return takes and are_ints and len(values) > (0 if kind.size is None else 1)


def _by_name(signature: Signature, positional: Values, keywords: Keywords) -> dict[str, Any] | None:
    places = signature.order or tuple(
        parameter.name for parameter in signature.parameters if not parameter.keyword_only
    )
    if len(positional) > len(places):
        return None
    given: dict[str, Any] = {}
    for name, value in zip(places, positional, strict=False):
        if name in signature.by_name:
            given[signature.by_name[name].name] = value
        elif value is not False and value is not None:
            return None  # a hidden parameter, such as `inplace`, by position
    for keyword, value in keywords.items():
        name = keyword if keyword in signature.by_name else NUMPY_NAMES.get(keyword, "")
        parameter = signature.by_name.get(name)
        if parameter is None or parameter.name in given:
            return None
        given[parameter.name] = value
    if any(p.required and p.name not in given for p in signature.parameters):
        return None
    return given


def _suits(parameter: Parameter, value: Any, *, exact: bool) -> bool:
    """Whether PyTorch could take ``value`` there; ``exact``: without making a number a tensor."""
    kind = parameter.kind
    if parameter.only is not None and value is not parameter.only:
        return False
    if value is None:
        return kind.optional or kind.base == "any"
    if isinstance(value, Several):
        return kind.base in ("Tensor", "any") and kind.is_list
    if isinstance(value, list | tuple | range):
        if not kind.is_list and not kind.loose and kind.base not in ("any", "index"):
            return False
        return all(
            (item is None and (kind.optional_items or kind.loose))
            or _item_suits(kind.base, item, exact=exact)
            for item in value
        )
    if kind.is_list and kind.base == "Tensor":
        return False
    return _item_suits(kind.base, value, exact=exact and not kind.number_too)


def _item_suits(base: str, value: Any, *, exact: bool) -> bool:
    is_number = isinstance(value, int | float | complex)
    if base == "Tensor":
        return isinstance(value, Tensor) or (is_number and not exact)
    if base == "number":
        return is_number
    if base == "int":
        return isinstance(value, int) and (not exact or not isinstance(value, bool))
    if base == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if base in ("bool", "str"):
        return isinstance(value, bool if base == "bool" else str)
    if base == "dtype":
        return dtype_name(value) is not None
    if base == "memory_format":
        return isinstance(value, MemoryFormat)
    return True


def _takes_one(operation: Operation, at: int) -> bool:
    """Whether some signature takes a tensor by itself behind ``at`` others."""
    places = (signature.positional_tensors[at : at + 1] for signature in operation.signatures)
    return any(not place.kind.is_list for found in places for place in found)


def _request_form(
    operation: Operation, signature: Signature, given: Mapping[str, Any]
) -> tuple[list[Ref], dict[str, Any]]:
    """Put leading tensors into `inputs` and everything else into `attrs`.

    Once a tensor parameter was left out, or a list of tensors went into `inputs`, what follows
    goes by name, so that the binding has nothing to decide. So does a list of one tensor where
    another signature takes the tensor itself: in `inputs` the two look the same.
    """
    inputs: list[Ref] = []
    attrs: dict[str, Any] = {}
    in_order = True
    for parameter in signature.parameters:
        is_place = parameter.kind.base == "Tensor" and not parameter.keyword_only
        if parameter.name not in given:
            in_order = in_order and not is_place
            continue
        value = given[parameter.name]
        if is_place and in_order:
            in_order = not parameter.kind.is_list
            if isinstance(value, Tensor):
                inputs.append(value.ref)
                continue
            refs = literal(value)
            are_refs = isinstance(refs, list) and all(isinstance(ref, Ref) for ref in refs)
            if are_refs and len(refs) > (1 if _takes_one(operation, len(inputs)) else 0):
                inputs.extend(refs)
                continue
            in_order = in_order and bool(refs != [])
        if value is None and not parameter.required and parameter.default is None:
            in_order = in_order and not is_place
            continue
        attrs[parameter.name] = literal(value)
    return inputs, attrs
