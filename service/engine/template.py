"""A bound call: everything but the tensors, ready to become a closure over slots.

Planning makes a template of an op, running calls what :attr:`Template.compile` returns. The common
shapes of a call have closures of their own, so that a call costs little more than PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from operator import itemgetter
from typing import Any

from service.engine.guards import Guard, refuse_backward
from service.engine.heard import heard
from service.engine.operation import Operation
from service.engine.signature import Signature
from service.engine.values import Hole
from service.engine.writes import GIVEN_MEMORY, give_memory

Slots = list[Any]
Call = Callable[[Slots], Any]
Function = Callable[..., Any]


@dataclass(frozen=True, eq=False)
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
    guard: Guard | None
    """Refuses, before the kernel or its backward pass runs, what would bring PyTorch down."""
    prepared: Mapping[int, Callable[[Any], Any]]
    """What is done to some uses first, such as a clone of what PyTorch would write into."""

    @cached_property
    def compile(self) -> Callable[[Sequence[int]], Call]:
        """Called with a slot for each use, returns a closure that makes the call with them."""
        bare = _compile_bare(self)
        compiled = (lambda slots: heard(bare(slots))) if self.operation.exact else bare
        guard, named = self.guard, self.named
        if guard is None:
            return compiled
        return lambda slots: _guarded(guard, named, slots, compiled(slots))


def _compile_bare(template: Template) -> Callable[[Sequence[int]], Call]:
    """Choose by the shape of the call: mostly it has tensors first and constants behind."""
    call, args, kwargs = template.operation.call, template.args, template.kwargs
    if template.operation.base in GIVEN_MEMORY:
        call = partial(_giving_memory, call)
    if template.prepared:
        return partial(_anywhere, call, args, kwargs, template.prepared)
    uses = len(template.parameters)
    leading = _leading_holes(args)
    if leading == uses:
        return partial(
            _tensors_first(uses, len(args) - leading, bool(kwargs)), call, args[leading:], kwargs
        )
    if args and uses > 1 and _is_list_of_holes(args[0], uses):
        return partial(_list_first, call, args[1:], kwargs)
    return partial(_anywhere, call, args, kwargs, {})


def _giving_memory(call: Function, *args: Any, **kwargs: Any) -> Any:
    return give_memory(call(*args, **kwargs))


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


Constants = Sequence[Any]
Keywords = Mapping[str, Any]
Maker = Callable[[Function, Constants, Keywords, Sequence[int]], Call]


def _tensors_first(tensors: int, constants: int, keywords: bool) -> Maker:
    match tensors, constants, keywords:
        case 1, 0, False:
            return _one
        case 1, 1, False:
            return _one_and_constant
        case 2, 0, False:
            return _two
        case 0, _, _:
            return _none
        case 1, _, _:
            return _one_and_more
        case _:
            return _many_and_more


def _none(call: Function, rest: Constants, kwargs: Keywords, _: Sequence[int]) -> Call:
    return lambda _: call(*rest, **kwargs)


def _one(call: Function, _rest: Constants, _kwargs: Keywords, slots: Sequence[int]) -> Call:
    (a,) = slots
    return lambda values: call(values[a])


def _one_and_constant(
    call: Function, rest: Constants, _kwargs: Keywords, slots: Sequence[int]
) -> Call:
    (a,), (constant,) = slots, rest
    return lambda values: call(values[a], constant)


def _two(call: Function, _rest: Constants, _kwargs: Keywords, slots: Sequence[int]) -> Call:
    a, b = slots
    return lambda values: call(values[a], values[b])


def _one_and_more(call: Function, rest: Constants, kwargs: Keywords, slots: Sequence[int]) -> Call:
    (a,) = slots
    return lambda values: call(values[a], *rest, **kwargs)


def _many_and_more(call: Function, rest: Constants, kwargs: Keywords, slots: Sequence[int]) -> Call:
    tensors = itemgetter(*slots)
    return lambda values: call(*tensors(values), *rest, **kwargs)


def _list_first(call: Function, rest: Constants, kwargs: Keywords, slots: Sequence[int]) -> Call:
    tensors = itemgetter(*slots)
    return lambda values: call(tensors(values), *rest, **kwargs)


def _anywhere(
    call: Function,
    args: Constants,
    kwargs: Keywords,
    prepared: Mapping[int, Callable[[Any], Any]],
    slots: Sequence[int],
) -> Call:
    def run(values: Slots) -> Any:
        tensors = [values[slot] for slot in slots]
        for use, prepare in prepared.items():
            tensors[use] = prepare(tensors[use])
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


def _guarded(guard: Guard, named: Mapping[str, Any], slots: Sequence[int], call: Call) -> Call:
    def run(values: Slots) -> Any:
        tensors = [values[slot] for slot in slots]
        against_backward = guard({name: fill(tree, tensors) for name, tree in named.items()})
        result = call(values)
        if against_backward is not None:
            refuse_backward(result, against_backward)
        return result

    return run
