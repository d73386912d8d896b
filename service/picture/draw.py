"""Cards and lines as an SVG document: no script, no reference to anything outside of it."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from service.picture import text
from service.picture.cards import Card, Line, cards
from service.picture.graph import REASONS, Graph, OutputNames, read
from service.picture.layout import Placement, Point, place
from service.picture.palette import style
from service.picture.summary import MAX_NODES, collapse

SIGN = 7.23
"""Width of a sign of the 12 px monospaced font; the name is set in 13 px."""
NAME_SIGN = 7.83
LABEL_SIGN = 6.63
PADDING = 12.0
ROW = 17.0
HEADER = 24.0
BADGE = 21.0
MARGIN = 18.0
KEY_WIDTH = 330.0
THIN, THICK = 1.3, 5.5
DECADES = 4.0
"""The thinnest line is a gradient of 10^-4 of the largest, or less."""
TURNS = (0.24, 0.5, 0.76)
"""How far along their lines the labels of one card stand, in turn, so that they do not touch."""
LABEL_ROOM = 26.0
"""More room between the layers where edges have labels."""
NAMED_IN_DESCRIPTION = 12
UNSAFE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def svg(
    request: Mapping[str, Any],
    response: Mapping[str, Any],
    output_names: OutputNames | None = None,
) -> str:
    """Return the picture of a trace as an SVG document.

    Args:
        request: a TraceRequest as parsed JSON.
        response: its TraceResponse, with value, grad, stats and notes as nested lists and numbers
            (``encoding: json``); with edges, each shows its contribution.
        output_names: PyTorch's names of an op's outputs, for references such as ``t:values``.

    Every node is ``<g class="node ..." data-node="id" data-status="grad_status">``; above
    :data:`~service.picture.summary.MAX_NODES` nodes a group of them is
    ``<g class="node group ..." data-group="name">``. Where the uses of an op of many outputs meet
    in one point, that is ``<g class="joint" data-joint="op">``.
    """
    graph = read(request, response, output_names)
    many = len(graph.nodes) > MAX_NODES
    boxes, lines = collapse(graph) if many else cards(graph)
    sizes = [_size(box) for box in boxes]
    room = LABEL_ROOM if any(line.label for line in lines) else 0.0
    placement = place(sizes, [(line.source, line.target) for line in lines], extra_gap=room)
    drawn = list(_lines(lines, sizes, placement))
    body = [
        *(way for way, _ in drawn),
        *(label for _, label in drawn if label),
        *(_card(*part) for part in zip(boxes, sizes, placement.centres, strict=True)),
    ]
    return _document(graph, placement, body)


def _document(graph: Graph, placement: Placement, body: Sequence[str]) -> str:
    width = max(placement.width, KEY_WIDTH) + 2 * MARGIN
    left = (width - placement.width) / 2
    key, key_height = _key(width - 2 * MARGIN)
    top = placement.height + 2 * MARGIN + 6
    height = top + key_height + MARGIN
    parts = [
        (
            '<svg xmlns="http://www.w3.org/2000/svg" class="gradtrace" role="img"'
            f' aria-labelledby="gradtrace-title gradtrace-desc" width="{_n(width)}"'
            f' height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}">'
        ),
        f'<title id="gradtrace-title">{_safe(_title(graph))}</title>',
        f'<desc id="gradtrace-desc">{_safe(_description(graph))}</desc>',
        f"<style>{style()}</style>",
        f'<rect class="paper" width="{_n(width)}" height="{_n(height)}"/>',
        f'<g class="graph" transform="translate({_n(left)} {_n(MARGIN)})">',
        *body,
        "</g>",
        f'<g class="key" aria-hidden="true" transform="translate({_n(MARGIN)} {_n(top)})">',
        *key,
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _safe(words: str) -> str:
    """Return ``words`` as XML text: escaped, and without signs that XML does not have."""
    return escape(UNSAFE.sub("\ufffd", words))


def _attribute(words: str) -> str:
    return quoteattr(UNSAFE.sub("\ufffd", words))


def _n(value: float) -> str:
    """Return a coordinate with one digit, so that the text is short and the same everywhere."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def _title(graph: Graph) -> str:
    leaves = sum(node["op"] is None for node in graph.nodes)
    ops = len(graph.nodes) - leaves
    return (
        f"Graph of {text.plural(len(graph.nodes), 'node')}: "
        f"{leaves:,} {'leaf' if leaves == 1 else 'leaves'} and {text.plural(ops, 'op result')}"
    )


