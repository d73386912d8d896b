"""What every ``grad_status`` means, in a sentence for the person at the other end."""

from __future__ import annotations

from service.contract.response import GradStatus

CAN_REQUIRE_GRAD = ("float", "bfloat", "complex")
"""What the names of the dtypes start with that can require grad."""
LEAF_NOT_ON_PATH = (
    "{id} requires grad, but no gradient reached it, so its .grad stays None: no root depends on "
    "it through autograd, or the ops between pass it none; use it on the way to a root."
)
CONSTANT_GRADIENT = (
    "{id} is a gradient that does not require grad itself: it depends on nothing that does, or "
    "create_graph is false; leave create_graph out if a gradient should pass."
)

NOTES: dict[GradStatus, str] = {
    GradStatus.ACCUMULATED: (
        "{id} is a leaf that requires grad, and a root depends on it: backward accumulated its "
        "gradient in .grad."
    ),
    GradStatus.RETAINED: (
        "{id} is not a leaf, but retain_grad was on, so PyTorch kept the gradient that passed "
        "through it."
    ),
    GradStatus.NOT_RETAINED: (
        "{id} requires grad and is on the way to a root, but it is not a leaf, and PyTorch keeps "
        "the gradient of a non-leaf only after retain_grad(); set retain_grad to true to see it."
    ),
    GradStatus.NOT_ON_PATH: (
        "{id} requires grad, but no gradient reached it from a root: no root depends on it through "
        "autograd, or the ops between pass it none; use it on the way to a root."
    ),
    GradStatus.NON_DIFFERENTIABLE: (
        "{id} is computed from something that requires grad, but the result does not: {op} returns "
        "integers, bools or a detached tensor here, and no gradient can pass; go round {op} if one "
        "should."
    ),
    GradStatus.NO_BACKWARD: (
        "{id} requires grad, but backward is empty, so only the forward pass ran; name a root in "
        "backward to get a gradient."
    ),
}


def note(status: GradStatus, node: str, op: str | None, dtype: str, *, reads: bool) -> str:
    """Return the sentence for a node.

    Args:
        status: the node's.
        node: its id.
        op: the op that made it, None for a leaf.
        dtype: the node's.
        reads: whether the op has inputs.
    """
    if op is None and status is GradStatus.NOT_ON_PATH:
        return LEAF_NOT_ON_PATH.format(id=node)
    if op == "autograd.grad" and status is GradStatus.NON_DIFFERENTIABLE:
        return CONSTANT_GRADIENT.format(id=node)
    if status is GradStatus.CONSTANT:
        return f"{node} {_constant(op, dtype, reads=reads)}"
    return NOTES[status].format(id=node, op=op)


def _constant(op: str | None, dtype: str, *, reads: bool) -> str:
    """Return the sentence of a constant after its id; arguments as for :func:`note`."""
    what = "is a leaf without requires_grad"
    change = "set requires_grad to true to get its gradient"
    fitting = "give it a floating or complex dtype and requires_grad if it should have a gradient"
    if op is not None and not reads:
        what = f"is made by {op} of no node"
    elif op is not None:
        what = f"is computed by {op} of nothing that requires grad"
        change = (
            "set requires_grad to true on a floating leaf that it depends on, and go round what "
            "cuts such a leaf off"
        )
        fitting = "only a floating or complex result can have a gradient"
    if dtype.startswith(CAN_REQUIRE_GRAD):
        return f"{what}, so autograd does not track it; {change}."
    return f"{what}, and of dtype {dtype}, which cannot require grad; {fitting}."
