"""The graph that an exported program has become so far: leaves, and ops that bind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch._ops import OpOverload

from service.contract.problem import GradtraceError, InvalidRequest
from service.engine.bind import bind
from service.engine.catalogue import catalogue
from service.translate.cells import Cell, read, root_of
from service.translate.exported_arguments import (
    by_name,
    overload_of,
    references_in,
    renamed,
    request_form,
)
from service.translate.exported_leaves import leaf
from service.translate.names import unique

RENAMED: Mapping[str, str] = {
    "aten.zero.default": "aten.zeros_like.default",
    "aten._to_copy.default": "aten.to.dtype_layout",
    "aten.to.device": "aten.to.dtype",
    "aten.bernoulli.float": "aten.bernoulli.p",
    "aten.empty.memory_format": "aten.zeros.default",
    "aten.empty_like.default": "aten.zeros_like.default",
    "aten.new_empty.default": "aten.new_zeros.default",
}
"""Overloads without a name in the catalogue, and those that give the same.

Uninitialised memory is zero here: a program that means something writes into it before it reads.
"""


class ExportedGraph:
    """Leaves and ops of a request.

    ``written`` are the results that were written in place, ``updated`` the cells of running
    statistics, with what wrote into them without making a node.
    """

    def __init__(self) -> None:
        self.leaves: list[dict[str, Any]] = []
        self.ops: list[dict[str, Any]] = []
        self.written: set[str] = set()
        self.updated: dict[Cell, str] = {}
        self._ids: set[str] = set()

    def add_leaf(self, name: str, tensor: Tensor) -> str:
        """Append a leaf, and return its id."""
        node_id = unique(name, self._ids)
        self._ids.add(node_id)
        self.leaves.append(leaf(node_id, tensor))
        return node_id

    def drop_unread(self, kept: Sequence[str]) -> None:
        """Drop what was written in place and read by nothing, such as the counters of buffers."""
        used = set(kept)
        for op in reversed(self.ops):
            if op["id"] in self.written and op["id"] not in used:
                op["op"] = None
            else:
                used.update(op.get("inputs", ()), references_in(op.get("attrs")))
        self.ops = [op for op in self.ops if op["op"] is not None]

    def add(self, name: str, overload: str, arguments: Sequence[Any]) -> str:
        """Append an op that the program does not hold itself; references are strings."""
        target = overload_of(overload)
        cells = [Cell(part) if isinstance(part, str) else part for part in arguments]
        return self.append(name, target, overload, by_name(target, cells, {}))

    def look(self, cell: Cell) -> str:
        """Return the reference to what a cell is now.

        Raises:
            InvalidRequest: that is no node of the graph.
        """
        writer = self.updated.get(root_of(cell))
        if writer is not None:
            raise InvalidRequest(f"{writer} writes into running statistics that are read after it")
        return read(cell, self.add)

    def append(self, node: str, target: OpOverload, name: str, arguments: Mapping[str, Any]) -> str:
        """Append the op ``name``, which ``target`` writes into its tensor if it is another one."""
        if name in RENAMED:
            name = RENAMED[name]
            known = {argument.name for argument in overload_of(name)._schema.arguments}
            known -= {key for key in ("dtype",) if arguments.get(key) is None}
            arguments = {key: value for key, value in arguments.items() if key in known}
            target = overload_of(name)
        elif target._schema.is_mutable:
            made = overload_of(name)
            arguments = renamed(arguments, target, made)
            target = made
        inputs, attrs = request_form(node, target, arguments, self.look)
        node_id = unique(node, self._ids)
        op: dict[str, Any] = {"id": node_id, "op": name}
        if inputs:
            op["inputs"] = inputs
        if attrs:
            op["attrs"] = attrs
        try:
            bind(catalogue().find(name), inputs, attrs)
        except GradtraceError as error:
            raise type(error)(f"{node}: {error.detail}", node=node) from error
        self._ids.add(node_id)
        self.ops.append(op)
        return node_id
