"""A large graph as a small one: one card for each namespace, the part of an id before . or /.

Nodes without a namespace are taken together in stretches of the list. Where a deeper level of
names still gives few cards it is used; where even the first gives too many, neighbours are joined.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.picture import text
from service.picture.cards import Card, Line, Row, has_gradient
from service.picture.graph import REASONS, Graph, gradient_norm

MAX_NODES = 300
"""Above this many nodes the picture shows namespaces instead."""
MAX_GROUPS = 40
STRETCHES = 20
DEEPEST = 6
SEPARATOR = re.compile(r"[./]")


@dataclass(frozen=True, slots=True)
class Group:
    """A namespace, or neighbours taken together: positions of nodes, in the answer's order."""

    name: str
    members: list[int]


def collapse(graph: Graph) -> tuple[list[Card], list[Line]]:
    """Return a card for each group of nodes and an edge for each pair of groups in touch."""
    groups = _groups(graph.nodes)
    owner = [0] * len(graph.nodes)
    for place, group in enumerate(groups):
        for index in group.members:
            owner[index] = place
    return [_card(graph, group) for group in groups], _lines(graph, groups, owner)


def _groups(nodes: Sequence[Mapping[str, Any]]) -> list[Group]:
    """Return the groups in order of their first members."""
    paths = [SEPARATOR.split(node["id"]) for node in nodes]
    apart = True
    chosen = _by_namespace(nodes, paths, 1, apart=apart)
    if len(chosen) > MAX_GROUPS:
        apart = False
        chosen = _by_namespace(nodes, paths, 1, apart=apart)
    for depth in range(2, min(DEEPEST + 1, max(map(len, paths)))):
        deeper = _by_namespace(nodes, paths, depth, apart=apart)
        if len(deeper) > MAX_GROUPS:
            break
        chosen = deeper
    return chosen if len(chosen) <= MAX_GROUPS else _joined(chosen)


def _by_namespace(
    nodes: Sequence[Mapping[str, Any]], paths: Sequence[Sequence[str]], depth: int, *, apart: bool
) -> list[Group]:
    """Return a group for each namespace, and for each stretch of nodes without one.

    Args:
        nodes: of the answer.
        paths: the parts of each node's id.
        depth: how many parts make a namespace.
        apart: a stretch ends where a namespace comes between, and where the leaves end: otherwise
            the input and the loss of a model, before and behind its layers, would be one group.
    """
    members: dict[str, list[int]] = defaultdict(list)
    stretch = math.ceil(len(nodes) / STRETCHES)
    name, count, before = "", 0, None
    for index, (node, parts) in enumerate(zip(nodes, paths, strict=True)):
        node_id = node["id"]
        if len(parts) > 1:
            length = len(".".join(parts[: min(depth, len(parts) - 1)]))
            members[node_id[:length]].append(index)
            before = None
            continue
        kind = "leaf" if node["op"] is None else "op"
        if count % stretch == 0 or (apart and before != kind):
            name, count = node_id, 0
        # No id without a namespace ends in a colon, so this key meets no namespace.
        members[name + ":"].append(index)
        count += 1
        before = kind
    return [Group(_label(key, inside, nodes), inside) for key, inside in members.items()]


def _label(key: str, inside: Sequence[int], nodes: Sequence[Mapping[str, Any]]) -> str:
    if not key.endswith(":"):
        return key
    return _span(nodes[inside[0]]["id"], nodes[inside[-1]]["id"])


def _span(first: str, last: str) -> str:
    if first == last:
        return first
    return f"{text.cut_middle(first, 14)} to {text.cut_middle(last, 14)}"


def _joined(groups: Sequence[Group]) -> list[Group]:
    """Join neighbours until there are few enough."""
    step = math.ceil(len(groups) / MAX_GROUPS)
    joined = []
    for start in range(0, len(groups), step):
        part = groups[start : start + step]
        name = _span(part[0].name.split(" to ")[0], part[-1].name.split(" to ")[-1])
        joined.append(Group(name, [index for group in part for index in group.members]))
    return joined


