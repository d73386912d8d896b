"""Modules and instances of the script's own classes: how they are made, and told apart."""

from __future__ import annotations

from typing import Any

from torch import nn

from service.translate.attributes import may_be_parameter
from service.translate.builtins_read import items_of
from service.translate.objects import CONTAINERS, MISSING, Class, Instance, Parent
from service.translate.parameters import make_layer
from service.translate.reading import Reading
from service.translate.registration import register_module
from service.translate.scopes import Function, Scope
from service.translate.unreadable import Unreadable
from service.translate.values import Keywords, Path, Tensor, Values


def make_module(reading: Reading, kind: str, values: Values, keywords: Keywords) -> Instance:
    """Return what ``nn.kind(...)`` makes."""
    if kind == "Module":
        if values or keywords:
            raise Unreadable("nn.Module takes no arguments")
        return Instance(kind, {"training": True}, is_ready=True)
    if kind not in CONTAINERS:
        return make_layer(reading, kind, values, keywords)
    reading.step()
    made = Instance(kind, {"training": True}, is_ready=True)
    if keywords:
        raise Unreadable(f"nn.{kind} is read without keywords")
    for name, one in _contents(reading, kind, values):
        register_module(reading, made, name, one)
    return made


def _contents(reading: Reading, kind: str, values: Values) -> list[tuple[str, Any]]:
    """Return the modules of a new container, with their names."""
    if kind == "ModuleDict":
        given = values[0] if values else {}
        if len(values) > 1 or not isinstance(given, dict):
            raise Unreadable("nn.ModuleDict is read with a dict")
        return list(given.items())
    if kind == "ModuleList":
        if len(values) > 1:
            raise Unreadable("nn.ModuleList takes one list")
        values = items_of(reading, values[0]) if values and values[0] is not None else []
    return [(str(k), one) for k, one in enumerate(values)]


def make_instance(reading: Reading, cls: Class, values: Values, keywords: Keywords) -> Instance:
    """Return what ``Class(...)`` of the script makes: its ``__init__`` is inlined."""
    reading.step()
    made = Instance(cls)
    function = cls.find("__init__")
    if function is MISSING:
        start(made, values, keywords)
        return made
    if not isinstance(function, Function):
        raise Unreadable("__init__ is read as a function of the class")
    if reading.inline(reading, function, [made, *values], keywords) is not None:
        raise Unreadable("__init__() should return None")
    return made


def start(made: Instance, values: Values, keywords: Keywords) -> None:
    """Do what ``nn.Module.__init__``, or that of ``object``, does."""
    if values or keywords:
        raise Unreadable(f"the base of {made.kind} takes no arguments")
    if not made.is_module:
        return
    made.is_ready = True
    made.own["training"] = True
    for registered in made.places[1:]:
        registered.clear()


def parent(reading: Reading, values: Values) -> Parent:
    """Return ``super()``, or ``super(Class, self)``."""
    if values:
        if len(values) != 2:
            raise Unreadable("super is read as super() or super(Class, self)")
        cls, this = values
    else:
        cls, this = _place(reading.scope)
    is_one = isinstance(cls, Class) and isinstance(this, Instance) and isinstance(this.of, Class)
    if not is_one or cls not in this.of.line():
        raise Unreadable("super() is read in the methods of a class")
    return Parent(this, cls.base)


def _place(scope: Scope) -> tuple[Any, Any]:
    """Return the class in whose body the function being read stands, and its first argument."""
    function = scope.function
    if function is None or function.owner is None:
        return None, None
    arguments = function.node.args
    first = [*arguments.posonlyargs, *arguments.args][:1]
    return function.owner, scope.names.get(first[0].arg) if first else None


def is_instance(values: Values) -> bool:
    """Return ``isinstance(value, classes)`` for modules, tensors and classes of the script."""
    if len(values) != 2:
        raise Unreadable("isinstance takes a value and a class")
    value, classes = values
    several = classes if isinstance(classes, tuple) else (classes,)
    return any(_is_one(value, one) for one in several)


def _is_one(value: Any, cls: Any) -> bool:
    in_torch = isinstance(cls, Path) and cls.parts[0] == "torch"
    if isinstance(value, Instance):
        if isinstance(cls, Class):
            return isinstance(value.of, Class) and cls in value.of.line()
        known = getattr(nn, cls.parts[-1], None) if in_torch and cls.parts[1] == "nn" else None
        if isinstance(known, type):
            own = getattr(nn, value.of) if isinstance(value.of, str) else nn.Module
            return value.is_module and issubclass(own, known)
    if isinstance(value, Tensor) and in_torch:
        if cls.parts == ("torch", "Tensor"):
            return True
        if cls.parts[-1] == "Parameter":
            if not value.is_parameter and may_be_parameter(value):
                raise Unreadable("whether this is the parameter itself is known only when it runs")
            return value.is_parameter
        if isinstance(getattr(nn, cls.parts[-1], None), type) and cls.parts[1] == "nn":
            return False
    raise Unreadable("isinstance is read for modules, tensors and classes of the script")
