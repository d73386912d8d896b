"""Calls: of PyTorch's functions, of tensors' methods, of Python's builtins and the script's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.translate import gradients, leaves
from service.translate.arguments import describe, dtype_name
from service.translate.attributes import known_shape
from service.translate.builtins_read import call_builtin, call_python_module
from service.translate.exported import call_helper
from service.translate.operations import apply, exists
from service.translate.reading import Reading
from service.translate.unreadable import Unreadable
from service.translate.values import (
    Base64,
    Device,
    DType,
    Function,
    Gradient,
    Helper,
    Layer,
    Method,
    Path,
    Several,
    Tensor,
)

LAYERS: Mapping[str, str] = {
    "ReLU": "relu", "ReLU6": "relu6", "LeakyReLU": "leaky_relu", "ELU": "elu", "SELU": "selu",
    "GELU": "gelu", "SiLU": "silu", "Mish": "mish", "Softplus": "softplus", "Sigmoid": "sigmoid",
    "Tanh": "tanh", "LogSigmoid": "logsigmoid", "Softmax": "softmax", "LogSoftmax": "log_softmax",
    "Hardtanh": "hardtanh", "Hardswish": "hardswish", "MSELoss": "mse_loss", "L1Loss": "l1_loss",
    "SmoothL1Loss": "smooth_l1_loss", "HuberLoss": "huber_loss", "NLLLoss": "nll_loss",
    "CrossEntropyLoss": "cross_entropy", "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits", "KLDivLoss": "kl_div",
}  # fmt: skip
"""Modules without parameters of their own, and the function that each one calls."""

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
    **dict.fromkeys(("empty", "empty_like", "empty_strided"), "it returns uninitialised memory"),
}


def call(
    reading: Reading, function: Any, values: Sequence[Any], keywords: Mapping[str, Any]
) -> Any:
    """Return ``function(*values, **keywords)``."""
    if isinstance(function, Path):
        return _call_path(reading, function, values, keywords)
    if isinstance(function, Method):
        return _call_method(reading, function, values, keywords)
    if isinstance(function, Function):
        assert reading.inline is not None
        return reading.inline(reading, function, values, dict(keywords))
    if isinstance(function, Helper):
        return call_helper(reading, function.name, values)
    if isinstance(function, Layer):
        return apply(reading, function.function, values, {**dict(function.keywords), **keywords})
    raise Unreadable(f"{describe(function)} cannot be called")


def _call_path(
    reading: Reading, path: Path, values: Sequence[Any], keywords: Mapping[str, Any]
) -> Any:
    root, *rest = path.parts
    if root == "builtins":
        return call_builtin(reading, rest[0], values, keywords)
    if root != "torch":
        return call_python_module(path, values, keywords)
    name = op_name(rest)
    values = [_tensor_of(reading, value) for value in values]
    keywords = {key: _tensor_of(reading, value) for key, value in keywords.items()}
    special = SPECIAL.get(name)
    if special is not None:
        return special(reading, values, keywords)
    if name in leaves.CONSTRUCTORS:
        return leaves.tensor(reading, values, keywords)
    if name in leaves.LEGACY:
        return leaves.legacy(reading, name, values)
    if name in SETTINGS:
        return None
    if name in REFUSED:
        raise Unreadable(f"torch.{name}: {REFUSED[name]}")
    if len(rest) == 2 and rest[0] == "nn" and rest[1][:1].isupper():
        return _layer(rest[1], values, keywords)
    return _function(reading, name, values, keywords)


def _tensor_of(reading: Reading, value: Any) -> Any:
    return gradients.gradient_tensor(reading, value) if isinstance(value, Gradient) else value


def op_name(parts: Sequence[str]) -> str:
    """Return the catalogue's name of a function of torch: without ``torch.``, ``Tensor.``, ..."""
    parts = list(parts)
    if parts[:2] == ["ops", "aten"]:
        return ".".join(parts[1:] if len(parts) > 3 else parts[2:])
    if len(parts) > 1 and parts[0] in ("Tensor", "functional"):
        parts = parts[1:]
    return ".".join(parts)


