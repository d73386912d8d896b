"""Parameters of modules: what PyTorch draws for them, as nodes that draw the same numbers.

uniform from low to high    rand, then low + (high - low) * rand in one rounding: rsub
normal                      normal
one number                  zeros, ones or full
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from service.translate.arguments import bind_python, describe, dtype_name
from service.translate.folding import is_number, nested_items
from service.translate.layers import LAYERS, LOSSES, WITH_PARAMETERS, refusal
from service.translate.leaves import on_cpu, require_grad
from service.translate.members import constant, said_dtype
from service.translate.objects import Instance, Later
from service.translate.operations import compute
from service.translate.reading import Reading
from service.translate.recorded import Fill, build, stand_in
from service.translate.registration import name_module
from service.translate.unreadable import Unreadable
from service.translate.values import DType, Keywords, Tensor, Values

A_MODULE = 500
"""How many steps it takes to make a module."""
DRAWN = ("float32", "float64")


def make_layer(reading: Reading, kind: str, values: Values, keywords: Keywords) -> Instance:
    """Return the module that ``nn.kind(*values, **keywords)`` makes, its parameters as nodes.

    Raises:
        Unreadable: it is not read, or PyTorch refuses the arguments.
    """
    if kind not in LAYERS:
        raise Unreadable(refusal(kind))
    reading.step(A_MODULE)
    if kind == "Identity":
        return Instance(kind, {"training": True}, is_ready=True)
    made_of: dict[int, Tensor] = {}
    given = _arguments(reading, kind, values, keywords, made_of)
    module, fills = build(getattr(nn, kind), given.args, given.kwargs)
    own = {name: one for name, one in vars(module).items() if not name.startswith("_")}
    layer = Instance(kind, own, is_ready=True)
    if kind == "Embedding" and own["sparse"]:
        raise Unreadable("sparse gradients are not read; leave sparse=True out")
    if kind in WITH_PARAMETERS and reading.inference:
        raise Unreadable("a module made in inference mode cannot be trained; make it outside")
    made = _filled(reading, fills)
    for name, parameter in module._parameters.items():
        found = None if parameter is None else _parameter(reading, made, parameter)
        layer.parameters[name] = found
    for name, buffer in module._buffers.items():
        layer.buffers[name] = None if buffer is None else _buffer(made_of, fills, buffer)
    name_module(reading, layer, kind.lower(), for_good=False)
    return layer


def _arguments(
    reading: Reading, kind: str, values: Values, keywords: Keywords, made_of: dict[int, Tensor]
) -> inspect.BoundArguments:
    """Return the arguments as PyTorch's own; what stands in for a tensor goes to ``made_of``."""
    signature = inspect.signature(getattr(nn, kind))
    given = bind_python(f"nn.{kind}", signature, values, keywords)
    on_cpu(given.arguments.pop("device", None))
    if "dtype" in signature.parameters:
        dtype = given.arguments.get("dtype")
        name = reading.graph.dtype if dtype is None else dtype_name(dtype)
        if name not in DRAWN:
            raise Unreadable(f"modules are read with {' and '.join(DRAWN)}, not with {name}")
        given.arguments["dtype"] = DType(name)
    for name, value in given.arguments.items():
        if isinstance(value, list | tuple):
            reading.spend(nested_items(value))
        stands = isinstance(value, Tensor) and kind in LOSSES
        given.arguments[name] = _stand_in(value, made_of) if stands else plain_argument(value)
    return given


def _stand_in(given: Tensor, made_of: dict[int, Tensor]) -> torch.Tensor:
    given.held = True
    tensor = stand_in(given.ref.shape or ())
    made_of[id(tensor)] = given
    return tensor


def plain_argument(value: Any) -> Any:
    """Return an argument as PyTorch itself takes it."""
    if isinstance(value, list | tuple):
        return type(value)(plain_argument(item) for item in value)
    if isinstance(value, DType):
        return getattr(torch, value.name)
    if value is None or isinstance(value, str) or is_number(value):
        return value
    raise Unreadable(f"{describe(value)} is no argument of a module that is read here")


def _dtype_of(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _parameter(reading: Reading, made: Mapping[int, Tensor], tensor: torch.Tensor) -> Tensor:
    found = made.get(id(tensor))
    if found is None:  # without elements nothing is filled
        found = constant(reading, tuple(tensor.shape), _dtype_of(tensor), 0)
    require_grad(reading, found)
    found.is_parameter = found.held = True
    return found


def _buffer(
    made_of: Mapping[int, Tensor], fills: Sequence[Fill], tensor: torch.Tensor
) -> Tensor | Later:
    """Return a buffer: a tensor of the script's, or one number that is filled in last."""
    if id(tensor) in made_of:
        return made_of[id(tensor)]
    number = [fill.numbers[0] for fill in fills if fill.tensor is tensor][-1:]
    return Later(tuple(tensor.shape), _dtype_of(tensor), number[0] if number else 0)


def _filled(reading: Reading, fills: Sequence[Fill]) -> dict[int, Tensor]:
    """Append what fills parameters, in the order in which PyTorch draws; return it by identity."""
    made: dict[int, Tensor] = {}
    for fill in fills:
        if isinstance(fill.tensor, nn.Parameter):
            made[id(fill.tensor)] = filled(reading, fill, made.get(id(fill.tensor)))
    return made


def filled(reading: Reading, fill: Fill, before: Tensor | None = None) -> Tensor:
    """Append the tensor that a fill leaves; ``before`` is what a row of it is put into."""
    shape, dtype = tuple(fill.tensor.shape), _dtype_of(fill.tensor)
    if not all(math.isfinite(number) for number in fill.numbers):
        raise Unreadable(f"{fill.how} with {fill.numbers} is not read")
    if fill.row is not None:
        assert before is not None
        row = constant(reading, shape[1:], dtype, fill.numbers[0])
        made = compute(reading, "select_scatter", before, row, 0, fill.row)
        made.node.shape = shape
        return made
    made = HOW[fill.how](reading, shape, dtype, *fill.numbers)
    made.node.shape, made.node.dtype, made.node.kind = shape, dtype, "float"
    return made


def _uniform(
    reading: Reading, shape: tuple[int, ...], dtype: str, low: float, high: float
) -> Tensor:
    if dtype not in DRAWN:
        raise Unreadable(f"uniform_ is read with {' and '.join(DRAWN)}, not with {dtype}")
    if reading.graph.device is not None:
        raise Unreadable(f"what uniform_ draws on {reading.graph.device} is not known here")
    ends = torch.tensor([low, high], dtype=getattr(torch, dtype))
    if not low <= high:
        raise Unreadable(f"uniform_ expects to return a [from, to) range, but {low} > {high}")
    start, end = ends.tolist()
    drawn = compute(reading, "rand", list(shape), **said_dtype(reading, dtype))
    if (start, end) == (0.0, 1.0):
        return drawn
    return compute(reading, "rsub", drawn, start, alpha=-(ends[1] - ends[0]).item())


def _normal(
    reading: Reading, shape: tuple[int, ...], dtype: str, mean: float, std: float
) -> Tensor:
    said = said_dtype(reading, dtype)
    if (mean, std) == (0, 1):
        return compute(reading, "randn", list(shape), **said)
    return compute(reading, "normal", float(mean), float(std), list(shape), **said)


HOW: Mapping[str, Callable[..., Tensor]] = {
    "uniform": _uniform,
    "normal": _normal,
    "full": constant,
}
