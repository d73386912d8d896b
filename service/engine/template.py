"""A bound call: everything but the tensors, ready to become a closure over slots.

Planning makes a template of an op, running calls what :meth:`Template.compile` returns. The common
shapes of a call have closures of their own, so that a call costs little more than PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from service.engine.signature import Signature
from service.engine.values import Hole

if TYPE_CHECKING:
    from service.engine.catalogue import Operation

Slots = list[Any]
Call = Callable[[Slots], Any]
Guard = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A call of ``operation`` with holes for its tensors; it never changes and may be shared."""

    operation: Operation
    signature: Signature
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    parameters: tuple[str, ...]
    """The name of the parameter that each use goes to, `tensors[0]` in a list."""
    pointers: tuple[str, ...]
    """Where in the op each use stands, as a JSON Pointer such as `/inputs/0`."""
    named: Mapping[str, Any]
    """The same arguments by the parameters' names, for the guard."""
    guard: Guard | None = None
    """Refuses, before the kernel runs, what would bring PyTorch down."""
    prepared: Mapping[int, Callable[[Any], Any]] = field(default_factory=dict)
    """What is done to some uses first, such as a clone of what PyTorch would write into."""

    @property
    def takes_originals(self) -> bool:
        """Whether the call must get the nodes themselves, as ``autograd.grad`` must."""
        return self.operation.takes_originals

    def pointer(self, use: int) -> str:
        """Return where in the op the ``use``-th reference stands, as a JSON Pointer."""
        return self.pointers[use]

    def compile(self, slots: Sequence[int]) -> Call:
        """Return a closure that makes the call with the tensors in ``slots``, one slot a use."""
        if self.guard is None and not self.prepared:
            return _bare(self, slots)
        call = _prepared(self, slots) if self.prepared else _bare(self, slots)
        return call if self.guard is None else _guarded(self.guard, self.named, slots, call)


def _bare(template: Template, slots: Sequence[int]) -> Call:
    """Return the closure for the shape of this call: tensors first and constants behind, mostly."""
    call, args, kwargs = template.operation.call, template.args, template.kwargs
    leading = _leading_holes(args)
    rest = args[leading:]
    if leading == len(slots):
        return _tensors_first(call, slots, rest, kwargs)
    if args and len(slots) > 1 and _is_list_of_holes(args[0], len(slots)):
        return _list_first(call, slots, args[1:], kwargs)
    return _anywhere(call, slots, args, kwargs)


def _leading_holes(args: Sequence[Any]) -> int:
    count = 0
    while count < len(args) and args[count].__class__ is Hole:
        count += 1
    return count


def _is_list_of_holes(value: Any, count: int) -> bool:
    return (
        value.__class__ is list
        and len(value) == count
        and all(item.__class__ is Hole for item in value)
    )


def _tensors_first(
    call: Callable[..., Any], slots: Sequence[int], rest: Sequence[Any], kwargs: Mapping[str, Any]
) -> Call:
    match len(slots), len(rest), bool(kwargs):
        case 1, 0, False:
            (a,) = slots
            return lambda values: call(values[a])
        case 1, 1, False:
            (a,), (c,) = slots, rest
            return lambda values: call(values[a], c)
        case 2, 0, False:
            a, b = slots
            return lambda values: call(values[a], values[b])
        case 1, _, False:
            (a,) = slots
            return lambda values: call(values[a], *rest)
        case 1, _, True:
            (a,) = slots
            return lambda values: call(values[a], *rest, **kwargs)
        case 0, _, _:
            return lambda _: call(*rest, **kwargs)
        case 2, _, _:
            a, b = slots
            return lambda values: call(values[a], values[b], *rest, **kwargs)
        case _:
            tensors = itemgetter(*slots)
            return lambda values: call(*tensors(values), *rest, **kwargs)


def _list_first(
    call: Callable[..., Any], slots: Sequence[int], rest: Sequence[Any], kwargs: Mapping[str, Any]
) -> Call:
    tensors = itemgetter(*slots)
    if not rest and not kwargs:
        return lambda values: call(tensors(values))
    return lambda values: call(tensors(values), *rest, **kwargs)


def _anywhere(
    call: Callable[..., Any], slots: Sequence[int], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Call:
    def run(values: Slots) -> Any:
        tensors = [values[slot] for slot in slots]
        return call(*fill(args, tensors), **{name: fill(kwargs[name], tensors) for name in kwargs})

    return run


def fill(tree: Any, tensors: Sequence[Any]) -> Any:
    """Return ``tree`` with its tensors in the holes; lists and tuples stay what they are."""
    kind = tree.__class__
    if kind is Hole:
        return tensors[tree.number]
    if kind is list:
        return [fill(part, tensors) for part in tree]
    if kind is tuple:
        return tuple([fill(part, tensors) for part in tree])
    return tree


def _prepared(template: Template, slots: Sequence[int]) -> Call:
    call, args, kwargs = template.operation.call, template.args, template.kwargs
    prepared = template.prepared

    def run(values: Slots) -> Any:
        tensors = [values[slot] for slot in slots]
        for use, prepare in prepared.items():
            tensors[use] = prepare(tensors[use])
        return call(*fill(args, tensors), **{name: fill(kwargs[name], tensors) for name in kwargs})

    return run


def _guarded(guard: Guard, named: Mapping[str, Any], slots: Sequence[int], call: Call) -> Call:
    def run(values: Slots) -> Any:
        tensors = [values[slot] for slot in slots]
        guard({name: fill(tree, tensors) for name, tree in named.items()})
        return call(values)

    return run
