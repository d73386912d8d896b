"""Calls: of PyTorch's functions, of tensors' methods, of Python's builtins and the script's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.translate import leaves, passes
from service.translate.arguments import describe, dtype_name
from service.translate.attributes import attribute
from service.translate.builtins_read import call_builtin, call_python_module
from service.translate.exported import call_helper
from service.translate.gradients import tensor_of
from service.translate.in_place import apply_maybe_in_place
from service.translate.initialisers import initialise
from service.translate.methods import call_method, count_listed, in_place
from service.translate.module_calls import call_instance, call_module_method
from service.translate.modules import is_instance, make_instance, make_module, parent, start
from service.translate.objects import Bound, Class, Instance, Parent
from service.translate.operations import compute, exists
from service.translate.optimizers import Optimizer, call_optimizer, make_optimizer
from service.translate.reading import Reading
from service.translate.registration import set_member
from service.translate.scopes import Function
from service.translate.unreadable import Unreadable
from service.translate.values import (
    UNINITIALISED,
    Array,
    Base64,
    Device,
    Helper,
    Keywords,
    Method,
    Path,
    Tensor,
    Unknown,
    Values,
)

SETTINGS = frozenset(
    "set_printoptions set_num_threads set_num_interop_threads set_warn_always "
    "use_deterministic_algorithms autograd.set_detect_anomaly set_float32_matmul_precision".split()
)
"""Settings that a graph does not know, and that change no number of it."""

REFUSED: Mapping[str, str] = {
    "Generator": "a Generator cannot be part of a graph; use torch.manual_seed",
    "no_grad": "is read as `with torch.no_grad():`",
    "from_dlpack": "a graph takes its tensors by their numbers",
    "load": "a script is never run, and no file is read",
    "seed": "only torch.manual_seed gives the same numbers again",
    "is_tensor": "asks what a value is; a graph holds tensors only",
    **dict.fromkeys(("empty_like", "empty_strided"), "it returns uninitialised memory"),
}


TENSOR_CLASSES = frozenset({"Tensor", "TensorBase", "Parameter"})
"""Classes whose methods a script can call by their full name, ``torch.Tensor.where(x, ...)``."""


def call(reading: Reading, function: Any, values: Values, keywords: Keywords) -> Any:
    """Return ``function(*values, **keywords)``."""
    if isinstance(function, Path) and function.parts not in (("torch",), ("builtins",)):
        return _call_path(reading, function, values, keywords)
    if isinstance(function, Method):
        if isinstance(function.owner, Instance | Parent):
            return call_module_method(reading, function, values, keywords)
        if isinstance(function.owner, Optimizer):
            return call_optimizer(reading, function.owner, function.name, values, keywords)
        return call_method(reading, function, values, keywords)
    if isinstance(function, Function):
        return reading.inline(reading, function, values, keywords)
    if isinstance(function, Bound):
        return reading.inline(reading, function.function, [function.this, *values], keywords)
    if isinstance(function, Class):
        return make_instance(reading, function, values, keywords)
    if isinstance(function, Instance):
        return call_instance(reading, function, values, keywords)
    if isinstance(function, Helper):
        return call_helper(reading, function.name, values)
    raise Unreadable(f"{describe(function)} cannot be called")


def _call_path(reading: Reading, path: Path, values: Values, keywords: Keywords) -> Any:
    root, *rest = path.parts
    if root == "builtins":
        if rest[0] in WITH_INSTANCES and not keywords:
            return WITH_INSTANCES[rest[0]](reading, values)
        return call_builtin(reading, rest[0], values, keywords)
    if root != "torch":
        return call_python_module(path, values, keywords)
    name = op_name(rest)
    if name == "nn.Module.__init__" and values and isinstance(values[0], Instance):
        return start(values[0], values[1:], keywords)
    values = [tensor_of(reading, value) for value in values]
    keywords = {key: tensor_of(reading, value) for key, value in keywords.items()}
    if rest[-2:-1] and rest[-2] in TENSOR_CLASSES and rest[0] != "ops":
        return _call_on_class(reading, path, values, keywords)
    if name in leaves.CONSTRUCTORS:
        made = leaves.tensor(reading, values, keywords)
        shares = name != "tensor" and isinstance(values[0], Array)
        made.node.shares_memory = made.node.kept = shares  # PyTorch does not copy what numpy holds
        return made
    if name in leaves.LEGACY:
        return leaves.legacy(reading, name, values)
    count_listed(reading, *values, *keywords.values())
    special = SPECIAL.get(name)
    if special is not None:
        return special(reading, values, keywords)
    if name in SETTINGS:
        return None
    return _call_torch(reading, rest, values, keywords)


def _call_torch(reading: Reading, parts: Sequence[str], values: Values, keywords: Keywords) -> Any:
    """Return what a module, an optimizer or an op of torch gives."""
    name, last = op_name(parts), parts[-1]
    if name in REFUSED:
        raise Unreadable(f"torch.{name}: {REFUSED[name]}")
    if parts[0] == "optim":
        kind = f"lr_scheduler.{last}" if "lr_scheduler" in parts else last
        return make_optimizer(reading, kind, values, keywords)
    if parts[:2] == ["nn", "init"]:
        return initialise(reading, last, values, keywords)
    if parts[0] == "nn" and last[:1].isupper():
        return make_module(reading, last, values, keywords)
    return _function(reading, name, values, keywords)


def _get(reading: Reading, values: Values) -> Any:
    """Return ``getattr(instance, name)``."""
    if len(values) != 2 or not (isinstance(values[0], Instance) and isinstance(values[1], str)):
        raise Unreadable("getattr is read with an instance and a name that the script says")
    return attribute(reading, values[0], values[1])


def _set(reading: Reading, values: Values) -> None:
    """Read ``setattr(instance, name, value)``."""
    if len(values) != 3 or not (isinstance(values[0], Instance) and isinstance(values[1], str)):
        raise Unreadable("setattr is read with an instance and a name that the script says")
    set_member(reading, values[0], values[1], values[2])


WITH_INSTANCES: Mapping[str, Callable[..., Any]] = {
    "super": parent,
    "isinstance": lambda _reading, values: is_instance(values),
    "getattr": _get,
    "setattr": _set,
}
"""Builtins that are read with instances."""


def _call_on_class(reading: Reading, path: Path, values: Values, keywords: Keywords) -> Any:
    """Return ``torch.Tensor.name(x, ...)`` as what it is, ``x.name(...)``."""
    if not values or not isinstance(values[0], Tensor):
        raise Unreadable(f"{path} is a method: its first argument is a tensor")
    method = attribute(reading, values[0], path.parts[-1])
    if not isinstance(method, Method):
        raise Unreadable(f"{path} is no method, and is not called")
    return call_method(reading, method, values[1:], keywords)


def op_name(parts: Sequence[str]) -> str:
    """Return the catalogue's name of a function of torch: without ``torch.``, ``Tensor.``, ..."""
    parts = list(parts)
    if parts[:2] == ["ops", "aten"]:
        return ".".join(parts[1:] if len(parts) > 3 else parts[2:])
    if len(parts) > 1 and parts[0] in ("Tensor", "functional"):
        parts = parts[1:]
    return ".".join(parts)


