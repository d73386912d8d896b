"""Leaves of an exported program: parameters, buffers, constants and the inputs it is run on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, TensorArgument
from torch.utils import _pytree as pytree

from service.contract.problem import InvalidRequest
from service.engine.dtypes import DTYPE_NAMES
from service.engine.write_tensor import base64_text

Inputs = tuple[Sequence[Any], Mapping[str, Any]]


def leaf(name: str, tensor: Tensor) -> dict[str, Any]:
    """Return a Leaf with the tensor's bytes in base64.

    Raises:
        InvalidRequest: no leaf can be of its dtype or layout.
    """
    dtype = DTYPE_NAMES.get(tensor.dtype)
    if dtype is None or tensor.layout is not torch.strided:
        raise InvalidRequest(f"{name}: no leaf can be {tensor.dtype} with {tensor.layout}")
    made: dict[str, Any] = {
        "id": name,
        "value_base64": base64_text(tensor),
        "shape": list(tensor.shape),
        "dtype": dtype,
    }
    if tensor.requires_grad:
        made["requires_grad"] = True
    return made


def overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have memory in common."""
    if one.untyped_storage().data_ptr() != other.untyped_storage().data_ptr():
        return False
    if one.is_contiguous() and other.is_contiguous():
        starts = one.data_ptr(), other.data_ptr()
        return max(starts) < min(starts[0] + one.nbytes, starts[1] + other.nbytes)
    return bool(torch.isin(_places(one), _places(other)).any())


def _places(tensor: Tensor) -> Tensor:
    """Return the place of each of a tensor's bytes in its storage."""
    sizes = [*tensor.shape, tensor.element_size()]
    strides = [*(n * tensor.element_size() for n in tensor.stride()), 1]
    places = torch.tensor(tensor.storage_offset() * tensor.element_size())
    for size, stride in zip(sizes, strides, strict=True):
        places = places.unsqueeze(-1) + stride * torch.arange(size)
    return places.flatten()


def tie_again(program: ExportedProgram) -> None:
    """Make tied weights of a loaded program one tensor again, as they were before it was saved.

    A file only says which tensors lie in the same memory. Of tied ones a program uses the last
    alone, or gets no other; whatever is used beside it, or stands behind it, was a tensor of its
    own.
    """
    names = {spec.arg.name: str(spec.target) for spec in program.graph_signature.input_specs}
    holders = {names[node.name]: node for node in program.graph.find_nodes(op="placeholder")}
    state = program.state_dict
    alike: dict[tuple[Any, ...], list[str]] = {}
    for name, tensor in state.items():
        alike.setdefault(_identity(tensor), []).append(name)
    for group in alike.values():
        used = [name for name in group if name in holders and holders[name].users]
        behind: Tensor | None = None
        for name in reversed(group):
            if name in used:
                behind = state[name]
            elif name not in holders and used:
                state[name] = state[used[0]]
            elif behind is not None:
                state[name] = behind


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    """Return what two names of one tensor, tied weights, have in common."""
    place = tensor.untyped_storage().data_ptr() if tensor.numel() else id(tensor)
    kind = isinstance(tensor, torch.nn.Parameter), tensor.requires_grad, tensor.dtype
    return place, tensor.storage_offset(), *kind, tuple(tensor.shape), tuple(tensor.stride())


def placeholders(program: ExportedProgram, inputs: Inputs | None) -> Iterator[tuple[str, str, Any]]:
    """Yield (placeholder, id, value) for every input of the program's graph.

    Args:
        program: as ``torch.export.export`` made it.
        inputs: the arguments to run on; the example inputs of the program where there are none.

    Raises:
        InvalidRequest: there are no inputs, or not those that the program takes.
    """
    given = iter(_flat_inputs(program, inputs))
    known = {node.name: node.meta.get("val") for node in program.graph.find_nodes(op="placeholder")}
    names: dict[int, str] = {}
    for name, tensor in program.state_dict.items():
        names.setdefault(id(tensor), name)
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            value = next(given)
            if isinstance(spec.arg, ConstantArgument):
                if inputs is not None and value != spec.arg.value:
                    raise InvalidRequest(
                        f"{spec.arg.name}: the program was exported for {spec.arg.value!r}"
                    )
                value = spec.arg.value
            elif inputs is not None:
                _check_given(spec.arg.name, value, known[spec.arg.name])
            yield spec.arg.name, spec.arg.name, value
        elif spec.kind is InputKind.TOKEN or not isinstance(spec.arg, TensorArgument):
            raise InvalidRequest(f"{spec.arg.name}: an input of kind {spec.kind.name} is no tensor")
        else:
            tensor = _state(program, str(spec.target))
            yield spec.arg.name, names.get(id(tensor), str(spec.target)), tensor


def _check_given(name: str, value: Any, known: Any) -> None:
    """Refuse an input of another dtype or size than the program takes."""
    if not isinstance(known, Tensor):
        return
    fits = isinstance(value, Tensor) and value.dtype == known.dtype and value.ndim == known.ndim
    sizes = zip(value.shape, known.shape, strict=True) if fits else ()
    if not fits or any(isinstance(size, int) and size != given for given, size in sizes):
        raise InvalidRequest(
            f"{name}: the program takes {known.dtype} of sizes {list(map(str, known.shape))}"
        )


def _state(program: ExportedProgram, target: str) -> Tensor:
    found = program.state_dict.get(target)
    if found is None:
        found = program.constants[target]
    if not isinstance(found, Tensor):
        raise InvalidRequest(f"{target}: a constant of the program is no tensor")
    return found


def _flat_inputs(program: ExportedProgram, inputs: Inputs | None) -> list[Any]:
    if inputs is None:
        inputs = program.example_inputs
    if inputs is None:
        raise InvalidRequest("the program was saved without example inputs, and none are given")
    args, kwargs = inputs
    kwargs = {name: kwargs[name] for name in _order(program, kwargs)}
    flat, spec = pytree.tree_flatten((tuple(args), kwargs))
    if spec != program.call_spec.in_spec:
        raise InvalidRequest("the inputs do not have the form that the program was exported with")
    return flat


def _order(program: ExportedProgram, kwargs: Mapping[str, Any]) -> list[str]:
    in_spec = program.call_spec.in_spec
    names: list[str] = [] if in_spec is None else list(in_spec.child(1).context)
    return names if set(names) == set(kwargs) else list(kwargs)
