"""Classes of a script: their bodies are names, their methods functions that are inlined."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from service.translate.effects import resolve
from service.translate.members import MODULE_NAMES
from service.translate.objects import Class
from service.translate.reading import Reading
from service.translate.scopes import COMPREHENSIONS, Function, Scope
from service.translate.unreadable import Unreadable
from service.translate.values import Path

IN_A_BODY = (ast.FunctionDef, ast.Assign, ast.AnnAssign, ast.Expr, ast.Pass)
DUNDERS = frozenset({"__init__", "__call__"})
SCOPED = (*COMPREHENSIONS, ast.Lambda, ast.NamedExpr)
OBJECT = Path(("builtins", "object"))
MODULES = frozenset({("torch", "nn", "Module"), ("torch", "nn", "modules", "Module")})

Execute = Callable[[Reading, list[ast.stmt]], None]


def define_class(reading: Reading, node: ast.ClassDef, execute: Execute) -> None:
    """Read ``class Name(base): ...``.

    Raises:
        Unreadable: it does more than name constants and methods.
    """
    if reading.depth or reading.scope.outer is not None:
        raise Unreadable("a class is read at the top of a script, not inside a function or class")
    if node.decorator_list:
        raise Unreadable("a class with a decorator is not read; write out its __init__")
    cls = _derived(reading, node)
    outer = reading.scope
    reading.scope = Scope(cls.names, outer, prefix=f"{node.name}.")
    try:
        for statement in node.body:
            _check_statement(statement)
            execute(reading, [statement])
    finally:
        reading.scope = outer
    for name, value in cls.names.items():
        _check_member(cls, name, value, node)
        reading.members.add(name)
        if isinstance(value, Function) and value.node in node.body:
            cls.names[name] = replace(value, scope=outer, owner=cls)
    outer.bind(node.name, cls)


def _derived(reading: Reading, node: ast.ClassDef) -> Class:
    """Return the class, still empty, with its base."""
    if len(node.bases) > 1 or node.keywords:
        raise Unreadable("a class is read with one base, and without a metaclass")
    base = resolve(reading, node.bases[0]) if node.bases else OBJECT
    if isinstance(base, Class):
        return Class(node.name, base, base.is_module)
    if isinstance(base, Path) and base.parts in (*MODULES, OBJECT.parts):
        return Class(node.name, None, is_module=base.parts in MODULES)
    raise Unreadable(
        "the base of a class is nn.Module or another class of the script; hold a module of another "
        "kind as an attribute",
        node.bases[0],
    )


def _check_statement(node: ast.stmt) -> None:
    """Refuse what a body does besides naming constants and methods."""
    if not isinstance(node, IN_A_BODY):
        raise Unreadable(
            f"{type(node).__name__} in the body of a class is not read; do it in __init__", node
        )
    if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
        raise Unreadable("an expression in the body of a class is not read", node)
    function = node if isinstance(node, ast.FunctionDef) else None
    for decorator in function.decorator_list if function else ():
        if isinstance(decorator, ast.Name):
            raise Unreadable(
                f"@{decorator.id} is not read; write a method or a function without it", decorator
            )
    for part in ast.walk(function.args if function else node):
        if isinstance(part, SCOPED):
            raise Unreadable(
                "a function or a loop inside an expression in the body of a class is not read; "
                "write it in __init__",
                part,
            )


def _check_member(cls: Class, name: str, value: Any, node: ast.ClassDef) -> None:
    """Refuse names that change how Python, or PyTorch, treats the class."""
    is_function = isinstance(value, Function)
    if name.startswith("__") and not (name in DUNDERS and is_function):
        raise Unreadable(f"{name} in a class is not read; write a method by another name", node)
    if not cls.is_module:
        return
    if name == "__call__" or (name in MODULE_NAMES and name not in ("forward", "__init__")):
        raise Unreadable(f"{name} in a class would take the place of nn.Module's own", node)
    if name == "forward" and not is_function:
        raise Unreadable("forward is read as a function of the class", node)
