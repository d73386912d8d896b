"""Assignments of a script: names for tensors, and tensors for names."""

from __future__ import annotations

import ast
from operator import setitem
from typing import Any

from service.translate.arguments import describe
from service.translate.attributes import attribute, check_own_grad
from service.translate.builtins_read import IGNORED_SETTINGS, items_of
from service.translate.expressions import evaluate, operand, spread
from service.translate.folding import attempt, check_items, holds
from service.translate.gradients import empty_gradient
from service.translate.in_place import operate
from service.translate.leaves import forget_grad, require_grad
from service.translate.members import member
from service.translate.names import id_of
from service.translate.objects import Instance
from service.translate.operations import apply, check_whole
from service.translate.operators import binary_operator, index
from service.translate.reading import Reading
from service.translate.registration import name_module, put_module, set_member, stem_of
from service.translate.unreadable import Unreadable
from service.translate.values import Gradient, Path, Several, Tensor

WRITES = (
    "this writes into a tensor in place, and a node of a graph never changes; torch.where, "
    "torch.cat or torch.index_put make a new one"
)


def read_assignment(reading: Reading, node: ast.Assign) -> str:
    """Read ``a = b = value``; return the id of the first name's node."""
    value = evaluate(reading, node.value)
    owners = [assign(reading, target, value) for target in node.targets]
    return owners[0]


def read_annotated(reading: Reading, node: ast.AnnAssign) -> str:
    """Read ``a: Tensor = value``."""
    if node.value is None:
        return ""
    return assign(reading, node.target, evaluate(reading, node.value))


def assign(reading: Reading, target: ast.expr, value: Any) -> str:
    """Give ``value`` to a target, and its node the target's name; return the node's id."""
    if isinstance(target, ast.Name):
        if isinstance(value, Tensor):
            check_whole(value.now.node)  # as the node under this name would not say what it is
        reading.scope.bind(target.id, value)
        return _name(reading, reading.scope.prefix + id_of(target.id), value)
    if isinstance(target, ast.Starred):
        raise Unreadable("*rest as a target is not read", target)
    if isinstance(target, ast.Tuple | ast.List):
        return _unpack(reading, target, value)
    if isinstance(target, ast.Attribute):
        return _assign_attribute(reading, target, value)
    assert isinstance(target, ast.Subscript)
    return _assign_item(reading, target, value)


def _name(reading: Reading, stem: str, value: Any) -> str:
    """Name the node of a value that has no name yet; of a list, each item's by its number."""
    if isinstance(value, Tensor) and value.is_parameter:  # it may be filled later
        reading.graph.name(value.now.node, stem)
        return value.now.node.id
    if isinstance(value, Tensor | Several):
        reading.graph.name(value.node, stem)
        return value.node.id
    if isinstance(value, Instance):
        name_module(reading, value, stem, for_good=reading.scope.outer is None)
    if isinstance(value, list | tuple):
        _name_items(reading, stem, value, set())
    return stem


NAMED = frozenset({Tensor, Several, Instance, list, tuple})
"""What has a name, or holds what has one."""


def _name_items(reading: Reading, stem: str, items: Any, seen: set[int]) -> None:
    """Name the nodes of a list; a list that stands in many places is looked through once."""
    seen.add(id(items))
    reading.spend(len(items))
    if not holds(items, NAMED):
        return
    places = range(len(items))
    first = dict(zip(map(id, reversed(items)), reversed(places), strict=True))
    for k in sorted(first.values()):
        item = items[k]
        if isinstance(item, Tensor | Several | Instance):
            _name(reading, f"{stem}.{k}", item)
        elif isinstance(item, list | tuple) and id(item) not in seen:
            _name_items(reading, f"{stem}.{k}", item, seen)


def _unpack(reading: Reading, target: ast.Tuple | ast.List, value: Any) -> str:
    if isinstance(value, Tensor):
        shape = value.ref.shape
        value = apply(reading, "unbind", [value], {})
        if shape and isinstance(value, Several):
            value.count = shape[0]
    if isinstance(value, Several):
        names = [id_of(e.id) for e in target.elts if isinstance(e, ast.Name) and e.id != "_"]
        reading.graph.name(value.node, reading.scope.prefix + ("_".join(names) or "_"))
        if value.count is None and not any(isinstance(e, ast.Starred) for e in target.elts):
            value = [value.output(k) for k in range(len(target.elts))]
    parts = spread(target, items_of(reading, value))
    owners = [assign(reading, part, item) for part, item in parts]
    return owners[0] if owners else ""