def _layer(name: str, values: Sequence[Any], keywords: Mapping[str, Any]) -> Layer:
    function = LAYERS.get(name)
    if function is None or values:
        raise Unreadable(
            f"nn.{name}: modules are not read; write the function with its tensors, such as "
            "torch.nn.functional.linear(x, weight, bias)"
        )
    kept = tuple((key, value) for key, value in keywords.items() if key != "inplace")
    return Layer(f"nn.functional.{function}", kept)


def _function(
    reading: Reading, name: str, values: Sequence[Any], keywords: Mapping[str, Any]
) -> Any:
    last = name.rpartition(".")[2]
    if last.endswith("_"):
        raise Unreadable(in_place(last))
    settings = dict(keywords)
    leaves.on_cpu(settings.pop("device", None))
    requires_grad = settings.pop("requires_grad", False)
    for candidate in (name, last):
        if exists(candidate):
            name = candidate
            break
    result = apply(reading, name, values, settings)
    if requires_grad and isinstance(result, Tensor):
        leaves.require_grad(reading, result)
    return result


def in_place(name: str) -> str:
    """Return why a method that works in place is not read."""
    return (
        f"{name} changes its tensor in place, and a node of a graph never changes: "
        f"write x = x.{name.rstrip('_')}(...)"
    )


# --- methods ------------------------------------------------------------------------------------


def _call_method(
    reading: Reading, method: Method, values: Sequence[Any], keywords: Mapping[str, Any]
) -> Any:
    owner, name = method.owner, method.name
    if isinstance(owner, Gradient):
        gradients.empty_gradient(reading, owner.tensor)
        return None
    if not isinstance(owner, Tensor):
        return _python_method(owner, name, values)
    values = [_tensor_of(reading, value) for value in values]
    keywords = {key: _tensor_of(reading, value) for key, value in keywords.items()}
    special = METHODS.get(name)
    if special is not None:
        return special(reading, owner, values, keywords)
    if name in ("view", "reshape") and not keywords and leaves.reshaped(owner, values):
        return owner
    if name.endswith("_"):
        raise Unreadable(in_place(name))
    return apply(reading, name, [owner, *values], keywords)


LIST_METHODS = frozenset("append extend insert pop index count copy reverse remove".split())
DICT_METHODS = frozenset("keys values items get".split())


def _python_method(owner: Any, name: str, values: Sequence[Any]) -> Any:
    if isinstance(owner, list) and name in LIST_METHODS:
        return _attempt_method(owner, name, values)
    if isinstance(owner, dict) and name in DICT_METHODS:
        found = _attempt_method(owner, name, values)
        return found if name == "get" else list(found)
    if isinstance(owner, Several) and name in ("count", "index"):
        raise Unreadable("the outputs of an op are read by number or name")
    raise Unreadable(f"{describe(owner)} has no method {name} that is read here")


