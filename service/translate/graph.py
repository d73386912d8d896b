"""The graph that a script means, while the script is being read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from service.contract.request import MAX_SEED
from service.translate.names import unique
from service.translate.unreadable import Unreadable
from service.translate.values import Node, Ref, references, walk


@dataclass(eq=False)
class Root:
    """A call of backward: where it starts, and with which gradient, as the contract has it.

    ``emptied``: every gradient that it filled was emptied before the next call.
    """

    ref: Ref
    gradient: dict[str, Any]
    emptied: bool = False
    create_graph: bool = False

    @cached_property
    def filled(self) -> set[Node]:
        """The nodes whose gradients it fills."""
        return filled_from(self.ref)


WITHOUT_DRAWS = frozenset({None, "rsub", "zeros", "ones", "full", "select_scatter"})
"""Ops, and leaves, that can be left out where nothing uses them."""


class Graph:
    """Leaves, ops and roots in the order of the script, and the names they get.

    Args:
        variables: every name that the script assigns; no unnamed result takes one of them.
    """

    def __init__(self, variables: Collection[str]) -> None:
        self.leaves: list[Node] = []
        self.ops: list[Node] = []
        self.roots: list[Root] = []
        self.dtype = "float32"
        self.float_dtypes: set[str] = set()
        self.device: str | None = None
        self.seed: int | None = None
        self._pending_seed: int | None = None
        self._variables = frozenset(variables)
        self._ids: set[str] = set()
        self._counts: dict[str, int] = {}
        self._unnamed: list[Node] = []
        self._named_for_now: set[Node] = set()

    def add(self, node: Node) -> Node:
        """Append a leaf or an op; it is named at the end of its statement."""
        if node.op is None:
            self.leaves.append(node)
        else:
            self._seed_before(node)
            self.ops.append(node)
            for ref in references(node.inputs, node.attrs):
                ref.node.used = True
        if node.dtype and "float" in node.dtype:
            self.float_dtypes.add(node.dtype)
        self._unnamed.append(node)
        return node

    def drop(self, node: Node) -> None:
        """Take back a node without a name that nothing uses, as its value went elsewhere."""
        if node not in self._unnamed:
            return  # a list that holds it twice
        (self.leaves if node.op is None else self.ops).remove(node)
        self._unnamed.remove(node)
        if node.seed is not None and self._pending_seed is None:
            self._pending_seed = node.seed

    def manual_seed(self, seed: int) -> None:
        """Seed before the next op."""
        if not 0 <= seed <= MAX_SEED:
            raise Unreadable(f"a seed is a whole number from 0 to 2^63-1, not {seed}")
        self._pending_seed = seed

    def _seed_before(self, op: Node) -> None:
        if self._pending_seed is None:
            return
        if self.ops:
            op.seed = self._pending_seed
        else:
            self.seed = self._pending_seed
        self._pending_seed = None

    def name(self, node: Node, stem: str) -> None:
        """Give a node the id ``stem``, or ``stem.1`` and so on, if it has none."""
        if not node.id:
            self._name_anew(node, stem)

    def _name_anew(self, node: Node, stem: str) -> None:
        self._ids.discard(node.id)
        node.id = unique(stem, self._ids, self._counts)
        self._ids.add(node.id)

    def rename(self, node: Node, node_id: str) -> None:
        """Give a node exactly this id, as a script of ours says it."""
        if node.id == node_id:
            return
        if node_id in self._ids:
            raise Unreadable(f"two nodes would have the id {node_id!r}")
        self._ids.discard(node.id)
        self._ids.add(node_id)
        node.id = node_id

    def name_for_now(self, node: Node, stem: str, *, for_good: bool) -> bool:
        """Name a parameter after where it is, until it is known where its module is.

        Returns:
            Whether it has this name now, not one of its own.
        """
        if node.id and node not in self._named_for_now:
            return False
        self._name_anew(node, stem)
        (self._named_for_now.discard if for_good else self._named_for_now.add)(node)
        return True

    def replace(self, old: Node, new: Node) -> None:
        """Put a node in the place of one that nothing has used, under its id.

        The old one stays where numbers were drawn for it, as later draws come behind them.
        """
        node_id = old.id
        old.requires_grad = old.tracked = old.retain_grad = False
        if old.op in WITHOUT_DRAWS and old.seed is None:
            (self.leaves if old.op is None else self.ops).remove(old)
            if old in self._unnamed:
                self._unnamed.remove(old)
        elif node_id:
            self._name_anew(old, f"{node_id}.{old.op}")
        if node_id and not new.id:
            new.id = node_id
            self._ids.add(node_id)
            if old in self._named_for_now:
                self._named_for_now.add(new)
        self._named_for_now.discard(old)

    def mark(self) -> int:
        """Return where the unnamed nodes of a statement begin."""
        return len(self._unnamed)

    def name_rest(self, mark: int, owner: str) -> None:
        """Name what a statement made on its way to ``owner`` after it: ``loss.mul``."""
        for node in self._unnamed[mark:]:
            short = (node.op or "leaf").removeprefix("aten.").split(".")[-1]
            stem = f"{owner}.{short}" if owner else short
            self.name(node, f"{stem}.0" if stem in self._variables else stem)
        del self._unnamed[mark:]

    def request(self) -> dict[str, Any]:
        """Return the TraceRequest."""
        request: dict[str, Any] = {}
        if self.dtype != "float32":
            request["dtype"] = self.dtype
        if self.device is not None:
            request["device"] = self.device
        if self.seed is not None:
            request["seed"] = self.seed
        request["leaves"] = [self._leaf(node) for node in self.leaves]
        request["ops"] = [_op(node) for node in self.ops]
        request["backward"] = [
            {"node": str(root.ref), **root.gradient} for root in self.roots if not root.emptied
        ]
        return request

    def _leaf(self, node: Node) -> dict[str, Any]:
        leaf = {"id": node.id, **node.fields}
        if leaf["dtype"] == "":
            raise Unreadable(f"the dtype of {node.id} is known only when the graph runs")
        if leaf.get("dtype") == self.dtype:
            del leaf["dtype"]
        if node.requires_grad:
            leaf["requires_grad"] = True
        return leaf


def _op(node: Node) -> dict[str, Any]:
    said = {
        "inputs": [str(ref) for ref in node.inputs],
        "attrs": plain(node.attrs),
        "retain_grad": node.retain_grad,
        "requires_grad": node.requires_grad,
    }
    op = {"id": node.id, "op": node.op, **{name: value for name, value in said.items() if value}}
    if node.seed is not None:
        op["seed"] = node.seed
    return op


def plain(value: Any, name: Callable[[Ref], str] = str) -> Any:
    """Return attrs as JSON: references by ``name``."""
    if isinstance(value, Ref):
        return {"ref": name(value)}
    if isinstance(value, list):
        return [plain(item, name) for item in value]
    if isinstance(value, dict):
        return {key: plain(item, name) for key, item in value.items()}
    return value


def filled_from(root: Ref) -> set[Node]:
    """Return the nodes whose ``.grad`` a pass from ``root`` fills: leaves, and what retains it."""

    def further(node: Node) -> Sequence[Node]:
        return node.followed if node.tracked and not node.requires_grad else ()

    passed = walk([root.node], further)
    return {node for node in passed if node.requires_grad or (node.tracked and node.retain_grad)}
