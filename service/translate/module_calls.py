"""What calling a module computes: its own forward, or the function of ``torch.nn.functional``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from service.translate.arguments import bind_python, literal
from service.translate.gradients import tensor_of
from service.translate.in_place import apply_maybe_in_place
from service.translate.layers import LAYERS, is_default, words_of
from service.translate.members import member, named_children
from service.translate.methods import count_listed
from service.translate.module_methods import MODULE_METHODS
from service.translate.modules import start
from service.translate.objects import MISSING, Class, Instance, Later, Parent
from service.translate.operations import compute, exists, find
from service.translate.reading import MAX_DEPTH, Reading
from service.translate.registration import NOT_READY
from service.translate.scopes import Function
from service.translate.unreadable import Unreadable
from service.translate.values import Keywords, Method, Tensor, Values

NO_FORWARD = "this module has no forward that is read here"


def call_module_method(reading: Reading, method: Method, values: Values, keywords: Keywords) -> Any:
    """Read a call of one of ``nn.Module``'s own methods."""
    owner, name = method.owner, method.name
    if isinstance(owner, Parent):
        if name == "__init__":
            return start(owner.this, values, keywords)
        owner = owner.this
    if name == "forward":
        return _forward(reading, owner, values, keywords)
    if name == "apply":
        return _apply(reading, owner, values, keywords)
    function = MODULE_METHODS.get(name)
    if function is None:
        raise Unreadable(f".{name}() of a module is not read")
    signature = inspect.signature(function)
    read = [one for one in signature.parameters.values() if one.kind is not one.KEYWORD_ONLY]
    names = [one.name for one in read[2:]]
    try:
        given = signature.bind(reading, owner, *values, **keywords)
    except TypeError:
        given = None
    if given is None or not keywords.keys() <= set(names):
        raise Unreadable(f".{name}() is read with {', '.join(names) or 'no arguments'}")
    return function(*given.args, **given.kwargs)


def _apply(reading: Reading, module: Instance, values: Values, keywords: Keywords) -> Instance:
    """``module.apply(function)``: of those inside first."""
    if len(values) != 1 or keywords or not isinstance(values[0], Function):
        raise Unreadable(".apply() is read with a function of the script")
    for _, inner in named_children(reading, module):
        _apply(reading, inner, values, {})
    reading.inline(reading, values[0], [module], {})
    return module


def call_instance(reading: Reading, instance: Instance, values: Values, keywords: Keywords) -> Any:
    """Return ``instance(...)``: of a module, what its forward returns.

    Raises:
        Unreadable: it cannot be called.
    """
    if not instance.is_module:
        assert isinstance(instance.of, Class)
        function = instance.of.find("__call__")
        if function is MISSING:
            raise Unreadable(f"{instance.kind} has no __call__")
        return reading.inline(reading, function, [instance, *values], keywords)
    if not instance.is_ready:
        raise Unreadable(NOT_READY)
    if reading.depth >= MAX_DEPTH:
        raise Unreadable(f"modules call each other more than {MAX_DEPTH} deep")
    reading.step()
    reading.depth += 1
    try:
        if isinstance(instance.of, str) and "forward" not in instance.own:
            return _forward(reading, instance, values, keywords)
        forward = member(reading, instance, "forward")
        if isinstance(forward, Method):
            raise Unreadable(NO_FORWARD)
        return reading.call(reading, forward, values, keywords)
    finally:
        reading.depth -= 1


def _forward(reading: Reading, module: Instance, values: Values, keywords: Keywords) -> Any:
    """Return what the forward of a module of ``torch.nn`` returns."""
    kind = module.of
    if kind == "Sequential":
        if len(values) != 1 or keywords:
            raise Unreadable("nn.Sequential takes one value")
        value = values[0]
        for inner in module.modules.values():
            if inner is None:
                raise Unreadable("one of the modules of this nn.Sequential is None")
            value = call_instance(reading, inner, [value], {})
        return value
    if not isinstance(kind, str) or kind not in LAYERS:
        raise Unreadable(NO_FORWARD)
    signature = inspect.signature(getattr(nn, kind).forward)
    given = bind_python(f"nn.{kind}", signature, [module, *values], keywords)
    inputs = [tensor_of(reading, value) for value in given.args[1:]]
    count_listed(reading, *inputs)
    if any(inner is not None for inner in module.modules.values()):
        raise Unreadable(f"a module that was put into nn.{kind} is not read")
    special = SPECIAL.get(kind)
    if special is not None:
        return special(reading, module, *inputs)
    return _call_function(reading, module, inputs, _settings(reading, module))


