"""Calls of the catalogue's ops on tensors, as the engine's tests make them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from service.engine.bind import Binding, bind
from service.engine.catalogue import catalogue


def bound(op: str, count: int = 0, attrs: dict[str, Any] | None = None) -> Binding:
    """Bind ``count`` inputs named t0, t1, ... and ``attrs`` to ``op``."""
    return bind(catalogue().find(op), [f"t{number}" for number in range(count)], attrs or {})


def call(op: str, inputs: list[Tensor], attrs: dict[str, Any] | None = None) -> Any:
    """Call ``op``; a tensor in ``attrs`` stands for a reference to it."""
    tensors = [*inputs]

    def said(value: Any) -> Any:
        if isinstance(value, list):
            return [said(item) for item in value]
        if isinstance(value, Tensor):
            tensors.append(value)
            return {"ref": f"t{len(tensors) - 1}"}
        return value

    attrs = {name: said(value) for name, value in (attrs or {}).items()}
    binding = bound(op, len(inputs), attrs)
    slots = [int(reference[1:]) for reference in binding.references]
    return binding.template.compile(slots)(tensors)
