"""How many parts an op makes of a tensor, as PyTorch makes them, of empty tensors too."""

from __future__ import annotations

from typing import Any

import pytest

from service.contract.problem import GradtraceError
from service.translate.from_python import from_python, read
from service.translate.values import Several
from tests.translate.oracle import check

SHAPES = ["0", "1", "4", "5", "0, 3", "3, 0", "2, 6", "4, 2, 3"]
CALLS = [
    *(f"split({size})" for size in (0, 1, 2, 3, 7)),
    *(f"chunk({count})" for count in (1, 2, 3, 4)),
    *(f"tensor_split({count})" for count in (1, 3, 5)),
    *(f"tensor_split({places})" for places in ([1, 3], [2, 9], [-1], [3, 1], [])),
    *(f"split({sizes})" for sizes in ([0, 0], [1, 3], [0, 4], [], [2, 2, 1])),
    "split_with_sizes([1, 4])",
    "split(split_size=2)",
    "unbind()",
    "hsplit(2)",
    "vsplit(2)",
    "dsplit(3)",
    "hsplit([1])",
]
ALONG = [
    f"{name}({first}, {dim})"
    for name, first in [("split", 2), ("chunk", 3), ("tensor_split", 4), ("split", [1, 2])]
    for dim in (-1, 1)
] + ["unbind(-1)", "unbind(1)", "split(2, dim=-1)"]


@pytest.mark.parametrize("shape", SHAPES)
def test_parts_are_as_many_and_as_large_as_in_pytorch(shape: str) -> None:
    seen = 0
    for call in CALLS + ALONG:
        source = f"import torch\nx = torch.zeros({shape})\np = x.{call}"
        names: dict[str, Any] = {}
        try:
            exec(source, names)  # noqa: S102 - the test's own words
        except (RuntimeError, IndexError):
            continue
        found = read(source).scope.names["p"]
        assert isinstance(found, Several)
        assert found.count == len(names["p"]), call
        for k, part in enumerate(names["p"]):
            assert found.output(k).ref.shape in (None, tuple(part.shape)), (call, k)
        is_known = found.output(0).ref.shape is not None if found.count else True
        assert is_known, call
        seen += 1
    assert seen > 10


READ = {
    "an empty tensor is one part": "(p,) = torch.split(torch.zeros(0), 2)",
    "joined again": "p = torch.cat(torch.split(torch.zeros(0, 3), 2))",
    "the last one": "p = torch.arange(5.).split(2)[-1] * 2",
    "the rest": "a, *rest = torch.arange(5.).chunk(3)\np = torch.cat(rest)",
    "a loop over uneven parts": "p = 0\nfor k, r in enumerate(torch.arange(5.).split(2)):\n"
    "    p = p + r.sum() * k * r.shape[0]",
    "by the name that torch.split has": "a, b = torch.split(torch.ones(4), "
    "split_size_or_sections=3)",
    "under no_grad": "x = torch.arange(5., requires_grad=True)\nwith torch.no_grad():\n"
    "    y = [p * 2 for p in (x * 2).split(3)]\np = y[1]",
    "places where it holds": "p = [i + 1 for i in torch.where(torch.eye(2) > 0)]\nq = p[1]",
    "several tensors": "p = [t.sum() for t in torch.meshgrid(torch.ones(2), torch.ones(3), "
    "indexing='ij')]\nq = p[-1]\na = len(torch.broadcast_tensors(q, p[0])) * q",
}


@pytest.mark.parametrize("name", READ)
def test_parts_are_read(name: str) -> None:
    check("import torch\n" + READ[name])


def test_a_number_of_names_that_python_refuses_is_refused() -> None:
    with pytest.raises(GradtraceError, match="2 values for 1 names"):
        from_python("import torch\n(p,) = torch.zeros(0).chunk(2)")


def test_parts_without_number_are_not_counted() -> None:
    with pytest.raises(GradtraceError, match="known only when the graph runs"):
        from_python(
            "import torch\nx = torch.zeros(10)\nfor p in x.tensor_split(2000000000):\n    pass"
        )
