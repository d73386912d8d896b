"""What a script asks of autograd's flags, and iterators that a statement steps through."""

from __future__ import annotations

from textwrap import dedent

import pytest

from service.contract.problem import GradtraceError
from service.translate.attributes import RETURN_ITSELF
from service.translate.from_python import from_python
from service.translate.operations import DROPOUTS, VIEWS
from tests.translate.oracle import check

HEAD = (
    "import torch\nimport torch.nn.functional as F\n"
    "x = torch.tensor([1.0, 2.0], requires_grad=True)\n"
    "w = torch.tensor([3.0, 4.0], requires_grad=True)\nc = torch.tensor([1.0, 2.0])\n"
)
CONSTANT = "g = torch.autograd.grad((3 * x).sum(), x, create_graph=True)[0]\n"

MAY_BE_CONSTANT = {
    "a gradient": CONSTANT + "y = g * 2 if g.requires_grad else torch.zeros(2)",
    "what is computed from it": CONSTANT
    + "h = (g * 2)[0]\ny = x * 2 if h.requires_grad else x * 3",
    "whether it is a leaf": CONSTANT + "y = x * 2 if g.is_leaf else x * 3",
    "the gradient of a pass": (
        "(3 * x).sum().backward(create_graph=True)\ny = x * 2 if x.grad.requires_grad else x * 3"
    ),
    "making a leaf of it": CONSTANT + "h = g * 2\nh.requires_grad_()\n(h * x).sum().backward()",
    "making a leaf of it by its flag": CONSTANT + "h = g * 2\nh.requires_grad = True",
    "what leads on from it": (
        "g = torch.autograd.grad((x * w).sum(), x, create_graph=True)[0]\ng.sum().backward()\n"
        "y = w * 2 if x.grad is None else w * 3"
    ),
}

GRADIENTS = {
    "a penalty": """
        g = torch.autograd.grad((x ** 3 * w).sum(), x, create_graph=True)[0]
        loss = (x * w).sum() + ((g.norm() - 1) ** 2)
        loss.backward()
        if x.grad is not None and w.grad is not None and loss.requires_grad:
            y = x * 2
    """,
    "a product with the second derivative": """
        g = torch.autograd.grad((x ** 3).sum(), x, create_graph=True)[0]
        (g * c).sum().backward()
        y = x * 2 if x.grad is None else x * 3
    """,
    "with something that surely requires grad": """
        g = torch.autograd.grad((3 * x).sum(), x, create_graph=True)[0]
        n = w - 0.1 * g
        y = n * 2 if n.requires_grad and not n.is_leaf else n * 3
    """,
    "without create_graph": """
        g = torch.autograd.grad((x ** 3).sum(), x)[0]
        y = g * 2 if g.requires_grad or not g.is_leaf else g * 3
    """,
    "cut off": """
        g = torch.autograd.grad((x ** 3).sum(), x, create_graph=True)[0].detach()
        y = g * 2 if g.requires_grad else g * 3
    """,
    "kept where it requires grad": """
        g = torch.autograd.grad((x ** 3).sum(), x, create_graph=True)[0]
        if g.requires_grad:
            g.retain_grad()
        h = torch.autograd.grad((3 * x).sum(), x, create_graph=True)[0]
        if h.requires_grad:
            h.retain_grad()
        (g * c + h).sum().backward()
    """,
    "under no_grad": """
        s = (x ** 3).sum()
        with torch.no_grad():
            g = torch.autograd.grad(s, x, create_graph=True)[0]
            h = g * 2
        (g * c).sum().backward()
    """,
}

SHARED = {
    "flatten": "v = c.flatten()",
    "flatten of one dimension": "v = torch.flatten(c, 0, 0)",
    "flatten by its kernel": "v = torch.ops.aten.flatten.using_ints(c)",
    "broadcast_tensors": "v = torch.broadcast_tensors(c, c)[0]",
    "a dropout of features": "v = torch.feature_dropout(c, 0.5, False)",
    "adjoint of a number": "c = torch.tensor(1.0)\nv = c.adjoint()",
    "more than one of them": "v = c.contiguous().flatten().float()",
}

ITSELF = {
    "a gradient, two ops on": (
        "y = x.contiguous().float()\n(y ** 2).sum().backward()\n"
        "z = x * 2 if y.grad is None else x * 3"
    ),
    "a leaf, two ops on": "z = x * 2 if x.float().float().is_leaf else x * 3",
    "one part of several": "z = x * 2 if torch.broadcast_tensors(w, x)[1].is_leaf else x * 3",
    "emptied": (
        "y = x.float()\ny.sum().backward()\ny.grad = None\n(x * 2).sum().backward()\nz = x * 1"
    ),
    "what the given one keeps": (
        "y = x * 2\ny.retain_grad()\nz = y.float()\nz.sum().backward()\n"
        "k = x * 2 if z.grad is None else x * 3"
    ),
    "what the returned one keeps": (
        "y = x * 2\nz = y.float()\nz.retain_grad()\nz.sum().backward()\n"
        "k = x * 2 if y.grad is None else x * 3"
    ),
}

