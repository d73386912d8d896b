"""From a sample of torch's own op database to a graph request.

``op_db`` holds, for every op that torch tests, functions that make sample inputs. A sample is a
Python call; here it becomes the JSON that a client would send for the same call.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.testing._internal.opinfo.core import OpInfo, SampleInput
from torch.utils import _pytree

from service.contract.problem import GradtraceError
from service.engine.bind import bind
from service.engine.catalogue import Operation, catalogue
from service.engine.dtypes import DTYPE_NAMES
from service.engine.signature import HIDDEN, Signature

Json = Any
OUT = "out"
SEED = 42
"""What the database seeds its random ops with, before each call."""


@dataclass(frozen=True)
class Made:
    """The result of an op that comes before."""

    id: str


@dataclass
class Call:
    """An op's name in the catalogue, and its arguments with tensors in them."""

    name: str
    args: list[Any]
    kwargs: dict[str, Any] = field(default_factory=dict)
    id: str = OUT


class NotExpressible(Exception):
    """A sample that no request can say."""


@dataclass
class Case:
    """A sample as a request, and the same call to make directly."""

    request: dict[str, Json]
    leaves: dict[str, Tensor]
    """The tensors that the request's leaves hold, for the direct call."""
    direct: Callable[[], Any]
    """Makes the call on these tensors, as torch's own tests do."""


@dataclass
class _Leaves:
    """Gives every tensor of a sample an id, the same tensor the same one."""

    names: dict[int, str] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def reference(self, tensor: Tensor | Made) -> dict[str, str]:
        """Return the JSON that refers to ``tensor``."""
        if isinstance(tensor, Made):
            return {"ref": tensor.id}
        name = self.names.setdefault(id(tensor), f"t{len(self.names)}")
        self.tensors[name] = tensor
        return {"ref": name}


def convert(op: OpInfo, sample: SampleInput) -> Case:
    """Return ``sample`` of ``op`` as a forward-only request.

    Raises:
        NotExpressible: the op is not in the catalogue, or the sample holds what JSON cannot say.
    """
    if op.name == "as_strided" and not _fills_storage(sample.input):
        return _strided_view(op, sample)
    copies: dict[int, Tensor] = {}
    # Only the elements of a tensor travel, so the direct call gets contiguous ones as well.
    values = _pytree.tree_map(
        lambda value: _copy(value, copies), (sample.input, tuple(sample.args), dict(sample.kwargs))
    )
    given, args, kwargs = values
    return _case(calls_of(op, given, args, kwargs), lambda: op.op(given, *args, **kwargs))


def _case(calls: Sequence[Call], direct: Callable[[], Any]) -> Case:
    leaves = _Leaves()
    ops = [_op(call, leaves) for call in calls]
    request = {
        "leaves": [leaf(name, tensor) for name, tensor in leaves.tensors.items()],
        "ops": ops,
        "backward": [],
        "seed": SEED,
        "encoding": "base64",
    }
    return Case(request, leaves.tensors, direct)


