"""Expressions of a script, by the kind of their syntax node."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from service.contract.problem import quote
from service.translate.arguments import describe
from service.translate.attributes import attribute
from service.translate.builtins_read import NAMES, items_of
from service.translate.calls import call
from service.translate.gradients import gradient_tensor, has_gradient
from service.translate.operators import (
    binary_operator,
    compare_operator,
    index,
    unary_operator,
)
from service.translate.reading import Reading
from service.translate.unreadable import Unreadable
from service.translate.values import Function, Gradient, Path, Scope, Tensor

VALUE_DECIDES = (
    "a tensor's value decides here, and it is there only when the graph runs; torch.where chooses "
    "element by element"
)


def evaluate(reading: Reading, node: ast.expr) -> Any:
    """Return what an expression stands for.

    Raises:
        Unreadable: it has no meaning in a graph; placed at the innermost expression concerned.
    """
    read = READERS.get(type(node))
    try:
        reading.step()
        if read is None:
            raise Unreadable(f"{type(node).__name__} is no expression that is read here")
        return read(reading, node)
    except Unreadable as unreadable:
        if unreadable.node is None:
            unreadable.node = node
        raise


def operand(reading: Reading, node: ast.expr) -> Any:
    """Return what an expression stands for, ``x.grad`` as a tensor."""
    value = evaluate(reading, node)
    if isinstance(value, Gradient):
        try:
            return gradient_tensor(reading, value)
        except Unreadable as unreadable:
            unreadable.node = unreadable.node or node
            raise
    return value


def loop_items(reading: Reading, node: ast.expr) -> list[Any]:
    """Return the items of what a loop goes over."""
    value = operand(reading, node)
    try:
        return items_of(reading, value)
    except Unreadable as unreadable:
        unreadable.node = unreadable.node or node
        raise


def truth(reading: Reading, node: ast.expr) -> bool:
    """Return whether a condition holds, if the script alone says so."""
    value = evaluate(reading, node)
    if isinstance(value, Tensor):
        raise Unreadable(VALUE_DECIDES, node)
    return bool(value)


def _constant(_reading: Reading, node: ast.Constant) -> Any:
    return node.value


def _name(reading: Reading, node: ast.Name) -> Any:
    try:
        return reading.scope.find(node.id)
    except KeyError:
        if node.id in NAMES:
            return Path(("builtins", node.id))
        raise Unreadable(f"the name {quote(node.id)} is not defined before this line") from None


def _attribute(reading: Reading, node: ast.Attribute) -> Any:
    return attribute(reading, evaluate(reading, node.value), node.attr)


def _binary(reading: Reading, node: ast.BinOp) -> Any:
    """Read ``a + b + c + ...`` without going down once for every term."""
    spine = [node]
    while isinstance(spine[-1].left, ast.BinOp):
        spine.append(spine[-1].left)
    left = operand(reading, spine[-1].left)
    for one in reversed(spine):
        right = operand(reading, one.right)
        try:
            left = binary_operator(reading, one.op, left, right)
        except Unreadable as unreadable:
            unreadable.node = unreadable.node or one
            raise
    return left


def _unary(reading: Reading, node: ast.UnaryOp) -> Any:
    return unary_operator(reading, node.op, operand(reading, node.operand))


def _compare(reading: Reading, node: ast.Compare) -> Any:
    left = evaluate(reading, node.left)
    if isinstance(left, Gradient) and isinstance(node.ops[0], ast.Is | ast.IsNot):
        return has_gradient(reading, left.tensor) == isinstance(node.ops[0], ast.IsNot)
    left = gradient_tensor(reading, left) if isinstance(left, Gradient) else left
    result: Any = True
    for op, comparator in zip(node.ops, node.comparators, strict=True):
        right = operand(reading, comparator)
        result = compare_operator(reading, op, left, right)
        if isinstance(result, Tensor) and len(node.ops) > 1:
            raise Unreadable("a < b < c asks for a tensor's value; write (a < b) & (b < c)")
        if not isinstance(result, Tensor) and not result:
            return False
        left = right
    return result


def _bool(reading: Reading, node: ast.BoolOp) -> Any:
    wanted = isinstance(node.op, ast.Or)
    value: Any = None
    for part in node.values:
        value = evaluate(reading, part)
        if isinstance(value, Tensor):
            raise Unreadable("and, or ask for a tensor's value; & and | are ops", part)
        if bool(value) == wanted:
            return value
    return value


def _conditional(reading: Reading, node: ast.IfExp) -> Any:
    return evaluate(reading, node.body if truth(reading, node.test) else node.orelse)


def _subscript(reading: Reading, node: ast.Subscript) -> Any:
    value = operand(reading, node.value)
    return index(reading, value, operand(reading, node.slice))


def _slice(reading: Reading, node: ast.Slice) -> slice:
    parts = [
        None if p is None else evaluate(reading, p) for p in (node.lower, node.upper, node.step)
    ]
    return slice(*parts)


def _items(reading: Reading, nodes: list[ast.expr]) -> list[Any]:
    items: list[Any] = []
    for node in nodes:
        if isinstance(node, ast.Starred):
            items.extend(items_of(reading, operand(reading, node.value)))
        else:
            items.append(operand(reading, node))
    return items


def _list(reading: Reading, node: ast.List) -> list[Any]:
    return _items(reading, node.elts)


def _tuple(reading: Reading, node: ast.Tuple) -> tuple[Any, ...]:
    return tuple(_items(reading, node.elts))


def _dict(reading: Reading, node: ast.Dict) -> dict[Any, Any]:
    if any(key is None for key in node.keys):
        raise Unreadable("** in a dict is not read")
    keys = [evaluate(reading, key) for key in node.keys if key is not None]
    if not all(isinstance(key, str | int) for key in keys):
        raise Unreadable("the keys of a dict are strings or whole numbers")
    return dict(zip(keys, _items(reading, node.values), strict=True))


def _comprehension(reading: Reading, node: ast.ListComp | ast.GeneratorExp) -> list[Any]:
    results: list[Any] = []
    outer = reading.scope
    reading.scope = Scope(outer=outer, prefix=outer.prefix)
    try:
        _generate(reading, node, 0, results)
    finally:
        reading.scope = outer
    return results


def _generate(
    reading: Reading, node: ast.ListComp | ast.GeneratorExp, depth: int, results: list[Any]
) -> None:
    if depth == len(node.generators):
        results.append(operand(reading, node.elt))
        return
    generator = node.generators[depth]
    for item in loop_items(reading, generator.iter):
        bind_names(reading, generator.target, item)
        if all(truth(reading, test) for test in generator.ifs):
            _generate(reading, node, depth + 1, results)


def bind_names(reading: Reading, target: ast.expr, value: Any) -> None:
    """Let the names of a target hold a value that has its name already, as a loop's do."""
    if isinstance(target, ast.Name):
        reading.scope.names[target.id] = value
        return
    if not isinstance(target, ast.Tuple | ast.List):
        raise Unreadable("a loop's target is a name, or a tuple of names", target)
    items = items_of(reading, value)
    if len(items) != len(target.elts):
        raise Unreadable(f"{len(items)} values for {len(target.elts)} names", target)
    for part, item in zip(target.elts, items, strict=True):
        bind_names(reading, part, item)


