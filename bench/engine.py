"""The engine in one process, bytes to bytes, against plain torch code for the same graph.

The plain version is what somebody would write who knows the graph: it reads the same JSON with
orjson, computes, and prints values and gradients with orjson; it checks nothing, gives no reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import orjson
import pybase64
import torch
from torch import Tensor

from bench.graphs import MLP_SIZES, SEED, chain, leaf_of, mlp
from bench.harness import Figure, compare
from service.engine.job import JSON, SAFETENSORS, Answer, Engine
from service.engine.limits import Limits
from service.engine.safetensors_file import write_file

NUMPY = orjson.OPT_SERIALIZE_NUMPY


def figures() -> Iterator[Figure]:
    """Measure everything that happens in one process."""
    torch.set_num_threads(1)
    engine = Engine(Limits(), threads=1, alone=True)  # as in a worker

    def ours(request: dict[str, Any]) -> Any:
        body = orjson.dumps(request, option=NUMPY)
        return lambda: whole(engine.trace(JSON, JSON, body))

    seed = orjson.dumps(SEED)
    yield compare("seed graph", ours(SEED), lambda: plain_seed(seed), 1.6, rounds=2000)
    request = chain(2000)
    body = orjson.dumps(request)
    yield compare(
        "chain of 2,000 retained ops", ours(request), lambda: plain_chain(body), 1.6, rounds=25
    )
    request = mlp("base64")
    body = orjson.dumps(request)
    yield compare("MLP as base64", ours(request), lambda: plain_mlp(body), 1.5, rounds=500)
    yield from large_leaves(engine)


def whole(answer: Answer) -> bytes:
    """Return the body of an answer in one piece, as the plain versions have theirs."""
    assert answer.status == 200
    return answer.body


def plain_seed(body: bytes) -> bytes:
    request = orjson.loads(body)
    a = torch.tensor(request["leaves"][0]["value"], dtype=torch.float32, requires_grad=True)
    b = a + 2
    c = b**2
    out = c.sum()
    for node in (b, c, out):
        node.retain_grad()
    out.backward()
    return printed([a, b, c, out])


def plain_chain(body: bytes) -> bytes:
    request = orjson.loads(body)
    h = torch.tensor(request["leaves"][0]["value"], dtype=torch.float32, requires_grad=True)
    nodes = [h]
    for _ in range(len(request["ops"]) - 1):
        h = h * 1.0001
        nodes.append(h)
    out = h.sum()
    nodes.append(out)
    for node in nodes[1:]:
        node.retain_grad()
    out.backward()
    return printed(nodes)


def printed(nodes: list[Tensor]) -> bytes:
    """Print values and gradients the quickest way there is without looking at them."""
    return orjson.dumps(
        [
            {"value": node.tolist(), "grad": node.grad.tolist()}
            for node in nodes
            if node.grad is not None
        ]
    )


def plain_mlp(body: bytes) -> bytes:
    leaves = {leaf["id"]: leaf for leaf in orjson.loads(body)["leaves"]}
    tensors = {
        name: torch.frombuffer(
            bytearray(pybase64.b64decode(leaf["value_base64"])), dtype=torch.float32
        )
        .view(leaf["shape"])
        .requires_grad_(leaf["requires_grad"])
        for name, leaf in leaves.items()
    }
    h = tensors["x"]
    nodes = [*tensors.values()]
    for layer in range(len(MLP_SIZES) - 1):
        h = torch.nn.functional.linear(h, tensors[f"w{layer}"], tensors[f"b{layer}"])
        nodes.append(h)
        if layer < len(MLP_SIZES) - 2:
            h = torch.relu(h)
            nodes.append(h)
    loss = torch.nn.functional.mse_loss(h, tensors["y"])
    nodes.append(loss)
    for node in nodes:
        if not node.is_leaf:
            node.retain_grad()
    loss.backward()
    return orjson.dumps([{"value": text(node), "grad": text(node.grad)} for node in nodes])


def text(tensor: Tensor | None) -> str | None:
    return (
        None if tensor is None else pybase64.b64encode_as_string(tensor.detach().numpy().tobytes())
    )


def large_leaves(engine: Engine) -> Iterator[Figure]:
    """Measure a leaf of 1,000,000 numbers in three encodings; the graph is one mul and a sum."""
    numbers = np.random.default_rng(0).standard_normal(1_000_000).astype(np.float32)
    as_json = orjson.dumps(leaf_of(numbers), option=NUMPY)
    as_base64 = orjson.dumps(leaf_of(numbers, "base64"))
    as_file = write_file(
        {"x": torch.from_numpy(numbers)}, {"request": orjson.dumps(leaf_of(None)).decode()}
    )

    def trace_json() -> None:
        whole(engine.trace(JSON, JSON, as_json))

    def trace_base64() -> None:
        whole(engine.trace(JSON, JSON, as_base64))

    def trace_file() -> None:
        whole(engine.trace(SAFETENSORS, SAFETENSORS, as_file))

    yield compare("1,000,000 numbers as JSON", trace_json, lambda: plain_json(as_json), 1.5)
    yield compare("base64 faster than JSON", trace_base64, trace_json, 4.0, higher=True)
    yield compare("1,000,000 numbers as safetensors", trace_file, lambda: plain_file(as_file), 2.0)


def plain_json(body: bytes) -> bytes:
    """Parse with simdjson, compute, print with orjson from NumPy: the best library alone each."""
    if find_spec("simdjson"):
        import simdjson

        document = simdjson.Parser().parse(body)
        array = np.frombuffer(document["leaves"][0]["value"].as_buffer(of_type="d"))
    else:
        array = np.array(orjson.loads(body)["leaves"][0]["value"])
    x, h = computed(torch.from_numpy(array).to(torch.float32))
    tensors = [x, x.grad, h, h.grad]
    return orjson.dumps([t.detach().numpy() for t in tensors if t is not None], option=NUMPY)


def plain_file(body: bytes) -> list[bytes]:
    """Compute, and copy the bytes in and out."""
    x, h = computed(torch.frombuffer(bytearray(body[-4_000_000:]), dtype=torch.float32))
    return [t.detach().numpy().tobytes() for t in (x, x.grad, h, h.grad) if t is not None]


def computed(x: Tensor) -> tuple[Tensor, Tensor]:
    x.requires_grad_()
    h = x * 2
    h.retain_grad()
    h.sum().backward()
    return x, h
