"""What autograd's own graph says: which results the roots depend on.

The exact test of "on the way to a root" is ``grad_fn.next_functions``: each pair names a function
and which of its outputs is used. A tensor is that output: ``(tensor.grad_fn, tensor.output_nr)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor


def on_path(roots: Iterable[Tensor]) -> set[tuple[Any, int]]:
    """Return every ``(grad_fn, output_nr)`` that backward from ``roots`` can pass.

    Iterative, because graphs are deeper than Python's stack; visits each function once.
    """
    edges: set[tuple[Any, int]] = set()
    visited: set[Any] = set()
    to_visit: list[Any] = []
    for root in roots:
        edges.add((root.grad_fn, root.output_nr))
        to_visit.append(root.grad_fn)
    while to_visit:
        function = to_visit.pop()
        if function is None or function in visited:
            continue
        visited.add(function)
        used = function.next_functions
        edges.update(used)
        to_visit.extend(before for before, _ in used)
    return edges


def grad_fn_name(function: Any) -> str:
    """Return the name that PyTorch prints for a tensor's ``grad_fn``."""
    name: str = type(function).__name__
    return function.name().rsplit("::", 1)[-1] if name == "CppFunction" else name
