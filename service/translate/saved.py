"""What autograd saves for a backward pass, as far as a second pass or a change would miss it."""

from __future__ import annotations

from collections.abc import Sequence

from service.translate.element_types import last_part
from service.translate.unreadable import Unreadable
from service.translate.values import Node

SAVES_RESULT = frozenset(
    "exp exp2 expm1 sigmoid tanh tan sqrt rsqrt reciprocal softmax log_softmax relu selu".split()
)
SAVES_OTHER = frozenset("mul matmul mm mv bmm dot linear".split())
"""Ops that save each of their tensors for the gradient of the other one."""
SAVES_INPUT = frozenset(
    "pow square log log2 log10 log1p sin cos abs sinh cosh asin acos atan gelu silu softplus "
    "leaky_relu mse_loss div".split()
)


def check_saved(roots: Sequence[Node], *, keeps: bool) -> None:
    """Refuse a backward pass that PyTorch refuses: what autograd saved is gone, or was changed.

    ``keeps``: this pass leaves everything there for another one.
    """
    waiting, seen = list(roots), set(roots)
    while waiting:
        node = waiting.pop()
        if node.requires_grad or not node.tracked or node.op is None:
            continue
        name = last_part(node.op)
        if node.retained_late:
            raise Unreadable(
                "retain_grad between two backward passes keeps the gradient of one of them, and a "
                "trace holds the sum of all"
            )
        saves = name in SAVES_RESULT | SAVES_OTHER | SAVES_INPUT
        if saves and node.freed:
            raise Unreadable(
                "Trying to backward through the graph a second time: the first pass needs "
                "retain_graph=True"
            )
        changed = name in SAVES_RESULT and node.overwritten
        sources = [ref.node for ref in node.inputs]
        for source in sources:
            if not source.overwritten or source is node.overwrites:
                continue
            others = any(one.tracked for one in sources if one is not source)
            changed |= name in SAVES_INPUT or (
                name in SAVES_OTHER and (others or sources.count(source) > 1)
            )
        if changed:
            raise Unreadable(
                "one of the variables needed for gradient computation has been modified by an "
                "inplace operation"
            )
        node.freed |= not keeps
        fresh = set(sources) - seen
        seen |= fresh
        waiting.extend(fresh)
