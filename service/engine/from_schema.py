"""Signatures of the dispatcher's overloads, from their schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from service.engine.signature import (
    HIDDEN,
    MEMORY_FORMATS,
    Kind,
    NoSignature,
    Parameter,
    Signature,
    as_json,
)

FIXED: Mapping[str, Any] = {"sparse": False}
"""Hidden parameters that are always given: `aten.embedding_bag.padding_idx` has no default."""

SCHEMA_TYPES: Mapping[str, str] = {
    "Tensor": "Tensor",
    "number": "number",
    "int": "int",
    "float": "float",
    "bool": "bool",
    "str": "str",
    "ScalarType": "dtype",
    "MemoryFormat": "memory_format",
}

ENUMERATIONS: Mapping[str, Sequence[str]] = {
    "memory_format": tuple(MEMORY_FORMATS),
    "dtype": "uint8 int8 int16 int32 int64 float16 float32 float64".split(),
}
"""What the numbers mean that schemas have as defaults; see c10/core/ScalarType.h."""

NUMBERS_AS_TENSORS = frozenset(
    "add sub subtract mul multiply div divide true_divide floor_divide".split()
)
"""Ops for whose tensors PyTorch takes numbers; see `should_allow_numbers_as_tensors` in
torch/csrc/utils/python_arg_parser.cpp."""


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
    numbers_too = schema.name.removeprefix("aten::") in NUMBERS_AS_TENSORS
    parameters = []
    fixed = []
    for argument in schema.arguments:
        if argument.name in HIDDEN:
            if argument.has_default_value():
                continue
            if argument.name not in FIXED:
                raise NoSignature(f"it needs {argument.name}")
            fixed.append((argument.name, FIXED[argument.name]))
            continue
        parameters.append(_parameter_of_schema(argument, numbers_too))
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
        fixed=tuple(fixed),
        says_input=public,
    )


def _bare_type(text: str) -> tuple[str, bool, bool, bool]:
    """Return `int` of `Optional[List[int]]`; whether it is a list, optional, of optional items."""
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
    if isinstance(default, int) and base in ENUMERATIONS:
        default = ENUMERATIONS[base][default]
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
    before_list = [name for _, name in takewhile(lambda result: result[0] == "Tensor", returns)]
    variable = len(before_list) < len(returns)
    return tuple(before_list), variable or len(returns) > 1, variable
