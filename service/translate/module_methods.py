"""The methods of ``nn.Module`` and of its containers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from service.translate import leaves
from service.translate.attributes import check_own_grad, check_there
from service.translate.builtins_read import items_of
from service.translate.gradients import empty_gradient, gradient_of
from service.translate.members import named_buffers, named_children, named_modules, named_parameters
from service.translate.objects import Instance
from service.translate.reading import Reading
from service.translate.registration import register_buffer, register_module, register_parameter
from service.translate.unreadable import Unreadable
from service.translate.values import Device, Tensor


def _parameters(reading: Reading, module: Instance, recurse: Any = True) -> Iterator[Tensor]:
    return (one for _, one in named_parameters(reading, module, recurse=bool(recurse)))


def _buffers(reading: Reading, module: Instance, recurse: Any = True) -> Iterator[Tensor]:
    return (one for _, one in named_buffers(reading, module, recurse=bool(recurse)))


def _train(reading: Reading, module: Instance, mode: Any = True) -> Instance:
    if not isinstance(mode, bool):
        raise Unreadable("training mode is expected to be boolean")
    reading.step()
    module.own["training"] = mode
    for _, inner in named_children(reading, module):
        _train(reading, inner, mode)
    return module


def zero_grad(reading: Reading, tensors: Iterator[Tensor], set_to_none: Any = True) -> None:
    """Empty the gradients of parameters, as ``zero_grad`` of a module and of an optimizer do."""
    for one in tensors:
        reading.step()
        check_own_grad(one)
        gradient = gradient_of(reading, one)
        if not gradient.there:
            continue
        if not set_to_none:
            check_there(reading, gradient)
        empty_gradient(reading, one, zeros=not set_to_none)


def _requires_grad(reading: Reading, module: Instance, requires_grad: Any = True) -> Instance:
    for one in _parameters(reading, module):
        (leaves.require_grad if requires_grad else leaves.forget_grad)(reading, one)
    return module


def _to(_reading: Reading, module: Instance, device: Any = None) -> Instance:
    if not isinstance(device, Device | str):
        raise Unreadable(
            "the dtype of a module is that with which it is made; torch.set_default_dtype, or "
            "dtype=..., says it"
        )
    leaves.on_cpu(device)
    return module


# --- containers ---------------------------------------------------------------------------------


def _check_list(module: Instance) -> None:
    if module.of not in ("Sequential", "ModuleList"):
        raise Unreadable(f"{module.kind} is no list of modules")


def _append(reading: Reading, of: Instance, module: Any) -> Instance:
    _check_list(of)
    register_module(reading, of, str(len(of.modules)), module)
    return of


def _extend(reading: Reading, of: Instance, modules: Any) -> Instance:
    _check_list(of)
    found = items_of(reading, modules)
    for one in found:
        _append(reading, of, one)
    return of


def _of_dict(module: Instance) -> dict[str, Instance | None]:
    if module.of != "ModuleDict":
        raise Unreadable(f"{module.kind} is no dict of modules")
    return module.modules


MODULE_METHODS: Mapping[str, Callable[..., Any]] = {
    "parameters": _parameters,
    "named_parameters": named_parameters,
    "buffers": _buffers,
    "named_buffers": named_buffers,
    "modules": lambda reading, module: (one for _, one in named_modules(reading, module)),
    "named_modules": named_modules,
    "children": lambda reading, module: (one for _, one in named_children(reading, module)),
    "named_children": named_children,
    "train": _train,
    "eval": lambda reading, module: _train(reading, module, mode=False),
    "zero_grad": lambda reading, module, set_to_none=True: zero_grad(
        reading, _parameters(reading, module), set_to_none
    ),
    "requires_grad_": _requires_grad,
    "to": _to,
    "cpu": lambda _reading, module: module,
    "register_buffer": register_buffer,
    "register_parameter": register_parameter,
    "register_module": register_module,
    "add_module": register_module,
    "append": _append,
    "extend": _extend,
    "keys": lambda _reading, module: _of_dict(module).keys(),
    "values": lambda _reading, module: _of_dict(module).values(),
    "items": lambda _reading, module: _of_dict(module).items(),
}
"""Methods by name. What a script may give them stands behind the module, not by keyword only."""
WALKS = frozenset(
    "parameters named_parameters buffers named_buffers modules named_modules children "
    "named_children keys values items".split()
)
"""Methods that change nothing."""
