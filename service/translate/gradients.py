"""Backward passes of a script: roots of the graph, and gradients to compute with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.translate.arguments import describe, literal
from service.translate.element_types import type_at
from service.translate.graph import Root, filled_from
from service.translate.operations import HALF_CUT, add, apply
from service.translate.reading import Reading
from service.translate.saved import check_saved
from service.translate.unreadable import Unreadable
from service.translate.values import Gradient, Node, Ref, Several, StartGradient, Tensor

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
KEPT_BEFORE = (
    "this .grad was kept while a later backward pass made another one, which leaves this as it "
    "was; .clone() it where it is kept"
)
EMPTIED = "this .grad was kept while .grad.zero_() emptied it; .clone() it where it is kept"
TWO_NODES = (
    "this pass adds up the gradients of a tensor from before and after it was changed in place, "
    "which are two nodes of a graph"
)
MAX_WRITTEN_OUT = 10_000
CONSTANT_OPS: Mapping[str, float | None] = {"ones": 1.0, "zeros": 0.0, "full": None}


def _named(
    names: Sequence[str], values: Sequence[Any], keywords: Mapping[str, Any], function: str
) -> dict[str, Any]:
    unknown = set(keywords) - set(names)
    if len(values) > len(names) or unknown:
        raise Unreadable(f"{function} is read with {', '.join(names)} only")
    return {**dict(zip(names, values, strict=False)), **keywords}


def backward(
    reading: Reading, root: Tensor, values: Sequence[Any], keywords: Mapping[str, Any]
) -> None:
    """Read ``root.backward(gradient)``: one more root."""
    given = _named(BACKWARD, values, keywords, "backward")
    _add_root(reading, root, given)
    _end_pass(reading, given, 1)


def autograd_backward(reading: Reading, values: Sequence[Any], keywords: Mapping[str, Any]) -> None:
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
    keeps = given.get("retain_graph")
    keeps = bool(given.get("create_graph") if keeps is None else keeps)
    roots = reading.graph.roots[len(reading.graph.roots) - count :]
    check_saved([root.ref.node for root in roots], keeps=keeps)
    filled = {node for root in roots for node in root.filled}
    _check_versions(filled)
    rest = []
    for of, value in reading.gradients:
        if of.now.node in filled:
            _leave_stale(value.now.node, ADDED_TO)
        else:
            rest.append((of, value))
    reading.gradients[:] = rest


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


def _leave_stale(node: Node, reason: str) -> None:
    """Let nobody use what a node holds, nor what looks at its memory."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if not one.stale:
            one.stale = reason
            waiting.extend([*one.views, *one.twins])


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
    if root.node.half_cut:
        raise Unreadable(HALF_CUT)
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
    _forget_emptied(reading, root.ref)
    reading.graph.roots.append(Root(root.ref, start, create_graph=create_graph))


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
    own, of_root = type_at(gradient.ref), type_at(root.ref)
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
    depth = 1 if node.kind == "complex" else 0
    flat = [value] if not shape and not isinstance(value, list) else value
    while flat and _depth(flat) > 1 + depth:
        flat = [item for row in flat for item in row]
    return _reshape(flat, tuple(shape))


def _depth(value: Any) -> int:
    return 1 + _depth(value[0]) if isinstance(value, list) and value else 0


