"""Kinds of tensors (float, complex, int, bool), as far as a script shows them.

They are needed in one place: where a script sets another default dtype, the result of some ops
depends on it. A graph has no default dtype for ops, so it is said in their attrs, or refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.translate.unreadable import Unreadable
from service.translate.values import Node, Ref, references

TO_BOOL = frozenset(
    "eq ne lt le gt ge equal isclose isnan isinf isfinite isposinf isneginf isreal signbit isin "
    "logical_and logical_or logical_not logical_xor all any bool".split()
)
TO_INT = frozenset(
    "argmax argmin argsort argwhere nonzero count_nonzero bincount searchsorted bucketize long int "
    "short randint randperm tril_indices triu_indices nn.functional.one_hot multinomial".split()
)
TO_FLOAT = frozenset("float double half bfloat16 rand randn normal real imag abs angle".split())
KEEPS = frozenset(
    "add sub mul neg remainder floor_divide pow abs sign square matmul mm mv dot bmm sum prod "
    "cumsum cumprod max min amax amin maximum minimum clamp relu cat stack getitem view reshape "
    "flatten unflatten squeeze unsqueeze transpose permute swapaxes T mT t expand expand_as repeat "
    "tile flip roll gather scatter index_select index_add masked_select masked_fill take where "
    "clone contiguous detach diag tril triu unbind split chunk sort topk unique zeros_like "
    "ones_like full_like bitwise_and bitwise_or bitwise_xor bitwise_not rsub".split()
)
SOURCES = frozenset(
    "ones zeros rand randn eye linspace logspace full arange normal hann_window hamming_window "
    "blackman_window bartlett_window kaiser_window scalar_tensor".split()
)
"""Ops whose dtype is the default one where nothing else says it."""


def kind_of(dtype: str | None) -> str | None:
    """Return the kind of a dtype."""
    if not dtype:
        return None
    for kind in ("complex", "bool"):
        if dtype.startswith(kind):
            return kind
    return "float" if "float" in dtype else "int"


def result_kind(name: str, node: Node) -> str | None:
    """Return the kind of an op's result, None where it is not known."""
    last = name.removeprefix("aten.").split(".")[0] if name.startswith("aten.") else name
    if "dtype" in node.attrs:
        return kind_of(node.attrs["dtype"])
    if last in TO_BOOL:
        return "bool"
    if last in TO_INT:
        return "int"
    kinds = {ref.node.kind for ref in references(node.inputs, node.attrs)}
    for kind in ("complex", "float"):
        if kind in kinds:
            return kind
    if last in TO_FLOAT:
        return "float"
    if last in ("arange", "full") and _numbers(node.attrs) <= {int}:
        return "int"
    if last in SOURCES:
        return "float"
    if kinds and kinds <= {"int", "bool"} and last in KEEPS:
        return "float" if float in _numbers(node.attrs) else "int"
    return None


def _numbers(attrs: Mapping[str, Any]) -> set[type]:
    numbers = {name: value for name, value in attrs.items() if name not in ("size", "dtype")}
    found = {type(value) for value in numbers.values() if isinstance(value, int | float)}
    return found | {
        float for value in numbers.values() if value in ("NaN", "Infinity", "-Infinity")
    }


def settle_default(node: Node, name: str, default: str) -> None:
    """Say in ``attrs`` what the script leaves to a default dtype other than float32.

    Raises:
        Unreadable: the result would be of the default dtype, and no attr can say so.
    """
    if default == "float32" or "dtype" in node.attrs:
        return
    refs: list[Ref] = references(node.inputs, node.attrs)
    if not refs:
        if name in SOURCES and not (
            name in ("arange", "full") and _numbers(node.attrs) <= {int, bool}
        ):
            node.attrs["dtype"] = default
        return
    if any(ref.node.kind in ("float", "complex") for ref in refs):
        return
    decided = name in TO_BOOL or name in TO_INT or name in ("float", "double", "half", "to")
    if decided or (name in KEEPS and float not in _numbers(node.attrs)):
        return
    raise Unreadable(
        f"with the default dtype {default} the result of {name} may take its dtype from it; "
        f"convert the tensor first, with .to(torch.{default})"
    )
