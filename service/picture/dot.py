"""The same graph as Graphviz text (``text/vnd.graphviz``), for those with tools of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.picture.cards import Card, cards
from service.picture.graph import OutputNames, read
from service.picture.palette import FLOW, LEAF, LEAF_LINE, LINE, OP, OP_LINE, ROOT, ROOT_LINE


def graphviz(
    request: Mapping[str, Any],
    response: Mapping[str, Any],
    output_names: OutputNames | None = None,
) -> str:
    """Return the trace as a ``digraph`` of every node, however many; arguments as for ``svg``."""
    graph = read(request, response, output_names)
    parts = [
        "digraph gradtrace {",
        '  node [fontname="monospace", fontsize=11, shape=box, style=filled];',
        '  edge [fontname="monospace", fontsize=9];',
    ]
    boxes, lines = cards(graph)
    parts += map(_node, boxes)
    for edge in lines:
        source, target = (_quoted(boxes[end].id) for end in (edge.source, edge.target))
        colour, style = (FLOW.light, "solid") if edge.tracked else (LINE.light, "dashed")
        parts.append(
            f"  {source} -> {target} [label={_quoted(edge.label)}, "
            f'tooltip={_quoted(edge.tooltip)}, color="{colour}", style="{style}"];'
        )
    return "\n".join([*parts, "}"]) + "\n"


def _node(box: Card) -> str:
    label = "\n".join([f"{box.id}  {box.kind}", *(row.text for row in box.rows), *box.badges])
    if "joint" in box.kinds:
        return (
            f"  {_quoted(box.id)} [label={_quoted(label)}, tooltip={_quoted(box.tooltip)}, "
            f'shape=plain, style="", color="{LINE.light}"];'
        )
    fill, stroke = _colours(box.kinds)
    style = ["filled"]
    style += ["rounded"] * ("leaf" in box.kinds) + ["dashed"] * ("null" in box.kinds)
    rings = 2 if "root" in box.kinds else 1
    return (
        f"  {_quoted(box.id)} [label={_quoted(label)}, tooltip={_quoted(box.tooltip)}, "
        f'style="{",".join(style)}", peripheries={rings}, fillcolor="{fill}", color="{stroke}"];'
    )


def _colours(kinds: tuple[str, ...]) -> tuple[str, str]:
    if "root" in kinds:
        return ROOT.light, ROOT_LINE.light
    if "leaf" in kinds:
        return LEAF.light, LEAF_LINE.light
    return OP.light, OP_LINE.light


def _quoted(words: str) -> str:
    r"""Return ``words`` as a DOT string: quotes and backslashes escaped, lines as ``\n``."""
    escaped = words.replace("\\", "\\\\").replace('"', '\\"').replace("\0", "�")
    return '"' + escaped.replace("\r", " ").replace("\n", "\\n") + '"'
