"""In-place ops of an exported program as ops that make a new node: cells and views of cells.

A *cell* is what a tensor of the program is at this point: a reference to a node of the graph. An
in-place op lets the cell refer to another node. A view knows the cell that it looks at and how, so
that writing into it makes a new node for that cell too (``select_scatter`` and its kin), and so
that reading it after somebody else wrote into the cell looks again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.contract.problem import InvalidRequest

Add = Callable[[str, str, Sequence[Any]], str]
"""``add(name, overload, arguments)`` appends an op and returns the reference to its result."""


@dataclass(eq=False)
class Cell:
    """A tensor of the program. ``version`` counts what was written into it."""

    reference: str
    tracked: bool = False
    version: int = 0
    view: View | None = None


@dataclass(eq=False)
class View:
    """How a cell looks at another one: ``op`` with ``arguments`` behind the tensor.

    ``shape`` is the shape of the cell that is looked at; ``seen`` its version when it was read.
    """

    base: Cell
    op: str
    arguments: Sequence[Any]
    shape: Sequence[int]
    name: str
    seen: int = 0
    opaque: bool = False
    """Whether it cannot be looked through, nor even be told that it looks at ``base``."""


SCATTERS: Mapping[str, str] = {
    "aten.select.int": "aten.select_scatter.default",
    "aten.slice.Tensor": "aten.slice_scatter.default",
    "aten.diagonal.default": "aten.diagonal_scatter.default",
}
"""Views of a part of a tensor, and the op that puts a part back."""


def _aten(names: str) -> frozenset[str]:
    return frozenset(f"aten.{name}" for name in names.split())


RESHAPES = _aten(
    "view.default reshape.default unsqueeze.default squeeze.default squeeze.dim squeeze.dims "
    "flatten.using_ints unflatten.int"
)
SELF_INVERSE = _aten("transpose.int t.default")
ALIASES = _aten("alias.default contiguous.default to.dtype dropout.default")
"""Ops that may return the tensor itself, with the same elements; the reader knows when."""
ONLY_READ = _aten(
    "expand.default expand_as.default detach.default unbind.int split.Tensor split.default "
    "split_with_sizes.default chunk.default unfold.default view_as.default movedim.int "
    "narrow.default as_strided.default"
)
"""Views into which nothing can be written here."""
VIEWS = (
    frozenset(SCATTERS) | RESHAPES | SELF_INVERSE | ALIASES | ONLY_READ | {"aten.permute.default"}
)


def root_of(cell: Cell) -> Cell:
    """Return the cell that holds the memory of ``cell``."""
    while cell.view is not None:
        cell = cell.view.base
    return cell


def read(cell: Cell, add: Add) -> str:
    """Return the reference to what ``cell`` is now; a view looks again after a write.

    Raises:
        InvalidRequest: it is a view that cannot be looked at again.
    """
    view = cell.view
    if view is None:
        return cell.reference
    base = read(view.base, add)
    if view.base.version != view.seen:
        if view.opaque:
            raise InvalidRequest(
                f"{view.name}: the result of {view.op}, which may share memory, is read after a "
                "write into that memory"
            )
        cell.reference = add(view.name, view.op, [base, *view.arguments])
        cell.tracked = view.base.tracked
        cell.version += 1
        view.seen = view.base.version
    return cell.reference


def write(cell: Cell, reference: str, tracked: bool, add: Add) -> None:
    """Let ``cell``, and what it is a view of, be ``reference``.

    Raises:
        InvalidRequest: it is a view into which nothing can be written here.
    """
    view = cell.view
    cell.reference = reference
    cell.tracked = tracked
    cell.version += 1
    if view is not None:
        base = _put_back(view, reference, add)
        write(view.base, base, tracked or view.base.tracked, add)
        # The view is looked at anew when it is read, as PyTorch does: gradients then add up in
        # the same order.
        view.seen = -1


def _put_back(view: View, part: str, add: Add) -> str:
    """Return what ``view.base`` is after ``part`` was written where the view looks."""
    name, op, arguments = f"{view.name}.put", view.op, view.arguments
    if view.opaque or op in ONLY_READ:
        raise InvalidRequest(f"{view.name}: a write into the result of {op} is not read")
    if op in SCATTERS:
        return add(name, SCATTERS[op], [read(view.base, add), part, *arguments])
    if op in RESHAPES:
        return add(name, "aten.reshape.default", [part, list(view.shape)])
    if op in SELF_INVERSE:
        return add(name, op, [part, *arguments])
    if op == "aten.permute.default":
        order = [dim % len(arguments[0]) for dim in arguments[0]]
        back = [order.index(dim) for dim in range(len(order))]
        return add(name, op, [part, back])
    assert op in ALIASES
    return part