STEPPED = {
    "a membership": "it = (i for i in range(5))\n2 in it\nr = list(it)",
    "a membership in a dict's": "d = {'a': (i for i in range(5))}\n2 in d['a']\nr = list(d['a'])",
    "a membership asserted": "d = {'a': zip([1], [2])}\nassert 2 in d['a']\nr = list(d['a'])",
    "a membership printed": "d = [[zip([1], [2])]]\nprint(2 in d[0][0])\nr = list(d[0][0])",
}

READ = {
    "several outputs under no_grad": """
        with torch.no_grad():
            v, k = w.max(dim=0)
            r = w.sort()
        y = x * v + r.values
    """,
    "a star": """
        it = (i for i in range(5))
        (*it,)
        y = torch.tensor([*it, 7.0])
    """,
    "comparisons that step through nothing": """
        d = [1, 2]
        3 in d
        3 not in (1, 2), d[0]
        c > 1
        y = c * 2
    """,
    "another dtype": """
        v = x.view(torch.float32)
        y = x * 2 if v.requires_grad or not v.is_leaf else x * 3
    """,
    "detach by its kernel": """
        v = torch.ops.aten.detach.default(x)
        y = x * 2 if v.requires_grad or not v.is_leaf else x * 3
    """,
    "a leaf's own gradient": """
        (x.float().flatten() * 2).sum().backward()
        z = x * 2 if x.grad is None else x * 3
        x.grad = None
        (x * 5).sum().backward()
    """,
    "views of what a leaf gives": """
        v = (x * 2).flatten()
        y = x * 2 if v.is_leaf or v.retains_grad else x * 3
    """,
    "a view of another shape": """
        m = torch.ones(2, 2)
        v = m.flatten()
        v.requires_grad_()
        (v * 3).sum().backward()
        y = x.unsqueeze(0).flatten()
        z = y * 2 if torch.ones(2, 2, requires_grad=True).flatten().is_leaf else y * 3
    """,
    "a view under no_grad, cut off": """
        with torch.no_grad():
            v = x[0].detach()
            k = x[0] + x.flatten()
        y = v * k
    """,
}


WITH_PLACES = {
    "sort": "x.sort()",
    "max": "x.max(0)",
    "min": "torch.min(x, 0)",
    "topk": "x.topk(1)",
    "mode": "x.mode()",
    "kthvalue": "x.kthvalue(1)",
    "median": "x.median(0)",
    "cummax": "x.cummax(0)",
    "frexp": "torch.frexp(x)",
    "unique": "torch.unique(x, return_inverse=True)",
    "max_pool1d": "F.max_pool1d(x[None], 2, return_indices=True)",
}
"""Calls whose second output is of whole numbers."""

PLACES = {
    "asked": "y = x * 2 if s[1].requires_grad or not s[1].is_leaf else x * 3",
    "converted": "i = s[1].float()\ny = x * 2 if i.requires_grad or not i.is_leaf else x * 3",
    "computed with": "i = s[1] * 2.0\ny = x * 2 if i.requires_grad else x * 3",
    "made a leaf": "i = s[1].float()\ni.requires_grad_()\n(i * 2).sum().backward()",
    "weighed with": "(w.sum() * s[1]).sum().backward()\ny = w * 2 if x.grad is None else w * 3",
    "told not to require grad": "i = s[1]\ni.requires_grad_(False)\ni.requires_grad = False",
}

NO_PLACES = {
    "requires_grad_": ("s[1].requires_grad_()", "can require gradients"),
    "requires_grad": ("i = s[1]\ni.requires_grad = True", "can require gradients"),
    "retain_grad": ("s[1].retain_grad()", "can't retain_grad"),
}


@pytest.mark.parametrize("use", PLACES)
@pytest.mark.parametrize("name", WITH_PLACES)
def test_places_never_require_grad(name: str, use: str) -> None:
    check(f"{HEAD}s = {WITH_PLACES[name]}\n{PLACES[use]}")
    leaf = HEAD.replace("2.0], requires_grad=True)\nw", "2.0])\nx.requires_grad_()\nw")
    check(f"{leaf}s = {WITH_PLACES[name]}\n{PLACES[use]}")


@pytest.mark.parametrize("use", NO_PLACES)
@pytest.mark.parametrize("name", WITH_PLACES)
@pytest.mark.parametrize("given", ["x", "c"])
def test_places_cannot_require_grad(name: str, use: str, given: str) -> None:
    source, words = NO_PLACES[use]
    with pytest.raises(GradtraceError, match=words):
        from_python(f"{HEAD}x = {given}\ns = {WITH_PLACES[name]}\n{source}")


@pytest.mark.parametrize("name", ["c", "c * 2", "x.detach()"])
def test_only_what_requires_grad_retains_one(name: str) -> None:
    with pytest.raises(GradtraceError, match="can't retain_grad on Tensor"):
        from_python(f"{HEAD}y = {name}\ny.retain_grad()")


