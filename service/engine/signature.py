"""What a call takes and gives: signatures read from torch's own schemas and annotations.

The catalogue makes them once; binding fits a request's `inputs` and `attrs` into one of them; the
route that describes an op shows them.
"""

from __future__ import annotations

import collections.abc
import inspect
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

MEMORY_FORMATS: Mapping[str, torch.memory_format] = {
    "contiguous_format": torch.contiguous_format,
    "preserve_format": torch.preserve_format,
    "channels_last": torch.channels_last,
    "channels_last_3d": torch.channels_last_3d,
}
"""By PyTorch's names, in the order of the numbers that schemas have as defaults."""

HIDDEN = frozenset(
    "out inplace generator device layout pin_memory requires_grad sparse_grad sparse options "
    "distance_function names non_blocking unsafe path _stacklevel".split()
)
"""Parameters that a request cannot set: another place to write to, no plain value, or (the `path`
of `einsum`) nothing that the public function takes."""

HIDDEN_TYPES = frozenset({"Generator", "Device", "Layout", "Storage", "Stream", "Callable"})

SCHEMA_TYPES: Mapping[str, str] = {
    "Tensor": "Tensor",
    "number": "number",
    "int": "int",
    "SymInt": "int",
    "float": "float",
    "bool": "bool",
    "str": "str",
    "ScalarType": "dtype",
    "MemoryFormat": "memory_format",
}


NUMBERS_AS_TENSORS = frozenset(
    "add sub subtract mul multiply div divide true_divide floor_divide".split()
)
"""Ops for whose tensors PyTorch takes numbers; see `should_allow_numbers_as_tensors` in
torch/csrc/utils/python_arg_parser.cpp."""


class NoSignature(Exception):
    """PyTorch declares nothing here that a request could call."""


@dataclass(frozen=True, slots=True)
class Kind:
    """The type of a parameter.

    ``base`` is one of the contract's words (`Tensor`, `number`, `int`, ... `any`) or `index`.
    """

    base: str
    is_list: bool = False
    optional: bool = False
    optional_items: bool = False
    """Whether null may stand in the list."""
    size: int | None = None
    """The N of a schema's `int[N]`: a single number stands for N equal ones."""
    loose: bool = False
    """From a Python annotation, which are too narrow: a number may also be a list of numbers."""
    number_too: bool = False
    """A tensor, for which PyTorch takes a number as well."""

    @property
    def text(self) -> str:
        """Return the type as the contract writes it, such as `int[]?`."""
        base = "any" if self.base == "index" else self.base
        items = ("?" if self.optional_items else "") + "[]" if self.is_list else ""
        return base + items + ("?" if self.optional else "")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter that a request can set."""

    name: str
    kind: Kind
    required: bool = True
    default: Any = None
    """As JSON; null where there is none."""
    keyword_only: bool = False
    only: bool | None = None
    """The one value with which this signature holds: `return_indices` decides about outputs."""

    @property
    def type(self) -> str:
        """Return the type as the contract writes it."""
        return self.kind.text

    @property
    def text(self) -> str:
        """Return the parameter as messages show it."""
        default = "" if self.required else f"={json.dumps(self.default)}"
        return f"{self.type} {self.name}{default}"


@dataclass(frozen=True)
class Signature:
    """One way to call an op."""

    parameters: tuple[Parameter, ...]
    """Those that a request can set, in PyTorch's order."""
    outputs: tuple[str | None, ...] = (None,)
    """PyTorch's name of each output; empty where their number is known only at run time."""
    several: bool = False
    """Whether it is declared to return a tuple or a list, even of one."""
    variable: bool = False
    """Whether only the run tells how many outputs there are."""
    order: tuple[str, ...] = ()
    """Names of all positional parameters, hidden ones too: what follows a gap goes by keyword."""
    star: str | None = None
    """The list that the public function takes as ``*tensors``."""
    says_input: bool = False
    """Whether the public function calls `input` what the schema calls `self`."""

    @cached_property
    def by_name(self) -> Mapping[str, Parameter]:
        """Return the parameters by name; `input` and `self` both name the first one."""
        names = {parameter.name: parameter for parameter in self.parameters}
        for name, other in (("input", "self"), ("self", "input")):
            if name not in names and other in names:
                names[name] = names[other]
        if self.parameters:
            names.setdefault("input", self.parameters[0])
            names.setdefault("self", self.parameters[0])
        return names

    @cached_property
    def positional_tensors(self) -> tuple[Parameter, ...]:
        """Return the parameters that a request's inputs can go to, in order."""
        return tuple(
            parameter
            for parameter in self.parameters
            if parameter.kind.base == "Tensor" and not parameter.keyword_only
        )

    def describe(self) -> dict[str, Any]:
        """Return the signature as JSON, as the contract's OpSignature has it."""
        parameters = [
            {"name": p.name, "type": p.type, "required": p.required, "default": p.default}
            for p in self.parameters
        ]
        return {"parameters": parameters, "outputs": list(self.outputs)}

    @property
    def text(self) -> str:
        """Return the parameters as messages show them, in parentheses."""
        parts = []
        star_written = False
        for parameter in self.parameters:
            if parameter.keyword_only and not star_written:
                parts.append("*")
                star_written = True
            parts.append(parameter.text)
        return f"({', '.join(parts)})"