def _description(graph: Graph) -> str:
    """Return the picture in words: where backward starts, who has a gradient, who not and why."""
    by_status: dict[str, list[str]] = defaultdict(list)
    for node in graph.nodes:
        by_status[node["grad_status"]].append(node["id"])
    roots = [graph.nodes[index]["id"] for index in sorted(graph.roots)]
    sentences = [f"Backward starts from {_few(roots)}." if roots else "No backward pass."]
    for status, ids in by_status.items():
        reason = REASONS.get(status)  # type: ignore[call-overload]
        what = f"No gradient, {reason}" if reason else f"Gradient {status}"
        sentences.append(f"{what}: {_few(ids)}.")
    starts = [
        f"{mark} at {graph.nodes[index]['id']}"
        for index, marks in graph.marks.items()
        for mark in marks
        if mark.first
    ]
    if starts:
        sentences.append(f"{_few(starts)}.")
    sentences += [f"PyTorch warns: {text.cut(warning, 200)}" for warning in graph.warnings[:3]]
    return " ".join(sentences)


def _few(words: Sequence[str]) -> str:
    rest = len(words) - NAMED_IN_DESCRIPTION
    shown = ", ".join(words[:NAMED_IN_DESCRIPTION])
    return f"{shown} and {rest:,} more" if rest > 0 else shown


def _size(card: Card) -> Point:
    """Return width and height of a card."""
    header = len(card.name) * NAME_SIGN + (len(card.kind) + 2) * SIGN
    longest = max(len(words) for words in (*(row.text for row in card.rows), *card.badges))
    width = max(header, longest * SIGN, 96.0) + 2 * PADDING
    height = HEADER + ROW * len(card.rows) + BADGE * len(card.badges) + PADDING - 3
    return width, height


def _card(card: Card, size: Point, centre: Point) -> str:
    width, height = size
    left, top = centre[0] - width / 2, centre[1] - height / 2
    radius = "16" if "leaf" in card.kinds else "3"
    parts = [
        f'<g {_class_and_data(card)} transform="translate({_n(left)} {_n(top)})">',
        f"<title>{_safe(card.tooltip)}</title>",
    ]
    if "root" in card.kinds:
        parts.append(
            f'<rect class="ring" x="-4" y="-4" width="{_n(width + 8)}"'
            f' height="{_n(height + 8)}" rx="6"/>'
        )
    parts += [
        f'<rect class="card" width="{_n(width)}" height="{_n(height)}" rx="{radius}"/>',
        f'<text class="name" x="{_n(PADDING)}" y="19">{_safe(card.name)}</text>',
        (
            f'<text class="soft" x="{_n(width - PADDING)}" y="19" text-anchor="end">'
            f"{_safe(card.kind)}</text>"
        ),
    ]
    y = HEADER
    for row in card.rows:
        name = f' class="{row.style}"' if row.style else ""
        parts.append(f'<text{name} x="{_n(PADDING)}" y="{_n(y + 13)}">{_safe(row.text)}</text>')
        y += ROW
    for badge in card.badges:
        parts.append(
            f'<rect class="badge" x="{_n(PADDING - 5)}" y="{_n(y + 2)}"'
            f' width="{_n(width - 2 * PADDING + 10)}" height="18" rx="4"/>'
            f'<text class="bad" x="{_n(PADDING)}" y="{_n(y + 15)}">{_safe(badge)}</text>'
        )
        y += BADGE
    return "".join([*parts, "</g>"])


def _class_and_data(card: Card) -> str:
    if "joint" in card.kinds:
        return f'class="joint" data-joint={_attribute(card.id)}'
    kind = "data-group" if "group" in card.kinds else "data-node"
    classes = " ".join(card.kinds)
    return f'class="node {classes}" {kind}={_attribute(card.id)} data-status="{card.status}"'


def _lines(
    lines: Sequence[Line], sizes: Sequence[Point], placement: Placement
) -> Iterable[tuple[str, str]]:
    """Draw the edges and their labels: out of a card at its lower edge, in at its upper one."""
    sizes_known = (line.size for line in lines if line.size and math.isfinite(line.size))
    largest = max(sizes_known, default=0.0)
    starts = _ports(lines, sizes, placement, outgoing=True)
    ends = _ports(lines, sizes, placement, outgoing=False)
    ranks = _ranks(starts, lines)
    for index, line in enumerate(lines):
        source, target = placement.centres[line.source], placement.centres[line.target]
        sign = 1.0 if target[1] >= source[1] else -1.0
        start = starts[index], source[1] + sign * sizes[line.source][1] / 2
        end = ends[index], target[1] - sign * (sizes[line.target][1] / 2 + 4)
        bends = placement.bends.get((line.source, line.target), [])
        width = _thickness(line.size, largest)
        yield _line(line, [start, *bends, end], width, sign, ranks[index])


def _ranks(starts: Sequence[float], lines: Sequence[Line]) -> list[float]:
    """Return how far along each line its label stands: those of one card take turns."""
    by_card: dict[int, list[int]] = defaultdict(list)
    for index in sorted(range(len(lines)), key=starts.__getitem__):
        by_card[lines[index].source].append(index)
    ranks = [0.5] * len(lines)
    for members in by_card.values():
        for turn, index in enumerate(members):
            if len(members) > 1:
                ranks[index] = TURNS[turn % len(TURNS)]
    return ranks


