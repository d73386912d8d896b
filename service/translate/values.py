"""What an expression of a script can stand for, besides Python's own constants."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NoReturn, TypeVar

from service.translate.unreadable import Unreadable

Values = Sequence[Any]
"""The arguments of a call by position."""
Keywords = Mapping[str, Any]
"""The arguments of a call by name."""


@dataclass(frozen=True)
class ElementType:
    """A kind (``float``, ``complex``, ``int``, ``bool``) and a dtype, None where not known."""

    kind: str | None = None
    dtype: str | None = None


@dataclass(eq=False)
class Node:
    """A leaf or an op of the graph that the script means.

    ``id`` is empty until the statement that makes the node has been read. ``fields`` are a leaf's
    value, shape and dtype, as the contract has them. ``kind`` is ``float``, ``complex``, ``int`` or
    ``bool`` where the reader knows it. ``shape`` is there where it stands in the script,
    ``each`` that of every output but those in ``uneven``.
    ``views`` are the nodes that may look at its memory, as it does itself where it ``is_view``;
    ``twins`` are the nodes of the same memory, where a tensor became a leaf and so another node.
    ``is_own``: it is no other tensor, although its op may return what it was given.
    ``unsure``: it is ``tracked`` only if a derivative that leads to it is no constant.
    ``kept`` says that something else has it too: an array, or a tensor as its gradient.
    ``half_cut``: a view taken under no_grad, which has no history and still says that it requires
    grad.
    ``inference``: made in inference mode, so that autograd does not save it.
    ``holders`` are the tensors that are it, or one of its outputs, as long as anything has them.
    ``stale`` says why what is there cannot be
    used any more. ``overwritten``: an in-place operator put another value there, that of the node
    that it ``overwrites``. ``freed``: a backward pass went
    through it and kept nothing for a second one. ``retained_late``: retain_grad came only after a
    backward pass. ``others``: the element types of those outputs that are not of its own.
    ``followed``: the nodes to which autograd leads on from it.
    """

    op: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    inputs: list[Ref] = field(default_factory=list)
    attrs: dict[str, Any] = field(default_factory=dict)
    requires_grad: bool = False
    retain_grad: bool = False
    tracked: bool = False
    unsure: bool = False
    followed: list[Node] = field(default_factory=list)
    seed: int | None = None
    several: bool = False
    used: bool = False
    shares_memory: bool = False
    views: list[Node] = field(default_factory=list)
    twins: list[Node] = field(default_factory=list)
    is_view: bool = False
    is_own: bool = False
    kept: bool = False
    half_cut: bool = False
    inference: bool = False
    holders: list[weakref.ref[Tensor | Several]] = field(default_factory=list)
    stale: str = ""
    overwritten: bool = False
    overwrites: Node | None = None
    freed: bool = False
    retained_late: bool = False
    others: Mapping[int, ElementType] = field(default_factory=dict)
    kind: str | None = None
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    each: tuple[int, ...] | None = None
    uneven: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    id: str = ""

    @property
    def is_source(self) -> bool:
        """Whether nothing that requires grad leads here, so that it can become a leaf."""
        return not any(ref.tracked for ref in references(self.inputs, self.attrs))


@dataclass(frozen=True, eq=False)
class Ref:
    """A node, or one output of it, as an op or a root names it.

    ``is_copy``: a copy of it is meant, for an op that writes into what it is given.
    """

    node: Node
    output: int | None = None
    is_copy: bool = False

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape, None where the script does not say it."""
        node, output = self.node, self.output
        return node.shape if output is None else node.uneven.get(output, node.each)

    @property
    def type(self) -> ElementType:
        """The element type, as far as the script shows it."""
        own = ElementType(self.node.kind, self.node.dtype)
        return own if self.output is None else self.node.others.get(self.output, own)

    @property
    def tracked(self) -> bool:
        """Whether autograd follows it; whole numbers and bools it never does."""
        return self.node.tracked and self.type.kind not in ("int", "bool")

    def __str__(self) -> str:
        return self.node.id if self.output is None else f"{self.node.id}:{self.output}"


UNINITIALISED = "it returns uninitialised memory, which torch.nn.init fills where it is a parameter"
"""Why a tensor that ``torch.empty`` made is stale until it is filled."""


