"""Calls of the catalogue's ops on tensors, as the engine's tests make them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from service.engine.bind import Binding, bind
from service.engine.catalogue import catalogue


def bound(op: str, count: int = 0, attrs: dict[str, Any] | None = None) -> Binding:
    """Bind ``count`` inputs named t0, t1, ... and ``attrs`` to ``op``."""
    return bind(catalogue().find(op), [f"t{number}" for number in range(count)], attrs or {})


def call(op: str, inputs: list[Tensor], attrs: dict[str, Any] | None = None, **refs: Tensor) -> Any:
    """Call ``op``; ``refs`` are the tensors that attrs refer to by name."""
    binding = bound(op, len(inputs), attrs)
    named = {f"t{number}": tensor for number, tensor in enumerate(inputs)} | refs
    slots = list(range(len(binding.references)))
    return binding.template.compile(slots)([named[name] for name in binding.references])
