"""Scopes of a script, functions that keep theirs, and which scope a name belongs to in Python."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.translate.unreadable import Unreadable

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Scope:
    """The names of a function body, of a comprehension, or of the script.

    ``own`` are the names that a function body assigns: they are never looked for further out.
    ``elsewhere`` are those that it declares ``global`` or ``nonlocal``, with the scope they are in.
    ``function`` is the one whose body it is.
    """

    names: dict[str, Any] = field(default_factory=dict)
    outer: Scope | None = None
    prefix: str = ""
    own: frozenset[str] = frozenset()
    elsewhere: Mapping[str, Scope] = field(default_factory=dict)
    is_comprehension: bool = False
    function: Function | None = None

    def find(self, name: str) -> Any:
        """Return what ``name`` holds; raise KeyError."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.elsewhere:
                return scope.elsewhere[name].names[name]
            if name in scope.names:
                return scope.names[name]
            if name in scope.own:
                break
            scope = scope.outer
        raise KeyError(name)

    def bind(self, name: str, value: Any) -> None:
        """Let ``name`` hold ``value``, in the scope that it belongs to."""
        self.elsewhere.get(name, self).names[name] = value

    def is_own(self, name: str) -> bool:
        """Whether ``name`` belongs to the function that is being read, bound or not."""
        scope: Scope = self
        while scope.is_comprehension and scope.outer is not None and name not in scope.names:
            scope = scope.outer
        return name in scope.own


@dataclass(frozen=True, eq=False)
class Function:
    """A function of the script, with the scope that it was made in.

    ``defaults`` are by the names of its parameters; ``owner`` is the class in whose body it stands.
    """

    node: ast.FunctionDef | ast.Lambda
    scope: Scope
    defaults: Mapping[str, Any]
    grad: bool | None = None
    inference: bool = False
    own: frozenset[str] = frozenset()
    owner: Any = None


def own_names(node: ast.FunctionDef | ast.Lambda) -> frozenset[str]:
    """Return the names that belong to a function because its body assigns them."""
    declared = {*declarations(node, ast.Global), *declarations(node, ast.Nonlocal)}
    return frozenset(_assigned(node)) - declared


def declarations(
    node: ast.FunctionDef | ast.Lambda, kind: type[ast.Global | ast.Nonlocal]
) -> list[str]:
    """Return the names that a function body declares ``global`` or ``nonlocal``."""
    return [name for part in _body(node) if isinstance(part, kind) for name in part.names]


def scope_of_call(function: Function, prefix: str) -> Scope:
    """Return the scope that a call of a function of the script makes."""
    scope = Scope(outer=function.scope, prefix=prefix, own=function.own, function=function)
    if isinstance(function.node, ast.Lambda):
        return scope
    elsewhere = dict.fromkeys(declarations(function.node, ast.Global), _module(function.scope))
    for name in declarations(function.node, ast.Nonlocal):
        elsewhere[name] = _enclosing(function.scope, name)
    scope.elsewhere = elsewhere
    return scope


def _module(scope: Scope) -> Scope:
    while scope.outer is not None:
        scope = scope.outer
    return scope


def _enclosing(scope: Scope, name: str) -> Scope:
    """Return the scope of the nearest function around that has a name of its own."""
    while scope.outer is not None:
        if name in scope.elsewhere:
            return scope.elsewhere[name]
        if not scope.is_comprehension and (name in scope.own or name in scope.names):
            return scope
        scope = scope.outer
    raise Unreadable(f"no function around has a name {name}")


def _body(node: ast.FunctionDef | ast.Lambda) -> Iterator[ast.AST]:
    """Yield the parts of a body, without those of functions inside it."""
    waiting: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else [*node.body]
    while waiting:
        part = waiting.pop()
        yield part
        if not isinstance(part, FUNCTIONS):
            waiting.extend(ast.iter_child_nodes(part))


def _assigned(node: ast.FunctionDef | ast.Lambda) -> Iterator[str]:
    inner: set[int] = set()  # the targets of comprehensions are no names of the function
    for part in _body(node):
        if isinstance(part, COMPREHENSIONS):
            targets = (sub for one in part.generators for sub in ast.walk(one.target))
            inner.update(id(sub) for sub in targets)
        elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield part.name
        elif isinstance(part, ast.alias):
            yield part.asname or part.name.partition(".")[0]
    for part in _body(node):
        is_target = isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load)
        if is_target and id(part) not in inner:
            yield part.id  # type: ignore[attr-defined]