def test_what_may_be_a_leaf_retains_no_gradient_of_its_own() -> None:
    with pytest.raises(GradtraceError, match="whether this is the very tensor"):
        from_python(HEAD + "y = x.float()\ny.retain_grad()\n(y * 2 + x).sum().backward()")


def test_what_a_shape_is_taken_from_gets_no_gradient() -> None:
    check(HEAD + "x.view_as(w).sum().backward()\ny = x * 2 if w.grad is None else x * 3")


# torch.autograd.grad may return the very tensor that it started from, and one tensor twice.
GIVEN_BACK = {
    "asked": ("y = x * 2 if g.requires_grad else x * 3", "may be a constant"),
    "made a leaf": ("g.requires_grad_()", "may be a constant"),
    "its gradient": ("(g * x).sum().backward()\ny = x * 2 if g.grad is None else x", "very tensor"),
    "changed": ("with torch.no_grad():\n    x -= 1", "share memory"),
}


@pytest.mark.parametrize("use", GIVEN_BACK)
def test_a_gradient_may_be_what_it_started_from(use: str) -> None:
    source, words = GIVEN_BACK[use]
    with pytest.raises(GradtraceError, match=words):
        from_python(f"{HEAD}g = torch.autograd.grad(x, [x], x)[0]\n{source}")


SAME_GRADIENTS = {
    "a start that is changed": "g = torch.autograd.grad(x + 1, x, c)[0]\nc += 1",
    "what was started from": "g = torch.autograd.grad(x + 1, x, c)[0]\ng += 1",
    "one of two": "g, h = torch.autograd.grad((x + w).sum(), [x, w])\ng += 1",
    "one of two in a tuple": "t = torch.autograd.grad((x + w).sum(), [x, w])\ng = t[0]\ng += 1",
}


@pytest.mark.parametrize("name", SAME_GRADIENTS)
def test_gradients_that_may_be_one_tensor_are_not_changed_alone(name: str) -> None:
    with pytest.raises(GradtraceError, match="share memory"):
        from_python(HEAD + SAME_GRADIENTS[name])


STARTED = {
    "what nobody else has": "g = torch.autograd.grad(x * w, x, torch.ones(2))[0]\ng *= 2",
    "one gradient": "g = torch.autograd.grad((x * w).sum(), x)[0]\ng += 1\ny = g * 2",
    "a step": "g, h = torch.autograd.grad((x * w).sum(), [x, w])\n"
    "with torch.no_grad():\n    x -= g\n    w -= h",
    "twice backwards": "v = torch.ones(2, requires_grad=True)\n"
    "g = torch.autograd.grad(x ** 2 * w, x, v, create_graph=True)[0]\n"
    "y = torch.autograd.grad(g, v, c)[0]",
    "a start that requires grad": "y = x * 2\n(torch.autograd.grad(x * w, x, w)[0] * x)"
    ".sum().backward()",
}


@pytest.mark.parametrize("name", STARTED)
def test_gradients_are_computed_from_where_they_start(name: str) -> None:
    check(HEAD + STARTED[name])


@pytest.mark.parametrize("name", MAY_BE_CONSTANT)
def test_what_a_constant_derivative_decides_is_refused(name: str) -> None:
    with pytest.raises(GradtraceError, match="a derivative that leads here may be a constant"):
        from_python(HEAD + MAY_BE_CONSTANT[name])


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_go_on_being_computed_with(name: str) -> None:
    check(HEAD + dedent(GRADIENTS[name]))


@pytest.mark.parametrize("name", SHARED)
def test_the_very_tensor_is_not_changed_alone(name: str) -> None:
    with pytest.raises(GradtraceError, match="the very same"):
        from_python(HEAD + SHARED[name] + "\nv.requires_grad_()\ny = (c * v).sum()")
    with pytest.raises(GradtraceError, match="share memory"):
        from_python(HEAD + SHARED[name] + "\nc += 1\ny = v * 1")


def test_an_op_that_may_return_its_tensor_may_share_its_memory() -> None:
    casts = {"to", "type_as", "float", "double", "half", "bfloat16", "cfloat", "cdouble"}
    assert RETURN_ITSELF.issubset(VIEWS | DROPOUTS | casts)


@pytest.mark.parametrize("name", ITSELF)
def test_what_differs_for_the_very_tensor_is_refused(name: str) -> None:
    with pytest.raises(GradtraceError, match="whether this is the very tensor"):
        from_python(HEAD + ITSELF[name])


@pytest.mark.parametrize("name", STEPPED)
def test_an_iterator_that_a_statement_steps_through_is_not_passed_over(name: str) -> None:
    with pytest.raises(GradtraceError, match=r"make a list of it|line of its own"):
        from_python(HEAD + STEPPED[name] + "\ny = torch.tensor(r)")


@pytest.mark.parametrize("name", READ)
def test_what_is_read_means_what_pytorch_computes(name: str) -> None:
    check(HEAD + dedent(READ[name]))


def test_a_view_under_no_grad_that_has_a_name_is_refused() -> None:
    with pytest.raises(GradtraceError, match="still says that it requires grad"):
        from_python(HEAD + "with torch.no_grad():\n    v = x[0]")