def _ports(
    lines: Sequence[Line], sizes: Sequence[Point], placement: Placement, *, outgoing: bool
) -> list[float]:
    """Return the x at which each line leaves its source, or meets its target."""
    by_card: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for index, line in enumerate(lines):
        bends = placement.bends.get((line.source, line.target), [])
        if outgoing:
            towards = bends[0] if bends else placement.centres[line.target]
            by_card[line.source].append((towards[0], index))
        else:
            towards = bends[-1] if bends else placement.centres[line.source]
            by_card[line.target].append((towards[0], index))
    ports = [0.0] * len(lines)
    for card, towards_all in by_card.items():
        room = sizes[card][0] * 0.7
        step = min(room / len(towards_all), 46.0)
        for place_, (_, index) in enumerate(sorted(towards_all)):
            offset = (place_ - (len(towards_all) - 1) / 2) * step
            ports[index] = placement.centres[card][0] + offset
    return ports


def _thickness(size: float | None, largest: float) -> float:
    if not size or not largest or not math.isfinite(size):
        return THIN
    # The logarithms' difference: the quotient of 1 and 1e308 squared would be 0.
    decades = math.log10(size) - math.log10(largest)
    return THIN + (THICK - THIN) * max(0.0, 1 + decades / DECADES)


def _line(
    line: Line, points: Sequence[Point], width: float, sign: float, along: float
) -> tuple[str, str]:
    """Draw one edge: a smooth path through its bends, a tip, a tooltip; and the contribution.

    The contribution is apart, to be drawn over all edges.
    """
    tracked = "tracked" if line.tracked else "untracked"
    tip_height = 6 + width
    x, y = points[-1]
    path_end = (x, y - sign * (tip_height - 1))
    path = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for (ax, ay), (bx, by) in zip(points, [*points[1:-1], path_end], strict=False):
        middle = (ay + by) / 2
        path.append(
            f"C{_n(ax)} {_n(middle)} {_n(bx)} {_n(middle)} {_n(bx)} {_n(by)}",
        )
    half = 3 + width * 0.7
    tip = (
        f'<path class="tip {tracked}" d="M{_n(x)} {_n(y)}l{_n(-half)} {_n(-sign * tip_height)}'
        f'h{_n(2 * half)}z"/>'
    )
    label = ""
    if line.label:
        x, y = _on_curve(points[0], points[1] if len(points) > 2 else path_end, along)
        wide = len(line.label) * LABEL_SIGN + 8
        label = (
            f'<rect class="label" x="{_n(x - wide / 2)}" y="{_n(y - 8)}" width="{_n(wide)}"'
            f' height="16" rx="4"/><text class="edge-text" text-anchor="middle" x="{_n(x)}"'
            f' y="{_n(y + 4)}">{_safe(line.label)}</text>'
        )
    way = (
        f'<g class="use"><title>{_safe(line.tooltip)}</title>'
        f'<path class="edge {tracked}" stroke-width="{_n(width)}" d="{"".join(path)}"/>'
        f"{tip}</g>"
    )
    return way, label


def _on_curve(start: Point, end: Point, t: float) -> Point:
    """Return the point at ``t`` of the curve from ``start`` to ``end``, vertical at both ends."""
    (ax, ay), (bx, by) = start, end
    middle = (ay + by) / 2
    a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
    return (a + b) * ax + (c + d) * bx, a * ay + (b + c) * middle + d * by


KEY: tuple[tuple[str, str], ...] = (
    ("leaf", "leaf"),
    ("op", "op"),
    ("root", "root"),
    ("null", "dashed: null"),
    ("thick", "thick: large gradient"),
    ("untracked", "dotted: not tracked"),
)


def _key(width: float) -> tuple[list[str], float]:
    """Return the key to forms and lines, in as many rows as ``width`` asks for, and its height."""
    parts = []
    x = y = 0.0
    for kind, words in KEY:
        step = 36 + len(words) * 6.7 + 18
        if x and x + step > width:
            x, y = 0.0, y + 22
        parts.append(
            f'<g transform="translate({_n(x)} {_n(y)})">{_sample(kind)}'
            f'<text class="soft" x="34" y="13">{_safe(words)}</text></g>'
        )
        x += step
    return parts, y + 18


def _sample(kind: str) -> str:
    if kind == "thick":
        return '<path class="edge tracked" stroke-width="5" d="M1 9h26"/>'
    if kind == "untracked":
        return '<path class="edge untracked" stroke-width="1.3" d="M1 9h26"/>'
    radius = "8" if kind == "leaf" else "2"
    ring = '<rect class="ring" x="-1" y="0" width="30" height="18" rx="4"/>'
    inset = f'<rect class="card" x="2" y="3" width="24" height="12" rx="{radius}"/>'
    return f'<g class="{kind}">{ring if kind == "root" else ""}{inset}</g>'
