"""A request that has the right form becomes calls in an order, bound to slots.

A *slot* is a place in the list of tensors that a run fills. Every leaf and every op with a single
output has one; of an op with several outputs each output that somebody refers to has one. After
planning nothing is looked up by name any more.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.contract.problem import (
    MAX_ERRORS,
    BadRoot,
    Cycle,
    DuplicateId,
    GradtraceError,
    InvalidRequest,
    UnknownReference,
    pointer,
    quote,
)
from service.engine.bind import bind
from service.engine.catalogue import catalogue
from service.engine.template import Template

Spec = Mapping[str, Any]
"""A leaf, op or root as the client sent it: a JSON object of the right form."""

FORBIDDEN_ID = "__metadata__"
MAX_NAMED = 20
"""Outputs, or ops of a cycle, that a message names."""


@dataclass(slots=True)
class Step:
    """One op, bound: ``call(slots)`` computes it from the tensors in its slots."""

    node: str
    op: str
    index: int
    """Its place in the request's list of ops."""
    template: Template
    references: list[str]
    retain_grad: bool
    requires_grad: bool
    seed: int | None
    slot: int = -1
    """Where a single output goes."""
    outputs: list[tuple[int, int]] = field(default_factory=list)
    """Of several outputs, those that are referred to: (number, slot)."""
    uses: list[int] = field(default_factory=list)
    """The slot of each tensor that it uses, in the order of ``template.parameters``."""
    call: Callable[[list[Any]], Any] = lambda slots: slots

    @property
    def several(self) -> bool:
        """Whether PyTorch declares it to return a tuple or a list."""
        return self.template.signature.several


@dataclass(slots=True)
class PlannedRoot:
    """Where backward starts: a slot, and the client's words about the gradient."""

    slot: int
    node: str
    pointer: str
    spec: Spec


@dataclass(slots=True)
class Plan:
    """A request made ready to run."""

    leaves: Sequence[Spec]
    ops: list[Step]
    """The steps in the request's order."""
    steps: list[Step]
    """The same in the order of execution."""
    roots: list[PlannedRoot]
    slot_names: list[str]
    """The node id in every slot, `id:k` for one output of several."""

    def with_leaves(self, leaves: Sequence[Spec]) -> Plan:
        """Return the same plan for other leaves of the same ids."""
        return Plan(leaves, self.ops, self.steps, self.roots, self.slot_names)

    def first_use(self, slot: int) -> tuple[str, str]:
        """Return where in the request ``slot`` is first referred to, and by which node."""
        for step in self.steps:
            if slot in step.uses:
                place = step.template.pointers[step.uses.index(slot)]
                return f"/ops/{step.index}{place}", step.node
        root = next(root for root in self.roots if root.slot == slot)
        return f"{root.pointer}/node", root.node


def make_plan(request: Spec) -> Plan:
    """Order and bind the ops of ``request``, a TraceRequest of the right form.

    Raises:
        DuplicateId, UnknownOp, BadArguments, UnknownReference, Cycle, BadRoot: with a pointer into
            the request and the node concerned; several mistakes are reported together.
    """
    leaves: Sequence[Spec] = request.get("leaves") or ()
    ops: Sequence[Spec] = request.get("ops") or ()
    _check_ids(leaves, ops)
    steps = _bind_all(ops, bool(request.get("retain_grad")))
    names = _Names(leaves, steps)
    _resolve_all(steps, names)
    roots = _plan_roots(request, leaves, steps, names)
    return Plan(leaves, steps, _in_order(steps, names), roots, names.slot_names)


def _check_ids(leaves: Sequence[Spec], ops: Sequence[Spec]) -> None:
    first: dict[str, str] = {}
    mistakes = _Mistakes()
    for kind, specs in (("leaves", leaves), ("ops", ops)):
        for index, spec in enumerate(specs):
            name = spec["id"]
            if name == FORBIDDEN_ID:
                mistakes.add(
                    InvalidRequest(f"the id {FORBIDDEN_ID} is reserved"), kind, index, name
                )
            elif first.setdefault(name, place := f"/{kind}/{index}") != place:
                detail = f"the id {quote(name)} is given twice, first at {first[name]}"
                mistakes.add(DuplicateId(detail, pointer="/id"), kind, index, name)
    mistakes.raise_any()


