"""Answers for the picture's tests, with statistics, of any size; and reading what was drawn."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree as ET

from tests.golden import CASES

Json = dict[str, Any]
SVG = "{http://www.w3.org/2000/svg}"


def flat(value: Any) -> list[float]:
    """Return the elements of nested lists."""
    if isinstance(value, list):
        return [element for item in value for element in flat(item)]
    return [float(value)]


def stats(value: Any) -> Json | None:
    """Return the statistics that the service would, of a real tensor."""
    if value is None:
        return None
    elements = flat(value)
    finite = [element for element in elements if math.isfinite(element)]
    mean = math.fsum(finite) / len(finite) if finite else None
    return {
        "min": min(finite, default=None),
        "max": max(finite, default=None),
        "mean": mean,
        "std": None,
        "norm": math.hypot(*finite) if finite else None,
        "numel": len(elements),
        "nan_count": sum(map(math.isnan, elements)),
        "inf_count": sum(map(math.isinf, elements)),
        "zero_count": elements.count(0.0),
    }


def golden(name: str) -> tuple[Json, Json]:
    """Return a golden request with the answer to it, statistics and notes included."""
    case = CASES[name]
    op_names = {op["id"]: op["op"] for op in case["request"].get("ops", [])}
    nodes = [
        {
            **node,
            "op": op_names.get(node["id"].partition(":")[0]),
            "stats": {"value": stats(node["value"]), "grad": stats(node["grad"])},
            "note": f"The gradient is {node['grad_status']}.",
        }
        for node in case["nodes"]
    ]
    return case["request"], {"nodes": nodes, "warnings": [], "torch_version": "", "device": "cpu"}


def node(node_id: str, op: str | None = "relu", **changes: Any) -> Json:
    """Return a tracked scalar node of the answer, a leaf where ``op`` is None."""
    grad_status = "accumulated" if op is None else "retained"
    plain: Json = {
        "id": node_id,
        "op": op,
        "shape": [],
        "dtype": "float32",
        "is_leaf": op is None,
        "requires_grad": True,
        "retains_grad": op is not None,
        "grad_fn": None if op is None else "ReluBackward0",
        "grad_status": grad_status,
        "value": 1.0,
        "grad": 1.0,
    }
    plain |= changes
    return {"stats": {"value": stats(plain["value"]), "grad": stats(plain["grad"])}, **plain}


def chain(ids: list[str]) -> tuple[Json, Json]:
    """Return a leaf and relus behind one another, and the answer to that."""
    leaf, *ops = ids
    request = {
        "leaves": [{"id": leaf, "value": 1, "requires_grad": True}],
        "ops": [
            {"id": name, "op": "relu", "inputs": [before]}
            for before, name in zip(ids, ops, strict=False)
        ],
    }
    return request, answer([node(leaf, None), *(node(name) for name in ops)])


def answer(nodes: list[Json], **more: Any) -> Json:
    """Return a TraceResponse of ``nodes``."""
    return {"nodes": nodes, "warnings": [], "torch_version": "2.13.0", "device": "cpu", **more}


def parsed(picture: str) -> ET.Element:
    return ET.fromstring(picture)  # noqa: S314 - our own text


def widths(picture: str) -> dict[str, float]:
    """Return how thick the line of each use is, by its tooltip."""
    return {
        (use.findtext(f"{SVG}title") or ""): float(
            next(path.get("stroke-width") or 0 for path in use.findall(f"{SVG}path"))
        )
        for use in parsed(picture).iter(f"{SVG}g")
        if use.get("class") == "use"
    }
