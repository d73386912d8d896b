"""One sample, asked of the engine and of PyTorch directly, and the two answers compared."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from service.engine.bind import bind
from service.engine.catalogue import catalogue
from service.engine.dtypes import DTYPE_NAMES, DTYPES
from tests.conformance.converter import OUT, SEED, Case, tensor_bytes

Ask = Callable[[bytes], tuple[int, bytes]]
"""Sends the bytes of a request, returns the status and the bytes of the answer."""

FEWER_OUTPUTS = frozenset({"linalg.lstsq/grad_oriented"})
"""Ops of which the database looks at the first outputs only."""


class Verdict(StrEnum):
    """How near an answer is to PyTorch's."""

    BITWISE = "bitwise"
    CLOSE = "close"
    DIFFERENT = "different"


@dataclass
class Expected:
    """What PyTorch answers: outputs and gradients, or the message of what it raised."""

    outputs: list[Tensor]
    gradients: dict[str, Tensor | None]
    refusal: str | None = None


def ask_directly(case: Case) -> tuple[Expected, list[dict[str, Any]]]:
    """Make the direct call; return what it gives, and the roots whose gradients it took."""
    torch.default_generator.manual_seed(SEED)
    try:
        outputs = list(_tensors(case.direct()))
    except Exception as error:  # noqa: BLE001 - whatever PyTorch raises is its answer
        return Expected([], {}, str(error)), []
    tracked = [number for number, output in enumerate(outputs) if output.requires_grad]
    cotangents = {number: _cotangent(outputs[number]) for number in tracked}
    roots = [{"number": number, "gradient": cotangents[number]} for number in tracked]
    leaves = {name: leaf for name, leaf in case.leaves.items() if leaf.requires_grad}
    expected = Expected(outputs, {})
    if tracked and leaves:
        try:
            gradients = torch.autograd.grad(
                [outputs[number] for number in tracked],
                list(leaves.values()),
                list(cotangents.values()),
                allow_unused=True,
            )
            expected.gradients = dict(zip(leaves, gradients, strict=True))
        except Exception as error:  # noqa: BLE001
            expected.refusal = str(error)
    return expected, roots


def _tensors(result: Any) -> Iterator[Tensor]:
    if isinstance(result, (tuple, list)):
        for part in result:
            yield from _tensors(part)
    elif isinstance(result, Tensor):
        yield result


def _cotangent(output: Tensor) -> Tensor:
    """Return a gradient to start from, the same for every call of the same shape."""
    generator = torch.Generator().manual_seed(output.numel())
    return torch.randn(output.shape, dtype=output.dtype, generator=generator)


def compare(name: str, case: Case, ask: Ask) -> tuple[Verdict, str]:
    """Return how near the engine's answer is to PyTorch's, and what differs."""
    expected, roots = ask_directly(case)
    several = _has_several(case)
    request = {
        **case.request,
        "backward": [
            {
                "node": f"{OUT}:{root['number']}" if several else OUT,
                "gradient_base64": base64.b64encode(tensor_bytes(root["gradient"])).decode(),
            }
            for root in roots
        ],
    }
    status, body = ask(json.dumps(request).encode())
    answer = json.loads(body)
    if status != 200:
        same = expected.refusal is not None and expected.refusal == answer["detail"]
        return (Verdict.BITWISE, "") if same else (Verdict.DIFFERENT, answer["detail"])
    if expected.refusal is not None:
        return Verdict.DIFFERENT, f"PyTorch refused: {expected.refusal}"
    return _compare_nodes(name, expected, answer["nodes"])


def _has_several(case: Case) -> bool:
    """Return whether PyTorch declares the last op to return a tuple or a list."""
    op = case.request["ops"][-1]
    return bind(catalogue().find(op["op"]), op["inputs"], op["attrs"]).template.signature.several


def _compare_nodes(
    name: str, expected: Expected, nodes: Sequence[Mapping[str, Any]]
) -> tuple[Verdict, str]:
    outputs = [node for node in nodes if node["id"].partition(":")[0] == OUT]
    if name in FEWER_OUTPUTS:
        outputs = outputs[: len(expected.outputs)]
    if len(outputs) != len(expected.outputs):
        return Verdict.DIFFERENT, f"{len(outputs)} outputs, not {len(expected.outputs)}"
    pairs: list[tuple[str, Tensor | None, Mapping[str, Any], str]] = [
        (f"value of {node['id']}", tensor, node, "value_base64")
        for tensor, node in zip(expected.outputs, outputs, strict=True)
    ]
    by_id = {node["id"]: node for node in nodes}
    pairs += [
        (f"gradient of {leaf}", gradient, by_id[leaf], "grad_base64")
        for leaf, gradient in expected.gradients.items()
    ]
    verdict = Verdict.BITWISE
    what = ""
    for label, tensor, node, field in pairs:
        found = _compare_tensor(tensor, node, node[field])
        if found is Verdict.DIFFERENT:
            return found, label
        if found is Verdict.CLOSE:
            verdict, what = found, label
    return verdict, what


def _compare_tensor(expected: Tensor | None, node: Mapping[str, Any], text: str | None) -> Verdict:
    if expected is None or text is None:
        return Verdict.BITWISE if expected is None and text is None else Verdict.DIFFERENT
    if node["shape"] != list(expected.shape) or node["dtype"] != DTYPE_NAMES[expected.dtype]:
        return Verdict.DIFFERENT
    raw = base64.b64decode(text)
    if raw == tensor_bytes(expected):
        return Verdict.BITWISE
    buffer = torch.frombuffer(bytearray(raw), dtype=DTYPES[node["dtype"]])
    found = buffer.reshape(expected.shape)
    plain = expected.detach().resolve_conj().resolve_neg()
    if _equal(plain, found):
        return Verdict.BITWISE
    try:
        torch.testing.assert_close(found, plain, equal_nan=True)
    except AssertionError:
        return Verdict.DIFFERENT
    return Verdict.CLOSE


def _equal(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are equal; a NaN is a NaN, whatever its payload."""
    nan = one.isnan()
    if not torch.equal(nan, other.isnan()):
        return False
    return tensor_bytes(one.masked_fill(nan, 0)) == tensor_bytes(other.masked_fill(nan, 0))
