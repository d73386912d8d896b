"""What is written on each card and beside each edge: one card for a node of the answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.picture import text
from service.picture.graph import REASONS, Graph, Use, gradient_norm, leads_to_root

VALUE_LIMIT = 21
NAME_LIMIT = 26
LABEL_LIMIT = 16
TOOLTIP_LIMIT = 600
"""Signs of a value and of a gradient in a tooltip."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line on a card. ``style`` is a class of the sheet, empty for plain text."""

    style: str
    text: str


@dataclass(frozen=True, slots=True)
class Card:
    """A box of the picture: form and colour come from ``kinds``, words from the rest."""

    id: str
    name: str
    kind: str
    kinds: tuple[str, ...]
    status: str
    rows: tuple[Row, ...]
    badges: tuple[str, ...]
    tooltip: str


@dataclass(frozen=True, slots=True)
class Line:
    """An edge between two cards; ``size`` is the norm of the gradient that flows back along it."""

    source: int
    target: int
    tracked: bool
    size: float | None
    label: str
    tooltip: str


def card(graph: Graph, index: int) -> Card:
    """Return the card of one node."""
    node = graph.nodes[index]
    is_root = index in graph.roots
    kind = "leaf" if node["op"] is None else node["op"]
    short_kind = text.cut_middle(kind.removeprefix("nn.functional."), NAME_LIMIT)
    has_grad = has_gradient(node)
    kinds = ["leaf" if is_drawn_as_leaf(node) else "op"]
    kinds += ["root"] * is_root
    kinds += ["grad" if has_grad else "null"]
    marks = graph.marks.get(index, [])
    rows = [
        Row("soft", f"{text.cut_middle(text.shape(node['shape']), NAME_LIMIT)} {node['dtype']}"),
        Row("", f"value {short(node, 'value')}"),
        _gradient_row(node, has_grad),
        *(Row("bad", f"▲ {mark}") for mark in marks if not mark.first),
    ]
    return Card(
        id=node["id"],
        name=text.cut_middle(node["id"], NAME_LIMIT),
        kind=short_kind + (" · root" if is_root else ""),
        kinds=tuple(kinds),
        status=node["grad_status"],
        rows=tuple(rows),
        badges=tuple(f"▲ {mark}" for mark in marks if mark.first),
        tooltip=_tooltip(node, kind, is_root, [str(mark) for mark in marks]),
    )


def is_drawn_as_leaf(node: Mapping[str, Any]) -> bool:
    """Return whether a node is a leaf to its reader: given, or made by an op to require grad."""
    return node["op"] is None or (node["is_leaf"] and node["requires_grad"])


def has_gradient(node: Mapping[str, Any]) -> bool:
    """Return whether PyTorch has a gradient of this node: the statuses that are no reason."""
    return node["grad_status"] not in REASONS


def _gradient_row(node: Mapping[str, Any], has_grad: bool) -> Row:
    if has_grad:
        return Row("grad-text", f"grad  {short(node, 'grad')}")
    return Row("soft", f"grad  null: {REASONS[node['grad_status']]}")


def short(node: Mapping[str, Any], what: str) -> str:
    """Return a node's value or gradient for a card: all of it, or from where to where it goes."""
    is_complex = node["dtype"].startswith("complex")
    if node.get(what) is not None:
        whole = text.tensor(node[what], VALUE_LIMIT, is_complex=is_complex)
        if not whole.endswith("…"):
            return whole
    stats = node["stats"][what]
    if stats["min"] is None or stats["max"] is None:  # a magnitude can be beyond float64
        return text.plural(stats["numel"], "element")
    size = "size " if is_complex else ""
    return f"{size}{text.number(stats['min'])} to {text.number(stats['max'])}"


def _tooltip(node: Mapping[str, Any], kind: str, is_root: bool, marks: Sequence[str]) -> str:
    lines = [
        f"{node['id']}: {kind}{', root' if is_root else ''}",
        f"{text.shape(node['shape'])} {node['dtype']}",
        ", ".join(
            f"{flag} {json.dumps(node[flag])}"
            for flag in ("is_leaf", "requires_grad", "retains_grad", "grad_fn")
        ),
        f"grad_status {node['grad_status']}",
        node.get("note") or "",
        *marks,
    ]
    is_complex = node["dtype"].startswith("complex")
    for what in ("value", "grad"):
        if node.get(what) is not None:
            lines.append(f"{what} {text.tensor(node[what], TOOLTIP_LIMIT, is_complex=is_complex)}")
        elif what == "grad" and not has_gradient(node):
            lines.append("grad null")
    return "\n".join(line for line in lines if line)


def joint(graph: Graph, place: int) -> Card:
    """Return the card of the point in which the uses of one op meet; it is no node."""
    point = graph.points[place]
    uses, outputs = text.plural(point["uses"], "use"), text.plural(point["outputs"], "output")
    kind = point["op"].removeprefix("nn.functional.")
    return Card(
        id=point["id"],
        name=text.cut_middle(point["id"], NAME_LIMIT),
        kind=text.cut_middle(kind, NAME_LIMIT),
        kinds=("joint",),
        status=point["grad_status"],
        rows=(Row("soft", f"{uses}, {outputs}"),),
        badges=(),
        tooltip=f"{point['id']}: {point['op']}\n{uses} of its inputs meet here, for {outputs}",
    )


def line(graph: Graph, use: Use) -> Line:
    """Return the edge of one use, with its contribution where the answer has it."""
    source, target = graph.points[use.source], graph.points[use.target]
    tracked = source["requires_grad"] and target["requires_grad"]
    way = f"{source['id']} → {target['id']}" + (f" ({use.input})" if use.input else "")
    if not use.has_grad:
        tooltip = way if tracked else f"{way}: not tracked"
        from_joint = use.source >= len(graph.nodes)  # all of the output's gradient comes this way
        # With edges asked for, a use without one (autograd.grad's) adds nothing to the gradient.
        known = tracked and (from_joint or not graph.has_edges) and leads_to_root(target)
        size = gradient_norm(target if from_joint else source) if known else None
        return Line(use.source, use.target, tracked, size, "", tooltip)
    is_complex = source["dtype"].startswith("complex")
    size = use.norm
    label = whole = ""
    if use.grad is not None:
        label = text.tensor(use.grad, LABEL_LIMIT, is_complex=is_complex)
        whole = text.tensor(use.grad, TOOLTIP_LIMIT, is_complex=is_complex)
    if size is not None and (not label or label.endswith("…")):
        label = f"size {text.number(size)}"
    tooltip = f"{way} contributes {whole or label}"
    return Line(use.source, use.target, tracked, size, label, tooltip)


def cards(graph: Graph) -> tuple[list[Card], list[Line]]:
    """Return a card for every node, one for every joint, and an edge for every line."""
    nodes = len(graph.nodes)
    return (
        [
            card(graph, place) if place < nodes else joint(graph, place)
            for place in range(len(graph.points))
        ],
        [line(graph, use) for use in graph.uses],
    )
