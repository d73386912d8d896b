"""Expressions of a script, by the kind of their syntax node."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from service.contract.problem import quote
from service.translate.arguments import describe
from service.translate.attributes import attribute, check_there
from service.translate.builtins_read import NAMES, items_of, iterate
from service.translate.calls import call
from service.translate.effects import bound_in, check_silent
from service.translate.folding import check_bits, nested_items
from service.translate.formatting import text_of
from service.translate.gradients import gradient_tensor, tensor_of
from service.translate.objects import Bound, Class, Instance
from service.translate.operators import binary_operator, compare_operator, index, unary_operator
from service.translate.reading import AT_ONCE, Reading
from service.translate.scopes import Function, Scope, own_names
from service.translate.unreadable import Unreadable
from service.translate.values import Array, Gradient, Method, Path, Several, Tensor, Unknown

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
        unreadable.place(node)
        raise


def operand(reading: Reading, node: ast.expr) -> Any:
    """Return what an expression stands for, ``x.grad`` as a tensor."""
    value = evaluate(reading, node)
    if not isinstance(value, Gradient):
        return value
    try:
        return gradient_tensor(reading, value)
    except Unreadable as unreadable:
        unreadable.place(node)
        raise


def loop_items(reading: Reading, node: ast.expr) -> Iterator[Any]:
    """Return the items of what a loop goes over, which is evaluated at once."""
    return _placed(iterate(reading, operand(reading, node)), node)


def _placed(items: Iterator[Any], node: ast.expr) -> Iterator[Any]:
    try:
        yield from items
    except Unreadable as unreadable:
        unreadable.place(node)
        raise


def truth(reading: Reading, node: ast.expr) -> bool:
    """Return whether a condition holds, if the script alone says so."""
    return _holds(evaluate(reading, node), node)


def _holds(value: Any, node: ast.expr) -> bool:
    if isinstance(value, Gradient) and not value.there:
        return False
    if isinstance(value, Tensor | Gradient):
        raise Unreadable(VALUE_DECIDES, node)
    if isinstance(value, Unknown):
        raise Unreadable(value.reason, node)
    if isinstance(value, Array):
        raise Unreadable("whether an array holds depends on its items", node)
    return bool(value)


def _constant(_reading: Reading, node: ast.Constant) -> Any:
    if isinstance(node.value, int):
        check_bits(node.value.bit_length())
    return node.value


def _name(reading: Reading, node: ast.Name) -> Any:
    try:
        value = reading.scope.find(node.id)
        if isinstance(value, Tensor):
            value.held = True
        return value
    except KeyError:
        if reading.scope.is_own(node.id):
            raise Unreadable(
                f"the name {quote(node.id)} belongs to this function, as it assigns it, and holds "
                "nothing yet; `global` says that another one is meant"
            ) from None
        if node.id in NAMES:
            return Path(("builtins", node.id))
        if hasattr(builtins, node.id):
            raise Unreadable(f"Python's own {node.id} is not read here") from None
        raise Unreadable(f"the name {quote(node.id)} is not defined before this line") from None


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
            unreadable.place(one)
            raise
        if isinstance(left, list | tuple | str):
            reading.spend(len(left))
    return left


def _unary(reading: Reading, node: ast.UnaryOp) -> Any:
    value = evaluate(reading, node.operand)
    if isinstance(value, Gradient) and isinstance(node.op, ast.Not) and not value.there:
        return True  # not None
    return unary_operator(reading, node.op, tensor_of(reading, value))


def _compare(reading: Reading, node: ast.Compare) -> Any:
    left = evaluate(reading, node.left)
    result: Any = True
    for op, comparator in zip(node.ops, node.comparators, strict=True):
        right = evaluate(reading, comparator)
        result = _compared(reading, op, left, right)
        if isinstance(result, Tensor) and len(node.ops) > 1:
            raise Unreadable("a < b < c asks for a tensor's value; write (a < b) & (b < c)")
        if not isinstance(result, Tensor) and not result:
            return False
        left = right
    return result


def _compared(reading: Reading, op: ast.cmpop, left: Any, right: Any) -> Any:
    gradients = [one for one in (left, right) if isinstance(one, Gradient)]
    if not gradients or not isinstance(op, ast.Is | ast.IsNot):
        return compare_operator(reading, op, *(tensor_of(reading, one) for one in (left, right)))
    if left is not None and right is not None:
        raise Unreadable("whether a gradient is the same tensor as another is not read here")
    check_there(reading, gradients[0])
    return gradients[0].there == isinstance(op, ast.IsNot)


def _bool(reading: Reading, node: ast.BoolOp) -> Any:
    wanted = isinstance(node.op, ast.Or)
    *parts, last = node.values
    for part in parts:
        value = evaluate(reading, part)
        if isinstance(value, Tensor):
            raise Unreadable("and, or ask for a tensor's value; & and | are ops", part)
        if _holds(value, part) == wanted:
            return value
    return evaluate(reading, last)  # whatever it is


def _subscript(reading: Reading, node: ast.Subscript) -> Any:
    value = operand(reading, node.value)
    key = operand(reading, node.slice)
    if isinstance(key, list | tuple):
        reading.spend(nested_items(key))
    found = index(reading, value, key)
    if isinstance(key, slice) and isinstance(found, list | tuple | str):
        reading.spend(len(found))
    return found


def _slice(reading: Reading, node: ast.Slice) -> slice:
    bounds = (node.lower, node.upper, node.step)
    return slice(*(None if one is None else evaluate(reading, one) for one in bounds))


def _items(reading: Reading, nodes: list[ast.expr]) -> list[Any]:
    items: list[Any] = []
    for node in nodes:
        if isinstance(node, ast.Starred):
            items.extend(items_of(reading, operand(reading, node.value)))
        else:
            items.append(operand(reading, node))
    reading.spend(len(items))
    return items


def _dict(reading: Reading, node: ast.Dict) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            raise Unreadable("** in a dict is not read")
        known = _key(reading, key)
        found[known] = operand(reading, value)
    reading.spend(len(found))
    return found


def _key(reading: Reading, node: ast.expr) -> str | int:
    key = evaluate(reading, node)
    if not isinstance(key, str | int):
        raise Unreadable("the keys of a dict are strings or whole numbers")
    return key


Comprehension = ast.ListComp | ast.GeneratorExp | ast.DictComp


def _generator(reading: Reading, node: Comprehension) -> Iterator[Any]:
    """Return the items of a comprehension; only what the first loop goes over is read at once."""
    outer = reading.scope
    scope = Scope(outer=outer, prefix=outer.prefix, is_comprehension=True)
    first = loop_items(reading, node.generators[0].iter)
    return _resumed(reading, scope, _generate(reading, node, first, 0))


def _resumed(reading: Reading, scope: Scope, items: Iterator[Any]) -> Iterator[Any]:
    """Yield items, each of them read in ``scope`` at the moment when it is asked for."""
    while True:
        outer, reading.scope = reading.scope, scope
        try:
            item = next(items)
        except StopIteration:
            return
        finally:
            reading.scope = outer
        yield item


def _generate(
    reading: Reading, node: Comprehension, items: Iterator[Any], depth: int
) -> Iterator[Any]:
    generator = node.generators[depth]
    for item in items:
        bind_names(reading, generator.target, item)
        if not all(truth(reading, test) for test in generator.ifs):
            continue
        if depth + 1 < len(node.generators):
            inner = loop_items(reading, node.generators[depth + 1].iter)
            yield from _generate(reading, node, inner, depth + 1)
        elif isinstance(node, ast.DictComp):
            key = _key(reading, node.key)
            yield key, operand(reading, node.value)
        else:
            yield operand(reading, node.elt)


def bind_names(reading: Reading, target: ast.expr, value: Any) -> None:
    """Let the names of a target hold a value that has its name already, as a loop's do."""
    if isinstance(target, ast.Name):
        reading.scope.bind(target.id, value)
        return
    if not isinstance(target, ast.Tuple | ast.List):
        raise Unreadable("a loop's target is a name, or a tuple of names", target)
    for part, item in spread(target, items_of(reading, value)):
        bind_names(reading, part, item)