def _attempt_method(owner: Any, name: str, values: Sequence[Any]) -> Any:
    try:
        return getattr(owner, name)(*values)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def _to(reading: Reading, owner: Tensor, values: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """``x.to(...)``, without the device, which is the request's."""
    kept = []
    for value in values:
        if isinstance(value, Device | str):
            leaves.on_cpu(value)
        else:
            kept.append(value)
    settings = dict(keywords)
    leaves.on_cpu(settings.pop("device", None))
    return apply(reading, "to", [owner, *kept], settings) if kept or settings else owner


def _type(
    reading: Reading, owner: Tensor, values: Sequence[Any], _keywords: Mapping[str, Any]
) -> Any:
    dtype = dtype_name(values[0]) if values else None
    if dtype is None:
        raise Unreadable(".type() is read with a dtype")
    return apply(reading, "to", [owner], {"dtype": DType(dtype)})


def _same(_reading: Reading, owner: Tensor, *_arguments: Any) -> Tensor:
    return owner


def _clone(
    reading: Reading, owner: Tensor, values: Sequence[Any], keywords: Mapping[str, Any]
) -> Any:
    fresh = "value_base64" in owner.node.fields and not owner.node.id
    return owner if fresh else apply(reading, "clone", [owner, *values], keywords)


def _retain(reading: Reading, owner: Tensor, *_arguments: Any) -> None:
    """``x.retain_grad()``; after a backward pass there is nothing left of it to keep."""
    before = (gradients.reaches(root, owner.node) for root in reading.graph.roots)
    if owner.node.op is not None and not any(before):
        owner.node.retain_grad = True


def _requires_grad(
    reading: Reading, owner: Tensor, values: Sequence[Any], keywords: Mapping[str, Any]
) -> Tensor:
    wanted = values[0] if values else keywords.get("requires_grad", True)
    return (leaves.require_grad if wanted else leaves.forget_grad)(reading, owner)


def _size(
    _reading: Reading, owner: Tensor, values: Sequence[Any], keywords: Mapping[str, Any]
) -> Any:
    shape = known_shape(owner)
    at = values[0] if values else keywords.get("dim")
    if at is None:
        return shape
    if not (isinstance(at, int) and -len(shape) <= at < len(shape)):
        raise Unreadable(f"there is no dimension {at}")
    return shape[at]


def _dim(_reading: Reading, owner: Tensor, *_arguments: Any) -> int:
    return len(known_shape(owner))


def _numel(_reading: Reading, owner: Tensor, *_arguments: Any) -> int:
    return math.prod(known_shape(owner))


def _cuda(_reading: Reading, _owner: Tensor, *_arguments: Any) -> None:
    leaves.on_cpu("cuda")


METHODS: Mapping[str, Callable[..., Any]] = {
    "backward": gradients.backward,
    "retain_grad": _retain,
    "requires_grad_": _requires_grad,
    "to": _to,
    "type": _type,
    "cpu": _same,
    "clone": _clone,
    "size": _size,
    "dim": _dim,
    "ndimension": _dim,
    "numel": _numel,
    "nelement": _numel,
    "cuda": _cuda,
}


# --- functions of torch that are no op ----------------------------------------------------------


def _manual_seed(reading: Reading, values: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    seed = values[0] if values else keywords.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise Unreadable("torch.manual_seed takes a whole number")
    reading.graph.manual_seed(seed)


def _set_default_dtype(
    reading: Reading, values: Sequence[Any], _keywords: Mapping[str, Any]
) -> None:
    dtype = dtype_name(values[0]) if values else None
    if dtype is None:
        raise Unreadable("torch.set_default_dtype takes a dtype")
    reading.graph.dtype = dtype


def _set_default_device(
    reading: Reading, values: Sequence[Any], _keywords: Mapping[str, Any]
) -> None:
    device = values[0] if values else None
    name = device.name if isinstance(device, Device) else device
    if not isinstance(name, str):
        raise Unreadable("torch.set_default_device takes a device's name")
    reading.graph.device = None if name == "cpu" else name


def _set_grad_enabled(
    reading: Reading, values: Sequence[Any], _keywords: Mapping[str, Any]
) -> None:
    reading.grad_enabled = bool(values[0]) if values else True


def _as_leaf(default: bool) -> Callable[..., Tensor]:
    def read(reading: Reading, values: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor:
        wanted = values[1] if len(values) > 1 else keywords.get("requires_grad", default)
        data = values[0] if values else keywords.get("data")
        return leaves.as_leaf(reading, data, bool(wanted))

    return read


def _frombuffer(reading: Reading, values: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor:
    if len(values) != 1 or not isinstance(values[0], Base64):
        raise Unreadable("torch.frombuffer is read with base64.b64decode of a string")
    return leaves.from_bytes(reading, values[0], keywords.get("dtype"))


def _device(_reading: Reading, values: Sequence[Any], _keywords: Mapping[str, Any]) -> Device:
    if not values or not isinstance(values[0], str):
        raise Unreadable("torch.device takes a name")
    return Device(values[0])


SPECIAL: Mapping[str, Callable[..., Any]] = {
    "manual_seed": _manual_seed,
    "random.manual_seed": _manual_seed,
    "set_default_dtype": _set_default_dtype,
    "set_default_device": _set_default_device,
    "set_grad_enabled": _set_grad_enabled,
    "autograd.Variable": _as_leaf(default=False),
    "nn.Parameter": _as_leaf(default=True),
    "nn.parameter.Parameter": _as_leaf(default=True),
    "autograd.backward": gradients.autograd_backward,
    "autograd.grad": gradients.autograd_grad,
    "frombuffer": _frombuffer,
    "device": _device,
    "cuda.is_available": lambda *_arguments: False,
    "is_grad_enabled": lambda reading, *_arguments: reading.grad_enabled,
}
