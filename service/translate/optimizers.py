"""Optimizers: the changes in place that their steps make, one parameter after the other.

SGD (with momentum, Nesterov's too), Adam and AdamW, as PyTorch computes them for tensors on a CPU.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from service.translate.arguments import bind_python, describe
from service.translate.attributes import attribute, check_there
from service.translate.builtins_read import items_of
from service.translate.folding import is_number
from service.translate.gradients import gradient_of, gradient_tensor
from service.translate.in_place import become, check_changeable, operate
from service.translate.module_methods import zero_grad
from service.translate.operations import compute
from service.translate.reading import Reading
from service.translate.unreadable import Unreadable
from service.translate.values import Keywords, Tensor, Values

NOT_READ = (
    "torch.optim.{} is not read; SGD, Adam and AdamW are, or write the step, such as "
    "with torch.no_grad(): w -= lr * w.grad"
)


@dataclass(eq=False)
class Optimizer:
    """An optimizer; ``states`` are what it keeps of each parameter from step to step."""

    kind: str
    parameters: list[Tensor]
    settings: Mapping[str, Any]
    states: dict[Tensor, State] = field(default_factory=dict)


@dataclass(eq=False)
class State:
    """The number of steps so far, and averages of gradients by name."""

    steps: int = 0
    averages: dict[str, Tensor] = field(default_factory=dict)


def make_optimizer(reading: Reading, kind: str, values: Values, keywords: Keywords) -> Optimizer:
    """Return what ``torch.optim.kind(parameters, ...)`` makes.

    Raises:
        Unreadable: it is not read, or PyTorch refuses the arguments.
    """
    if kind not in STEPS:
        raise Unreadable(NOT_READ.format(kind))
    signature = inspect.signature(getattr(torch.optim, kind))
    given = bind_python(f"torch.optim.{kind}", signature, values, keywords)
    given.apply_defaults()
    settings = dict(given.arguments)
    parameters = items_of(reading, settings.pop("params"))
    _check_parameters(reading, parameters)
    for name, value in settings.items():
        default = signature.parameters[name].default
        if name in NUMBERS:
            _check_number(name, value)
        elif name in FLAGS:
            settings[name] = bool(value)
        elif value is not default and not (value is False or value is None):
            raise Unreadable(f"torch.optim.{kind} is not read with {name}")
    if settings.get("nesterov") and (settings["momentum"] <= 0 or settings["dampening"] != 0):
        raise Unreadable("Nesterov momentum requires a momentum and zero dampening")
    return Optimizer(kind, parameters, settings)


NUMBERS = frozenset({"lr", "momentum", "dampening", "weight_decay", "eps", "betas"})
FLAGS = frozenset({"nesterov", "maximize"})


def _check_parameters(reading: Reading, parameters: Sequence[Any]) -> None:
    for one in parameters:
        if not isinstance(one, Tensor):
            raise Unreadable(f"an optimizer is read with parameters, not with {describe(one)}")
        if not attribute(reading, one, "is_leaf"):
            raise Unreadable("can't optimize a non-leaf Tensor")
        one.held = True
    if not parameters:
        raise Unreadable("optimizer got an empty parameter list")
    if len(set(parameters)) < len(parameters):
        raise Unreadable("a parameter stands twice in the list of this optimizer")


def _check_number(name: str, value: Any) -> None:
    numbers = value if name == "betas" and isinstance(value, list | tuple) else (value,)
    is_pair = name != "betas" or len(numbers) == 2
    if not is_pair or not all(is_number(one) and not isinstance(one, complex) for one in numbers):
        raise Unreadable(f"{name} of an optimizer is read as a number")
    if not all(0 <= one < (1 if name == "betas" else float("inf")) for one in numbers):
        raise Unreadable(f"Invalid {name} of an optimizer: {value}")


def call_optimizer(
    reading: Reading, optimizer: Optimizer, name: str, values: Values, keywords: Keywords
) -> None:
    """Read ``optimizer.step()`` or ``optimizer.zero_grad()``."""
    if name == "zero_grad" and len(values) < 2 and keywords.keys() <= {"set_to_none"}:
        empty = values[0] if values else keywords.get("set_to_none", True)
        zero_grad(reading, iter(optimizer.parameters), empty)
        return
    if name != "step" or values or keywords:
        raise Unreadable("an optimizer is read with step() and zero_grad()")
    with reading.grad_mode(enabled=False):
        for parameter in optimizer.parameters:
            reading.step()
            _step(reading, optimizer, parameter)


def _step(reading: Reading, optimizer: Optimizer, parameter: Tensor) -> None:
    """Change one parameter, if it has a gradient."""
    gradient = gradient_of(reading, parameter)
    if not gradient.there:
        return
    check_there(reading, gradient)
    check_changeable(reading, parameter)
    slope = gradient_tensor(reading, gradient)
    state = optimizer.states.setdefault(parameter, State())
    state.steps += 1
    update = Update(reading, parameter, state, parameter.node.id)
    update.name(slope, "grad")
    if optimizer.settings["maximize"]:
        slope = update.op("neg", "grad", [slope])
    STEPS[optimizer.kind](update, slope, **optimizer.settings)


@dataclass(eq=False)
class Update:
    """One step of one parameter."""

    reading: Reading
    parameter: Tensor
    state: State
    stem: str

    def name(self, made: Tensor, what: str) -> None:
        """Name a node after the parameter."""
        self.reading.graph.name(made.node, f"{self.stem}.{what}")

    def op(self, op: str, what: str, given: list[Any], **settings: Any) -> Tensor:
        """Append an op, named after the parameter."""
        made = compute(self.reading, op, *given, **settings)
        self.name(made, what)
        return made

    def change(self, op: ast.operator, value: Any, alpha: Any = None) -> None:
        """Compute ``parameter op= value`` in place."""
        operate(self.reading, op, self.parameter, value, alpha)
        self._name_parameter()

    def become(self, result: Tensor) -> None:
        """Let the parameter be what was computed in its place."""
        result.node.overwrites = self.parameter.node
        become(self.reading, self.parameter, result)
        self._name_parameter()

    def _name_parameter(self) -> None:
        first = self.parameter.past[0][1].node.id or self.stem
        self.reading.graph.name(self.parameter.node, first)


def _sgd(
    update: Update,
    slope: Tensor,
    *,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    **_others: Any,
) -> None:
    """Stochastic gradient descent, Sutskever et al. 2013 as PyTorch's documentation has it."""
    if weight_decay != 0:
        slope = update.op("add", "decayed", [slope, update.parameter], alpha=weight_decay)
    if momentum != 0:
        averages = update.state.averages
        if "momentum" not in averages:
            average = update.op("clone", "momentum", [slope])
        else:
            scaled = update.op("mul", "scaled", [averages["momentum"], momentum])
            average = update.op("add", "momentum", [scaled, slope], alpha=1 - dampening)
        averages["momentum"] = average
        slope = update.op("add", "ahead", [slope, average], alpha=momentum) if nesterov else average
    update.change(ast.Add(), slope, alpha=-lr)


