"""What is refused before a kernel sees it, because it is known to bring PyTorch down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Guard = Callable[[Mapping[str, Any]], None]

GUARDS: Mapping[str, Guard] = {}


def guard_of(base: str) -> Guard | None:
    """Return the guard of the calls of a kernel, None where it needs none."""
    return GUARDS.get(base)
