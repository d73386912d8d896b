"""Arrays on the client's side: NumPy or PyTorch tensors to safetensors bytes and back.

PyTorch is used where the caller already uses it and never imported for its own sake. NumPy has no
bfloat16: such tensors come back as float32, which holds every one of them exactly.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from service.client.calls import OK, Graph, UnexpectedAnswer, graph_json
from service.contract.problem import BadValue
from service.contract.request import DType
from service.contract.response import TraceResponse

_NUMPY_OF = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "C64": "<c8",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


@dataclass(frozen=True)
class TensorTrace:
    """An answer whose tensors are arrays.

    Attributes:
        response: everything but the tensors.
        values: each node's value by the node's id.
        grads: each node's gradient by the node's id; nodes without one are not there.
        edges: what each edge contributes, by its place in ``response.edges``; edges that contribute
            nothing are not there.
    """

    response: TraceResponse
    values: Mapping[str, Any]
    grads: Mapping[str, Any]
    edges: Mapping[int, Any] = field(default_factory=dict)


def pack(graph: Graph, tensors: Mapping[str, Any]) -> bytes:
    """Return a request as safetensors: ``graph`` in its metadata, ``tensors`` under their ids.

    A tensor whose id the graph's leaves do not list is added as a leaf; a PyTorch tensor says
    itself whether it requires grad.
    """
    data = dict(graph) if isinstance(graph, Mapping) else graph.model_dump(exclude_unset=True)
    leaves = [dict(leaf) for leaf in data.get("leaves") or []]
    listed = {leaf.get("id") for leaf in leaves}
    leaves += [_leaf(name, tensor) for name, tensor in tensors.items() if name not in listed]
    for leaf in leaves:
        if leaf.get("id") in tensors:  # what a leaf lacks is the service's to say
            leaf.setdefault("dtype", _dtype(leaf["id"], tensors[leaf["id"]]))
    metadata = {"request": graph_json({**data, "leaves": leaves}).decode()}
    if uses_torch(tensors):
        return _torch_bytes(tensors, metadata)
    plain = {name: _plain(tensor) for name, tensor in tensors.items()}
    return safetensors.numpy.save(plain, metadata)


def unpack(body: bytes, as_torch: bool) -> TensorTrace:
    """Return what a safetensors answer carries, as NumPy arrays or as PyTorch tensors.

    Raises:
        UnexpectedAnswer: ``body`` is none.
    """
    try:
        return _unpacked(body, as_torch)
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError):
        raise UnexpectedAnswer(OK, body.decode(errors="replace")) from None


def _unpacked(body: bytes, as_torch: bool) -> TensorTrace:
    header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
    response = TraceResponse.model_validate_json(header["__metadata__"]["response"])
    arrays = _torch_arrays(body) if as_torch else _numpy_arrays(body)
    nodes = {node.id: node for node in response.nodes}
    found: dict[str, dict[str, Any]] = {"value": {}, "grad": {}, "edge": {}}
    for name, array in arrays.items():
        kind, _, key = name.partition("/")
        if kind not in found:
            continue
        used = (response.edges or [])[int(key)].from_ if kind == "edge" else key
        pairs = nodes[used].dtype == "complex128"
        found[kind][key] = _complex128(array) if pairs else array
    edges = {int(place): array for place, array in found["edge"].items()}
    return TensorTrace(response, found["value"], found["grad"], edges)


def uses_torch(tensors: Mapping[str, Any]) -> bool:
    """Return whether any of ``tensors`` is PyTorch's."""
    return any(_is_torch(tensor) for tensor in tensors.values())


def _is_torch(tensor: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(tensor, torch.Tensor)


def _leaf(name: str, tensor: Any) -> dict[str, Any]:
    tracked = _is_torch(tensor) and bool(tensor.requires_grad)
    return {"id": name, "requires_grad": True} if tracked else {"id": name}


def _dtype(leaf: str, tensor: Any) -> str:
    dtype = tensor.dtype if _is_torch(tensor) else np.asarray(tensor).dtype.name
    name = str(dtype).removeprefix("torch.")
    if name not in set(DType):
        raise BadValue(
            f"the tensor of {leaf} is of {name}, which is none of the dtypes: {', '.join(DType)}",
            node=leaf,
        )
    return name


def _plain(array: Any) -> np.ndarray[Any, Any]:
    whole = _native(array)
    pairs = whole.dtype == np.complex128
    return whole.reshape(-1).view("f8").reshape(*whole.shape, 2) if pairs else whole


def _native(array: Any) -> np.ndarray[Any, Any]:
    """Return a copy of ``array``, row-major and in this machine's byte order."""
    if np.ma.is_masked(array):
        raise BadValue("A masked array has elements without a value; fill them first.")
    given = np.asarray(array)
    return np.array(given, given.dtype.newbyteorder("="), order="C")


def _torch_bytes(tensors: Mapping[str, Any], metadata: dict[str, str]) -> bytes:
    import safetensors.torch
    import torch

    plain: dict[str, torch.Tensor] = {}
    for name, given in tensors.items():
        tensor = given if _is_torch(given) else torch.from_numpy(_native(given))
        tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
        pairs = torch.view_as_real(tensor) if tensor.dtype == torch.complex128 else tensor
        plain[name] = pairs.clone(memory_format=torch.contiguous_format)
    return safetensors.torch.save(plain, metadata)


def _numpy_arrays(body: bytes) -> dict[str, np.ndarray[Any, Any]]:
    entries = safetensors.deserialize(body)  # type: ignore[no-untyped-call]
    return {name: _numpy_array(entry) for name, entry in entries}


def _numpy_array(entry: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    if entry["dtype"] == "BF16":
        bits = np.frombuffer(entry["data"], "<u2").astype("<u4") << 16
        return bits.view("<f4").reshape(entry["shape"])
    return np.frombuffer(entry["data"], _NUMPY_OF[entry["dtype"]]).reshape(entry["shape"])


def _torch_arrays(body: bytes) -> dict[str, Any]:
    import safetensors.torch

    return safetensors.torch.load(body)


def _complex128(array: Any) -> Any:
    if _is_torch(array):
        return sys.modules["torch"].view_as_complex(array)
    return np.ascontiguousarray(array).view("<c16").reshape(array.shape[:-1])