def as_json(value: Any) -> Any:
    """Return a default value as JSON has it: dtypes by name, infinity as a string."""
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value if isinstance(value, (bool, int, float, str)) else None


# --- from a schema ------------------------------------------------------------------------------


def signature_of_schema(schema: Any, *, star: bool = False, public: bool = True) -> Signature:
    """Return the signature that a ``torch.FunctionSchema`` declares.

    Args:
        schema: of an overload that the gate let through.
        star: whether the public function takes the schema's first list of tensors as ``*tensors``.
        public: whether the public function is called, which says `input` for `self`.

    Raises:
        NoSignature: it writes into an argument, or takes or returns what a request cannot say.
    """
    if schema.is_mutable:
        raise NoSignature("it writes into its arguments")
    parameters = []
    for argument in schema.arguments:
        base, *_ = _bare_type(str(argument.real_type))
        if base in HIDDEN_TYPES or argument.name in HIDDEN:
            if not argument.has_default_value():
                raise NoSignature(f"it needs {argument.name}")
            continue
        parameters.append(_parameter_of_schema(argument, schema.name[6:] in NUMBERS_AS_TENSORS))
    outputs, several, variable = _outputs_of_schema(schema)
    order = tuple(argument.name for argument in schema.arguments if not argument.kwarg_only)
    lists = [p.name for p in parameters if p.kind.base == "Tensor" and p.kind.is_list]
    return Signature(
        tuple(parameters),
        outputs,
        several,
        variable,
        order,
        star=lists[0] if star else None,
        says_input=public,
    )


def _bare_type(text: str) -> tuple[str, bool, bool, bool]:
    """Split `Optional[List[int]]` into (`int`, is it a list, is it optional, are its items)."""
    optional = text.startswith("Optional[")
    text = text[9:-1] if optional else text
    is_list = text.startswith("List[")
    text = text[5:-1] if is_list else text
    optional_items = text.startswith("Optional[")
    return (text[9:-1] if optional_items else text), is_list, optional, optional_items


def _parameter_of_schema(argument: Any, numbers_too: bool) -> Parameter:
    bare, is_list, optional, optional_items = _bare_type(str(argument.real_type))
    base = SCHEMA_TYPES.get(bare)
    if base is None:
        raise NoSignature(f"no request can say a {bare}")
    default = argument.default_value if argument.has_default_value() else None
    if base == "memory_format" and isinstance(default, int):
        default = list(MEMORY_FORMATS)[default]
    return Parameter(
        argument.name,
        Kind(
            base,
            is_list,
            optional,
            optional_items,
            size=argument.N if is_list else None,
            number_too=numbers_too and base == "Tensor",
        ),
        required=not argument.has_default_value(),
        default=as_json(default),
        keyword_only=argument.kwarg_only,
    )


