"""What somebody writes in an hour: FastAPI, pydantic and torch in one handler.

Honest and idiomatic: a model of the request, ops looked up in torch, retain_grad as asked, lists
out. It checks less, explains nothing, and cannot answer NaN. The answer is written in both ways
that are usual: as a response model, which FastAPI prints in compiled code, and as a plain dict,
which it converts value by value.
"""

from __future__ import annotations

from typing import Any

import torch
from fastapi import FastAPI
from pydantic import BaseModel

torch.set_num_threads(1)

app = FastAPI()


class Leaf(BaseModel):
    id: str
    value: Any
    requires_grad: bool = False


class Op(BaseModel):
    id: str
    op: str
    inputs: list[str] = []
    attrs: dict[str, Any] = {}
    retain_grad: bool | None = None


class Graph(BaseModel):
    leaves: list[Leaf]
    ops: list[Op] = []
    retain_grad: bool = False
    encoding: str = "json"


class Node(BaseModel):
    id: str
    op: str | None
    shape: list[int]
    dtype: str
    is_leaf: bool
    requires_grad: bool
    value: Any
    grad: Any


class Trace(BaseModel):
    nodes: list[Node]


@app.post("/v1/trace")
def trace(graph: Graph) -> Trace:
    return Trace(nodes=[Node(**node) for node in computed(graph)])


@app.post("/v1/trace/dict", response_model=None)
def trace_dict(graph: Graph) -> dict[str, Any]:
    return {"nodes": computed(graph)}


def computed(graph: Graph) -> list[dict[str, Any]]:
    tensors: dict[str, torch.Tensor] = {}
    names: dict[str, str | None] = {}
    for leaf in graph.leaves:
        tensors[leaf.id] = torch.tensor(
            leaf.value, dtype=torch.float32, requires_grad=leaf.requires_grad
        )
        names[leaf.id] = None
    for op in graph.ops:
        function: Any = torch
        for part in op.op.split("."):
            function = getattr(function, part)
        tensors[op.id] = function(*(tensors[name] for name in op.inputs), **op.attrs)
        names[op.id] = op.op
        retain = graph.retain_grad if op.retain_grad is None else op.retain_grad
        if retain and tensors[op.id].requires_grad:
            tensors[op.id].retain_grad()
    tensors[graph.ops[-1].id].backward()
    nodes = []
    for name, tensor in tensors.items():
        kept = tensor.is_leaf or tensor.retains_grad
        grad = tensor.grad if kept else None
        nodes.append(
            {
                "id": name,
                "op": names[name],
                "shape": list(tensor.shape),
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "is_leaf": tensor.is_leaf,
                "requires_grad": tensor.requires_grad,
                "value": tensor.tolist(),
                "grad": None if grad is None else grad.tolist(),
            }
        )
    return nodes