def _bind_all(ops: Sequence[Spec], retain_default: bool) -> list[Step]:
    find = catalogue().find
    mistakes = _Mistakes()
    steps = []
    for index, spec in enumerate(ops):
        try:
            operation = find(spec["op"])
            binding = bind(operation, spec.get("inputs") or (), spec.get("attrs") or {})
        except GradtraceError as error:
            mistakes.add(error, "ops", index, spec["id"])
            continue
        retain = spec.get("retain_grad")
        step = Step(
            spec["id"],
            spec["op"],
            index,
            binding.template,
            binding.references,
            retain_default if retain is None else retain,
            bool(spec.get("requires_grad")),
            spec.get("seed"),
        )
        steps.append(step)
    mistakes.raise_any()
    return steps


class _Names:
    """From references to slots; slots for outputs of several are made when first asked for."""

    def __init__(self, leaves: Sequence[Spec], steps: Sequence[Step]) -> None:
        self.slot_names: list[str] = [leaf["id"] for leaf in leaves]
        self._single = {name: slot for slot, name in enumerate(self.slot_names)}
        self._several: dict[str, Step] = {}
        self.maker: list[int] = [-1] * len(self.slot_names)
        """Which step fills each slot; -1 for a leaf."""
        for step in steps:
            if step.several:
                self._several[step.node] = step
            else:
                step.slot = self._single[step.node] = self._new(step.node, step.index)

    def _new(self, name: str, maker: int) -> int:
        self.slot_names.append(name)
        self.maker.append(maker)
        return len(self.slot_names) - 1

    def slot(self, reference: str) -> int:
        """Return the slot of ``reference``; raise UnknownReference where it leads nowhere."""
        slot = self._single.get(reference)
        return slot if slot is not None else self._slot_of_output(reference)

    def _slot_of_output(self, reference: str) -> int:
        name, colon, output = reference.partition(":")
        step = self._several.get(name)
        if step is None:
            if colon and name in self._single:
                raise UnknownReference(f"{quote(reference)}: {quote(name)} has a single output")
            raise UnknownReference(f"there is no leaf or op {quote(name)}")
        if not colon:
            raise UnknownReference(
                f"{quote(name)} is an op that returns several; name one: {_list_outputs(step)}"
            )
        number = _output_number(step, output)
        if number is None:
            raise UnknownReference(
                f"{quote(reference)} is not an output; there are: {_list_outputs(step)}"
            )
        for known, slot in step.outputs:
            if known == number:
                return slot
        step.outputs.append((number, slot := self._new(f"{name}:{number}", step.index)))
        return slot


def _output_number(step: Step, output: str) -> int | None:
    signature = step.template.signature
    if output in signature.outputs:
        return signature.outputs.index(output)
    if not output.isascii() or not output.isdecimal() or str(number := int(output)) != output:
        return None
    return number if signature.variable or number < len(signature.outputs) else None


def _list_outputs(step: Step) -> str:
    """Return the outputs of ``step`` as the client may refer to them, for a message."""
    signature = step.template.signature
    if signature.variable:
        return f"{step.node}:0, {step.node}:1 and so on"
    return ", ".join(
        f"{step.node}:{number}" + (f" ({step.node}:{name})" if name else "")
        for number, name in enumerate(signature.outputs[:MAX_NAMED])
    )


def _resolve_all(steps: Sequence[Step], names: _Names) -> None:
    mistakes = _Mistakes()
    for step in steps:
        try:
            step.uses = [names.slot(reference) for reference in step.references]
        except UnknownReference:
            _explain_references(step, names, mistakes)
            continue
        step.call = step.template.compile(step.uses)
    mistakes.raise_any()


