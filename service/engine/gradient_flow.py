"""Whether gradients vanish or explode: those near the root held against those far from it.

What says nothing about it is left out: a gradient of NaN, and one that is infinite because backward
was started with an Infinity. Where no other is left there is no ratio, and neither is seen: steady.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from service.engine.linked import Linked
from service.engine.nonfinite import is_finite
from service.engine.stats import SMALL
from service.engine.writes import own_memory

SHRINKS = 1e-3
"""Gradients vanish where they are this many times smaller deep down than near the root."""
GROWS = 1e3
MIN_DEPTH = 5
"""Below this depth a large ratio says nothing about vanishing or exploding."""
THIRDS = 3
"""The levels are taken in a near, a middle and a far third."""
MAX_LEVELS = 100
"""That an answer shows."""


def gradient_flow(linked: Linked, bad_roots: Collection[str]) -> dict[str, Any]:
    """Return the GradientFlow of a run in which every node has its gradient.

    Args:
        linked: the nodes of the run.
        bad_roots: ids of the roots that backward started from with a NaN or an Infinity.
    """
    depth = _depths(linked)
    levels: dict[int, list[int]] = defaultdict(list)
    sizes: dict[int, float | None] = {}
    started_so = _reached_from(linked, bad_roots)
    for place, node in enumerate(linked.nodes):
        if node.grad is not None:
            levels[depth[place]].append(place)
            size = _rms(node.grad)
            sizes[place] = None if size == math.inf and place in started_so else size
    compared = _comparable(linked, levels)
    verdict, ratio = "too_shallow", None
    if max(levels, default=0) >= MIN_DEPTH and len(compared) >= THIRDS:
        verdict, ratio = _verdict([*_medians(compared, sizes).values()])
    shown = [
        {"depth": level, "nodes": len(levels[level]), "grad_rms": size}
        for level, size in _medians(levels, sizes).items()
        if math.isfinite(size)
    ]
    return {"verdict": verdict, "ratio": ratio, "levels": _thinned(shown)}


def _reached_from(linked: Linked, bad_roots: Collection[str]) -> set[int]:
    """Return the nodes whose gradient is not finite and comes from that of such a root."""
    if not bad_roots:
        return set()
    reached = {place for place, node in enumerate(linked.nodes) if node.id in bad_roots}
    for op in reversed(linked.ops):
        if not reached.isdisjoint(op.outputs):
            reached.update(place for place in op.reads if not is_finite(linked.nodes[place].grad))
    return reached


def _depths(linked: Linked) -> list[int]:
    """Return for each node the most ops between it and a root or unused result."""
    depth = [0] * len(linked.nodes)
    for op in reversed(linked.ops):
        below = 1 + max((depth[place] for place in op.outputs), default=-1)
        for place in op.reads:
            depth[place] = max(depth[place], below)
    return depth


def _comparable(linked: Linked, levels: Mapping[int, list[int]]) -> dict[int, list[int]]:
    """Return the levels whose gradients can be held against each other, with the nodes that count.

    Leaves do not: the gradient of a weight is a sum over the batch, and over every step that uses
    it. And a mean divides the gradient by the number of elements, so the single numbers at the end
    that a loss is made of are no measure for what comes before them: the longer part is looked at.
    """
    results = {
        level: [place for place in levels[level] if linked.maker[place] >= 0]
        for level in sorted(levels)
    }
    ordered = [(level, places) for level, places in results.items() if places]
    single = [
        all(linked.nodes[place].tensor.numel() <= 1 for place in places) for _, places in ordered
    ]
    end = single.index(False) if False in single else len(single)
    return dict(ordered[:end] if end > len(ordered) - end else ordered[end:])


def _medians(
    levels: Mapping[int, list[int]], sizes: Mapping[int, float | None]
) -> dict[int, float]:
    """Return the median size of every level that has one, from the root outwards."""
    medians = {level: _median(sizes[place] for place in levels[level]) for level in sorted(levels)}
    return {level: size for level, size in medians.items() if size is not None}


def _median(sizes: Iterable[float | None]) -> float | None:
    """Return the median of the finite ones, infinity or None where there are only such."""
    known = sorted(size for size in sizes if size is not None)
    finite = [size for size in known if math.isfinite(size)] or known[:1]
    if not finite:
        return None
    low, high = finite[(len(finite) - 1) // 2], finite[len(finite) // 2]
    return low if low == high else low + (high - low) / 2  # their sum could overflow


def _verdict(sizes: Sequence[float]) -> tuple[str, float | None]:
    """Hold the largest of the far third against that of the near; return verdict and ratio."""
    third = len(sizes) // THIRDS
    if not third:
        return "steady", None
    near = max(filter(math.isfinite, sizes[:third]), default=math.inf)
    far = max(sizes[-third:])
    ratio = far / near if near else math.inf if far else 1.0
    verdict = "vanishing" if ratio < SHRINKS else "exploding" if ratio > GROWS else "steady"
    return verdict, ratio if near and math.isfinite(ratio) else None


def _thinned(levels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most MAX_LEVELS of them, evenly spread, the first and the last among them."""
    last, most = len(levels) - 1, MAX_LEVELS - 1
    if last <= most:
        return levels
    return [levels[round(number * last / most)] for number in range(MAX_LEVELS)]


def _rms(tensor: Tensor) -> float | None:
    """Return the root mean square over the finite elements.

    Where there are none it is infinite if an element is, as where gradients grow beyond the dtype,
    and None if all are NaN or there are none at all.
    """
    if tensor.numel() <= SMALL:
        return _rms_of_few(own_memory(tensor.detach().reshape(-1)).tolist())
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    flat = tensor.detach().to(wide).abs().flatten()
    finite = flat[torch.isfinite(flat)]
    if not finite.numel():
        return math.inf if bool(flat.isinf().any()) else None
    largest = float(finite.max())
    if largest == 0.0:
        return 0.0
    return largest * math.sqrt(float((finite / largest).square().mean()))


def _rms_of_few(items: Sequence[complex]) -> float | None:
    """Return the same of a few numbers, which Python is quicker with."""
    sizes = [math.hypot(item.real, item.imag) for item in items]
    finite = [size for size in sizes if math.isfinite(size)]
    if not finite:
        return math.inf if math.inf in sizes else None
    largest = max(finite)
    if largest == 0.0:
        return 0.0
    return largest * math.sqrt(math.fsum((size / largest) ** 2 for size in finite) / len(finite))
