"""Classes of a script, their instances, and modules of ``torch.nn``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from service.translate.scopes import Function
from service.translate.values import Tensor

MISSING = object()


@dataclass(eq=False)
class Class:
    """A class of the script; ``names`` are those of its body, ``base`` its one base.

    ``is_module``: it derives from ``torch.nn.Module``.
    """

    name: str
    base: Class | None
    is_module: bool
    names: dict[str, Any] = field(default_factory=dict)

    def line(self) -> Iterator[Class]:
        """Yield the class and those that it derives from, the nearest first."""
        one: Class | None = self
        while one is not None:
            yield one
            one = one.base

    def find(self, name: str) -> Any:
        """Return what a name of the class holds, MISSING where it has none such."""
        return next((one.names[name] for one in self.line() if name in one.names), MISSING)


@dataclass(eq=False)
class Later:
    """A buffer of one number that becomes a node when something asks for it.

    ``moved``: a call in training has changed it, in a way that a graph does not follow.
    """

    shape: tuple[int, ...]
    dtype: str
    number: float
    moved: bool = False


@dataclass(eq=False)
class Instance:
    """An instance of a class of the script, or of a module of ``torch.nn`` by its name.

    ``own`` are its plain attributes, ``training`` among them; the others are registered, in the
    order of their registration. ``is_ready``: ``nn.Module.__init__`` has run. ``stem`` begins the
    ids of its parameters, for good where it ``has_name``.
    """

    of: Class | str
    own: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Tensor | None] = field(default_factory=dict)
    buffers: dict[str, Tensor | Later | None] = field(default_factory=dict)
    modules: dict[str, Instance | None] = field(default_factory=dict)
    is_ready: bool = False
    stem: str = ""
    has_name: bool = False

    @property
    def is_module(self) -> bool:
        """Whether it is an ``nn.Module``."""
        return isinstance(self.of, str) or self.of.is_module

    @property
    def places(self) -> tuple[dict[str, Any], ...]:
        """All that holds an attribute."""
        return self.own, self.parameters, self.buffers, self.modules

    @property
    def kind(self) -> str:
        """The name of its class."""
        return self.of if isinstance(self.of, str) else self.of.name

    def __bool__(self) -> bool:
        """Whether it holds as a condition: containers do not where they are empty."""
        return bool(self.modules) or self.of not in CONTAINERS


CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")
"""Modules of ``torch.nn`` that have a length."""


@dataclass(frozen=True, eq=False)
class Bound:
    """A method of the script, with the instance that it is called on."""

    function: Function
    this: Instance


@dataclass(frozen=True, eq=False)
class Parent:
    """``super()``: an instance, seen as one of a base class; None: of the base of all."""

    this: Instance
    of: Class | None
