"""Statements of a script, in the order in which Python would run them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from service.contract.problem import quote
from service.translate.assignments import read_annotated, read_assignment, read_augmented
from service.translate.attributes import attribute
from service.translate.builtins_read import ENDS, IGNORED_CALLS, IGNORED_MODULES
from service.translate.classes import define_class
from service.translate.effects import check_silent, resolve
from service.translate.exported import helper
from service.translate.expressions import (
    bind_names,
    evaluate,
    function_of,
    loop_items,
    operand,
    truth,
)
from service.translate.names import id_of
from service.translate.objects import Instance
from service.translate.reading import MAX_DEPTH, Reading
from service.translate.scopes import Function, scope_of_call
from service.translate.unreadable import Unreadable
from service.translate.values import Keywords, Path, Tensor, Values

NO_GRAD = frozenset({"torch.no_grad", "torch.autograd.no_grad"})
GRAD = frozenset({"torch.enable_grad", "torch.autograd.enable_grad"})
SET_GRAD = frozenset({"torch.set_grad_enabled", "torch.autograd.set_grad_enabled"})
WITHOUT_EFFECT = frozenset(
    {
        "torch.autograd.set_detect_anomaly",
        "torch.autograd.detect_anomaly",
        "warnings.catch_warnings",
    }
)

DOES_SOMETHING = (
    ast.Call, ast.NamedExpr, ast.In, ast.NotIn, ast.Starred, ast.ListComp, ast.DictComp, ast.SetComp
)  # fmt: skip
"""Parts of an expression that change something, or step through an iterator."""

NOT_READ: Mapping[type[ast.stmt], str] = {
    ast.Try: "try is not read; nothing raises here",
    ast.AsyncFunctionDef: "async functions are not read",
    ast.AsyncFor: "async loops are not read",
    ast.AsyncWith: "async with is not read",
    ast.Match: "match is not read",
    ast.Raise: "raise is not read",
}


class Returned(Exception):
    """The end of a function, with its value."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Break(Exception):
    """The end of a loop."""


class Continue(Exception):
    """The end of one round of a loop."""


def execute(reading: Reading, statements: Sequence[ast.stmt]) -> None:
    """Read statements one after the other.

    Raises:
        Unreadable: one of them has no meaning in a graph.
    """
    for statement in statements:
        mark = reading.graph.mark()
        kind = type(statement)
        try:
            reading.step()
            if kind not in READERS:
                raise Unreadable(NOT_READ.get(kind, f"{kind.__name__} is not read"))
            owner = READERS[kind](reading, statement)
        except Unreadable as unreadable:
            unreadable.place(statement)
            raise
        reading.graph.name_rest(mark, owner or "")


# --- expressions as statements ------------------------------------------------------------------


def _expression(reading: Reading, node: ast.Expr) -> None:
    if not is_silent(reading, node.value):
        evaluate(reading, node.value)


def is_silent(reading: Reading, node: ast.expr) -> bool:
    """Whether an expression on a line of its own does nothing: text, a name, ``print(...)``."""
    if isinstance(node, ast.Constant | ast.Name):
        return True
    if isinstance(node, ast.JoinedStr):
        check_silent(reading, node)
        return True
    if isinstance(node, ast.Attribute | ast.Subscript | ast.Tuple | ast.Compare | ast.BinOp):
        return not any(isinstance(part, DOES_SOMETHING) for part in ast.walk(node))
    if not isinstance(node, ast.Call):
        return False
    function = resolve(reading, node.func)
    if not isinstance(function, Path) or function.parts in ENDS:
        return False
    if function.parts == ("random", "shuffle"):
        return False
    ignored = function.parts[0] in IGNORED_MODULES or function.parts in IGNORED_CALLS
    if ignored or function.parts == ("builtins", "print"):
        for given in (*node.args, *(keyword.value for keyword in node.keywords)):
            _pass_over(reading, given)
        return True
    return False


def _pass_over(reading: Reading, node: ast.expr) -> None:
    """Leave out what is printed; what calls a module is computed all the same."""
    try:
        check_silent(reading, node)
    except Unreadable:
        calls = (part for part in ast.walk(node) if isinstance(part, ast.Call))
        if not any(isinstance(resolve(reading, one.func), Instance) for one in calls):
            raise
        evaluate(reading, node)