@dataclass(eq=False)
class Tensor:
    """A tensor that names hold. An in-place operator lets all of them hold the next node.

    ``past`` are the nodes that it was: (number of roots up to which, the node). ``since`` is the
    number of roots when its gradient was last emptied, ``zeroed`` whether with zeros, ``replaced``
    how often with None. ``held``: something besides the expression that made it holds it.
    ``is_parameter``: it is an ``nn.Parameter``.
    """

    now: Ref
    past: list[tuple[int, Ref]] = field(default_factory=list)
    since: int = 0
    zeroed: bool = False
    replaced: int = 0
    held: bool = False
    is_parameter: bool = False

    def __post_init__(self) -> None:
        self.now.node.holders.append(weakref.ref(self))

    @property
    def ref(self) -> Ref:
        """The node, or the output, that it is now."""
        if self.now.node.stale:
            raise Unreadable(self.now.node.stale)
        return self.now

    @property
    def node(self) -> Node:
        """The node that it is now."""
        return self.ref.node

    def move(self, ref: Ref, roots: int) -> None:
        """Let every name that holds this tensor hold ``ref`` from now on."""
        self.past.append((roots, self.ref))
        self.now = ref
        ref.node.holders.append(weakref.ref(self))

    def swap(self, ref: Ref) -> None:
        """Hold ``ref`` as if it had been so from the beginning, as nothing has used what was."""
        self.now = ref
        ref.node.holders.append(weakref.ref(self))

    def at_root(self, root: int) -> Ref:
        """Return the node that it was when root number ``root`` was called."""
        now, place = self.ref, bisect_right(self.past, root, key=itemgetter(0))
        return self.past[place][1] if place < len(self.past) else now


@dataclass(eq=False)
class Several:
    """The outputs of an op that returns a tuple or a list; ``count`` None: known when it runs."""

    node: Node
    names: tuple[str | None, ...]
    count: int | None
    tensors: dict[int, Tensor] = field(default_factory=dict)
    flat: bool = False
    """Whether tensors of a list among the outputs stand in one row with the others, as here."""

    def __post_init__(self) -> None:
        self.node.holders.append(weakref.ref(self))

    def output(self, k: int) -> Tensor:
        """Return output ``k``, the same tensor every time."""
        if k and self.names and self.count is None and not self.flat:
            raise Unreadable("a list within a tuple is not read; take the first output alone")
        return self.tensors.setdefault(k, Tensor(Ref(self.node, k)))


@dataclass(frozen=True)
class Path:
    """A module, function or class by its full name, ``("torch", "nn", "functional", "relu")``."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.parts)

    @property
    def is_plain(self) -> bool:
        """Whether it is a function or a module by its name, not a setting of this machine."""
        root = self.parts[0]
        in_torch = root == "torch" and (len(self.parts) == 2 or self.parts[1] == "nn")
        return in_torch or len(self.parts) == 1 or root in ("builtins", "math")

    def __bool__(self) -> bool:
        if not self.is_plain:
            raise Unreadable(f"{self} is a setting of one machine, and is not read here")
        return True


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

    def __bool__(self) -> bool:
        raise Unreadable(f".{self.name} cannot decide here: it is a method, or is not read")


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
    """``tensor.grad`` as it was when it was asked for.

    ``there``: it was a tensor, not None. ``replaced`` is how often it had been set to None by then,
    ``roots`` how many backward passes there were.
    """

    tensor: Tensor
    there: bool
    replaced: int
    roots: int

    def __bool__(self) -> bool:
        raise Unreadable("a gradient's value decides here; ask `.grad is not None`")


@dataclass(frozen=True, eq=False)
class Data:
    """``parameter.data``, to be filled."""

    tensor: Tensor


@dataclass(frozen=True, eq=False)
class Unknown:
    """A value of Python's own that is there only when the script runs, such as a text to print."""

    reason: str

    def _refuse(self, *_other: object) -> NoReturn:
        raise Unreadable(self.reason)

    __bool__ = __eq__ = __ne__ = __hash__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse


One = TypeVar("One")


def walk(start: Iterable[One], near: Callable[[One], Iterable[One]]) -> Iterator[One]:
    """Yield ``start`` and all that ``near`` leads on to from there, each once."""
    waiting = list(dict.fromkeys(start))
    seen = set(waiting)
    while waiting:
        one = waiting.pop()
        fresh = set(near(one)) - seen
        seen |= fresh
        waiting.extend(fresh)
        yield one


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
