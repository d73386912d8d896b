"""Parameters filled anew: ``torch.nn.init``, and ``fill_`` and its like, before they are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from service.translate.arguments import describe
from service.translate.folding import attempt
from service.translate.in_place import check_changeable
from service.translate.leaves import require_grad
from service.translate.operations import compute
from service.translate.parameters import filled, plain_argument
from service.translate.reading import Reading
from service.translate.recorded import fills_of, stand_in
from service.translate.unreadable import Unreadable
from service.translate.values import UNINITIALISED, Keywords, Tensor, Values

USED = (
    "this changes a parameter that something has used already; initialise it before, or write "
    "p = nn.Parameter(...) for a new one"
)
INITIALISERS = frozenset(
    "uniform_ normal_ constant_ ones_ zeros_ xavier_uniform_ xavier_normal_ kaiming_uniform_ "
    "kaiming_normal_".split()
)
"""Functions of ``torch.nn.init`` that are read."""


def initialise(reading: Reading, name: str, values: Values, keywords: Keywords) -> Any:
    """Read ``torch.nn.init.name(parameter, ...)``."""
    if name == "calculate_gain":
        plain = [plain_argument(value) for value in (*values, *keywords.values())]
        return attempt(nn.init.calculate_gain, *plain)
    if name not in INITIALISERS:
        known = ", ".join(sorted(INITIALISERS))
        raise Unreadable(f"torch.nn.init.{name} is not read; {known} are")
    held = values[0] if values else keywords.get("tensor")
    rest = {key: value for key, value in keywords.items() if key != "tensor"}
    if not isinstance(held, Tensor):
        raise Unreadable(f"a parameter is needed here, not {describe(held)}")
    with reading.grad_mode(enabled=False):
        return _refill(reading, held, getattr(nn.init, name), values[1:], rest)


def fill_parameter(
    reading: Reading, name: str, held: Tensor, values: Values, keywords: Keywords
) -> Tensor:
    """Read ``parameter.fill_(...)`` and its like, as far as nothing has used the parameter."""
    if name == "copy_":
        if len(values) != 1 or keywords:
            raise Unreadable("copy_ is read with a tensor alone")
        return _copy(reading, held, values[0])
    given = {KEYWORDS.get(key, key): value for key, value in keywords.items()}
    return _refill(reading, held, getattr(nn.init, FUNCTIONS[name]), values, given)


FUNCTIONS: Mapping[str, str] = {
    "uniform_": "uniform_", "normal_": "normal_", "fill_": "constant_", "zero_": "zeros_",
}  # fmt: skip
"""Methods, and the functions of ``torch.nn.init`` that do the same."""
KEYWORDS: Mapping[str, str] = {"from": "a", "to": "b", "value": "val"}
"""Keywords of methods, and those of the functions."""


def _refill(
    reading: Reading, held: Tensor, function: Callable[..., Any], values: Values, keywords: Keywords
) -> Tensor:
    _check_fresh(reading, held)
    shape, dtype = held.ref.shape, held.ref.type.dtype
    if shape is None or dtype is None:
        raise Unreadable("the shape of this is known only when the graph runs")
    plain = [plain_argument(value) for value in values]
    given = {key: plain_argument(value) for key, value in keywords.items()}
    like = attempt(stand_in, shape, getattr(torch, dtype))
    for fill in fills_of(function, like, plain, given):
        _put(reading, held, filled(reading, fill))
    return held


def _copy(reading: Reading, held: Tensor, given: Any) -> Tensor:
    """``parameter.copy_(tensor)``, where it is of the same shape and dtype."""
    _check_fresh(reading, held)
    if not isinstance(given, Tensor):
        raise Unreadable("copy_ is read with a tensor")
    alike = held.ref.shape == given.ref.shape and held.ref.type.dtype == given.ref.type.dtype
    if not alike or None in (held.ref.shape, held.ref.type.dtype):
        raise Unreadable("copy_ is read with a tensor of the very shape and dtype")
    _put(reading, held, compute(reading, "clone", given))
    return held


def _check_fresh(reading: Reading, held: Tensor) -> None:
    """Refuse what was used: whoever did keeps what it was, which a new node cannot tell."""
    if held.now.node.stale == UNINITIALISED:
        held.now.node.stale = ""
    node = held.ref.node
    check_changeable(reading, held)
    is_root = any(root.ref.node is node for root in reading.graph.roots)
    if node.used or is_root or held.past or reading.inference:
        raise Unreadable(USED)


def _put(reading: Reading, held: Tensor, result: Tensor) -> None:
    """Let a parameter that nothing has used be another node from the beginning."""
    node = held.node
    requires_grad = node.requires_grad
    reading.graph.replace(node, result.node)
    held.swap(result.ref)
    if requires_grad:
        require_grad(reading, held)
