"""A plan becomes tensors, in three steps.

    run_forward     each op in order; results go to slots and to the list of nodes
    retain_grads    only now, so that `autograd.grad` inside the graph fills no node's grad
    run_backward    one pass of PyTorch's engine from all roots, as torch.autograd.backward does it

Results are never written into. Where an op returns its very input, or a tensor that an earlier op
returned, the node is ``out.view_as(out)``: a node has flags and a gradient of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from service.contract.problem import (
    BackwardFailed,
    BadArguments,
    BadRoot,
    GradtraceError,
    OpFailed,
    UnknownReference,
    quote,
)
from service.engine.dtypes import DTYPE_NAMES
from service.engine.guards import is_refused_backward
from service.engine.limits import Limits, allocation_failed, memory_limit
from service.engine.plan import Plan, PlannedRoot, Step
from service.engine.tensors import root_gradient

MAX_WORDS = 10_000
"""Characters of a message of PyTorch's."""
STACK = re.compile(r"\nException raised from [^\n]*(\n(frame #|<omitting )[^\n]*)*\n?")
"""Where in PyTorch's code an error was raised: paths, and addresses in this process."""
SHORT = 200
"""Characters up to which such a message may quote an argument."""
_accumulate = torch.autograd.Variable._execution_engine.run_backward
"""What ``torch.autograd.backward`` calls once it has checked its arguments.

Those are checked here already, and checked again they would take as long as the backward pass of a
small graph. A test holds the gradients of both against each other.
"""
CUDA_BUILT = torch.backends.cuda.is_built()  # type: ignore[no-untyped-call]
NO_ARGUMENTS: Mapping[str, Any] = {}


@dataclass(slots=True)
class Run:
    """What a plan has become; lists are in the request's order, not that of execution."""

    plan: Plan
    slots: list[Tensor]
    leaves: list[Tensor]
    results: list[list[Tensor]]
    """The outputs of every op of the request."""
    roots: list[Tensor]


def run_forward(plan: Plan, leaves: list[Tensor], limits: Limits, seed: int) -> Run:
    """Run every step of ``plan`` on ``leaves``.

    Raises:
        OpFailed, MemoryLimit, LimitExceeded, BadArguments, UnknownReference: with the op's place.
    """
    slots: list[Any] = [*leaves, *[None] * (len(plan.slot_names) - len(leaves))]
    results: list[list[Tensor]] = [[]] * len(plan.steps)
    seen = {id(leaf) for leaf in leaves}
    max_elements = limits.max_elements
    seed_generators(seed)
    for step in plan.steps:
        try:
            if step.seed is not None:
                seed_generators(step.seed)
            result = step.call(slots)
            if step.slot < 0:
                nodes = [_as_node(part, seen) for part in _outputs_of(result) if part is not None]
                for node in nodes:
                    _check_node(node, limits)
                _fill_slots(plan, step, nodes, slots)
                results[step.index] = nodes
            else:
                # What _as_node and _check_node do, without the calls: most ops come here.
                node = result if result.__class__ is Tensor else _tensor(result)
                if id(node) in seen:
                    node = node.view_as(node)
                seen.add(id(node))
                if not 0 < node.numel() <= max_elements or node.dtype not in DTYPE_NAMES:
                    _check_node(node, limits)
                slots[step.slot] = node
                results[step.index] = [node]
            if step.requires_grad:
                _track(step, results[step.index], slots)
        except Exception as error:  # noqa: BLE001 - whatever PyTorch raises is the client's answer
            _raise_for(error, step, limits)
    roots = [slots[root.slot] for root in plan.roots]
    return Run(plan, slots, slots[: len(leaves)], results, roots)


def seed_generators(seed: int) -> None:
    """Do what ``torch.manual_seed`` does, on the devices in use, in a hundredth of its time."""
    torch.default_generator.manual_seed(seed)
    if CUDA_BUILT and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)


def _outputs_of(result: Any) -> Iterator[Any]:
    """Yield the tensors of an op's result, tuples within tuples and lists flattened in order."""
    if isinstance(result, (tuple, list)):
        for part in result:
            yield from _outputs_of(part)
    else:
        yield result


def _tensor(part: Any) -> Tensor:
    if not isinstance(part, Tensor):
        raise OpFailed(f"the op returned a {type(part).__name__}, not a tensor")
    return part.as_subclass(Tensor) if part.__class__ is not Tensor else part


def _as_node(part: Any, seen: set[int]) -> Tensor:
    node = _tensor(part)
    if id(node) in seen:
        node = node.view_as(node)
    seen.add(id(node))
    return node


def _check_node(node: Tensor, limits: Limits) -> None:
    limits.check("max_elements", node.numel(), "the result has too many elements")
    if node.dtype not in DTYPE_NAMES:
        name = str(node.dtype).removeprefix("torch.")
        raise BadArguments(f"the result is of dtype {name}, which an answer cannot carry")
    if min(node.shape, default=0) < 0:  # expand lets -1 beside a size of 0 pass
        raise BadArguments(f"the result has the shape {list(node.shape)}")
    if node.layout is not torch.strided:
        raise BadArguments(f"the result has the layout {node.layout}, which has no nested lists")