# --- control ------------------------------------------------------------------------------------


def _if(reading: Reading, node: ast.If) -> None:
    if _is_retaining(reading, node):
        execute(reading, node.body)
        return
    execute(reading, node.body if truth(reading, node.test) else node.orelse)


def _is_retaining(reading: Reading, node: ast.If) -> bool:
    """Whether this is ``if x.requires_grad: x.retain_grad()`` where a run alone knows the flag.

    A node of a graph that does not require grad keeps no gradient, whatever it is told.
    """
    asked = node.test.value if isinstance(node.test, ast.Attribute) else None
    if len(node.body) > 1 or not isinstance(asked, ast.Name):
        return False
    if ast.unparse(node) != f"if {asked.id}.requires_grad:\n    {asked.id}.retain_grad()":
        return False
    held = evaluate(reading, asked)
    return isinstance(held, Tensor) and held.node.unsure


def _for(reading: Reading, node: ast.For) -> None:
    for item in loop_items(reading, node.iter):
        bind_names(reading, node.target, item)
        if _breaks(reading, node.body):
            return
    execute(reading, node.orelse)


def _while(reading: Reading, node: ast.While) -> None:
    while truth(reading, node.test):
        if _breaks(reading, node.body):
            return
    execute(reading, node.orelse)


def _breaks(reading: Reading, body: Sequence[ast.stmt]) -> bool:
    """Read one round of a loop; return whether it ends the loop."""
    try:
        execute(reading, body)
    except (Break, Continue) as end:
        return isinstance(end, Break)
    return False


def _break(_reading: Reading, _node: ast.Break) -> None:
    raise Break


def _continue(_reading: Reading, _node: ast.Continue) -> None:
    raise Continue


def _return(reading: Reading, node: ast.Return) -> None:
    raise Returned(None if node.value is None else operand(reading, node.value))


def _with(reading: Reading, node: ast.With) -> None:
    grad, inference = _modes(reading, [item.context_expr for item in node.items])
    enabled = reading.grad_enabled if grad is None else grad
    with reading.grad_mode(enabled, inference=inference):
        execute(reading, node.body)


def _modes(reading: Reading, nodes: Sequence[ast.expr]) -> tuple[bool | None, bool]:
    """Return whether there are gradients, None if nothing says so, and whether it is inference.

    Args:
        reading: the state of the reader.
        nodes: context managers or decorators; the last one that says something counts.
    """
    grad, inference = None, False
    for node in nodes:
        function = evaluate(reading, node.func if isinstance(node, ast.Call) else node)
        name = str(function) if isinstance(function, Path) else ""
        said = _mode_argument(reading, node)
        if name == "torch.inference_mode":
            grad = said is False
            inference = inference or not grad
        elif name in NO_GRAD:
            grad = False
        elif name in GRAD:
            grad = True
        elif name in SET_GRAD and said is not None:
            grad = said
        elif name not in WITHOUT_EFFECT:
            raise Unreadable("with is read for torch.no_grad() and its kin only", node)
    return grad, inference


def _mode_argument(reading: Reading, node: ast.expr) -> bool | None:
    """Return the argument ``mode`` of a context manager, None where there is none."""
    if not isinstance(node, ast.Call):
        return None
    given = [*node.args, *(one.value for one in node.keywords if one.arg == "mode")]
    return truth(reading, given[0]) if given else None


# --- functions ----------------------------------------------------------------------------------


def _define(reading: Reading, node: ast.FunctionDef) -> None:
    known = helper(node)
    if known is not None:
        reading.scope.bind(node.name, known)
        return
    grad, inference = _modes(reading, node.decorator_list)
    if any(isinstance(part, ast.Yield | ast.YieldFrom) for part in ast.walk(node)):
        raise Unreadable("generators are not read")
    function = function_of(reading, node)
    reading.scope.bind(node.name, replace(function, grad=grad, inference=inference))