def _adam(
    update: Update,
    slope: Tensor,
    *,
    lr: float,
    betas: Sequence[float],
    eps: float,
    weight_decay: float,
    decoupled: bool = False,
    **_others: Any,
) -> None:
    """Adam, Kingma and Ba 2014; ``decoupled``: AdamW, Loshchilov and Hutter 2017."""
    beta1, beta2 = betas
    if weight_decay != 0 and decoupled:
        update.change(ast.Mult(), 1 - lr * weight_decay)
    elif weight_decay != 0:
        slope = update.op("add", "decayed", [slope, update.parameter], alpha=weight_decay)
    averages = update.state.averages
    for what in ("mean", "square") if not averages else ():
        averages[what] = update.op("zeros_like", what, [slope])
    averages["mean"] = update.op("lerp", "mean", [averages["mean"], slope, 1 - beta1])
    scaled = update.op("mul", "scaled", [averages["square"], beta2])
    averages["square"] = update.op("addcmul", "square", [scaled, slope, slope], value=1 - beta2)
    steps = float(update.state.steps)
    size, root = lr / (1 - beta1**steps), (1 - beta2**steps) ** 0.5
    below = update.op("div", "below", [update.op("sqrt", "below", [averages["square"]]), root])
    below = update.op("add", "below", [below, eps])
    update.become(
        update.op("addcdiv", "change", [update.parameter, averages["mean"], below], value=-size)
    )


STEPS: Mapping[str, Callable[..., None]] = {
    "SGD": _sgd, "Adam": _adam, "AdamW": partial(_adam, decoupled=True),
}  # fmt: skip