def _strided_view(op: OpInfo, sample: SampleInput) -> Case:
    """Return the case of a view whose strides reach what lies around it in its storage.

    Only a tensor's elements travel, so the storage is put together from its parts by an op.
    """
    view, (size, stride) = sample.input, sample.args
    storage = view.detach().as_strided((view.untyped_storage().nbytes() // view.itemsize,), (1,), 0)
    start = view.storage_offset()
    before, after = storage[:start].clone(), storage[start + view.numel() :].clone()
    offset = sample.kwargs.get("storage_offset", start)
    whole = Call("cat", [[before, view, after]], id="storage")
    strided = Call("as_strided", [Made("storage"), size, stride, offset])
    return _case([whole, strided], lambda: op.op(view, size, stride, **sample.kwargs))


def _fills_storage(tensor: Tensor) -> bool:
    return tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def _copy(value: Any, copies: dict[int, Tensor]) -> Any:
    if not isinstance(value, Tensor):
        return value
    if value.layout is not torch.strided or value.dtype not in DTYPE_NAMES:
        raise NotExpressible(f"a leaf cannot be {value.layout} {value.dtype}")
    if id(value) not in copies:
        copy = value.detach().resolve_conj().resolve_neg()
        copy = copy.clone(memory_format=torch.contiguous_format)
        copies[id(value)] = copy.requires_grad_(value.requires_grad)
    return copies[id(value)]


def tensor_bytes(tensor: Tensor) -> bytes:
    """Return a tensor's elements as raw little-endian row-major bytes."""
    plain = tensor.detach().resolve_conj().resolve_neg()
    if plain._is_zerotensor():
        plain = torch.zeros(plain.shape, dtype=plain.dtype)
    flat = plain.clone(memory_format=torch.contiguous_format).reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes()) if flat.numel() else b""


def leaf(name: str, tensor: Tensor) -> dict[str, Json]:
    """Return a tensor as the Leaf of a request."""
    return {
        "id": name,
        "dtype": DTYPE_NAMES[tensor.dtype],
        "shape": list(tensor.shape),
        "value_base64": base64.b64encode(tensor_bytes(tensor)).decode(),
        "requires_grad": tensor.requires_grad,
    }


# --- which call a sample is ---------------------------------------------------------------------

OPERATORS: Mapping[str, str] = {
    "__radd__": "add",
    "__rmul__": "mul",
    "__rand__": "bitwise_and",
    "__ror__": "bitwise_or",
    "__rxor__": "bitwise_xor",
    "__rsub__": "rsub",
    "_segment_reduce": "segment_reduce",
    "grid_sampler_2d": "aten.grid_sampler_2d.default",
    "grid_sampler_3d": "aten.grid_sampler_3d.default",
}
"""Ops of the database that stand in the catalogue under another name."""

SWAPPED: Mapping[str, str] = {
    # reflected operators: a.__rpow__(b) is b ** a
    "__rmatmul__": "matmul",
    "__rmod__": "remainder",
    "__rpow__": "pow",
    # the database differentiates the input of these that is not the first
    "einsum": "einsum",
    "where": "where",
    "nn.functional.embedding": "nn.functional.embedding",
    "polygamma": "polygamma",
    "special.polygamma": "special.polygamma",
    "normal/number_mean": "normal",
}
"""Ops whose first two arguments the database has the other way round."""

OF_PRODUCTS = frozenset({"svd_lowrank", "pca_lowrank", "linalg.pinv/singular"})
"""Ops that the database calls with ``a @ b.mT``."""


def calls_of(op: OpInfo, given: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Call]:
    """Return the ops that together are what the database calls for this sample."""
    name = op.name
    swapped = SWAPPED.get(name) or SWAPPED.get(full_name(op))
    if swapped:
        return [Call(swapped, [args[0], given, *args[1:]], kwargs)]
    if full_name(op) in OF_PRODUCTS:
        turned = Call("mT", [args[0]], id="turned")
        product = Call("matmul", [given, Made("turned")], id="product")
        return [turned, product, Call(name, [Made("product"), *args[1:]], kwargs)]
    if name == "__rdiv__":
        inverse = Call("reciprocal", [given], id="inverse")
        return [inverse, Call("mul", [Made("inverse"), *args], kwargs)]
    if name == "__getitem__":
        return [Call("getitem", [given, index_json(args[0])])]
    if name == "_upsample_bilinear2d_aa":
        overload = "vec" if "scale_factors" in kwargs else "default"
        return [Call(f"aten.{name}.{overload}", [given, *args], kwargs)]
    if name == "_native_batch_norm_legit":  # the same but for the statistics that it writes
        if isinstance(args[2], bool):
            return [Call("aten._native_batch_norm_legit.no_stats", [given, *args], kwargs)]
        return [Call("native_batch_norm", [given, *args], kwargs)]
    if name == "to" and args[0] in ("cpu", torch.device("cpu")):
        return [Call("to", [given, *args[1:]], kwargs)]
    if name.startswith("torch.ops."):
        base, overload = name.removeprefix("torch.ops.aten.").partition(".")[::2]
        return [Call(f"aten.{base}.{overload or 'default'}", [given, *args], kwargs)]
    return [Call(OPERATORS.get(name, name), [given, *args], kwargs)]


def full_name(op: OpInfo) -> str:
    """Return the name of an OpInfo with its variant, as the tables of this suite have it."""
    return op.name + (f"/{op.variant_test_name}" if op.variant_test_name else "")


class IndexJson(list[Any]):
    """An index that is JSON already, but for its tensors."""


def index_json(index: Any) -> IndexJson:
    """Return what stands between the brackets as the `index` of `getitem`."""
    parts = index if isinstance(index, tuple) else (index,)
    return IndexJson(_index_part(part) for part in parts)


def _index_part(part: Any) -> Any:
    if part is Ellipsis:
        return "..."
    if isinstance(part, slice):
        return {"slice": [part.start, part.stop, part.step]}
    if isinstance(part, list):
        return [_index_part(item) for item in part]
    return part


# --- from arguments to inputs and attrs ---------------------------------------------------------


def _op(call: Call, leaves: _Leaves) -> dict[str, Json]:
    try:
        operation = catalogue().find(call.name)
    except GradtraceError as error:
        raise NotExpressible(f"{call.name} is not in the catalogue") from error
    reasons = []
    for signature in operation.signatures:
        for named in _namings(signature, call.args, call.kwargs):
            try:
                return {"id": call.id, **_bound(operation, signature, named, leaves)}
            except (GradtraceError, NotExpressible) as error:
                reasons.append(str(error))
    raise NotExpressible(reasons[0] if reasons else f"{call.name} has no such signature")


def _namings(
    signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the arguments by the signature's names, in each way that Python would take them."""
    order = signature.order
    # The last list of a call may be spread: view(2, 3), meshgrid(a, b).
    spread = [[*args[:at], list(args[at:])] for at in range(len(args))]
    for way in [list(args), *spread]:
        if len(way) <= len(order):
            named = dict(zip(order, way, strict=False))
            known = {
                signature.by_name[key].name if key in signature.by_name else key: value
                for key, value in kwargs.items()
            }
            if not named.keys() & known.keys():
                yield {**named, **known}


def _bound(
    operation: Operation, signature: Signature, named: dict[str, Any], leaves: _Leaves
) -> dict[str, Json]:
    """Return the op, tensors as inputs as far as the contract's order allows."""
    named = {key: value for key, value in named.items() if not _is_hidden(key, value)}
    inputs: list[str] = []
    attrs: dict[str, Json] = {}
    by_position = True
    for parameter in signature.parameters:
        if parameter.name not in named:
            by_position = by_position and parameter not in signature.positional_tensors
            continue
        value = named.pop(parameter.name)
        takes_inputs = by_position and parameter in signature.positional_tensors
        if takes_inputs and isinstance(value, (Tensor, Made)):
            inputs.append(leaves.reference(value)["ref"])
        elif takes_inputs and parameter.kind.is_list and _all_tensors(value):
            inputs.extend(leaves.reference(item)["ref"] for item in value)
        else:
            attrs[parameter.name] = to_json(value, leaves)
    if named:
        raise NotExpressible(f"{operation.name} has no {', '.join(named)}")
    bind(operation, inputs, attrs)
    return {"op": operation.name, "inputs": inputs, "attrs": attrs}


def _all_tensors(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and bool(value)
        and all(isinstance(item, Tensor) for item in value)
    )


def _is_hidden(name: str, value: Any) -> bool:
    """Return whether an argument can be left out, because the call means the same without it."""
    if isinstance(value, (torch.device, torch.layout)):
        return value in (torch.device("cpu"), torch.strided)
    if name == "options":  # chooses an algorithm for the same loss
        return type(value).__name__ == "LinearCrossEntropyOptions"
    if isinstance(value, torch.nn.PairwiseDistance):
        return vars(value) == vars(torch.nn.PairwiseDistance())
    return name == "non_blocking" or (name in HIDDEN and value in (None, False, "cpu"))


def to_json(value: Any, leaves: _Leaves) -> Json:
    """Return an argument as JSON, a tensor as a reference to its leaf.

    Raises:
        NotExpressible: JSON cannot say it.
    """
    if isinstance(value, (Tensor, Made)):
        return leaves.reference(value)
    if isinstance(value, (bool, int, str, type(None))):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _nonfinite(value)
    if isinstance(value, complex):
        return {"re": to_json(value.real, leaves), "im": to_json(value.imag, leaves)}
    if isinstance(value, (torch.dtype, torch.memory_format)):
        return str(value).removeprefix("torch.")
    if isinstance(value, (list, tuple)):
        return [to_json(item, leaves) for item in value]
    if isinstance(value, dict) and value.keys() == {"slice"}:
        return value
    raise NotExpressible(f"no JSON says a {type(value).__name__}")


def _nonfinite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
