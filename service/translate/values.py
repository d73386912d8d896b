"""What an expression of a script can stand for, besides Python's own constants."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Node:
    """A leaf or an op of the graph that the script means.

    ``id`` is empty until the statement that makes the node has been read. ``fields`` are a leaf's
    value, shape and dtype, as the contract has them. ``kind`` is ``float``, ``complex``, ``int`` or
    ``bool`` where the reader knows it. ``shape`` is there where it stands in the script.
    """

    op: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    inputs: list[Ref] = field(default_factory=list)
    attrs: dict[str, Any] = field(default_factory=dict)
    requires_grad: bool = False
    retain_grad: bool = False
    tracked: bool = False
    seed: int | None = None
    several: bool = False
    used: bool = False
    shares_memory: bool = False
    kind: str | None = None
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    id: str = ""

    @property
    def is_source(self) -> bool:
        """Whether nothing that requires grad leads here, so that it can become a leaf."""
        return not any(ref.node.tracked for ref in references(self.inputs, self.attrs))


@dataclass(frozen=True, eq=False)
class Ref:
    """A node, or one output of it, as an op or a root names it."""

    node: Node
    output: int | None = None

    def __str__(self) -> str:
        return self.node.id if self.output is None else f"{self.node.id}:{self.output}"


@dataclass(eq=False)
class Tensor:
    """A tensor that names hold. An in-place operator lets all of them hold the next node.

    ``past`` are the nodes that it was: (number of roots up to which, the node). ``since`` is the
    number of roots when its gradient was last emptied.
    """

    ref: Ref
    past: list[tuple[int, Ref]] = field(default_factory=list)
    since: int = 0

    @property
    def node(self) -> Node:
        """The node that it is now."""
        return self.ref.node

    def move(self, ref: Ref, roots: int) -> None:
        """Let every name that holds this tensor hold ``ref`` from now on."""
        self.past.append((roots, self.ref))
        self.ref = ref

    def at_root(self, root: int) -> Ref:
        """Return the node that it was when root number ``root`` was called."""
        return next((ref for until, ref in self.past if root < until), self.ref)


@dataclass(eq=False)
class Several:
    """The outputs of an op that returns a tuple or a list; ``count`` None: known when it runs."""

    node: Node
    names: tuple[str | None, ...]
    count: int | None
    tensors: dict[int, Tensor] = field(default_factory=dict)

    def output(self, k: int) -> Tensor:
        """Return output ``k``, the same tensor every time."""
        return self.tensors.setdefault(k, Tensor(Ref(self.node, k)))


@dataclass(frozen=True)
class Path:
    """A module, function or class by its full name, ``("torch", "nn", "functional", "relu")``."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.parts)


@dataclass(frozen=True)
class DType:
    """An element type, by the contract's name."""

    name: str


@dataclass(frozen=True)
class MemoryFormat:
    """A memory format, by PyTorch's name without ``torch.``."""

    name: str


@dataclass(frozen=True)
class Device:
    """A device, by name."""

    name: str


@dataclass(frozen=True)
class Base64:
    """Bytes, as the base64 text that stands in the script."""

    text: str
    size: int


@dataclass(frozen=True)
class Array:
    """``numpy.array`` of numbers: nested lists and a dtype."""

    items: Any
    dtype: str | None


@dataclass(frozen=True)
class Method:
    """``owner.name``, about to be called."""

    owner: Any
    name: str


@dataclass(frozen=True)
class Helper:
    """A function that exported scripts bring along, by name."""

    name: str


@dataclass(frozen=True)
class StartGradient:
    """A gradient for a root, of the root's dtype: nested lists, or base64."""

    numbers: Any


@dataclass(frozen=True)
class Gradient:
    """``tensor.grad``."""

    tensor: Tensor


@dataclass(frozen=True)
class Layer:
    """An instance of a module without parameters, such as ``nn.MSELoss()``."""

    function: str
    keywords: tuple[tuple[str, Any], ...]


@dataclass
class Scope:
    """The names of a function body, or of the script."""

    names: dict[str, Any] = field(default_factory=dict)
    outer: Scope | None = None
    prefix: str = ""

    def find(self, name: str) -> Any:
        """Return what ``name`` holds; raise KeyError."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        raise KeyError(name)


@dataclass(frozen=True, eq=False)
class Function:
    """A function of the script, with the scope that it was made in."""

    node: ast.FunctionDef | ast.Lambda
    scope: Scope
    defaults: tuple[Any, ...]
    keyword_defaults: tuple[Any, ...]
    no_grad: bool = False


def references(*values: Any) -> list[Ref]:
    """Return the references anywhere in nested lists and dicts, in order."""
    found: list[Ref] = []
    waiting = list(reversed(values))
    while waiting:
        value = waiting.pop()
        if isinstance(value, Ref):
            found.append(value)
        elif isinstance(value, list | tuple):
            waiting.extend(reversed(value))
        elif isinstance(value, dict):
            waiting.extend(reversed(list(value.values())))
    return found
