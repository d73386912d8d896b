"""What a module holds: parameters, buffers and modules, registered as ``nn.Module`` does it."""

from __future__ import annotations

from typing import Any

from torch import nn

from service.contract.problem import quote
from service.translate.arguments import describe
from service.translate.attributes import may_be_parameter
from service.translate.element_types import last_part
from service.translate.layers import SETTABLE
from service.translate.members import MODULE_NAMES, check_name
from service.translate.names import FOREIGN, id_of
from service.translate.objects import MISSING, Class, Instance
from service.translate.operations import check_whole
from service.translate.reading import Reading
from service.translate.unreadable import Unreadable
from service.translate.values import Several, Tensor

NOT_READY = "the module's own __init__ has not run: begin with super().__init__()"
MAY_BE_PARAMETER = (
    "whether this is the parameter itself, which would be registered, is known only when the graph "
    "runs; assign the parameter, or .clone() it"
)


def set_member(reading: Reading, instance: Instance, name: str, value: Any) -> None:
    """Read ``instance.name = value``.

    Raises:
        Unreadable: PyTorch refuses it, or would hold it in a way that is not read here.
    """
    check_name(name)
    if isinstance(value, Tensor):
        check_whole(value.now.node)
        value.held = True
        if not value.is_parameter and may_be_parameter(value):
            raise Unreadable(MAY_BE_PARAMETER)
    if not instance.is_module:
        instance.own[name] = value
    elif isinstance(value, Tensor) and value.is_parameter:
        _forget(instance, name, instance.parameters)
        register_parameter(reading, instance, name, value)
    elif isinstance(value, Instance) and value.is_module and name not in instance.parameters:
        _forget(instance, name, instance.modules)
        register_module(reading, instance, name, value)
    else:
        _set_other(instance, name, value)
    _name(reading, instance, name, value)


def _set_other(instance: Instance, name: str, value: Any) -> None:
    for registered in (instance.parameters, instance.modules):
        if name in registered:
            if value is not None:
                raise Unreadable(
                    f"cannot assign {describe(value)} as {quote(name)}, which is "
                    "registered as a parameter or a module"
                )
            registered[name] = None
            return
    if name in instance.buffers:
        if isinstance(instance.of, str) and instance.of.startswith("BatchNorm"):
            raise Unreadable(f"nn.{instance.of} takes its {name} when it is made")
        if value is not None and not isinstance(value, Tensor):
            raise Unreadable(f"cannot assign {describe(value)} as the buffer {quote(name)}")
        instance.buffers[name] = value
        return
    if name in MODULE_NAMES and name not in ("training", "forward"):
        raise Unreadable(f"{quote(name)} is a name of nn.Module's own; take another one")
    if isinstance(instance.of, str) and name in instance.own and name not in SETTABLE:
        raise Unreadable(f"nn.{instance.of} takes its {name} when it is made")
    instance.own[name] = value


def register_parameter(reading: Reading, instance: Instance, name: str, param: Any) -> None:
    """Read ``instance.register_parameter(name, param)``, or an assignment that does the same."""
    if param is not None and not (isinstance(param, Tensor) and param.is_parameter):
        raise Unreadable(f"cannot register {describe(param)} as a parameter")
    _register(reading, instance, name, param, instance.parameters)


def register_buffer(
    reading: Reading, instance: Instance, name: str, tensor: Any, persistent: Any = True
) -> None:
    """Read ``instance.register_buffer(name, tensor)``."""
    del persistent  # whether a file would hold it
    if tensor is not None and not isinstance(tensor, Tensor):
        raise Unreadable(f"cannot register {describe(tensor)} as a buffer")
    _register(reading, instance, name, tensor, instance.buffers)


def register_module(reading: Reading, instance: Instance, name: str, module: Any) -> None:
    """Read ``instance.add_module(name, module)``, or an assignment that does the same."""
    if module is not None and not (isinstance(module, Instance) and module.is_module):
        raise Unreadable(f"{describe(module)} is not a Module subclass")
    _register(reading, instance, name, module, instance.modules)