def _card(graph: Graph, group: Group) -> Card:
    nodes = [graph.nodes[index] for index in group.members]
    leaves = sum(node["op"] is None for node in nodes)
    with_grad = [node for node in nodes if has_gradient(node)]
    roots = sum(index in graph.roots for index in group.members)
    marks = [mark for index in group.members for mark in graph.marks.get(index, [])]
    first = {f"▲ {mark}": None for mark in marks if mark.first}
    spread = {f"▲ {mark}": None for mark in marks if not mark.first}
    rows = [
        Row("soft", _census(leaves, len(nodes) - leaves)),
        Row(
            "grad-text" if with_grad else "soft",
            f"gradient in {len(with_grad):,} of {len(nodes):,}",
        ),
    ]
    norms = [norm for norm in map(gradient_norm, with_grad) if norm is not None]
    if norms:
        rows.append(Row("grad-text", f"together of size {text.number(math.hypot(*norms))}"))
    nulls = Counter(node["grad_status"] for node in nodes if not has_gradient(node))
    rows += [Row("soft", f"null {count:,}: {REASONS[why]}") for why, count in sorted(nulls.items())]
    rows += [Row("bad", mark) for mark in spread]
    kinds = ["leaf" if leaves == len(nodes) else "op"]
    kinds += ["root"] * bool(roots) + ["grad" if with_grad else "null"]
    return Card(
        id=group.name,
        name=text.cut_middle(group.name, 34),
        kind=text.plural(len(nodes), "node") + (" · root" if roots else ""),
        kinds=(*kinds, "group"),
        status="group",
        rows=tuple(rows),
        badges=tuple(first),
        tooltip=f"{group.name}\n" + "\n".join(row.text for row in rows),
    )


def _census(leaves: int, ops: int) -> str:
    parts = [f"{leaves:,} {'leaf' if leaves == 1 else 'leaves'}"] * bool(leaves)
    return " and ".join(parts + [text.plural(ops, "op")] * bool(ops))


@dataclass(slots=True)
class _Crossing:
    """What runs from one group to another: the nodes that are used, how often, if tracked."""

    sources: list[int] = field(default_factory=list)
    uses: int = 0
    tracked: bool = False


def _lines(graph: Graph, groups: Sequence[Group], owner: Sequence[int]) -> list[Line]:
    """Return an edge for each pair of groups, as thick as the gradients that cross together."""
    lines = []
    for (source, target), crossing in _crossings(graph, owner).items():
        norms = [gradient_norm(graph.nodes[index]) for index in dict.fromkeys(crossing.sources)]
        size = math.hypot(*(norm for norm in norms if norm is not None))
        known = any(norm is not None for norm in norms)
        uses = text.plural(crossing.uses, "use")
        lines.append(
            Line(
                source=source,
                target=target,
                tracked=crossing.tracked,
                size=size if known and crossing.tracked else None,
                label=uses if crossing.uses > 1 else "",
                tooltip=f"{groups[source].name} → {groups[target].name}: {uses}",
            )
        )
    return lines


def _crossings(graph: Graph, owner: Sequence[int]) -> dict[tuple[int, int], _Crossing]:
    """Return what crosses between groups, by the pair of them."""
    nodes = len(graph.nodes)
    crossings: dict[tuple[int, int], _Crossing] = defaultdict(_Crossing)
    counted: dict[tuple[int, int, str], int] = {}
    into: dict[int, list[int]] = defaultdict(list)
    out_of: dict[int, list[int]] = defaultdict(list)
    for use in graph.uses:
        if use.target >= nodes:
            into[use.target].append(use.source)
        elif use.source >= nodes:
            out_of[use.source].append(use.target)
        elif owner[use.source] != owner[use.target]:
            pair = owner[use.source], owner[use.target]
            crossing = crossings[pair]
            crossing.sources.append(use.source)
            # An op of several outputs uses its input once.
            op = graph.nodes[use.target]["id"].partition(":")[0]
            crossing.uses += counted.setdefault((*pair, op), use.target) == use.target
            crossing.tracked |= _tracked(graph, [use.source]) and _tracked(graph, [use.target])
    for joint, sources in into.items():
        # From group to group, not from node to node: of these there would be a product.
        targets = _by_owner(out_of[joint], owner)
        for source, used in _by_owner(sources, owner).items():
            for target, outputs in targets.items():
                if source != target:
                    crossing = crossings[source, target]
                    crossing.sources += used
                    crossing.uses += len(used)
                    crossing.tracked |= _tracked(graph, used) and _tracked(graph, outputs)
    return crossings


def _by_owner(members: Sequence[int], owner: Sequence[int]) -> dict[int, list[int]]:
    apart: dict[int, list[int]] = defaultdict(list)
    for index in members:
        apart[owner[index]].append(index)
    return apart


def _tracked(graph: Graph, members: Sequence[int]) -> bool:
    return any(graph.nodes[index]["requires_grad"] for index in members)
