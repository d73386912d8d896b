"""Signatures of torch's Python functions, from their annotations.

The annotations are too narrow: an int or a float may also be a list of them, and some say nothing.
"""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import torch

from service.engine.signature import (
    HIDDEN,
    Kind,
    NoSignature,
    Parameter,
    Signature,
    as_json,
)


def signature_of_function(
    function: Callable[..., Any],
    flags: Mapping[str, tuple[bool, bool]],
    outputs: int | None,
) -> Signature:
    """Return the signature of a Python function, from its annotations.

    Args:
        function: one of the modules that the gate names.
        flags: parameters that decide what comes back: (the value with which this signature
            holds, the default).
        outputs: how many tensors come back, None where the annotation says it.

    Raises:
        NoSignature: it does not return tensors, or takes what a request cannot say.
    """
    parameters = []
    order = []
    for declared in inspect.signature(function).parameters.values():
        if declared.kind in (declared.VAR_POSITIONAL, declared.VAR_KEYWORD):
            raise NoSignature("it takes any number of arguments")
        if declared.kind is not declared.KEYWORD_ONLY:
            order.append(declared.name)
        if declared.name in HIDDEN:
            if declared.default is declared.empty:
                raise NoSignature(f"it needs {declared.name}")
            continue
        parameters.append(_parameter_of_function(function, declared, flags))
    names, several, variable = _outputs_of_function(function, outputs)
    return Signature(tuple(parameters), names, several, variable, tuple(order))


def _parameter_of_function(
    function: Callable[..., Any],
    declared: inspect.Parameter,
    flags: Mapping[str, tuple[bool, bool]],
) -> Parameter:
    keyword_only = declared.kind is declared.KEYWORD_ONLY
    if declared.name in flags:
        only, default = flags[declared.name]
        needed = only is not default
        shown: Any = None if needed else default
        return Parameter(declared.name, Kind("bool"), needed, shown, keyword_only, only)
    required = declared.default is declared.empty
    name = inspect.unwrap(function).__name__.removeprefix("_").removesuffix("_with_indices")
    kind = WIDER.get((name, declared.name))
    if kind is None:
        kind = _kind_of_annotation(declared)
    fallback = None if required else as_json(declared.default)
    return Parameter(declared.name, kind, required, fallback, keyword_only)


PYTHON_TYPES: Mapping[Any, str] = {int: "int", float: "float", bool: "bool", str: "str"}

UNANNOTATED: Mapping[str, Kind] = {
    "dim": Kind("int", optional=True, loose=True),
    "dims": Kind("any"),
    "size": Kind("int", is_list=True, optional=True, loose=True),
    "scale_factor": Kind("float", is_list=True, optional=True, loose=True),
    "align_corners": Kind("bool", optional=True),
    "M": Kind("int", loose=True),
}
"""Parameters for which PyTorch's Python functions say no type."""

MISANNOTATED: Mapping[str, Kind] = {
    "dtype": Kind("dtype", optional=True),
    "correction": Kind("number", optional=True),
    "input_lengths": Kind("Tensor", loose=True, number_too=True),
    "target_lengths": Kind("Tensor", loose=True, number_too=True),
}
"""Parameters for which they say a type that is wrong, or (`ctc_loss`) narrower than documented."""

WIDER: Mapping[tuple[str, str], Kind] = {
    ("interpolate", "size"): Kind("int", is_list=True, optional=True, loose=True),
    ("norm", "dim"): Kind("int", is_list=True, optional=True, loose=True),
    ("normalize", "dim"): Kind("int", is_list=True, loose=True),
    **{
        (f"adaptive_{pool}_pool{rank}d", "output_size"): Kind(
            "int", is_list=True, optional_items=True, loose=True
        )
        for pool in ("avg", "max")
        for rank in (2, 3)
    },
}
"""Parameters that are documented to take lists as well, or null in them, by their function."""


def _kind_of_annotation(declared: inspect.Parameter) -> Kind:
    annotation = declared.annotation
    none_default = declared.default is None
    if declared.name in MISANNOTATED:
        return MISANNOTATED[declared.name]
    if annotation is inspect.Parameter.empty:
        return _kind_of_default(declared)
    if annotation is None or annotation is type(None):  # BroadcastingList: an int or a list of it
        base = "float" if declared.name == "output_ratio" else "int"
        return Kind(base, is_list=True, optional=none_default, loose=True)
    members = _members(annotation)
    optional = none_default or type(None) in members
    return _kind_of_members(members - {type(None)}, optional)


def _members(annotation: Any) -> set[Any]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return {part for member in typing.get_args(annotation) for part in _members(member)}
    return {annotation}


def _kind_of_members(members: set[Any], optional: bool) -> Kind:
    if torch.Tensor in members:
        return Kind("Tensor", optional=optional, number_too=float in members)
    if members == {int, float}:
        return Kind("number", optional=optional, loose=True)
    if len(members) == 1 and (base := PYTHON_TYPES.get(next(iter(members)))):
        return Kind(base, optional=optional, loose=base in ("int", "float"))
    if members == {collections.abc.Iterable}:
        return Kind("float", is_list=True, optional=optional, loose=True)
    items = {typing.get_args(member)[0] for member in members if typing.get_args(member)}
    if items in ({int}, {float}):
        return Kind(PYTHON_TYPES[items.pop()], is_list=True, optional=optional, loose=True)
    return Kind("any", optional=optional)


def _kind_of_default(declared: inspect.Parameter) -> Kind:
    if declared.name in UNANNOTATED:
        return UNANNOTATED[declared.name]
    if declared.default is declared.empty:
        return Kind("Tensor")
    base = PYTHON_TYPES.get(type(declared.default), "any")
    optional = declared.default is None
    return Kind(base, optional=optional, loose=base in ("int", "float"))


def _outputs_of_function(
    function: Callable[..., Any], outputs: int | None
) -> tuple[tuple[str | None, ...], bool, bool]:
    if outputs is not None:
        return (None,) * outputs, outputs > 1, False
    annotation = inspect.signature(function).return_annotation
    if annotation in (inspect.Parameter.empty, torch.Tensor):
        return (None,), False, False
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is not tuple or torch.Tensor not in arguments:
        raise NoSignature("it does not return tensors")
    if Ellipsis in arguments:
        return (), True, True
    return (None,) * len(arguments), True, False
