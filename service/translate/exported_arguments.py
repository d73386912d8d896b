"""Arguments of an exported program's calls, as `inputs` and `attrs` of exact overloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch._ops import OpOverload

from service.contract.problem import InvalidRequest
from service.engine.signature import HIDDEN, MEMORY_FORMATS
from service.translate.arguments import literal
from service.translate.cells import Cell

Look = Callable[[Cell], str]
"""Returns the reference to what a cell is now."""

UNKNOWN_SHAPES = (
    "its shape or value is known only when the program runs; export without dynamic shapes and "
    "without reading values of tensors"
)


def overload_of(name: str) -> OpOverload:
    """Return the overload called ``aten.name.overload``."""
    _, packet, overload = name.split(".")
    found: Callable[..., Any] | None = getattr(
        getattr(torch.ops.aten, packet, None), overload, None
    )
    if not isinstance(found, OpOverload):
        raise InvalidRequest(f"there is no overload {name}")
    return found


def by_name(target: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments by the names of the schema."""
    names = [argument.name for argument in target._schema.arguments]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def renamed(arguments: Mapping[str, Any], written: OpOverload, made: OpOverload) -> dict[str, Any]:
    """Return the arguments of ``dropout_`` by the names that ``dropout`` has for them."""
    names = {
        old.name: new.name
        for old, new in zip(written._schema.arguments, made._schema.arguments, strict=False)
    }
    return {names.get(name, name): value for name, value in arguments.items()}


def request_form(
    node: str, target: OpOverload, arguments: Mapping[str, Any], look: Look
) -> tuple[list[str], dict[str, Any]]:
    """Put leading tensors into `inputs`, everything else into `attrs` by name."""
    inputs: list[str] = []
    attrs: dict[str, Any] = {}
    in_order = True
    for argument in target._schema.arguments:
        is_tensor = "Tensor" in str(argument.real_type)
        value = arguments.get(argument.name)
        if argument.name in HIDDEN:
            continue  # the device and its like are the request's, or change no number
        is_place = in_order and not argument.kwarg_only
        if is_place and isinstance(value, Cell):
            inputs.append(look(value))
            continue
        in_order = in_order and not is_tensor
        if is_place and _are_cells(value):
            inputs.extend(look(cell) for cell in value)
        elif argument.name in arguments and not (value is None and _is_none_by_default(argument)):
            attrs[argument.name] = _literal(node, value, look)
    return inputs, attrs


def _is_none_by_default(argument: Any) -> bool:
    return bool(argument.has_default_value()) and argument.default_value is None


def _literal(node: str, value: Any, look: Look) -> Any:
    """Return an argument as JSON of `attrs`."""
    if isinstance(value, Cell):
        return {"ref": look(value)}
    if isinstance(value, list | tuple):
        return [_literal(node, item, look) for item in value]
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, torch.memory_format):
        return next(name for name, known in MEMORY_FORMATS.items() if known is value)
    if value is None or isinstance(value, bool | int | float | complex | str):
        return literal(value)
    raise InvalidRequest(f"{node}: {UNKNOWN_SHAPES}")


def _are_cells(value: Any) -> TypeGuard[list[Cell]]:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Cell) for one in value)


def references_in(value: Any) -> list[str]:
    """Return the references anywhere in `attrs`."""
    if isinstance(value, dict):
        if value.keys() == {"ref"}:
            return [value["ref"]]
        value = list(value.values())
    return [ref for item in value for ref in references_in(item)] if isinstance(value, list) else []


def any_tracked(arguments: Mapping[str, Any]) -> bool:
    """Whether an argument is tracked by autograd."""
    flat = list(arguments.values())
    for value in flat:
        if isinstance(value, list):
            flat.extend(value)
    return any(isinstance(value, Cell) and value.tracked for value in flat)


def can_be_tracked(value: Any) -> bool:
    """Whether a result of this dtype can be tracked."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


RETURN_THEIR_INPUT = frozenset(
    "alpha_dropout atleast_1d atleast_2d atleast_3d broadcast_tensors "
    "feature_alpha_dropout feature_dropout meshgrid rrelu type_as".split()
)
"""Ops that may return the tensor itself, which their schemas do not say."""
CONVERSIONS = frozenset({"to", "type_as"})


def may_share_memory(target: OpOverload, before: Any, after: Any) -> bool:
    """Whether a result may share memory with the first argument, by the schema or by name.

    Args:
        target: the op.
        before: what is known of its first argument, a tensor or a list of them.
        after: what is known of its result.
    """
    packet = target._schema.name.removeprefix("aten::")
    if packet in CONVERSIONS and before.dtype != after.dtype:
        return False
    aliases = [result.alias_info is not None for result in target._schema.returns]
    return packet in RETURN_THEIR_INPUT or any(aliases)


def shares_memory(name: str, before: Tensor, after: Tensor, arguments: Mapping[str, Any]) -> bool:
    """Whether the result of an op that may be a view is one."""
    if name == "aten.dropout.default":
        return not arguments["train"]
    if name == "aten.to.dtype":
        return before.dtype == after.dtype and not arguments.get("copy")
    if name == "aten.contiguous.default":
        return before.is_contiguous()
    if name in ("aten.reshape.default", "aten.flatten.using_ints"):
        return _can_be_viewed(before, after)
    return True


def _can_be_viewed(before: Tensor, after: Tensor) -> bool:
    size = [int(n) for n in before.shape]
    stride = [int(n) for n in before.stride()]
    try:
        torch.empty_strided(size, stride, device="meta").view([int(n) for n in after.shape])
    except RuntimeError:
        return False
    return True