def _fill_slots(plan: Plan, step: Step, nodes: Sequence[Tensor], slots: list[Any]) -> None:
    for number, slot in step.outputs:
        if number >= len(nodes):
            there = f"{step.node}:0 to {step.node}:{len(nodes) - 1}" if nodes else "none"
            place, node = plan.first_use(slot)
            raise UnknownReference(
                f"{step.node}:{number} is not an output; the outputs are {there}",
                pointer=place,
                node=node,
            )
        slots[slot] = nodes[number]


def _track(step: Step, nodes: Sequence[Tensor], slots: Sequence[Tensor]) -> None:
    """Do what ``requires_grad_()`` does to a result that nothing tracks yet."""
    if any(slots[slot].requires_grad for slot in step.uses):
        raise BadArguments(
            "requires_grad is for an op none of whose inputs is tracked: this result is no leaf",
            pointer="/requires_grad",
        )
    for node in nodes:
        if not (node.is_floating_point() or node.is_complex()):
            raise BadArguments(
                "Only Tensors of floating point and complex dtype can require gradients",
                pointer="/requires_grad",
            )
        node.requires_grad_()


def _raise_for(error: Exception, step: Step, limits: Limits) -> NoReturn:
    place = f"/ops/{step.index}"
    if isinstance(error, UnknownReference):
        raise error from None  # it knows its place, which is where the reference stands
    if isinstance(error, GradtraceError):
        raise error.at(place, step.node) from None
    if allocation_failed(error):
        raise memory_limit(limits).at(place, step.node) from None
    raise OpFailed(words_of(error, step.template.named)).at(place, step.node) from error


def words_of(error: Exception, arguments: Mapping[str, Any] = NO_ARGUMENTS) -> str:
    """Return PyTorch's own message, or the kind of error where it has none.

    Where in PyTorch's code it was raised is left out. Where it repeats one of the ``arguments`` at
    length, it is cut to a quote of it.
    """
    words = STACK.sub("", str(error)) or type(error).__name__
    for argument in arguments.values():
        if len(text := str(argument)) > SHORT:
            words = words.replace(text, quote(text, SHORT))
    return words if len(words) <= MAX_WORDS else words[: MAX_WORDS - 1] + "…"


def retain_grads(run: Run) -> None:
    """Switch ``retain_grad`` on where it was asked for and PyTorch allows it."""
    for step in run.plan.steps:
        if step.retain_grad:
            for node in run.results[step.index]:
                if node.requires_grad:
                    node.grad_fn  # noqa: B018 - made anew first where a write left it out of date
                    node.retain_grad()


def run_backward(run: Run, limits: Limits) -> None:
    """Run backward from all roots at once, as ``torch.autograd.backward`` does.

    Raises:
        BadRoot: where PyTorch would refuse a root, in PyTorch's words.
        BadArguments: the backward pass of an op would bring PyTorch down.
        BackwardFailed, MemoryLimit: what PyTorch raised on the way.
    """
    if not run.roots:
        return
    pairs = list(zip(run.plan.roots, run.roots, strict=True))
    gradients = tuple([_gradient(root, tensor, limits) for root, tensor in pairs])
    for index, (root, tensor) in enumerate(pairs):
        if not tensor.requires_grad:
            raise BadRoot(
                f"element {index} of tensors does not require grad and does not have a grad_fn",
                pointer=root.pointer,
                node=root.node,
            )
    try:
        _accumulate(
            tuple(run.roots),
            gradients,
            False,  # retain_graph
            False,  # create_graph
            (),  # all leaves
            allow_unreachable=True,
            accumulate_grad=True,
        )
    except BadArguments as error:
        raise error.at(*_refused_place(run)) from None
    except Exception as error:
        if allocation_failed(error):
            raise memory_limit(limits) from None
        raise BackwardFailed(words_of(error)) from error


def _refused_place(run: Run) -> tuple[str, str | None]:
    """Return pointer and id of the op whose backward pass a guard refused."""
    for step in run.plan.steps:
        if any(map(is_refused_backward, run.results[step.index])):
            return f"/ops/{step.index}", step.node
    return "", None


def _gradient(root: PlannedRoot, tensor: Tensor, limits: Limits) -> Tensor | None:
    """Return the gradient to start from, 1 where the client gives none, None if untracked."""
    try:
        gradient = root_gradient(root.spec, tensor, limits.max_elements)
        if gradient is not None or not tensor.requires_grad:
            return gradient
        if tensor.numel() != 1:
            raise BadRoot("grad can be implicitly created only for scalar outputs")
        if not tensor.dtype.is_floating_point:
            raise BadRoot(
                "grad can be implicitly created only for real scalar outputs but got "
                f"{tensor.dtype}"
            )
    except GradtraceError as error:
        raise error.at(root.pointer, root.node) from None
    return torch.ones_like(tensor, memory_format=torch.preserve_format)