def _outputs_of_schema(schema: Any) -> tuple[tuple[str | None, ...], bool, bool]:
    returns = [(str(result.type), result.name or None) for result in schema.returns]
    if not returns or any(kind not in ("Tensor", "List[Tensor]") for kind, _ in returns):
        raise NoSignature("it does not return tensors")
    if returns[0][0] == "List[Tensor]":
        return (), True, True
    return tuple(name for _, name in returns), len(returns) > 1, False


# --- from a Python function ---------------------------------------------------------------------


def signature_of_function(
    function: Callable[..., Any],
    flags: Mapping[str, tuple[bool, bool]] | None = None,
    outputs: int | None = None,
) -> Signature:
    """Return the signature of a Python function, from its annotations.

    Args:
        function: one of the modules that the gate names.
        flags: parameters that decide what comes back: (the value with which this signature
            holds, the default).
        outputs: how many tensors come back, where the annotation does not say.

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
        parameters.append(_parameter_of_function(function, declared, flags or {}))
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
    kind = _kind_of_annotation(_annotation(function, declared.annotation), declared)
    fallback = None if required else as_json(declared.default)
    return Parameter(declared.name, kind, required, fallback, keyword_only)


def _annotation(function: Callable[..., Any], annotation: Any) -> Any:
    """Return an annotation as a type; one that names what is not there says nothing."""
    if not isinstance(annotation, str):
        return annotation
    scope = {**vars(typing), **inspect.unwrap(function).__globals__}
    try:
        return eval(annotation, scope)  # noqa: S307 - torch's own source, never a client's words
    except (NameError, AttributeError, TypeError):
        return inspect.Parameter.empty


PYTHON_TYPES: Mapping[Any, str] = {
    torch.Tensor: "Tensor",
    int: "int",
    float: "float",
    bool: "bool",
    str: "str",
    torch.dtype: "dtype",
}

UNANNOTATED: Mapping[str, Kind] = {
    "dim": Kind("int", is_list=True, optional=True),
    "dims": Kind("any"),
    "size": Kind("int", is_list=True, optional=True),
    "scale_factor": Kind("float", is_list=True, optional=True),
    "weight": Kind("Tensor", optional=True),
    "linear_bias": Kind("Tensor", optional=True),
    "align_corners": Kind("bool", optional=True),
    "ignore_index": Kind("int", optional=True),
    "M": Kind("int"),
}
"""Parameters for which PyTorch's Python functions say no type."""

MISANNOTATED: Mapping[str, Kind] = {
    "dtype": Kind("dtype", optional=True),
    "input_lengths": Kind("Tensor", loose=True, number_too=True),
    "target_lengths": Kind("Tensor", loose=True, number_too=True),
}
"""Parameters for which they say a type that is wrong, or (`ctc_loss`) narrower than documented."""


def _kind_of_annotation(annotation: Any, declared: inspect.Parameter) -> Kind:
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
        kind = UNANNOTATED[declared.name]
        return Kind(kind.base, kind.is_list, kind.optional, loose=kind.base in ("int", "float"))
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
    annotation = _annotation(function, inspect.signature(function).return_annotation)
    if annotation in (inspect.Parameter.empty, torch.Tensor):
        return (None,), False, False
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is not tuple or torch.Tensor not in arguments:
        raise NoSignature("it does not return tensors")
    if Ellipsis in arguments:
        return (), True, True
    return (None,) * len(arguments), True, False


def own_signature(parameters: Iterable[Parameter], **others: Any) -> Signature:
    """Return a signature written by hand, for a call of which torch declares nothing usable."""
    parameters = tuple(parameters)
    order = tuple(parameter.name for parameter in parameters if not parameter.keyword_only)
    return Signature(parameters, order=order, **others)
