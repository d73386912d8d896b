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
    "logical_and logical_or logical_not logical_xor all any bool greater greater_equal less "
    "less_equal not_equal is_nonzero allclose".split()
)
TO_INT = frozenset(
    "argmax argmin argsort argwhere nonzero count_nonzero bincount searchsorted bucketize long int "
    "short char byte randint randperm tril_indices triu_indices nn.functional.one_hot multinomial "
    "linalg.matrix_rank".split()
)
TO_COMPLEX = frozenset(
    "complex polar view_as_complex cfloat cdouble linalg.eigvals linalg.eig stft fft.fft fft.ifft "
    "fft.fft2 fft.ifft2 fft.fftn fft.ifftn fft.rfft fft.rfft2 fft.rfftn fft.ihfft fft.ihfft2 "
    "fft.ihfftn".split()
)
COMPLEX_DEFAULTS: Mapping[str, str] = {"float64": "complex128"}
"""The complex dtype that belongs to a default dtype other than float32."""
FROM_WHOLE = frozenset(
    "div true_divide divide exp log log2 log10 log1p sqrt rsqrt reciprocal sin cos tan tanh "
    "sigmoid erf atan".split()
)
"""Ops that make floats of whole numbers."""
REAL_PARTS = frozenset(
    "real imag abs absolute angle view_as_real norm std var std_mean var_mean linalg.norm "
    "linalg.vector_norm linalg.matrix_norm fft.irfft fft.hfft".split()
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
COUNTS = frozenset("sum prod cumsum cumprod pow square floor_divide remainder".split())
"""Ops that make whole numbers of bools."""
WITH_NUMBERS = frozenset("add sub mul rsub clamp bitwise_and bitwise_or bitwise_xor where".split())
"""Ops in whose attrs a whole number is an operand, not a dimension."""
ALWAYS: Mapping[str, frozenset[str]] = {
    "bool": TO_BOOL,
    "int": TO_INT,
    "complex": TO_COMPLEX,
    "float": frozenset("float double half bfloat16".split()),
}
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
    for kind, names in ALWAYS.items():
        if last in names:
            return kind
    kinds = _kinds_that_decide(last, references(node.inputs, node.attrs))
    if last in REAL_PARTS and "complex" in kinds:
        return "float"
    kinds |= {"complex" for number in numbers_in(node.attrs) if number is complex}
    for kind in ("complex", "float"):
        if kind in kinds:
            return kind
    if kinds and kinds <= {"int", "bool"}:
        return _kind_of_whole(last, kinds, node)
    if last in TO_FLOAT:
        return "float"
    if last in ("arange", "full") and numbers_in(node.attrs) <= {int, bool}:
        return "bool" if last == "full" and bool in numbers_in(node.attrs) else "int"
    return "float" if last in SOURCES else None


def _kinds_that_decide(last: str, refs: list[Ref]) -> set[str | None]:
    """Return the kinds of the tensors that a result's kind depends on."""
    if last in ("to", "type_as"):
        refs = refs[-1:]  # x.to(y) has the dtype of y
    if last in ("getitem", "gather", "index_select", "take"):
        refs = refs[:1]
    return {"int" if ref.output in ref.node.whole else ref.node.kind for ref in refs}


def _kind_of_whole(last: str, kinds: set[str | None], node: Node) -> str | None:
    """Return the kind of what an op makes of whole numbers and bools."""
    numbers = numbers_in(node.attrs)
    if last in TO_FLOAT and last not in REAL_PARTS:
        return "float"
    if last in FROM_WHOLE:
        return "float" if node.attrs.get("rounding_mode") is None else "int"
    if last not in KEEPS | {"abs", "to", "type_as"}:
        return None
    if float in numbers:
        return "float"
    if kinds == {"bool"} and last not in COUNTS and not (last in WITH_NUMBERS and int in numbers):
        return "bool"
    return "int"


def numbers_in(attrs: Mapping[str, Any]) -> set[type]:
    """Return the types of the numbers in attrs, sizes aside."""
    numbers = {name: value for name, value in attrs.items() if name not in ("size", "dtype")}
    found: set[type] = {type(value) for value in numbers.values() if isinstance(value, int | float)}
    found |= {complex for value in numbers.values() if isinstance(value, dict) and "im" in value}
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
            name in ("arange", "full") and numbers_in(node.attrs) <= {int, bool}
        ):
            node.attrs["dtype"] = _default_for(name, node.attrs, default)
        elif name.startswith(("signal.windows.", "fft.")):
            node.attrs["dtype"] = default
        elif name not in SOURCES and name not in TO_INT:
            raise Unreadable(f"{name} is not read with the default dtype {default}; say its dtype")
        return
    if _kinds_that_decide(name, refs) & {"float", "complex"}:
        return
    decided = name in TO_BOOL or name in TO_INT or name in ("float", "double", "half", "to")
    if decided or (name in KEEPS and not {float, complex} & numbers_in(node.attrs)):
        return
    raise Unreadable(
        f"with the default dtype {default} the result of {name} may take its dtype from it; "
        f"convert the tensor first, with .to(torch.{default})"
    )


def _default_for(name: str, attrs: Mapping[str, Any], default: str) -> str:
    """Return the dtype of a tensor of these numbers under another default dtype."""
    if complex not in numbers_in(attrs):
        return default
    if default not in COMPLEX_DEFAULTS:
        raise Unreadable(f"with the default dtype {default}, {name} of complex numbers is not read")
    return COMPLEX_DEFAULTS[default]