def _explain_references(step: Step, names: _Names, mistakes: _Mistakes) -> None:
    for place, reference in enumerate(step.references):
        try:
            names.slot(reference)
        except UnknownReference as error:
            where = step.template.pointers[place]
            mistakes.add(error.at(where), "ops", step.index, step.node)


def _plan_roots(
    request: Spec, leaves: Sequence[Spec], steps: Sequence[Step], names: _Names
) -> list[PlannedRoot]:
    backward = request.get("backward")
    if backward is None:
        return [_default_root(leaves, steps, names)]
    roots = []
    for index, spec in enumerate(backward):
        place = f"/backward/{index}"
        try:
            slot = names.slot(spec["node"])
        except UnknownReference as error:
            raise error.at(f"{place}/node") from None
        roots.append(PlannedRoot(slot, names.slot_names[slot], place, spec))
    return roots


def _default_root(leaves: Sequence[Spec], steps: Sequence[Step], names: _Names) -> PlannedRoot:
    if not steps:
        place, name = f"/leaves/{len(leaves) - 1}", leaves[-1]["id"]
    else:
        place, name = f"/ops/{steps[-1].index}", steps[-1].node
        if steps[-1].several:
            raise BadRoot(
                f"{quote(name)}, the last op, has several outputs: {_list_outputs(steps[-1])}; "
                "name the root in backward",
                pointer=place,
                node=name,
            )
    return PlannedRoot(names.slot(name), name, place, {})


def _in_order(steps: list[Step], names: _Names) -> list[Step]:
    """Return the steps so that each comes after those it uses, always the earliest that can run."""
    maker = names.maker
    if all(maker[slot] < step.index for step in steps for slot in step.uses):
        return steps
    waits_for = [{maker[slot] for slot in step.uses} - {-1} for step in steps]
    users: list[list[int]] = [[] for _ in steps]
    for index, before in enumerate(waits_for):
        for earlier in before:
            users[earlier].append(index)
    missing = [len(before) for before in waits_for]
    ready = [index for index, count in enumerate(missing) if not count]
    order = []
    while ready:
        order.append(index := heapq.heappop(ready))
        for user in users[index]:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, user)
    if len(order) < len(steps):
        _raise_cycle(steps, maker, set(range(len(steps))) - set(order))
    return [steps[index] for index in order]


def _raise_cycle(steps: Sequence[Step], maker: Sequence[int], stuck: set[int]) -> None:
    """Walk backwards through ops that wait until one comes again: that is a cycle."""
    seen: dict[int, int] = {}
    path: list[int] = []
    index = min(stuck)
    while index not in seen:
        seen[index] = len(path)
        path.append(index)
        index = min({maker[slot] for slot in steps[index].uses} & stuck)
    cycle = path[seen[index] :][::-1]
    start = cycle.index(min(cycle))
    cycle = cycle[start:] + cycle[:start]
    names = [steps[index].node for index in cycle]
    shown = names if len(names) <= MAX_NAMED else [*names[:MAX_NAMED], "…"]
    first = steps[cycle[0]]
    use = [maker[slot] for slot in first.uses].index(cycle[-1])
    raise Cycle(
        f"these ops wait for each other: {' -> '.join([*shown, names[0]])}",
        pointer=f"/ops/{first.index}{first.template.pointers[use]}",
        node=first.node,
    )


class _Mistakes:
    """Collects what is wrong in several places, to report it all at once."""

    def __init__(self) -> None:
        self._first: GradtraceError | None = None
        self._count = 0

    def add(self, error: GradtraceError, kind: str, index: int, node: str) -> None:
        error.at(pointer(kind, index), node)
        self._count += 1
        if self._first is None:
            self._first = error
        elif len(self._first.errors) < MAX_ERRORS:
            self._first.errors.extend(error.errors)
        if self._count >= MAX_ERRORS:
            self.raise_any()

    def raise_any(self) -> None:
        if self._first is not None:
            del self._first.errors[MAX_ERRORS:]
            raise self._first