def _function(reading: Reading, name: str, values: Values, keywords: Keywords) -> Any:
    last = name.rpartition(".")[2]
    if last.startswith("__"):
        raise Unreadable(f"{last} is not called by its name here; write the operator itself")
    if last.endswith("_"):
        raise Unreadable(in_place(last))
    settings = dict(keywords)
    leaves.on_cpu(settings.pop("device", None))
    requires_grad = settings.pop("requires_grad", False)
    name = next(filter(exists, (name, last)), name)
    result = apply_maybe_in_place(reading, name, values, settings)
    if requires_grad and isinstance(result, Tensor):
        leaves.require_grad(reading, result)
    return result


# --- functions of torch that are no op ----------------------------------------------------------


def _manual_seed(reading: Reading, values: Values, keywords: Keywords) -> None:
    seed = values[0] if values else keywords.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise Unreadable("torch.manual_seed takes a whole number")
    reading.graph.manual_seed(seed)


def _set_default_dtype(reading: Reading, values: Values, _keywords: Keywords) -> None:
    dtype = dtype_name(values[0]) if values else None
    if dtype is None:
        raise Unreadable("torch.set_default_dtype takes a dtype")
    reading.graph.dtype = dtype


def _set_default_device(reading: Reading, values: Values, _keywords: Keywords) -> None:
    device = values[0] if values else None
    name = device.name if isinstance(device, Device) else device
    if not isinstance(name, str):
        raise Unreadable("torch.set_default_device takes a device's name")
    reading.graph.device = None if name == "cpu" else name