def _reshape(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    size = math.prod(shape[1:])
    rows = [flat[k * size : (k + 1) * size] for k in range(shape[0])]
    return [_reshape(row, shape[1:]) for row in rows] if len(shape) > 1 else flat


def _weighted(reading: Reading, root: Tensor, gradient: Tensor) -> Tensor:
    """Return the sum of ``root * gradient``, whose gradient at ``root`` is ``gradient`` exactly."""
    if gradient.ref.tracked:
        gradient = _one(add(reading, Node("detach", inputs=[gradient.ref])))
    weighted = _one(apply(reading, "mul", [root, gradient], {}))
    total = _one(apply(reading, "sum", [weighted], {}))
    if root.node.id:
        reading.graph.name(weighted.node, f"{root.node.id}.weighted")
        reading.graph.name(total.node, f"{root.node.id}.weighted.sum")
    return total


def _one(result: Tensor | Several) -> Tensor:
    assert isinstance(result, Tensor)
    return result


def autograd_grad(reading: Reading, values: Sequence[Any], keywords: Mapping[str, Any]) -> Several:
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
    keeps = given.get("retain_graph")
    keeps = bool(attrs["create_graph"] if keeps is None else keeps)
    check_saved([refs[0].node], keeps=keeps, towards=[ref.node for ref in refs[1:]])
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
        if node.retain_grad and any(reaches(Root(Ref(node), {}), ref.node) for ref in inputs):
            raise Unreadable(
                "torch.autograd.grad also fills the .grad of a tensor on its way that retains it, "
                "which the op of a graph does not; call retain_grad() after it"
            )


def reaches(root: Root, node: Node) -> bool:
    """Whether autograd leads from a root to a node, whatever kind it is."""
    return node in _reached(root.ref.node)


def _reached(root: Node) -> set[Node]:
    """Return the nodes to which autograd leads from one, itself too."""
    waiting, seen = [root], {root}
    while waiting:
        fresh = set(waiting.pop().followed) - seen
        seen |= fresh
        waiting.extend(fresh)
    return seen


def gradient_of(reading: Reading, of: Tensor) -> Gradient:
    """Return ``of.grad``: there where some root since it was last emptied leads to the tensor."""
    there = of.zeroed or bool(_contributions(reading, of))
    return Gradient(of, there, of.replaced, len(reading.graph.roots))


def _contributions(reading: Reading, of: Tensor) -> list[tuple[Root, Ref]]:
    found = []
    for k, root in enumerate(reading.graph.roots[of.since :], of.since):
        ref = of.at_root(k)
        if ref.node in root.filled:
            found.append((root, ref))
        elif any(one.node.overwritten and one.node in root.filled for _, one in of.past):
            raise Unreadable(
                "a backward pass went through what this tensor was before it was changed in place; "
                "its .grad is not read then"
            )
    return found


def gradient_tensor(reading: Reading, gradient: Gradient) -> Tensor:
    """Return ``tensor.grad`` as a node to compute with: the op ``autograd.grad`` of each root."""
    parts = []
    of = gradient.tensor
    if gradient.there and gradient.replaced != of.replaced:
        raise Unreadable("this .grad was kept while the tensor's own was set to None; .clone() it")
    later = reading.graph.roots[gradient.roots :]
    for root, ref in _contributions(reading, of) if gradient.there else ():
        if root in later and (root.create_graph or not ref.node.requires_grad):
            raise Unreadable(KEPT_BEFORE)
        if root.gradient:
            raise Unreadable(
                ".grad of a backward pass with a gradient cannot be computed with; use "
                "torch.autograd.grad(outputs, inputs, grad_outputs)"
            )
        attrs = {"create_graph": root.create_graph}
        made = add(reading, Node("autograd.grad", inputs=[root.ref, ref], attrs=attrs))
        assert isinstance(made, Several)
        parts.append(made.output(0))
    if not gradient.there:
        raise Unreadable(
            ".grad is None here: no backward pass before this line leads to this tensor as a leaf; "
            "torch.autograd.grad gives the gradient of any tensor"
        )
    total = parts[0] if parts else _one(apply(reading, "zeros_like", [of], {}))
    for part in parts[1:]:
        total = _one(apply(reading, "add", [total, part], {}))
    total.node.shares_memory = total.node.kept = True
    reading.gradients.append((of, total))
    return total


def empty_gradient(reading: Reading, of: Tensor, *, zeros: bool) -> None:
    """Read ``x.grad = None`` and ``x.grad.zero_()``: later gradients start from nothing."""
    of.zeroed = zeros and gradient_of(reading, of).there
    of.replaced += not zeros
    rest = []
    for one, value in reading.gradients:
        if one is not of:
            rest.append((one, value))
        elif zeros:
            _leave_stale(value.now.node, EMPTIED)
    reading.gradients[:] = rest
    versions = [of.ref.node]  # since it was last emptied; they have one gradient in PyTorch
    for until, ref in reversed(of.past):
        if until <= of.since:
            break
        versions.append(ref.node)
    of.since = len(reading.graph.roots)
    reading.emptied.extend((of.since, node) for node in versions)


def _forget_emptied(reading: Reading, ref: Ref) -> None:
    """Drop earlier roots all of whose gradients were emptied.

    Raises:
        Unreadable: some were emptied and some not, which one backward pass cannot say.
    """
    reached = filled_from(ref)
    kept = {tensor.now.node for one in reading.retained if (tensor := one()) is not None}
    for number, root in enumerate(reading.graph.roots):
        shared = root.filled & reached
        if root.emptied or not shared:  # as nearly all in a training loop
            continue
        emptied = {node for since, node in reading.emptied if since > number}
        if not shared & emptied:
            continue
        if not {one for one in root.filled if one.requires_grad or one in kept} <= emptied:
            raise Unreadable(
                "some gradients were emptied between two backward passes and some were not; a "
                "trace holds one set of gradients, so split the script in two"
            )
        root.emptied = True
