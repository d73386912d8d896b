"""The oracle of the translators: the script itself, run by Python, against its graph's trace."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import orjson
import torch
from torch import Tensor, nn

from service.contract.request import TraceRequest
from service.translate import values
from service.translate.from_python import from_python, read
from service.translate.members import named_parameters
from service.translate.objects import Instance
from service.translate.reading import Reading
from tests.engine.asking import nodes_of
from tests.engine.bits import bits

FIELDS = ("value", "grad")


def executed(source: str) -> dict[str, Any]:
    """Return the names of a script after Python ran it; what it prints is under ``printed``."""
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = io.StringIO()
    before = torch.get_default_dtype()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(source, "script.py", "exec"), names)  # noqa: S102 - the test's own words
    finally:
        torch.set_default_dtype(before)
    names["printed"] = printed.getvalue()
    return names


def traced(source: str) -> dict[str, dict[str, Any]]:
    """Return the nodes of the graph that a script means, by id."""
    return trace_of(from_python(source))


def trace_of(request: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the nodes of a request's trace; hold the request against the contract's model."""
    request = orjson.loads(orjson.dumps(request))
    TraceRequest.model_validate(request)
    return nodes_of(request)


def tensor_of(document: Any, dtype: torch.dtype) -> Tensor:
    """Return nested lists of an answer as a tensor of ``dtype``."""

    def number(value: Any) -> Any:
        if isinstance(value, list):
            return [number(item) for item in value]
        return float(value) if isinstance(value, str) else value

    if dtype.is_complex:
        part = torch.float32 if dtype is torch.complex64 else torch.float64
        parts = torch.tensor(number(document), dtype=part)
        return torch.view_as_complex(parts) if parts.numel() else parts.to(dtype)
    return torch.tensor(number(document), dtype=dtype)


def same(document: Any, tensor: Tensor | None) -> bool:
    """Whether an answer's nested lists are exactly this tensor."""
    if tensor is None or document is None:
        return tensor is None and document is None
    tensor = tensor.detach()
    return bits(tensor_of(document, tensor.dtype).reshape(tensor.shape)) == bits(tensor)


def check(source: str) -> dict[str, dict[str, Any]]:
    """Compare every tensor that the names of a script hold at its end to its node.

    Values are equal bit for bit; so are gradients, of leaves and of retained tensors.
    """
    reading = read(source)
    nodes = trace_of(reading.graph.request())
    names = executed(source)
    tensors = {name: value for name, value in names.items() if isinstance(value, Tensor)}
    assert tensors
    for name, tensor in tensors.items():
        ref = reading.scope.names[name].ref
        assert ref.shape in (None, tuple(tensor.shape)), name
        node = nodes[str(ref)]
        assert node["dtype"] == str(tensor.dtype).removeprefix("torch."), name
        assert node["requires_grad"] == tensor.requires_grad, name
        assert same(node["value"], tensor), (name, node["value"], tensor)
        if tensor.is_leaf or tensor.retains_grad:
            assert same(node["grad"], tensor.grad), (name, node["grad"], tensor.grad)
    return nodes


def check_modules(source: str) -> dict[str, dict[str, Any]]:
    """Compare every tensor and every module that a script's names hold at its end to its nodes."""
    reading = read(source)
    nodes = trace_of(reading.graph.request())
    compared = 0
    for name, found in executed(source).items():
        if isinstance(found, Tensor):
            compare(reading, reading.scope.names[name], found, nodes, name)
            compared += 1
        elif isinstance(found, nn.Module):
            compared += compare_module(reading, name, found, nodes)
    assert compared
    return nodes


def compare_module(
    reading: Reading, name: str, module: nn.Module, nodes: dict[str, dict[str, Any]]
) -> int:
    """Compare what is registered in a module: names, order, values, gradients, flags."""
    instance = reading.scope.names[name]
    assert isinstance(instance, Instance)
    own, given = list(named_parameters(reading, instance)), list(module.named_parameters())
    assert [path for path, _ in own] == [path for path, _ in given]
    for (path, tensor), (_, parameter) in zip(own, given, strict=True):
        compare(reading, tensor, parameter, nodes, f"{name}.{path}")
    return len(given)


def compare(
    reading: Reading,
    own: values.Tensor,
    tensor: Tensor,
    nodes: dict[str, dict[str, Any]],
    name: str,
) -> None:
    """Compare one tensor to its node: value, dtype, flag; its gradient where that was computed."""
    assert own.ref.shape in (None, tuple(tensor.shape)), name
    node = nodes[str(own.ref)]
    assert node["dtype"] == str(tensor.dtype).removeprefix("torch."), name
    assert node["requires_grad"] == tensor.requires_grad, name
    assert same(node["value"], tensor), (name, node["value"], tensor)
    if tensor.is_leaf or tensor.retains_grad:
        at = own.at_root(len(reading.graph.roots) - 1)
        grad = nodes[str(at)]["grad"]
        assert same(grad, tensor.grad), (name, grad, tensor.grad)
