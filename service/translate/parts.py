"""How many outputs an op makes of its tensors, and their shapes, as far as a script shows it.

``x.split(3)`` of eight rows are three tensors, the last of them shorter; a loop over them and
``parts[-1]`` need to know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.translate.element_type_tables import OF_EACH
from service.translate.element_types import last_part
from service.translate.reading import MAX_ITEMS
from service.translate.shape_rules import Shape, are_numbers
from service.translate.values import Node, references


@dataclass(frozen=True)
class Parts:
    """The outputs of an op: how many, the shape of each of them, and of those that differ."""

    count: int | None = None
    each: Shape | None = None
    uneven: Mapping[int, Shape] = field(default_factory=dict)


@dataclass(frozen=True)
class Cuts:
    """The sizes of the parts along the dimension that is cut."""

    count: int
    each: int
    uneven: Mapping[int, int] = field(default_factory=dict)


def parts_of(node: Node) -> Parts:
    """Return the outputs of an op that takes its tensor apart, or has one for each of several.

    What PyTorch will refuse is not known either.
    """
    name = last_part(node.op)
    refs = references(node.inputs, node.attrs)
    if name == "where" and len(refs) == 1 and refs[0].shape is not None:
        return Parts(len(refs[0].shape) or 1)
    if name in OF_EACH | {"meshgrid"} and node.op != "autograd.grad":
        return Parts(len(refs))
    shape = refs[0].shape if refs else None
    if name not in CUTTERS or shape is None:
        return Parts()
    dim = _dimension(name, shape, node.attrs)
    if dim is None or shape[dim] < 0:
        return Parts()
    cuts = CUTTERS[name](shape[dim], node.attrs)
    if cuts is None:
        return Parts()
    before, behind = shape[:dim], shape[dim + 1 :]
    if name == "unbind":
        return Parts(cuts.count, (*before, *behind))
    uneven = {k: (*before, size, *behind) for k, size in cuts.uneven.items()}
    return Parts(cuts.count, (*before, cuts.each, *behind), uneven)


def _dimension(name: str, shape: Shape, attrs: Mapping[str, Any]) -> int | None:
    """Return the dimension along which a tensor is cut, None where it has none such."""
    if name in ALONG:
        dim = 0 if name == "hsplit" and len(shape) == 1 else ALONG[name]
    else:
        dim = attrs.get("dim", 0)
    if type(dim) is not int or not -len(shape) <= dim < len(shape):
        return None
    return dim % len(shape)


def _listed(sizes: list[int]) -> Cuts:
    each = sizes[0] if sizes else 0
    return Cuts(len(sizes), each, {k: size for k, size in enumerate(sizes) if size != each})


def _split(whole: int, attrs: Mapping[str, Any]) -> Cuts | None:
    """``split``: parts of one size, the last of what is left; an empty tensor is one part."""
    size = attrs.get("split_size", attrs.get("split_sizes"))
    if are_numbers(size):
        return _listed(size) if sum(size) == whole and min(size, default=0) >= 0 else None
    if type(size) is not int or size < 0 or (size == 0 and whole):
        return None
    count = max(math.ceil(whole / size), 1) if size else 1
    last = whole - size * (count - 1)
    return Cuts(count, size, {} if last == size else {count - 1: last})


def _chunk(whole: int, attrs: Mapping[str, Any]) -> Cuts | None:
    """``chunk``: at most so many parts; of an empty tensor just so many."""
    chunks = attrs.get("chunks")
    if type(chunks) is not int or chunks < 1:
        return None
    return _split(whole, {"split_size": -(-whole // chunks)}) if whole else Cuts(chunks, 0)


def _tensor_split(whole: int, attrs: Mapping[str, Any]) -> Cuts | None:
    """``tensor_split``: so many parts, the first ones larger by one, or cut at places."""
    sections, places = attrs.get("sections"), attrs.get("indices")
    if are_numbers(places):
        bounds = zip([0, *places], [*places, whole], strict=True)
        cuts = (slice(start, end).indices(whole) for start, end in bounds)
        return _listed([len(range(*cut)) for cut in cuts])
    if type(sections) is not int or not 1 <= sections <= MAX_ITEMS:
        return None
    each, larger = divmod(whole, sections)
    return Cuts(sections, each, dict.fromkeys(range(larger), each + 1))


def _evenly(whole: int, attrs: Mapping[str, Any]) -> Cuts | None:
    """``hsplit`` and its like: as ``tensor_split``, but only into parts of one size."""
    sections = attrs.get("sections")
    is_even = type(sections) is not int or (sections > 0 and whole % sections == 0)
    return _tensor_split(whole, attrs) if is_even else None


ALONG: Mapping[str, int] = {"vsplit": 0, "hsplit": 1, "dsplit": 2}

CUTTERS: Mapping[str, Callable[[int, Mapping[str, Any]], Cuts | None]] = {
    "unbind": lambda whole, _attrs: Cuts(whole, 1),
    **dict.fromkeys(
        ("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"), _split
    ),
    **dict.fromkeys(("chunk", "unsafe_chunk"), _chunk),
    "tensor_split": _tensor_split,
    **dict.fromkeys(ALONG, _evenly),
}