def _settings(reading: Reading, module: Instance) -> dict[str, Any]:
    """Return what a module of ``torch.nn`` gives its function beside the inputs."""
    assert isinstance(module.of, str)
    return {keyword: member(reading, module, name) for name, keyword in words_of(module.of)}


def _call_function(
    reading: Reading, module: Instance, inputs: Sequence[Any], settings: Mapping[str, Any]
) -> Any:
    function = LAYERS[module.kind][0]
    name = f"nn.functional.{function}"
    name = name if exists(name) else function
    defaults: dict[str, Any] = {"inplace": False}
    for signature in reversed(find(name).signatures):
        defaults |= {one.name: one.default for one in signature.parameters if not one.required}
        for alias, one in signature.by_name.items():
            if not one.required:
                defaults[alias] = one.default
    told = {
        keyword: value
        for keyword, value in settings.items()
        if isinstance(value, Tensor)
        or keyword not in defaults
        or not is_default(value if value is None else literal(value), defaults[keyword])
    }
    return apply_maybe_in_place(reading, name, inputs, told)


def _convolve(reading: Reading, module: Instance, given: Any) -> Any:
    """A convolution, whose padding is an op of its own where it is not of zeros."""
    settings = _settings(reading, module)
    if module.own["padding_mode"] != "zeros":
        raise Unreadable(
            "padding of zeros alone is read in a convolution; write torch.nn.functional.pad(x, "
            f"..., mode={module.own['padding_mode']!r}) before it"
        )
    return _call_function(reading, module, [given], settings)


def _transposed(reading: Reading, module: Instance, given: Any, output_size: Any = None) -> Any:
    if output_size is not None:
        raise Unreadable("output_size is not read; write output_padding")
    return _call_function(reading, module, [given], _settings(reading, module))


def _batch_norm(reading: Reading, module: Instance, given: Any) -> Any:
    """Batch normalisation: in training its running statistics change, and have no part in it."""
    _check_dimensions(reading, module, given)
    own = module.own
    trains = own["training"]
    settings = {key: member(reading, module, key) for key in ("weight", "bias", "eps")}
    has_statistics = module.buffers.get("running_mean") is not None
    if trains or not has_statistics:
        if trains and own["track_running_stats"]:
            for name, buffer in module.buffers.items():
                if isinstance(buffer, Tensor):
                    raise Unreadable(
                        f"this call changes {name}, which something has read before, and a node "
                        "of a graph never changes"
                    )
                if isinstance(buffer, Later):
                    buffer.moved = True
        statistics = {"running_mean": None, "running_var": None, "training": True}
    else:
        statistics = {key: member(reading, module, key) for key in ("running_mean", "running_var")}
    return _call_function(reading, module, [given], {**statistics, **settings})


def _check_dimensions(reading: Reading, module: Instance, given: Any) -> None:
    """Refuse, or let a run refuse, a tensor that does not have the dimensions of the module."""
    dims = {"1d": (2, 3), "2d": (4,), "3d": (5,)}[module.kind[-2:]]
    shape = given.ref.shape if isinstance(given, Tensor) else None
    if shape is not None and len(shape) not in dims:
        raise Unreadable(f"expected {dims[0]}D input (got {len(shape)}D input)")
    if shape is None:  # an op that raises where the dimensions do not fit, and is no part of more
        if len(dims) == 1:
            compute(reading, "permute", given, list(range(dims[0])))
        else:
            compute(reading, "nn.functional.adaptive_avg_pool1d", given, 1)


SPECIAL: Mapping[str, Callable[..., Any]] = {
    "Identity": lambda _reading, _module, given: given,
    **{f"Conv{n}d": _convolve for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": _transposed for n in (1, 2, 3)},
    **{f"BatchNorm{n}d": _batch_norm for n in (1, 2, 3)},
}
