"""Functions that an exported script brings along, and what each of them means when read back.

A function definition is one of these if it is the same word for word (comments and layout aside).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from service.translate.operations import add
from service.translate.passes import retain
from service.translate.reading import Reading
from service.translate.unreadable import Unreadable
from service.translate.values import Helper, Node, Several, StartGradient, Tensor, Values

SHOW = '''\
def show(node, tensor):
    """Print a node, or each output of an op that has several, as a line of JSON."""
    if isinstance(tensor, (tuple, list)):
        for k, output in enumerate(tensor):
            show(f"{node}:{k}", output)
        return
    grad = tensor.grad if tensor.is_leaf or tensor.retains_grad else None
    print(json.dumps({"id": node, "value": numbers(tensor), "grad": numbers(grad)}))
'''

NUMBERS = '''\
def numbers(tensor):
    """Return nested lists; complex numbers are [re, im], and what JSON lacks is a string."""
    if tensor is None:
        return None
    if tensor._is_zerotensor():
        tensor = torch.zeros(tensor.shape, dtype=tensor.dtype)
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj().resolve_neg())
    return plain(tensor.tolist())
'''

PLAIN = """\
def plain(value):
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
"""

OWN = '''\
def own(out, *inputs):
    """Return a node of its own, also where an op returns its very input."""
    if isinstance(out, (tuple, list)):
        parts = [part for one in out for part in (one if isinstance(one, (tuple, list)) else [one])]
        return [own(one, *inputs, *parts[:k]) for k, one in enumerate(parts) if one is not None]
    return out.view_as(out) if any(out is tensor for tensor in inputs) else out
'''

OWN_COPY = '''\
def own_copy(tensor):
    """Return a copy, as the op that gets it writes into it."""
    return tensor.clone()
'''

OWN_COPY_OF_ONE = '''\
def own_copy_of_one(tensor):
    """Return a copy of a single observation, as the op that gets it writes into it."""
    return tensor.clone() if tensor.dim() == 0 or tensor.shape[-1] == 1 else tensor
'''

OWN_MEMORY = '''\
def own_memory(tensor):
    """Return zeros that have memory where these have none, as the op that gets them reads it."""
    return tensor.clone() if tensor._is_zerotensor() else tensor
'''

OWN_ELEMENTS = '''\
def own_elements(tensor):
    """Return a contiguous tensor, as the op that gets it does not look at strides."""
    return tensor.clone() if tensor._is_zerotensor() else tensor.contiguous()
'''

OWN_ROWS = '''\
def own_rows(tensor):
    """Return a tensor whose rows do not overlap one element apart, as the op cannot have that."""
    if tensor._is_zerotensor():
        return tensor.clone()
    dims = list(zip(tensor.stride(), tensor.shape, strict=True))
    overlaps = bool(dims) and dims[-1][0] == 1 and any(s == 1 < n for s, n in dims[:-1])
    return tensor.contiguous() if overlaps else tensor
'''

OWN_STORAGE = '''\
def own_storage(tensor):
    """Return a tensor that fills its storage, as strides reach whatever shares it."""
    dense = torch.ops.aten.is_non_overlapping_and_dense.default(tensor)
    fills = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if dense and fills else tensor.clone(memory_format=torch.contiguous_format)
'''

GIVE_MEMORY = '''\
def give_memory(result):
    """Have zeros that are passed back to an op lie in memory, as it reads them all the same."""
    function = (result if isinstance(result, torch.Tensor) else result[0]).grad_fn
    if function is not None:
        function.register_prehook(
            lambda grads: tuple(grad if grad is None else own_memory(grad) for grad in grads)
        )
    return result
'''

TRACK = '''\
def track(outputs):
    """Let autograd track each output of an op that has several; return them."""
    for tensor in outputs:
        tensor.requires_grad_()
    return outputs
'''

RETAIN = '''\
def retain(outputs):
    """Keep the gradient of each output of an op that has several."""
    for tensor in outputs:
        if tensor.requires_grad:
            tensor.retain_grad()
'''

GRADIENT = '''\
def gradient(node, values):
    """Return a gradient for a root, of its dtype: from nested lists, or from base64."""
    if node.numel() == 0:
        return torch.zeros_like(node)
    if isinstance(values, str):
        raw = bytearray(base64.b64decode(values))
        flat = torch.frombuffer(raw, dtype=node.dtype)
        return flat.reshape(node.shape).to(node.device, copy=True)
    if node.is_complex():
        return torch.view_as_complex(torch.tensor(values, dtype=node.real.dtype))
    return torch.tensor(values, dtype=node.dtype).reshape(node.shape)
'''

FROM_BASE64 = '''\
def from_base64(text, shape, dtype):
    """Return a tensor of raw little-endian bytes."""
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=dtype).reshape(shape).clone()
'''

PREPARED: Mapping[str, str] = {
    "own_copy": OWN_COPY,
    "own_copy_of_one": OWN_COPY_OF_ONE,
    "own_memory": OWN_MEMORY,
    "own_elements": OWN_ELEMENTS,
    "own_rows": OWN_ROWS,
    "own_storage": OWN_STORAGE,
}
"""Those of :mod:`service.engine.writes`, by name."""

HELPERS = (
    *PREPARED.values(), GIVE_MEMORY, OWN, TRACK, RETAIN, FROM_BASE64, GRADIENT, SHOW, NUMBERS,
    PLAIN,
)  # fmt: skip
"""All of them, in the order in which they stand in a script."""


@cache
def _shapes() -> dict[str, str]:
    """Return those that have a meaning of their own; ``from_base64`` is read like any function."""
    parts = [part for text in HELPERS if text is not FROM_BASE64 for part in ast.parse(text).body]
    return {part.name: ast.dump(part) for part in parts if isinstance(part, ast.FunctionDef)}


def helper(node: ast.FunctionDef) -> Helper | None:
    """Return what a function definition is, if an exported script brought it along."""
    expected = _shapes().get(node.name)
    return Helper(node.name) if expected is not None and ast.dump(node) == expected else None


def call_helper(reading: Reading, name: str, values: Values) -> Any:
    """Return what a call of such a function means."""
    if name == "own" and values and any(values[0] is one for one in values[1:]):
        to = Node("to", inputs=[values[0].ref], is_own=True)
        return add(reading, to)  # `x.to()` is read as x itself
    if name == "own" and values and isinstance(values[0], Tensor):
        values[0].node.is_own = True
    if name == "own" and values and isinstance(values[0], Several):
        values[0].flat = True
    if (
        name in ("own_copy", "own_copy_of_one")
        and len(values) == 1
        and isinstance(values[0], Tensor)
    ):
        return Tensor(replace(values[0].ref, is_copy=True))
    if name in {"own", "give_memory", *PREPARED} and values:
        return values[0]
    if name == "gradient" and len(values) == 2:
        return StartGradient(values[1])
    if name in ("track", "retain") and len(values) == 1 and isinstance(values[0], Several):
        return _mark(reading, name, values[0])
    if name == "show" and len(values) == 2 and isinstance(values[0], str):
        shown = values[1]
        if isinstance(shown, Tensor | Several):
            reading.graph.rename(shown.node, values[0])
        return None
    raise Unreadable(f"{name} is not called like this in an exported script")


def _mark(reading: Reading, name: str, outputs: Several) -> Several | None:
    """Read ``track(outputs)`` and ``retain(outputs)``: all outputs of an op, however many."""
    node = outputs.node
    if name == "track":
        node.requires_grad = node.tracked = True
        return outputs
    retain(reading, node)
    return None
