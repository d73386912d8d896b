"""Inputs and attrs bind as the contract says, and what was bound calls what a script would call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, tensor
from torch.nn import functional

from service.contract.problem import BadArguments
from service.engine.bind import bind
from service.engine.catalogue import catalogue
from service.engine.signature import HIDDEN
from tests.engine.calls import bound, call

X: Any = torch.arange(6.0).reshape(2, 3)
Y: Any = X.sin() + 2
ROW = tensor([1.0, 2.0, 3.0])
INDEX = tensor([1, 0])


def ref(name: str) -> dict[str, str]:
    return {"ref": name}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return len(one) == len(other) and all(map(same, one, other))


IMAGE = torch.arange(32.0).reshape(1, 2, 4, 4)
SIGNAL = torch.arange(8.0).reshape(1, 2, 4)
FILTER = torch.ones(3, 2, 3)
RESULTS: list[tuple[str, list[Tensor], dict[str, Any], Any]] = [
    # inputs in order to the positional tensor parameters, optional ones too
    ("add", [X, Y], {}, X + Y),
    ("nn.functional.linear", [X, Y, ROW[:2]], {}, functional.linear(X, Y, ROW[:2])),
    ("addcmul", [X, Y, Y], {"value": 0.5}, torch.addcmul(X, Y, Y, value=0.5)),
    # attrs close a parameter, null too, and inputs skip it
    (
        "nn.functional.layer_norm",
        [X, ROW],
        {"normalized_shape": [3], "weight": None},
        functional.layer_norm(X, [3], None, ROW),
    ),
    # two numbers or two lists
    ("movedim", [X], {"source": 0, "destination": 1}, X.T),
    ("movedim", [X], {"source": [0], "destination": [1]}, X.T),
    ("moveaxis", [X], {"source": -1, "destination": 0}, X.T),
    # a number where one signature takes a number and another a list, or a word
    ("gradient", [X], {"spacing": [2.0], "dim": 0}, torch.gradient(X, spacing=[2.0], dim=0)),
    ("squeeze", [ROW[:1]], {"dim": 0}, ROW[0]),
    ("count_nonzero", [X], {"dim": 1}, torch.count_nonzero(X, dim=1)),
    ("split", [X], {"split_size": 1}, torch.split(X, 1)),
    (
        "nn.functional.conv1d",
        [SIGNAL, FILTER],
        {"padding": 2},
        functional.conv1d(SIGNAL, FILTER, padding=2),
    ),
    # a list of tensors takes what is left over
    ("cat", [X, Y, X], {"dim": 1}, torch.cat([X, Y, X], 1)),
    ("stack", [X], {}, torch.stack([X])),
    ("index_put", [X, INDEX, ROW], {}, X.index_put((INDEX,), ROW)),
    ("linalg.multi_dot", [X, Y.mT, X], {}, torch.linalg.multi_dot([X, Y.mT, X])),
    # public functions that take their tensors one by one
    ("block_diag", [X, Y], {}, torch.cat([torch.cat([X, 0 * X], 1), torch.cat([0 * Y, Y], 1)])),
    ("broadcast_tensors", [X, ROW], {}, (X, ROW.expand(2, 3))),
    ("cartesian_prod", [ROW, ROW], {}, torch.cartesian_prod(ROW, ROW)),
    ("einsum", [X, Y], {"equation": "ij,ij->i"}, torch.einsum("ij,ij->i", X, Y)),
    ("meshgrid", [ROW, ROW], {"indexing": "xy"}, torch.meshgrid(ROW, ROW, indexing="xy")),
    ("atleast_2d", [ROW], {}, ROW[None]),
    ("atleast_2d", [ROW, X], {}, (ROW[None], X)),
    # numbers for tensors where PyTorch takes them
    ("add", [X], {"other": 2}, X + 2),
    ("add", [X], {"other": 2, "alpha": 3}, torch.add(X, 2, alpha=3)),
    ("mul", [X], {"other": {"re": 1, "im": 2}}, X * (1 + 2j)),
    ("pow", [X], {"exponent": 2}, X**2),
    ("pow", [X], {"self": 2}, 2**X),
    ("where", [X > 2, X], {"other": 0}, torch.where(X > 2, X, 0)),
    ("where", [X > 2, X], {"self": 1.5}, torch.where(X > 2, 1.5, X)),
    ("masked_fill", [X, X > 2], {"value": "-Infinity"}, X.masked_fill(X > 2, float("-inf"))),
    (
        "nn.functional.gaussian_nll_loss",
        [X, Y],
        {"var": 2.0},
        functional.gaussian_nll_loss(X, Y, 2.0),
    ),
    # overloads by exact kinds
    ("sum", [X], {}, X.sum()),
    ("sum", [X], {"dim": 0}, X.sum(0)),
    ("sum", [X], {"dim": [0, 1], "keepdim": True}, X.sum((0, 1), keepdim=True)),
    ("sum", [X], {"dim": None}, X.sum(None)),
    ("std", [X], {"unbiased": False}, X.std(False)),
    ("std", [X], {"dim": 1, "correction": 0}, X.std(1, correction=0)),
    ("max", [X], {}, X.max()),
    ("max", [X], {"dim": 1}, X.max(1)),
    ("max", [X, Y], {}, X.max(Y)),
    ("split", [X], {"split_size": [1, 2], "dim": 1}, X.split([1, 2], 1)),
    ("div", [X, Y], {"rounding_mode": "floor"}, X.div(Y, rounding_mode="floor")),
    ("clamp", [X], {"max": 2}, X.clamp(max=2)),
    ("sort", [Y], {"descending": True}, Y.sort(descending=True)),
    ("squeeze", [SIGNAL], {"dim": [0, 1]}, SIGNAL.squeeze((0, 1))),
    ("linalg.norm", [X], {"ord": "fro"}, torch.linalg.norm(X, "fro")),
    ("linalg.norm", [X], {"ord": "-Infinity"}, torch.linalg.norm(X, float("-inf"))),
    ("norm", [X], {"p": "Infinity", "dim": [0]}, X.norm(float("inf"), 0)),
    ("to", [X], {"dtype": "float64"}, X.double()),
    ("to", [X, INDEX], {}, X.to(INDEX)),
    ("view", [X], {"size": [3, 2]}, X.view(3, 2)),
    ("view", [X], {"dtype": "int32"}, X.view(torch.int32)),
    # int or list
    ("view", [X], {"size": 6}, X.view(6)),
    ("roll", [X], {"shifts": 1, "dims": 0}, X.roll(1, 0)),
    ("nn.functional.max_pool2d", [IMAGE], {"kernel_size": 2}, functional.max_pool2d(IMAGE, 2)),
    (
        "nn.functional.avg_pool2d",
        [IMAGE],
        {"kernel_size": [2, 1]},
        functional.avg_pool2d(IMAGE, (2, 1)),
    ),
    (
        "nn.functional.avg_pool2d",
        [IMAGE],
        {"kernel_size": 2, "stride": None},
        functional.avg_pool2d(IMAGE, 2),
    ),
    (
        "nn.functional.conv1d",
        [SIGNAL, FILTER],
        {"padding": "same"},
        functional.conv1d(SIGNAL, FILTER, padding="same"),
    ),
    (
        "nn.functional.interpolate",
        [IMAGE],
        {"scale_factor": 2},
        functional.interpolate(IMAGE, scale_factor=2),
    ),
    ("nn.functional.interpolate", [IMAGE], {"size": [2, 2]}, functional.interpolate(IMAGE, (2, 2))),
    ("aten.max_pool2d.default", [IMAGE], {"kernel_size": 2}, functional.max_pool2d(IMAGE, 2)),
    ("aten.add.Tensor", [X], {"other": 2}, X + 2),
    ("aten.sum.dim_IntList", [X], {"dim": [1]}, X.sum(1)),
    # several outputs, by flags too
    ("unique", [X], {"return_counts": True}, X.unique(return_counts=True)),
    (
        "unique_consecutive",
        [INDEX],
        {"return_inverse": True, "return_counts": False},
        torch.unique_consecutive(INDEX, return_inverse=True, return_counts=False),
    ),
    (
        "unique_consecutive",
        [INDEX],
        {"return_inverse": False, "return_counts": True, "dim": 0},
        torch.unique_consecutive(INDEX, return_inverse=False, return_counts=True, dim=0),
    ),
    ("topk", [X], {"k": 2}, X.topk(2)),
    # dtypes, memory formats and sources
    ("zeros", [], {"size": [2, 3], "dtype": "int8"}, torch.zeros(2, 3, dtype=torch.int8)),
    ("full", [], {"size": [2], "fill_value": True}, torch.full((2,), True)),
    ("full", [], {"size": [1], "fill_value": "Infinity"}, torch.full((1,), float("inf"))),
    ("arange", [], {"end": 5}, torch.arange(5)),
    ("arange", [], {"start": 1, "end": 2, "step": 0.25}, torch.arange(1, 2, 0.25)),
    ("linspace", [], {"start": 0, "end": 1, "steps": 5}, torch.linspace(0, 1, 5)),
    ("contiguous", [IMAGE], {"memory_format": "channels_last"}, IMAGE),
    ("softmax", [X], {"dim": 1, "dtype": "float64"}, X.softmax(1, torch.float64)),
    ("nn.functional.softmax", [X], {"dim": 1, "dtype": "float64"}, X.softmax(1, torch.float64)),
    ("float", [INDEX], {}, INDEX.float()),
    ("mT", [X], {}, X.mT),
    ("slice", [X], {"dim": 1, "start": 1, "step": 2}, X[:, 1::2]),
    ("tensordot", [X, Y], {"dims": [[1], [1]]}, torch.tensordot(X, Y, dims=([1], [1]))),
    (
        "signal.windows.general_cosine",
        [],
        {"M": 4, "a": [0.5, 0.5]},
        torch.signal.windows.general_cosine(4, a=[0.5, 0.5]),
    ),
    ("quantile", [X], {"q": 0.5}, X.quantile(0.5)),
    # references in attrs, wherever a tensor may stand
    ("sub", [Y], {"self": X}, X - Y),
    ("clamp", [X], {"max": Y}, X.clamp(max=Y)),
    ("masked.sum", [X], {"dim": 1, "mask": X > 2}, torch.masked.sum(X, 1, mask=X > 2)),
    (
        "aten.index_put.default",
        [X],
        {"indices": [None, INDEX], "values": Y[:, :2]},
        torch.cat([Y[:, INDEX], X[:, 2:]], 1),
    ),
    ("cat", [], {"tensors": [X, Y]}, torch.cat([X, Y])),
    ("histogram", [X], {"bins": 3, "weight": Y}, torch.histogram(X, 3, weight=Y)),
    # input and self both name the first parameter
    ("sum", [], {"input": X}, X.sum()),
    ("sum", [], {"self": X}, X.sum()),
    ("nn.functional.relu", [], {"self": X}, X.relu()),
    ("where", [X > 2, Y], {"input": X}, torch.where(X > 2, X, Y)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "expected"), RESULTS, ids=lambda value: str(value)[:40]
)
def test_a_bound_call_answers_what_pytorch_does(
    op: str, inputs: list[Tensor], attrs: dict[str, Any], expected: Any
) -> None:
    assert same(call(op, inputs, attrs), expected)


def test_labels_and_pointers_name_every_use() -> None:
    binding = bound("cat", 2)
    assert binding.references == ["t0", "t1"]
    assert binding.template.parameters == ("tensors[0]", "tensors[1]")
    assert binding.template.pointers == ("/inputs/0", "/inputs/1")
    binding = bound("sub", 1, {"self": ref("x")})
    assert binding.references == ["x", "t0"]
    assert binding.template.parameters == ("self", "other")
    assert binding.template.pointers == ("/attrs/self/ref", "/inputs/0")
    binding = bound("getitem", 1, {"index": [None, ref("i:1")]})
    assert binding.references == ["t0", "i:1"]
    assert binding.template.parameters == ("self", "index[1]")
    assert binding.template.pointers == ("/inputs/0", "/attrs/index/1/ref")


REFUSALS: list[tuple[str, int, dict[str, Any], str]] = [
    ("add", 0, {}, "/inputs"),
    ("add", 3, {}, "/inputs/2"),
    ("relu", 2, {}, "/inputs/1"),
    ("add", 1, {"othr": 2}, "/attrs/othr"),
    ("add", 2, {"other": 2}, "/inputs/1"),
    ("sum", 1, {"dim": "a"}, "/attrs/dim"),
    ("sum", 1, {"dim": True}, "/attrs/dim"),
    ("sum", 1, {"dim": 1.0}, "/attrs/dim"),
    ("sum", 1, {"dim": [0, "1"]}, "/attrs/dim"),
    ("sum", 1, {"dim": 2**63}, "/attrs/dim"),
    ("sum", 1, {"dim": -(2**63) - 1}, "/attrs/dim"),
    ("sum", 1, {"dtype": "float8_e4m3fn"}, "/attrs/dtype"),
    ("sum", 1, {"dtype": "torch.float64"}, "/attrs/dtype"),
    ("sum", 1, {"input": ref("t0"), "self": ref("t0")}, "/attrs/self"),
    ("add", 1, {"other": 2**64}, "/attrs/other"),
    ("add", 1, {"other": "2"}, "/attrs/other"),
    ("add", 1, {"other": {"re": 1}}, "/attrs/other"),
    ("add", 1, {"other": {"re": "x", "im": 1}}, "/attrs/other"),
    ("add", 1, {"other": {"ref": 1}}, "/attrs/other"),
    ("add", 1, {"other": {"ref": "a", "b": 1}}, "/attrs/other"),
    ("add", 1, {"other": [1]}, "/attrs/other"),
    ("maximum", 1, {"other": 2}, "/attrs/other"),
    ("sin", 0, {"self": 2}, "/attrs/self"),
    ("add", 2, {"alpha": ref("t0")}, "/attrs/alpha"),
    ("add", 2, {"alpha": None}, "/attrs/alpha"),
    ("view", 1, {"size": [1, None]}, "/attrs/size"),
    ("movedim", 1, {"source": [0], "destination": 1}, "/attrs/source"),
    ("movedim", 1, {"source": 0, "destination": [1]}, "/attrs/destination"),
    ("moveaxis", 1, {"source": [0], "destination": 1}, "/attrs/destination"),
    ("moveaxis", 1, {"source": 0, "destination": [1]}, "/attrs/source"),
    ("contiguous", 1, {"memory_format": "channels_first"}, "/attrs/memory_format"),
    ("nn.functional.max_pool2d", 1, {}, "/attrs"),
    (
        "nn.functional.max_pool2d",
        1,
        {"kernel_size": 2, "return_indices": 1},
        "/attrs/return_indices",
    ),
    ("nn.functional.normalize", 1, {"dim": True}, "/attrs/dim"),
    ("nn.functional.normalize", 1, {"dim": "0"}, "/attrs/dim"),
    ("cat", 2, {"tensors": [ref("t0")]}, "/inputs/0"),
    ("cat", 0, {"tensors": ref("t0")}, "/attrs/tensors"),
    ("cat", 0, {"tensors": [ref("t0"), None]}, "/attrs/tensors"),
    ("histogram", 3, {}, "/inputs/2"),
    ("randn", 0, {"size": [2], "a/b~c": 1}, "/attrs/a~1b~0c"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "count", "attrs", "pointer"), REFUSALS)
def test_what_does_not_bind_is_refused_with_the_signatures(
    op: str, count: int, attrs: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(BadArguments) as caught:
        bound(op, count, attrs)
    (error,) = caught.value.errors
    assert error.pointer == pointer
    assert f"there is: {op}(" in error.message
    assert len(error.message) < 1500


@pytest.mark.parametrize("name", sorted(HIDDEN))
def test_what_a_request_cannot_set_is_refused(name: str) -> None:
    with pytest.raises(BadArguments, match="cannot be set in a request") as caught:
        bound("randn", 0, {"size": [2], name: None})
    assert caught.value.errors[0].pointer == f"/attrs/{name}"


def test_values_that_look_alike_bind_as_what_they_are() -> None:
    op = catalogue().find("full")

    def filled(value: Any) -> Tensor:
        template = bind(op, [], {"size": [1], "fill_value": value}).template
        result: Tensor = template.compile([])([])
        return result

    for value in (True, 1, 1.0, True, 1, 1.0):
        assert same(filled(value), torch.full((1,), value))
    assert not filled(0.0).signbit().item()
    assert filled(-0.0).signbit().item()
    assert filled("NaN").isnan().item()
    with pytest.raises(BadArguments):
        filled("1")


def test_a_template_is_shared_and_its_references_are_not() -> None:
    op = catalogue().find("add")
    one, other = bind(op, ["a"], {"other": 2}), bind(op, ["b"], {"other": 2})
    assert one.template is other.template
    assert (one.references, other.references) == (["a"], ["b"])
    with_ref = bind(op, [], {"self": ref("a"), "other": ref("b")})
    again = bind(op, [], {"self": ref("b"), "other": ref("a")})
    assert (with_ref.references, again.references) == (["a", "b"], ["b", "a"])


def test_an_op_remembers_no_more_than_so_many_templates() -> None:
    op = catalogue().find("square")
    for number in range(1500):
        bind(catalogue().find("add"), ["a"], {"other": number})
    assert len(catalogue().find("add").templates) <= 512
    bind(op, ["a"], {})
    assert len(op.templates) == 1


def test_the_same_template_runs_on_other_slots() -> None:
    template = bound("sub", 2).template
    assert same(template.compile([0, 1])([X, Y]), X - Y)
    assert same(template.compile([1, 0])([X, Y]), Y - X)
    assert same(template.compile([1, 1])([X, Y]), Y - Y)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_shape_of_a_call_runs(count: int) -> None:
    inputs = [X + number for number in range(count)]
    assert same(call("cat", inputs), torch.cat(inputs))
    assert same(call("cat", inputs, {"dim": 1}), torch.cat(inputs, 1))
    assert same(call("hstack", inputs), torch.hstack(inputs))


# --- getitem ------------------------------------------------------------------------------------

CUBE = torch.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("index", "python"),
    [
        ([0], (0,)),
        ([-1, 2], (-1, 2)),
        ([None, 0], (None, 0)),
        (["...", 1], (..., 1)),
        ([{"slice": [0, 2, None]}], (slice(0, 2),)),
        ([{"slice": [None, None, 2]}, "..."], (slice(None, None, 2), ...)),
        ([{"slice": [1, None]}], (slice(1, None),)),
        ([True], (True,)),
        ([False, 0], (False, 0)),
        ([[0, 1], [1, 2]], ([0, 1], [1, 2])),
        ([[[0], [1]], [1, 2]], ([[0], [1]], [1, 2])),
        ([[True, False]], ([True, False],)),
        ([[]], ([],)),
        ([], ()),
        ([{"slice": [None, None, None]}, [2, 0], None, -1], (slice(None), [2, 0], None, -1)),
        ([CUBE > 7], (CUBE > 7,)),
        (["...", INDEX, INDEX], (..., INDEX, INDEX)),
    ],
)
def test_the_index_grammar_means_what_python_means(index: list[Any], python: Any) -> None:
    assert same(call("getitem", [CUBE], {"index": index}), CUBE[python])


@pytest.mark.parametrize(
    "index",
    [
        0,
        "...",
        None,
        {"slice": [0, 1, None]},
        ["a"],
        [1.0],
        [{"slice": [1]}],
        [{"slice": [0, 1, 2, 3]}],
        [{"slice": [0.5, 1, None]}],
        [{"slice": [True, 1, None]}],
        [{"slice": 1}],
        [{"sliced": [0, 1, None]}],
        [[0.5]],
        [["..."]],
        [[None]],
        [2**63],
        [{"ref": 3}],
    ],
)
def test_what_is_no_index_is_refused_with_the_grammar(index: Any) -> None:
    with pytest.raises(BadArguments) as caught:
        bound("getitem", 1, {"index": index})
    assert caught.value.errors[0].pointer == "/attrs/index"


# --- autograd.grad ------------------------------------------------------------------------------


def test_gradients_are_an_op_whose_outputs_are_as_many_as_its_inputs() -> None:
    x, y = X.clone().requires_grad_(), Y.clone().requires_grad_()
    loss = (x**3 * y).sum()
    binding = bound("autograd.grad", 3)
    template = binding.template
    assert template.operation.takes_originals
    assert template.parameters == ("outputs", "inputs[0]", "inputs[1]")
    assert (template.signature.outputs, template.signature.several) == ((None, None), True)
    assert not template.signature.variable
    first = template.compile([0, 1, 2])([loss, x, y])
    assert same(first, torch.autograd.grad(loss, (x, y), retain_graph=True))
    (second,) = call("autograd.grad", [first[0].sum(), x])
    assert same(second, 6 * x * y)
    assert not call("autograd.grad", [loss, x], {"create_graph": False})[0].requires_grad


def test_gradients_take_a_cotangent_and_can_be_materialized() -> None:
    x, other = X.clone().requires_grad_(), Y.clone().requires_grad_()
    given = call("autograd.grad", [x * 3, x], {"grad_outputs": Y})
    assert same(given, (Y * 3,))
    with pytest.raises(RuntimeError, match="appears to not have been used"):
        call("autograd.grad", [x.sum(), other])
    zeros = call("autograd.grad", [x.sum(), other], {"materialize_grads": True})
    assert same(zeros, (torch.zeros_like(other),))
