"""Attributes of instances, found as Python and ``nn.Module`` find them; walks over modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from service.contract.problem import quote
from service.translate.objects import MISSING, Bound, Class, Instance, Later, Parent
from service.translate.operations import compute
from service.translate.reading import Reading
from service.translate.scopes import Function
from service.translate.unreadable import Unreadable
from service.translate.values import DType, Method, Path, Tensor

MODULE_NAMES = frozenset(dir(nn.Module)) | frozenset(vars(nn.Module()))
"""What every ``nn.Module`` has."""

MOVED = (
    "calls in training have moved these statistics in a way that a graph does not follow; read "
    "them, and call the module in eval(), before the first call in training"
)


def member(reading: Reading, instance: Instance, name: str) -> Any:
    """Return ``instance.name``: plain, of its class, registered, or a method of ``nn.Module``.

    Raises:
        Unreadable: there is nothing of this name, or it is not read.
    """
    check_name(name)
    if name in instance.own:
        found = instance.own[name]
        if isinstance(found, Tensor):
            found.held = True
        return found
    found = instance.of.find(name) if isinstance(instance.of, Class) else MISSING
    if found is not MISSING:
        return bound(found, instance, name)
    registered = _registered(reading, instance, name)
    if registered is not MISSING:
        return registered
    if instance.is_module and (name in MODULE_NAMES or isinstance(instance.of, str)):
        known = nn.Module if isinstance(instance.of, Class) else getattr(nn, instance.of)
        if hasattr(known, name):
            return Method(instance, name)
    raise Unreadable(f"{instance.kind} has no attribute {quote(name)} here")


def _registered(reading: Reading, instance: Instance, name: str) -> Any:
    if name in instance.parameters:
        found = instance.parameters[name]
        if found is not None:
            found.held = True
        return found
    if name in instance.buffers:
        return buffer(reading, instance, name)
    return instance.modules.get(name, MISSING)


def check_name(name: str) -> None:
    """Refuse names that Python, or ``nn.Module``, keeps for itself."""
    if name.startswith("__"):
        raise Unreadable(f"{name} of an instance is not read")
    if name.startswith("_") and name in MODULE_NAMES:
        raise Unreadable(f"{name} is nn.Module's own affair, and is not read")


def bound(found: Any, instance: Instance, name: str) -> Any:
    """Return what a name of a class is when an instance is asked for it: functions are bound."""
    if isinstance(found, Function):
        return Bound(found, instance)
    if isinstance(found, Path) and not found.parts[-1][:1].isupper():
        raise Unreadable(
            f"{quote(name)} is a function as an attribute of a class, which Python may bind to the "
            "instance; set it in __init__"
        )
    if isinstance(found, Tensor):
        found.held = True
    return found


def buffer(reading: Reading, instance: Instance, name: str) -> Tensor | None:
    """Return a buffer, which becomes a node when it is first asked for."""
    found = instance.buffers[name]
    if isinstance(found, Later):
        if found.moved:
            raise Unreadable(MOVED)
        made = constant(reading, found.shape, found.dtype, found.number)
        stem = f"{instance.stem or instance.kind.lower()}.{name}"
        reading.graph.name_for_now(made.node, stem, for_good=instance.has_name)
        instance.buffers[name] = found = made
    if found is not None:
        found.held = True
    return found


def constant(reading: Reading, shape: tuple[int, ...], dtype: str, number: float) -> Tensor:
    """Append a tensor of one number."""
    said = said_dtype(reading, dtype)
    if number in (0, 1):
        return compute(reading, "ones" if number else "zeros", list(shape), **said)
    value = float(number) if "float" in dtype else number
    return compute(reading, "full", list(shape), value, **said)


def said_dtype(reading: Reading, dtype: str) -> dict[str, DType]:
    """Return how a call says the dtype of what it makes, where that is not the default."""
    return {} if dtype == reading.graph.dtype else {"dtype": DType(dtype)}


def named_modules(
    reading: Reading, instance: Instance, *, prefix: str = "", seen: set[Instance] | None = None
) -> Iterator[tuple[str, Instance]]:
    """Yield a module and those in it, each once, with the path to it."""
    seen = set() if seen is None else seen
    reading.step()
    if instance in seen:
        return
    seen.add(instance)
    yield prefix, instance
    for name, inner in instance.modules.items():
        if inner is not None:
            path = f"{prefix}.{name}" if prefix else name
            yield from named_modules(reading, inner, prefix=path, seen=seen)


def named_children(reading: Reading, instance: Instance) -> Iterator[tuple[str, Instance]]:
    """Yield the modules right in a module, each once."""
    seen = set()
    for name, inner in instance.modules.items():
        reading.step()
        if inner is not None and inner not in seen:
            seen.add(inner)
            yield name, inner


def named_parameters(
    reading: Reading, instance: Instance, *, recurse: bool = True
) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters of a module and of those in it, each once, with the path to it."""
    seen = set()
    for prefix, module in named_modules(reading, instance) if recurse else [("", instance)]:
        for name, found in module.parameters.items():
            if found is not None and found not in seen:
                seen.add(found)
                found.held = True
                yield f"{prefix}.{name}" if prefix else name, found


def named_buffers(
    reading: Reading, instance: Instance, *, recurse: bool = True
) -> Iterator[tuple[str, Tensor]]:
    """Yield the buffers of a module and of those in it, each once, with the path to it."""
    seen = set()
    for prefix, module in named_modules(reading, instance) if recurse else [("", instance)]:
        for name in module.buffers:
            found = buffer(reading, module, name)
            if found is not None and found not in seen:
                seen.add(found)
                yield f"{prefix}.{name}" if prefix else name, found


def of_class(cls: Class, name: str) -> Any:
    """Return ``Class.name``, its functions as they are."""
    found = cls.find(name)
    if found is MISSING:
        raise Unreadable(f"the class {cls.name} has no attribute {quote(name)}")
    return found


def of_parent(parent: Parent, name: str) -> Any:
    """Return ``super().name``."""
    found = MISSING if parent.of is None else parent.of.find(name)
    if found is not MISSING:
        return bound(found, parent.this, name)
    if name == "__init__" or (parent.this.is_module and hasattr(nn.Module, name)):
        return Method(parent, name)
    raise Unreadable(f"super() has no attribute {quote(name)}")
