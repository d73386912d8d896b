"""Random graphs, each computed twice: by the engine, and by plain torch code written beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.engine.asking import nodes_of
from tests.engine.bits import bits
from tests.engine.test_golden import as_tensor


class Rule(NamedTuple):
    """An op in the request's words and in plain torch; both keep the shape."""

    name: str
    arity: int
    attrs: dict[str, Any]
    plain: Callable[..., Tensor]


RULES = [
    Rule("add", 2, {}, lambda a, b: a + b),
    Rule("mul", 2, {}, lambda a, b: a * b),
    Rule("sub", 2, {"alpha": 2}, lambda a, b: torch.sub(a, b, alpha=2)),
    Rule("maximum", 2, {}, torch.maximum),
    Rule("where", 3, {}, lambda a, b, c: torch.where(a > 0, b, c)),
    Rule("sin", 1, {}, torch.sin),
    Rule("tanh", 1, {}, torch.tanh),
    Rule("nn.functional.relu", 1, {}, torch.nn.functional.relu),
    Rule("softmax", 1, {"dim": 1}, lambda a: a.softmax(1)),
    Rule("pow", 1, {"exponent": 2}, lambda a: a**2),
    Rule("sqrt", 1, {}, torch.sqrt),
    Rule("detach", 1, {}, Tensor.detach),
    Rule("contiguous", 1, {}, lambda a: a.view_as(a)),
    Rule("floor", 1, {}, torch.floor),
    Rule("flip", 1, {"dims": [0]}, lambda a: a.flip(0)),
    Rule("cumsum", 1, {"dim": 0}, lambda a: a.cumsum(0)),
]


class Graph(NamedTuple):
    """A request, and the same thing in plain torch."""

    request: dict[str, Any]
    leaves: list[Tensor]
    nodes: dict[str, Tensor]
    root: Tensor


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    dtype = draw(st.sampled_from(["float32", "float64"]))
    numbers = st.floats(-3, 3, width=32)
    leaves, nodes, request_leaves = [], {}, []
    for index in range(draw(st.integers(1, 3))):
        values = draw(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=2, max_size=2))
        tracked = draw(st.booleans()) or index == 0
        tensor = torch.tensor(values, dtype=getattr(torch, dtype), requires_grad=tracked)
        leaves.append(tensor)
        nodes[f"x{index}"] = tensor
        request_leaves.append({"id": f"x{index}", "value": values, "requires_grad": tracked})
    ops = []
    retained = []
    for index in range(draw(st.integers(1, 12))):
        rule = draw(st.sampled_from(RULES))
        inputs = [draw(st.sampled_from(sorted(nodes))) for _ in range(rule.arity)]
        retain = draw(st.booleans())
        name = f"h{index}"
        op = {"id": name, "op": rule.name, "inputs": inputs, "attrs": rule.attrs}
        if rule.name == "where":
            ops.append({"id": f"c{index}", "op": "gt", "inputs": inputs[:1], "attrs": {"other": 0}})
            op["inputs"] = [f"c{index}", *inputs[1:]]
        nodes[name] = rule.plain(*(nodes[source] for source in inputs))
        ops.append(op | {"retain_grad": retain})
        if retain and nodes[name].requires_grad:
            retained.append(nodes[name])
    ops.append({"id": "root", "op": "sum", "inputs": [f"h{index}"]})
    return Graph(
        {"leaves": request_leaves, "ops": ops, "dtype": dtype}, retained, nodes, nodes[name].sum()
    )


def path_of(root: Tensor) -> set[tuple[Any, int]]:
    """Walk autograd's graph the plain, recursive way."""

    def walk(function: Any, number: int, seen: set[tuple[Any, int]]) -> None:
        if function is None or (function, number) in seen:
            return
        seen.add((function, number))
        for before, at in function.next_functions:
            walk(before, at, seen)

    seen: set[tuple[Any, int]] = set()
    walk(root.grad_fn, root.output_nr, seen)
    return seen


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_a_random_graph_is_what_plain_torch_makes_of_it(graph: Graph) -> None:
    root = graph.root
    if not root.requires_grad:
        graph.request["backward"] = []
    else:
        for tensor in graph.leaves:
            tensor.retain_grad()
        torch.autograd.backward(root)
    path = path_of(root)
    found = nodes_of(graph.request)
    for name, tensor in graph.nodes.items():
        node = found[name]
        assert bits(as_tensor(node["value"], node["dtype"])) == bits(tensor), name
        kept = (
            root.requires_grad and tensor.requires_grad and (tensor.is_leaf or tensor.retains_grad)
        )
        grad = tensor.grad if kept else None
        assert (node["grad"] is None) == (grad is None), name
        if grad is not None:
            assert bits(as_tensor(node["grad"], node["dtype"])) == bits(grad), name
        if tensor.requires_grad and root.requires_grad:
            if tensor.is_leaf:
                expected = "not_on_path" if grad is None else "accumulated"
            elif (tensor.grad_fn, tensor.output_nr) not in path:
                expected = "not_on_path"
            else:
                expected = "retained" if grad is not None else "not_retained"
            assert node["grad_status"] == expected, name


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    # exp of exp of exp bends too much within the step of a finite difference, and then overflows.
    st.lists(
        st.sampled_from(["sin", "tanh", "exp", "sigmoid", "atan"]), min_size=1, max_size=4
    ).filter(lambda names: names.count("exp") < 3),
    st.lists(st.floats(-1, 1), min_size=3, max_size=3),
)
def test_float64_gradients_agree_with_finite_differences(
    names: list[str], values: list[float]
) -> None:
    ops = [
        {"id": f"h{i}", "op": name, "inputs": [f"h{i - 1}" if i else "x"]}
        for i, name in enumerate(names)
    ]
    ops.append({"id": "out", "op": "sum", "inputs": [f"h{len(names) - 1}"]})

    class Traced(torch.autograd.Function):
        """The engine as a function: its value forward, its gradient backward."""

        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            request = {
                "dtype": "float64",
                "leaves": [{"id": "x", "value": x.tolist(), "requires_grad": True}],
                "ops": ops,
            }
            found = nodes_of(request)
            ctx.grad = torch.tensor(found["x"]["grad"], dtype=torch.float64)
            return torch.tensor(found["out"]["value"], dtype=torch.float64)

        @staticmethod
        def backward(ctx: Any, upstream: Tensor) -> Tensor:
            return upstream * ctx.grad  # type: ignore[no-any-return]

    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Traced.apply, (x,))
