"""Another default dtype: what a script leaves to it is said in attrs, as a graph has none for ops.

Where no attr can say it, the script is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.translate.element_type_tables import (
    ALWAYS,
    KEEPS,
    OF_PARTS,
    SOURCES,
    SUMS,
    WHOLE_SOURCES,
)
from service.translate.element_types import (
    OWN_RULES,
    deciding,
    element_type,
    last_part,
    makes_default,
    numbers_in,
)
from service.translate.unreadable import Unreadable
from service.translate.values import Node, references


def settle_default(node: Node, default: str) -> None:
    """Say in ``attrs`` what the script leaves to a default dtype other than float32.

    Raises:
        Unreadable: the result would be of the default dtype, and no attr can say so.
    """
    if default == "float32" or "dtype" in node.attrs:
        return
    op, name = node.op or "", last_part(node.op)
    if not references(node.inputs, node.attrs):
        if makes_default(name, node.attrs):
            node.attrs["dtype"] = _default_for(op, node.attrs, default)
        elif op.startswith(("signal.windows.", "fft.")):
            node.attrs["dtype"] = default
        elif name not in SOURCES | WHOLE_SOURCES:
            raise Unreadable(f"{op} is not read with the default dtype {default}; say its dtype")
        return
    if not _is_decided(node, name, default):
        raise Unreadable(
            f"with the default dtype {default} the result of {op} may take its dtype from it; "
            f"convert the tensor first, with .to(torch.{default})"
        )


def _is_decided(node: Node, name: str, default: str) -> bool:
    """Whether an op makes the same whatever the default dtype is."""
    if name in ALWAYS or name in OWN_RULES:
        return True
    if any(ref.type.kind in ("float", "complex") for ref in deciding(node)):
        return True
    if element_type(node, default).kind in ("int", "bool"):
        return True
    return name in KEEPS | SUMS and not {float, complex} & numbers_in(node.attrs)


def _default_for(op: str, attrs: Mapping[str, Any], default: str) -> str:
    """Return the dtype of a tensor of these numbers under another default dtype."""
    if complex not in numbers_in(attrs):
        return default
    if default not in OF_PARTS:
        raise Unreadable(f"with the default dtype {default}, {op} of complex numbers is not read")
    return OF_PARTS[default]