def spread(target: ast.Tuple | ast.List, items: list[Any]) -> list[tuple[ast.expr, Any]]:
    """Return what each part of a target gets; ``*rest`` gets a list of what the others leave."""
    parts = target.elts
    starred = [k for k, part in enumerate(parts) if isinstance(part, ast.Starred)]
    if not starred:
        if len(items) != len(parts):
            raise Unreadable(f"{len(items)} values for {len(parts)} names", target)
        return list(zip(parts, items, strict=True))
    before, behind = starred[0], len(parts) - starred[0] - 1
    if len(items) < before + behind:
        raise Unreadable(f"{len(items)} values for {before + behind} names", target)
    end = len(items) - behind
    star = parts[before]
    assert isinstance(star, ast.Starred)
    return [
        *zip(parts[:before], items[:before], strict=True),
        (star.value, items[before:end]),
        *zip(parts[before + 1 :], items[end:], strict=True),
    ]


def _call(reading: Reading, node: ast.Call) -> Any:
    function = evaluate(reading, node.func)
    values = _items(reading, node.args)
    keywords: dict[str, Any] = {}
    for keyword in node.keywords:
        value = operand(reading, keyword.value)
        if keyword.arg is not None:
            given = {keyword.arg: value}
        elif isinstance(value, dict):
            given = value
        else:
            raise Unreadable(f"{describe(value)} cannot be spread with **")
        for name in given:
            if name in keywords or not isinstance(name, str):
                raise Unreadable(f"the keyword {quote(str(name))} is given twice, or is no name")
        keywords |= given
    if _is_of_torch(function):
        for value in (*values, *keywords.values()):
            if isinstance(value, list | tuple):
                reading.spend(nested_items(value))
    return call(reading, function, values, keywords)