def inline(reading: Reading, function: Function, values: Values, keywords: Keywords) -> Any:
    """Read the body of a function of the script as if it stood at the call."""
    if reading.depth >= MAX_DEPTH:
        raise Unreadable(f"functions call each other more than {MAX_DEPTH} deep")
    node = function.node
    prefix = f"{id_of(node.name)}." if isinstance(node, ast.FunctionDef) else ""
    scope = scope_of_call(function, prefix)
    scope.names = _parameters(function, values, keywords)
    outer, reading.scope = reading.scope, scope
    reading.depth += 1
    try:
        if function.grad is None:
            return _body(reading, node)
        with reading.grad_mode(function.grad, inference=function.inference):
            return _body(reading, node)
    except Returned as returned:
        return returned.value
    finally:
        reading.depth -= 1
        reading.scope = outer


def _body(reading: Reading, node: ast.FunctionDef | ast.Lambda) -> Any:
    if isinstance(node, ast.Lambda):
        return operand(reading, node.body)
    execute(reading, node.body)
    return None


def _parameters(function: Function, values: Values, keywords: Keywords) -> dict[str, Any]:
    arguments = function.node.args
    places = [one.arg for one in (*arguments.posonlyargs, *arguments.args)]
    names = [*places, *(one.arg for one in arguments.kwonlyargs)]
    given = dict(zip(places, values, strict=False))
    by_place = {one.arg for one in arguments.posonlyargs}
    more = {name: value for name, value in keywords.items() if name not in {*names} - by_place}
    keywords = {name: value for name, value in keywords.items() if name not in more}
    is_too_much = len(values) > len(places) and arguments.vararg is None
    if is_too_much or (more and arguments.kwarg is None) or keywords.keys() & given.keys():
        raise Unreadable("the arguments do not fit the function's parameters")
    if arguments.vararg is not None:
        given[arguments.vararg.arg] = tuple(values[len(places) :])
    if arguments.kwarg is not None:
        given[arguments.kwarg.arg] = more
    bound = {**function.defaults, **given, **keywords}
    missing = [name for name in names if name not in bound]
    if missing:
        raise Unreadable(f"the argument {missing[0]} is missing")
    return bound


# --- imports and the rest -----------------------------------------------------------------------


def _import(reading: Reading, node: ast.Import) -> None:
    for alias in node.names:
        parts = tuple(alias.name.split("."))
        name = alias.asname or parts[0]
        reading.scope.bind(name, Path(parts if alias.asname else parts[:1]))


def _import_from(reading: Reading, node: ast.ImportFrom) -> None:
    if node.level:
        raise Unreadable("imports from the script's own package are not read")
    for alias in node.names:
        if alias.name == "*":
            raise Unreadable("import * does not say which names it brings")
        if node.module == "__future__":
            continue
        module = Path(tuple((node.module or "").split(".")))
        reading.scope.bind(alias.asname or alias.name, attribute(reading, module, alias.name))


def _delete(reading: Reading, node: ast.Delete) -> None:
    for target in node.targets:
        if not isinstance(target, ast.Name):
            raise Unreadable("del is read for names only", target)
        scope = reading.scope.elsewhere.get(target.id, reading.scope)
        if target.id not in scope.names:
            raise Unreadable(f"there is no name {quote(target.id)} to delete here", target)
        del scope.names[target.id]


READERS: Mapping[type[ast.stmt], Callable[[Reading, Any], str | None]] = {
    ast.Assign: read_assignment,
    ast.AnnAssign: read_annotated,
    ast.AugAssign: read_augmented,
    ast.Expr: _expression,
    ast.Assert: lambda reading, node: check_silent(reading, node.test),
    ast.If: _if,
    ast.For: _for,
    ast.While: _while,
    ast.Break: _break,
    ast.Continue: _continue,
    ast.Return: _return,
    ast.With: _with,
    ast.FunctionDef: _define,
    ast.ClassDef: lambda reading, node: define_class(reading, node, execute),
    ast.Import: _import,
    ast.ImportFrom: _import_from,
    ast.Delete: _delete,
    **dict.fromkeys((ast.Pass, ast.Global, ast.Nonlocal), lambda _reading, _node: None),
}