def _set_grad_enabled(reading: Reading, values: Values, keywords: Keywords) -> None:
    mode = values[0] if values else keywords.get("mode")
    if not isinstance(mode, bool | int):
        raise Unreadable("torch.set_grad_enabled takes True or False")
    reading.grad_enabled = bool(mode)


def _as_leaf(default: bool, *, is_parameter: bool = False) -> Callable[..., Tensor]:
    def read(reading: Reading, values: Values, keywords: Keywords) -> Tensor:
        wanted = values[1] if len(values) > 1 else keywords.get("requires_grad", default)
        data = values[0] if values else keywords.get("data")
        if isinstance(data, Tensor) and data.now.node.stale == UNINITIALISED and is_parameter:
            made = data
            made.now.node.requires_grad = made.now.node.tracked = bool(wanted)
        else:
            made = leaves.as_leaf(reading, data, bool(wanted))
        made.is_parameter = is_parameter
        return made

    return read


def _empty(reading: Reading, values: Values, keywords: Keywords) -> Tensor:
    """``torch.empty(...)``: a tensor that is not to be used before it is filled."""
    settings = dict(keywords)
    leaves.on_cpu(settings.pop("device", None))
    if settings.pop("requires_grad", False):
        raise Unreadable(f"torch.empty: {UNINITIALISED}")
    made = compute(reading, "zeros", *values, **settings)
    made.node.stale = UNINITIALISED
    return made


def _frombuffer(reading: Reading, values: Values, keywords: Keywords) -> Tensor:
    if len(values) != 1 or not isinstance(values[0], Base64):
        raise Unreadable("torch.frombuffer is read with base64.b64decode of a string")
    return leaves.from_bytes(reading, values[0], keywords.get("dtype"))


def _device(_reading: Reading, values: Values, _keywords: Keywords) -> Device:
    if not values or not isinstance(values[0], str):
        raise Unreadable("torch.device takes a name")
    return Device(values[0])


EQUAL = "whether tensors are equal is there only when the graph runs"

SPECIAL: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("manual_seed", "random.manual_seed"), _manual_seed),
    "set_default_dtype": _set_default_dtype,
    "set_default_device": _set_default_device,
    "set_grad_enabled": _set_grad_enabled,
    "autograd.Variable": _as_leaf(default=False),
    **dict.fromkeys(
        ("nn.Parameter", "nn.parameter.Parameter"), _as_leaf(default=True, is_parameter=True)
    ),
    "autograd.backward": passes.autograd_backward,
    "autograd.grad": passes.autograd_grad,
    "empty": _empty,
    "frombuffer": _frombuffer,
    "device": _device,
    **dict.fromkeys(("allclose", "equal"), lambda *_arguments: Unknown(EQUAL)),
    **dict.fromkeys(("cuda.is_available", "backends.mps.is_available"), lambda *_arguments: False),
    "is_grad_enabled": lambda reading, *_arguments: reading.grad_enabled,
}
