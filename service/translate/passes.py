"""Backward passes of a script: roots of the graph, and the op ``autograd.grad``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.translate.arguments import describe, literal
from service.translate.folding import flat
from service.translate.gradients import leave_stale, taken
from service.translate.graph import Root, filled_from
from service.translate.operations import add, check_whole, compute
from service.translate.reading import Reading
from service.translate.saved import check_saved
from service.translate.unreadable import Unreadable
from service.translate.values import (
    Keywords,
    Node,
    Ref,
    Several,
    StartGradient,
    Tensor,
    Values,
    walk,
)

BACKWARD = ("gradient", "retain_graph", "create_graph")
AUTOGRAD_BACKWARD = ("tensors", "grad_tensors", "retain_graph", "create_graph")
AUTOGRAD_GRAD = (
    "outputs", "inputs", "grad_outputs", "retain_graph", "create_graph", "only_inputs",
    "allow_unused", "is_grads_batched", "materialize_grads",
)  # fmt: skip
ADDED_TO = (
    "this .grad was kept while a later backward pass added to it, which changes it in PyTorch; "
    ".clone() it where it is kept"
)
TWO_NODES = (
    "this pass adds up the gradients of a tensor from before and after it was changed in place, "
    "which are two nodes of a graph"
)
MAX_WRITTEN_OUT = 10_000
CONSTANT_OPS: Mapping[str, float | None] = {"ones": 1.0, "zeros": 0.0, "full": None}


def _named(
    names: Sequence[str], values: Values, keywords: Keywords, function: str
) -> dict[str, Any]:
    unknown = set(keywords) - set(names)
    if len(values) > len(names) or unknown:
        raise Unreadable(f"{function} is read with {', '.join(names)} only")
    for name in names[: len(values)]:
        if name in keywords:
            raise Unreadable(f"{function}() got multiple values for argument '{name}'")
    return {**dict(zip(names, values, strict=False)), **keywords}


def backward(reading: Reading, root: Tensor, values: Values, keywords: Keywords) -> None:
    """Read ``root.backward(gradient)``: one more root."""
    given = _named(BACKWARD, values, keywords, "backward")
    _add_root(reading, root, given)
    _end_pass(reading, given, 1)


def autograd_backward(reading: Reading, values: Values, keywords: Keywords) -> None:
    """Read ``torch.autograd.backward(tensors, grad_tensors)``."""
    given = _named(AUTOGRAD_BACKWARD, values, keywords, "torch.autograd.backward")
    roots = _tensors(given.get("tensors"))
    starts = given.get("grad_tensors")
    gradients = [None] * len(roots) if starts is None else _several(starts)
    if len(gradients) != len(roots):
        raise Unreadable(f"{len(roots)} tensors, but {len(gradients)} gradients")
    for root, gradient in zip(roots, gradients, strict=True):
        _add_root(reading, root, {**given, "gradient": gradient})
    _end_pass(reading, given, len(roots))


def _end_pass(reading: Reading, given: Mapping[str, Any], count: int) -> None:
    """Check what one backward pass from its roots needs, and note what it changes."""
    roots = reading.graph.roots[len(reading.graph.roots) - count :]
    check_saved([root.ref.node for root in roots], keeps=_keeps(given))
    filled = {node for root in roots for node in root.filled}
    _check_versions(filled)
    for value in taken(reading, lambda of: of.now.node in filled):
        leave_stale(value.now.node, ADDED_TO)


def _keeps(given: Mapping[str, Any]) -> bool:
    """Whether a pass leaves the graph there for another one."""
    keeps = given.get("retain_graph")
    return bool(given.get("create_graph") if keeps is None else keeps)


def _check_versions(filled: set[Node]) -> None:
    """Refuse a pass that fills the gradient of what a tensor was, and of what it is, too."""
    if not any(node.overwritten and node.requires_grad for node in filled):
        return
    for node in filled:
        for holder in node.holders:
            tensor = holder()
            if not isinstance(tensor, Tensor) or tensor.now.node is not node:
                continue
            if any(ref.node in filled for _, ref in tensor.past):
                raise Unreadable(TWO_NODES)


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple | Iterator) else [value]


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Several) and value.count is not None:
        return [value.output(k) for k in range(value.count)]
    tensors = _several(value)
    for one in tensors:
        if not isinstance(one, Tensor):
            raise Unreadable(f"a tensor is needed here, not {describe(one)}")
    return tensors


def _add_root(reading: Reading, root: Tensor, given: Mapping[str, Any]) -> None:
    check_whole(root.node)
    gradient = given.get("gradient")
    create_graph = bool(given.get("create_graph"))
    if gradient is None:
        start: dict[str, Any] = {}
    elif isinstance(gradient, StartGradient):
        name = "gradient_base64" if isinstance(gradient.numbers, str) else "gradient"
        start = {name: literal(gradient.numbers)}
    elif isinstance(gradient, Tensor):
        _check_shape(root, gradient)
        written = _written_out(reading, gradient) if _is_read_alike(root, gradient) else None
        if written is None:
            root, start = _weighted(reading, root, gradient), {}
        else:
            start = written
    else:
        raise Unreadable(f"the gradient to start with is a tensor, not {describe(gradient)}")
    _forget_emptied(reading)
    added = Root(root.ref, start, create_graph=create_graph)
    reading.open_roots.append((len(reading.graph.roots), added))
    reading.graph.roots.append(added)


def _check_shape(root: Tensor, gradient: Tensor) -> None:
    shapes = [one.ref.shape for one in (root, gradient)]
    if None not in shapes and shapes[0] != shapes[1]:
        raise Unreadable(
            f"Mismatch in shape: the gradient has the shape {list(shapes[1] or ())}, and the "
            f"tensor {list(shapes[0] or ())}"
        )


def _is_read_alike(root: Tensor, gradient: Tensor) -> bool:
    """Whether the numbers of a gradient are the same in the dtype of its root, as a graph says it.

    Those of ones and zeros are, in every dtype of their kind.
    """
    own, of_root = gradient.ref.type, root.ref.type
    if gradient.node.op in ("ones", "zeros"):
        return own.kind == of_root.kind
    return own.dtype is not None and own.dtype == of_root.dtype


def _written_out(reading: Reading, gradient: Tensor) -> dict[str, Any] | None:
    """Return a gradient as its numbers, where the script says them."""
    node = gradient.node
    written: dict[str, Any] | None = None
    if "value_base64" in node.fields:
        written = {"gradient_base64": node.fields["value_base64"]}
    elif "value" in node.fields:
        written = {"gradient": _nested(node)}
    elif node.op is not None and node.op in CONSTANT_OPS and node.shape is not None:
        filling = CONSTANT_OPS[node.op]
        number = node.attrs.get("fill_value") if filling is None else filling
        count = math.prod(node.shape)
        if count > MAX_WRITTEN_OUT:
            return None
        written = {"gradient": _reshape([number] * count, node.shape)}
    if written is not None and not (node.id or node.used or gradient.held):
        reading.graph.drop(node)
    return written


def _nested(node: Node) -> Any:
    """Return a leaf's value as nested lists, where it is flat beside a ``shape``."""
    value, shape = node.fields["value"], node.fields.get("shape")
    if shape is None:
        return value
    numbers = list(flat(value))
    if node.kind == "complex":
        numbers = [list(pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
    return _reshape(numbers, tuple(shape))


def _reshape(items: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return items[0]
    size = math.prod(shape[1:])
    rows = [items[k * size : (k + 1) * size] for k in range(shape[0])]
    return [_reshape(row, shape[1:]) for row in rows] if len(shape) > 1 else items


def _weighted(reading: Reading, root: Tensor, gradient: Tensor) -> Tensor:
    """Return the sum of ``root * gradient``, whose gradient at ``root`` is ``gradient`` exactly."""
    if gradient.ref.tracked:
        gradient = compute(reading, "detach", gradient)
    weighted = compute(reading, "mul", root, gradient)
    total = compute(reading, "sum", weighted)
    if root.node.id:
        reading.graph.name(weighted.node, f"{root.node.id}.weighted")
        reading.graph.name(total.node, f"{root.node.id}.weighted.sum")
    return total


def autograd_grad(reading: Reading, values: Values, keywords: Keywords) -> Several:
    """Read ``torch.autograd.grad(outputs, inputs, ...)`` as the op ``autograd.grad``."""
    given = _named(AUTOGRAD_GRAD, values, keywords, "torch.autograd.grad")
    outputs, inputs = _tensors(given.get("outputs")), _tensors(given.get("inputs"))
    if len(outputs) != 1:
        raise Unreadable("torch.autograd.grad is read with one output; add several up first")
    if given.get("is_grads_batched"):
        raise Unreadable("is_grads_batched cannot be part of a graph")
    starts = _several(given.get("grad_outputs"))
    attrs: dict[str, Any] = {"create_graph": bool(given.get("create_graph"))}
    if len(starts) != 1:
        raise Unreadable(f"one output, but {len(starts)} gradients")
    if starts[0] is not None:
        attrs["grad_outputs"] = _tensors(starts)[0].ref
    if given.get("materialize_grads"):
        attrs["materialize_grads"] = True
    reached = _reached(outputs[0].node)
    refs = [outputs[0].ref, *(_at_pass(reached, one) for one in inputs)]
    is_none_for = given.get("allow_unused") and not given.get("materialize_grads")
    if is_none_for and not all(ref.node in reached for ref in refs[1:]):
        raise Unreadable(
            "allow_unused=True gives None for a tensor that the output does not depend on, and no "
            "node of a graph is None; leave that tensor out, or write materialize_grads=True"
        )
    _check_none_retained(refs)
    check_saved([refs[0].node], keeps=_keeps(given), towards=[ref.node for ref in refs[1:]])
    result = add(reading, Node("autograd.grad", inputs=refs, attrs=attrs))
    assert isinstance(result, Several)
    return result


def _at_pass(reached: set[Node], of: Tensor) -> Ref:
    """Return the node that a tensor was where autograd leads to it.

    A leaf that was changed in place stays the one that autograd knows.
    """
    if not (of.past and of.node.requires_grad):
        return of.ref
    versions = [ref for _, ref in of.past if ref.node.requires_grad]
    found = [ref for ref in (*versions, of.ref) if ref.node in reached]
    if len(found) > 1:
        raise Unreadable(TWO_NODES)
    return found[0] if found else of.ref


def _check_none_retained(refs: Sequence[Ref]) -> None:
    """Refuse a gradient on whose way a tensor retains its own: PyTorch fills that too."""
    output, *inputs = refs
    for node in filled_from(output):
        if node.retain_grad and any(ref.node in _reached(node) for ref in inputs):
            raise Unreadable(
                "torch.autograd.grad also fills the .grad of a tensor on its way that retains it, "
                "which the op of a graph does not; call retain_grad() after it"
            )


def was_passed(reading: Reading, node: Node) -> bool:
    """Whether a backward pass so far went through a node."""
    return any(node in _reached(root.ref.node) for root in reading.graph.roots)


def retain(reading: Reading, node: Node) -> None:
    """Keep the gradient of a node; a pass that went through it before has left nothing to keep."""
    node.retained_late = was_passed(reading, node)
    node.retain_grad = not node.retained_late


def _reached(root: Node) -> set[Node]:
    """Return the nodes to which autograd leads from one, itself too."""
    return set(walk([root], lambda node: node.followed))


def _forget_emptied(reading: Reading) -> None:
    """Drop earlier roots all of whose gradients were emptied.

    Those that filled only what tensors were before they were changed in place stay, as in a
    training loop: the nodes of each step keep the gradient that they had.

    Raises:
        Unreadable: some were emptied and some not, which one backward pass cannot say.
    """
    kept = {tensor.now.node for one in reading.retained if (tensor := one()) is not None}
    emptied = reading.emptied
    open_roots, reading.open_roots = reading.open_roots, []
    for number, root in open_roots:
        filled = [node for node in root.filled if not node.overwritten]
        if not any(emptied.get(node, 0) > number for node in filled):
            if filled:  # else there is nothing more to be emptied
                reading.open_roots.append((number, root))
        elif any(
            emptied.get(node, 0) <= number
            for node in root.filled
            if node.requires_grad or node in kept
        ):
            raise Unreadable(
                "some gradients were emptied between two backward passes and some were not; a "
                "trace holds one set of gradients, so split the script in two"
            )
        else:
            root.emptied = True