def _register(
    reading: Reading, instance: Instance, name: str, value: Any, registered: dict[str, Any]
) -> None:
    if isinstance(value, Tensor):
        value.held = True
    _check_free(instance, name, registered)
    registered[name] = value
    _name(reading, instance, name, value)


def put_module(reading: Reading, container: Instance, key: Any, value: Any) -> None:
    """Read ``modules[key] = module`` of a dict of modules, or of a list."""
    if container.of in ("Sequential", "ModuleList") and isinstance(key, int):
        names = list(container.modules)
        reading.spend(len(names))
        if not -len(names) <= key < len(names):
            raise Unreadable(f"index {key} is out of range")
        key = names[key]
    elif container.of != "ModuleDict":
        raise Unreadable(f"{describe(container)} cannot be written into")
    register_module(reading, container, key, value)


def _forget(instance: Instance, name: str, kept: Any) -> None:
    for other in instance.places:
        if other is not kept:
            other.pop(name, None)


def _check_free(instance: Instance, name: Any, registered: Any) -> None:
    if not instance.is_ready:
        raise Unreadable(NOT_READY)
    if not isinstance(name, str) or "." in name or not name:
        raise Unreadable("what is registered has a name without dots")
    if name in registered:
        return
    if any(name in other for other in instance.places):
        raise Unreadable(f"attribute {quote(name)} already exists")
    of_class = isinstance(instance.of, str) and hasattr(getattr(nn, instance.of), name)
    if isinstance(instance.of, Class):
        of_class = instance.of.find(name) is not MISSING
    if of_class or name in MODULE_NAMES:
        raise Unreadable(f"attribute {quote(name)} already exists in the class")


# --- ids ----------------------------------------------------------------------------------------


def part_of_id(name: str) -> str:
    """Return the name of an attribute, which may be any text, as a part of an id."""
    return FOREIGN.sub("_", id_of(name))


def stem_of(instance: Instance, name: str) -> str:
    """Return the id of what an attribute holds, as far as the name of the instance is known."""
    return f"{instance.stem or instance.kind.lower()}.{part_of_id(name)}"


def _name(reading: Reading, instance: Instance, name: str, value: Any) -> None:
    """Name the node of what an attribute holds after the instance, as far as its name is known."""
    stem = stem_of(instance, name)
    if not isinstance(value, Tensor):
        reading.members.add(name)
    if isinstance(value, Instance):
        name_module(reading, value, stem, for_good=instance.has_name)
    elif isinstance(value, Tensor):
        reading.graph.name_for_now(value.now.node, stem, for_good=instance.has_name)
    elif isinstance(value, Several):
        reading.graph.name(value.node, stem)


def name_module(reading: Reading, instance: Instance, stem: str, *, for_good: bool) -> None:
    """Begin the ids of a module's parameters with ``stem``, unless they have a name for good."""
    waiting = [(instance, stem)]
    seen: set[Instance] = set()
    while waiting:
        one, own_stem = waiting.pop()
        reading.step()
        if one in seen or one.has_name or (one.stem == own_stem and not for_good):
            continue
        seen.add(one)
        one.stem, one.has_name = own_stem, for_good
        for name, tensor in (*one.parameters.items(), *one.buffers.items(), *one.own.items()):
            if isinstance(tensor, Tensor):
                _name_tensor(reading, tensor, f"{own_stem}.{part_of_id(name)}", for_good=for_good)
        waiting.extend(
            (inner, f"{own_stem}.{part_of_id(name)}")
            for name, inner in reversed(one.modules.items())
            if inner is not None
        )


def _name_tensor(reading: Reading, tensor: Tensor, stem: str, *, for_good: bool) -> None:
    """Name the node of a tensor, and the nodes that its numbers were drawn with."""
    node = tensor.now.node
    before = node.id
    if not reading.graph.name_for_now(node, stem, for_good=for_good):
        return
    for ref in node.inputs:
        is_own = bool(before) and ref.node.id.startswith(f"{before}.")
        if is_own or not ref.node.id:
            short = ref.node.id.removeprefix(f"{before}.") or last_part(ref.node.op)
            reading.graph.name_for_now(ref.node, f"{node.id}.{short}", for_good=for_good)