def _is_of_torch(function: Any) -> bool:
    """Whether a function looks through the lists that it is given."""
    if isinstance(function, Method):
        return isinstance(function.owner, Tensor)
    return isinstance(function, Instance) or (
        isinstance(function, Path) and function.parts[0] not in ("builtins", "math")
    )


def function_of(reading: Reading, node: ast.Lambda | ast.FunctionDef) -> Function:
    """Return a function of the script, its defaults evaluated where it is defined."""
    arguments = node.args
    places = [*arguments.posonlyargs, *arguments.args]
    behind = places[len(places) - len(arguments.defaults) :]
    given = [
        *zip(behind, arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    defaults = {one.arg: evaluate(reading, value) for one, value in given if value is not None}
    return Function(node, reading.scope, defaults, own=own_names(node))


def _walrus(reading: Reading, node: ast.NamedExpr) -> Any:
    value = operand(reading, node.value)
    scope = reading.scope
    while scope.is_comprehension and scope.outer is not None:
        scope = scope.outer  # the name belongs to what is around a comprehension
    scope.bind(node.target.id, value)
    if isinstance(value, Tensor):
        value.held = True
    return value


def _text(reading: Reading, node: ast.JoinedStr) -> Any:
    """Return the text of an f-string, where constants alone make it."""
    parts: list[str] = []
    for part in node.values:
        text = _text_part(reading, part)
        if isinstance(text, Unknown):
            check_silent(reading, node)
            return text
        parts.append(text)
        reading.spend(len(text) // AT_ONCE)
    return "".join(parts)


def _text_part(reading: Reading, node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    assert isinstance(node, ast.FormattedValue)
    check_silent(reading, node.value)
    if not _is_constant(reading, node.value):
        return Unknown("this text has a part that is there only when the graph runs")
    spec = "" if node.format_spec is None else evaluate(reading, node.format_spec)
    return text_of(evaluate(reading, node.value), node.conversion, spec)


def _is_constant(reading: Reading, node: ast.expr) -> bool:
    """Whether no tensor, and nothing that is not read here, has a part in an expression."""
    own = bound_in(node)
    waiting: list[ast.AST] = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Call):
            if not isinstance(part.func, ast.Name) or part.func.id not in NAMES:
                return False
            if part.func.id == "len":
                continue  # known of a list of tensors too
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load) and part.id not in own:
            if part.id not in NAMES and hasattr(builtins, part.id):
                return False
            value = _name(reading, part)
            items = value.values() if isinstance(value, dict) else value
            items = items if isinstance(value, list | tuple | dict) else [value]
            reading.spend(len(items) // AT_ONCE)
            if any(issubclass(kind, WITH_TENSORS) for kind in set(map(type, items))):
                return False
        waiting.extend(ast.iter_child_nodes(part))
    return True


WITH_TENSORS = (Tensor, Several, Gradient, Function, Instance, Class, Bound, Unknown, Iterator)


READERS: Mapping[type[ast.expr], Callable[[Reading, Any], Any]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.Attribute: lambda reading, node: attribute(
        reading, evaluate(reading, node.value), node.attr
    ),
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.Compare: _compare,
    ast.BoolOp: _bool,
    ast.IfExp: lambda reading, node: evaluate(
        reading, node.body if truth(reading, node.test) else node.orelse
    ),
    ast.Subscript: _subscript,
    ast.Slice: _slice,
    ast.List: lambda reading, node: _items(reading, node.elts),
    ast.Tuple: lambda reading, node: tuple(_items(reading, node.elts)),
    ast.Dict: _dict,
    ast.ListComp: lambda reading, node: list(_generator(reading, node)),
    ast.DictComp: lambda reading, node: dict(_generator(reading, node)),
    ast.GeneratorExp: _generator,
    ast.Call: _call,
    ast.Lambda: function_of,
    ast.NamedExpr: _walrus,
    ast.JoinedStr: _text,
}