def _call(reading: Reading, node: ast.Call) -> Any:
    function = evaluate(reading, node.func)
    values = _items(reading, node.args)
    keywords: dict[str, Any] = {}
    for keyword in node.keywords:
        value = operand(reading, keyword.value)
        if keyword.arg is not None:
            keywords[keyword.arg] = value
        elif isinstance(value, dict):
            keywords |= value
        else:
            raise Unreadable(f"{describe(value)} cannot be spread with **")
    return call(reading, function, values, keywords)


def _lambda(reading: Reading, node: ast.Lambda) -> Function:
    return function_of(reading, node, no_grad=False)


def function_of(reading: Reading, node: ast.Lambda | ast.FunctionDef, *, no_grad: bool) -> Function:
    """Return a function of the script, its defaults evaluated where it is defined."""
    arguments = node.args
    if arguments.vararg or arguments.kwarg:
        raise Unreadable("functions with *args or **kwargs are not read", node)
    defaults = tuple(evaluate(reading, default) for default in arguments.defaults)
    keyword_defaults = tuple(
        None if default is None else evaluate(reading, default) for default in arguments.kw_defaults
    )
    return Function(node, reading.scope, defaults, keyword_defaults, no_grad)


def _walrus(reading: Reading, node: ast.NamedExpr) -> Any:
    value = operand(reading, node.value)
    reading.scope.names[node.target.id] = value
    return value


def _text(_reading: Reading, _node: ast.JoinedStr) -> str:
    return ""  # what a script prints is no part of the graph


READERS: Mapping[type[ast.expr], Callable[[Reading, Any], Any]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.Compare: _compare,
    ast.BoolOp: _bool,
    ast.IfExp: _conditional,
    ast.Subscript: _subscript,
    ast.Slice: _slice,
    ast.List: _list,
    ast.Tuple: _tuple,
    ast.Dict: _dict,
    ast.ListComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.Call: _call,
    ast.Lambda: _lambda,
    ast.NamedExpr: _walrus,
    ast.JoinedStr: _text,
}
