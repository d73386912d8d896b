"""What is known half way through a script: the graph so far, names, modes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

from service.translate.graph import Graph, Root
from service.translate.scopes import Function, Scope
from service.translate.unreadable import Unreadable
from service.translate.values import Keywords, Node, Tensor, Values

MAX_STEPS = 500_000
MAX_ITEMS = 1_000_000
MAX_DEPTH = 40
MAX_WORK = 20_000_000
AT_ONCE = 8
"""How many items, or characters, are moved or compared in the time in which one is looked at."""
A_NUMBER = 16
"""How many items are looked at in the time that one number takes to become part of a graph."""


@dataclass
class Reading:
    """The state of one reader.

    ``inline`` reads the body of a function of the script, ``call`` calls anything; both are given,
    as they come later in the order of imports.
    ``gradients`` are the values that ``.grad`` had, each behind its tensor, until a backward pass
    adds to them. ``open_roots`` are those of whose gradients some can still be emptied, with their
    numbers. ``emptied`` says of nodes how many roots there were when their gradient was
    emptied last. ``retained`` are the tensors that retain their gradient, as long as something of
    the script holds them. ``members`` are the names of the methods of all classes, and of the
    attributes of all instances that are no tensors.
    """

    graph: Graph
    scope: Scope
    inline: Callable[[Reading, Function, Values, Keywords], Any]
    call: Callable[[Reading, Any, Values, Keywords], Any]
    grad_enabled: bool = True
    inference: bool = False
    steps: int = 0
    work: int = 0
    depth: int = 0
    open_roots: list[tuple[int, Root]] = field(default_factory=list)
    emptied: dict[Node, int] = field(default_factory=dict)
    gradients: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    retained: list[ref[Tensor]] = field(default_factory=list)
    members: set[str] = field(default_factory=set)

    def step(self, count: int = 1) -> None:
        """Count steps, so that no loop goes on for ever."""
        self.steps += count
        if self.steps > MAX_STEPS:
            raise Unreadable(f"the script takes more than {MAX_STEPS} steps to read")

    def spend(self, items: int) -> None:
        """Count items of lists that are made or looked through, so that they cannot add up."""
        self.work += items
        if self.work > MAX_WORK:
            raise Unreadable(f"the script makes lists of more than {MAX_WORK} items in all")

    @contextmanager
    def grad_mode(self, enabled: bool, *, inference: bool = False) -> Iterator[None]:
        """Read with gradients on or off; ``inference``: in inference mode, or in one already."""
        before = self.grad_enabled, self.inference
        self.inference = self.inference or inference
        self.grad_enabled = enabled and not self.inference
        try:
            yield
        finally:
            self.grad_enabled, self.inference = before