def _assign_attribute(reading: Reading, target: ast.Attribute, value: Any) -> str:
    owner = evaluate(reading, target.value)
    if isinstance(owner, Instance):
        set_member(reading, owner, target.attr, value)
        return stem_of(owner, target.attr)
    if isinstance(owner, Tensor) and target.attr == "requires_grad" and isinstance(value, bool):
        attribute(reading, owner, "requires_grad_")  # which refuses what it is not known of
        (require_grad if value else forget_grad)(reading, owner)
        return owner.node.id
    if isinstance(owner, Tensor) and target.attr == "grad" and value is None:
        check_own_grad(owner)
        empty_gradient(reading, owner, zeros=False)
        return ""
    if isinstance(owner, Path) and owner.parts[:3] in IGNORED_SETTINGS:
        return ""
    raise Unreadable(f".{target.attr} cannot be set in a graph", target)


def _assign_item(reading: Reading, target: ast.Subscript, value: Any) -> str:
    owner = evaluate(reading, target.value)
    key = evaluate(reading, target.slice)
    if isinstance(owner, Tensor):
        raise Unreadable(WRITES, target)
    if isinstance(owner, Path) and owner.parts in IGNORED_SETTINGS:
        return ""
    if isinstance(owner, Instance):
        put_module(reading, owner, key, value)
        return ""
    if not isinstance(owner, list | dict):
        raise Unreadable(f"{describe(owner)} cannot be written into", target)
    if isinstance(key, slice):
        value = items_of(reading, value)
        check_items(len(owner) + len(value))
    _put(owner, key, value, target)
    return ""


def _put(owner: Any, key: Any, value: Any, target: ast.expr) -> None:
    """Let an item of a list or a dict be a value; what Python raises is the reason."""
    try:
        attempt(setitem, owner, key, value)
    except Unreadable as unreadable:
        unreadable.place(target)
        raise


def read_augmented(reading: Reading, node: ast.AugAssign) -> str:
    """Read ``b += 2``: the tensor that ``b`` names becomes the next node."""
    if isinstance(node.target, ast.Attribute) and node.target.attr == "data":
        raise Unreadable(
            ".data hides a tensor from autograd; write with torch.no_grad(): and the name alone",
            node.target,
        )
    if isinstance(node.target, ast.Subscript):
        return _augment_item(reading, node, node.target)
    if isinstance(node.target, ast.Attribute):
        return _augment_attribute(reading, node, node.target)
    assert isinstance(node.target, ast.Name)
    held = evaluate(reading, ast.copy_location(ast.Name(node.target.id, ast.Load()), node.target))
    is_parameter = isinstance(held, Tensor) and held.is_parameter
    result = _augmented(reading, node, held, node.target.id if is_parameter else "")
    return "" if isinstance(held, list) and result is held else assign(reading, node.target, result)


def _augment_attribute(reading: Reading, node: ast.AugAssign, target: ast.Attribute) -> str:
    """Read ``self.steps += 1``."""
    owner = evaluate(reading, target.value)
    if not isinstance(owner, Instance):
        raise Unreadable(
            "an in-place operator is read on names, items of lists and attributes of instances",
            target,
        )
    held = member(reading, owner, target.attr)
    result = _augmented(reading, node, held, target.attr)
    set_member(reading, owner, target.attr, result)
    return result.node.id if isinstance(result, Tensor) else ""


def _augment_item(reading: Reading, node: ast.AugAssign, target: ast.Subscript) -> str:
    """Read ``weights[k] -= 1`` of a list or a dict."""
    owner = evaluate(reading, target.value)
    if not isinstance(owner, list | dict):
        is_tensor = isinstance(owner, Tensor)
        raise Unreadable(
            WRITES if is_tensor else f"{describe(owner)} cannot be written into", target
        )
    key = evaluate(reading, target.slice)
    if not isinstance(key, int | str):
        raise Unreadable("an item is changed in place by its number or key", target)
    held = index(reading, owner, key)
    result = _augmented(reading, node, held, "item")
    _put(owner, key, result, target)  # a list that its own item's value made shorter is refused
    return result.node.id if isinstance(result, Tensor) and result is held else ""


def _augmented(reading: Reading, node: ast.AugAssign, held: Any, stem: str) -> Any:
    """Return what ``held op= value`` leaves under its name; the same object where Python does.

    A node in the place of another one is named like the first there was, or ``stem``, if it is one.
    """
    value = operand(reading, node.value)
    if isinstance(held, list) and isinstance(node.op, ast.Add):
        more = items_of(reading, value)
        check_items(len(held) + len(more))
        held.extend(more)
        return held
    if isinstance(held, list) and isinstance(node.op, ast.Mult):
        held[:] = binary_operator(reading, node.op, held, value)
        reading.spend(len(held))
        return held
    if isinstance(held, Gradient):
        raise Unreadable("a .grad is not changed in place; write g = g * 2 for g *= 2")
    if not isinstance(held, Tensor) or isinstance(node.op, ast.MatMult):
        return binary_operator(reading, node.op, held, value)  # PyTorch has no @ in place
    operate(reading, node.op, held, value)
    if stem:
        reading.graph.name(held.node, held.past[0][1].node.id or stem)
    return held
