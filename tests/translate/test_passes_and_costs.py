"""Passes of ``autograd.grad``, shapes of in-place operators, arguments, and what numbers cost."""

from __future__ import annotations

from textwrap import dedent

import pytest

from service.contract.problem import GradtraceError
from service.translate.from_python import from_python
from tests.engine.asking import problem
from tests.translate.oracle import check, executed

HEAD = (
    "import torch\nimport torch.nn.functional as F\ntorch.manual_seed(3)\n"
    "w = torch.tensor([1.0, 2.0], requires_grad=True)\nx = torch.tensor([3.0, 5.0])\n"
    "i = torch.tensor([0, 1])\n"
)

READ = {
    "a complex gradient without dimensions": """
        z = torch.tensor(1 + 2j, requires_grad=True)
        (z * 2).backward(torch.tensor(1 + 2j).reshape(()))
    """,
    "the gradient of what a leaf was before it was changed in place": """
        v = w
        y = (w * w.detach().clone() * 2).sum()
        k = (w * 3).sum()
        with torch.no_grad():
            w += 1
        z = (w * w).sum()
        (a,) = torch.autograd.grad(k, v)
        (b,) = torch.autograd.grad(z, w)
        del v, w
    """,
    "the very leaf by an op that is gone": """
        v = w.float()
        y = (v * 2).sum()
        del v
        with torch.no_grad():
            w += 1
        (g,) = torch.autograd.grad(y, w)
    """,
    "a leaf that was frozen for a while": """
        y = (w * w).sum()
        w.requires_grad_(False)
        w.requires_grad_(True)
        (g,) = torch.autograd.grad(y, w)
    """,
    "what saves nothing is passed twice, and so is what was kept": """
        y = w + 1
        (a,) = torch.autograd.grad(y.sum(), w)
        (b,) = torch.autograd.grad(y.mean(), w)
        e = w.exp()
        (c,) = torch.autograd.grad(e.sum(), e)
        (d,) = torch.autograd.grad(e.sum(), w, create_graph=True)
        (f,) = torch.autograd.grad(d.sum(), w, retain_graph=True)
        e.prod().backward()
    """,
    "a number whose shape only a run knows promotes no dtype": """
        a = torch.tensor([0.1, 0.7])[i]
        a /= torch.tensor([0.3333333333333333], dtype=torch.float64)[i[0]]
    """,
    "a result whose shape only a run knows holds its operand": """
        p = (w * x)[i] * 1
        b = torch.ones(3)[i]
        p += b
        b += 1
        p *= b[0]
        p -= F.l1_loss(w, x)
        total = torch.tensor(0.0)
        for k in range(3):
            loss = F.l1_loss(w * k, x)
            total += loss
        p += p
        (p.sum() + total).backward()
    """,
    "what takes only a shape shares nothing with it": """
        y = torch.zeros(2, 1)
        v = x.view_as(y)
        y += 1
        z = v * y
    """,
    "items of lists and dicts in place": """
        ps = {"w": w, "b": torch.zeros(1, requires_grad=True)}
        qs = [x, torch.ones(1)]
        first, counts, texts = qs[0], [0, 1], [[1]]
        for k in range(3):
            (ps["w"] * qs[0] + ps["b"]).sum().backward()
            with torch.no_grad():
                for name in ps:
                    ps[name] -= 0.1 * ps[name].grad
                    ps[name].grad = None
            qs[0] *= 2
            qs[-1] += k
            counts[0] += k
            texts[0] += [k]
        a, b, c = ps["w"] * 1, ps["b"] * 1, torch.tensor(counts + texts[0])
        d = qs[1] * first[0]
        del ps, w
    """,
    "arguments of any number": """
        def outer(t, *args, **kwargs):
            return inner(t, *args, **kwargs)

        def inner(t, a, b=2, *, c=3):
            return t * a + b - c

        def named(t, /, **more):
            return t * more["t"] * len(more)

        y, z = outer(x, 5, c=7), outer(x, a=5, b=1)
        v = (lambda *a: a[0] + a[-1])(y, z, w)
        u = named(x, t=2, s=3)
    """,
    "a gradient that is not there": """
        y = w * 2 if not w.grad else w
        y = y * (2 if (w.grad or None) is None else 3)
        y.sum().backward()
    """,
    "or takes its last operand as it is": """
        start = None
        y = (start or w) * (0 or 3)
        y.sum().backward()
    """,
    "methods that are operators in place": """
        m = torch.zeros(2)
        for k in range(3):
            (w * w).sum().backward()
            with torch.no_grad():
                m.mul_(0.9).add_(w.grad, alpha=0.1)
                w.sub_(m.div(2)).add_(other=1)
                w.grad.zero_()
        a = torch.zeros(2).add_(1).mul_(3)
        b = m.add_(m.mul_(2)) + torch.Tensor.div_(a, 2)
        c = torch.tensor([1, 2]).sub_(2, alpha=3)
        del w
    """,
    "two that take turns": """
        d = torch.tensor(0.3, requires_grad=True)
        for k in range(3):
            fake = (w * 2).sum()
            ((d * fake.detach() - 1) ** 2).backward()
            with torch.no_grad():
                d -= 0.1 * d.grad
            d.grad = None
            ((d * fake) ** 2).backward()
            with torch.no_grad():
                w -= 0.1 * w.grad
            w.grad = d.grad = None
        a, b = d * 1, w * 1
        del d, w
    """,
    "inference": """
        @torch.inference_mode()
        def f(t):
            t = t * w
            t += 1
            with torch.enable_grad():
                return t * 2
        a = f(x)
        b = a + 1
        with torch.inference_mode():
            v = x[0]
        (a.clone() * w * v).sum().backward()
    """,
    "a sum of numbers is Python's": """
        n = sum(0.1 for _ in range(10))
        a, b = torch.tensor(n, dtype=torch.float64), sum([0.1] * 3 + [x, 1], 2)
        c = torch.tensor([sum([True, 2]), sum([1j, 2]), sum([])])
        d = torch.tensor(sum([[1], [2]], []))
    """,
}

RAISES = {
    "a second pass": (
        "y = (w * w).sum()\na = torch.autograd.grad(y, w)\nb = torch.autograd.grad(y, w)",
        "second time",
    ),
    "a pass behind a gradient": (
        "y = (w * w).sum()\n(a,) = torch.autograd.grad(y, w)\ny.backward()",
        "second time",
    ),
    "a gradient behind a pass": (
        "y = (w * w).sum()\ny.backward()\n(a,) = torch.autograd.grad(y, w)",
        "second time",
    ),
    "a pass behind a gradient that is printed": (
        "y = (w * w).sum()\nprint(torch.autograd.grad(y, w))\ny.backward()",
        "second time",
    ),
    "a saved inverse": (
        "k = (w * torch.eye(2)).inverse()\nk += 1\n(a,) = torch.autograd.grad(k.sum(), w)",
        "modified by an inplace",
    ),
    "a saved result": (
        "k = w.exp()\ny = k.sum()\nk += 1\n(a,) = torch.autograd.grad(y, w)",
        "modified by an inplace",
    ),
    "a saved leaf": (
        "y = (w * w).sum()\nwith torch.no_grad():\n    w += 1\n(a,) = torch.autograd.grad(y, w)",
        "modified by an inplace",
    ),
    "a keyword that must be given": ("def f(t, *, k):\n    return t\ny = f(x)", "missing"),
    "a place by its name": ("def f(t, /):\n    return t\ny = f(t=x)", "positional|do not fit"),
    "a place given twice": ("def f(t, *r):\n    return t\ny = f(x, t=x)", "multiple|do not fit"),
    "a method in place on a leaf": ("w.add_(1)", "a leaf Variable"),
    "an item of a tuple": ("t = (x,)\nt[0] += 1", "tuple"),
    "inference that is saved": (
        "with torch.inference_mode():\n    a = x * 2\nb = a * w",
        "[Ii]nference",
    ),
    "inference in place": (
        "with torch.inference_mode():\n    a = torch.ones(2)\na += 1",
        "[Ii]nference",
    ),
    "inference that requires grad": (
        "with torch.inference_mode():\n    a = torch.tensor([1.0])\na.requires_grad_()",
        "inference",
    ),
}

REFUSED = {
    "both versions of a leaf": (
        (
            "y = (w * 2).sum()\nwith torch.no_grad():\n    w += 1\n"
            "g = torch.autograd.grad(y + w.sum(), w)"
        ),
        "two nodes",
    ),
    "a gradient that is None": (
        (
            "g = torch.autograd.grad((x * w).sum(), [w, x.clone().requires_grad_()], "
            "allow_unused=True)"
        ),
        "materialize_grads",
    ),
    "a method that would change another tensor": ("x[0].mul_(2)", "share memory"),
    "a gradient that is written into": ("w.sum().backward()\nw.grad.mul_(2)", "share memory"),
    "a slice of a list": ("ns = [1, 2]\nns[0:1] += [3]", "number or key"),
}

GROWING = {
    "more dimensions": "y = x[x > 0]\ny += torch.ones(3, 2)",
    "one more dimension of one": "y = x[x > 0]\ny /= torch.ones(1, 2)",
    "a method in place": "y = x[x > 0]\ny.add_(torch.ones(3, 2), alpha=2)",
    "a number that becomes a row": "y = torch.tensor(1.0)\ny *= x[x > 4]",
    "a column that becomes a table": "y = torch.ones(2, 1)\ny -= x[x > 0][None]",
}

COSTS = {
    "a leaf of a range": ("x = range(999000)", "y = torch.tensor(x)"),
    "a sum": ("x = [1.5] * 999000", "y = sum(x)"),
    "an index of a range": ("x = torch.ones(2)\nj = range(999000)", "y = x[j]"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READ)
def test_a_script_means_what_pytorch_does(name: str) -> None:
    check(HEAD + dedent(READ[name]))


@pytest.mark.parametrize("name", RAISES)
def test_what_python_or_pytorch_raises_is_refused(name: str) -> None:
    source, words = RAISES[name]
    with pytest.raises((RuntimeError, TypeError), match=words):
        executed(HEAD + source)
    with pytest.raises(GradtraceError, match=words):
        from_python(HEAD + source)


@pytest.mark.parametrize(("source", "words"), REFUSED.values(), ids=REFUSED)
def test_what_a_graph_cannot_say_is_refused(source: str, words: str) -> None:
    with pytest.raises(GradtraceError, match=words):
        from_python(HEAD + source)


@pytest.mark.parametrize("name", GROWING)
def test_a_tensor_does_not_grow_in_place_where_a_run_alone_knows_its_shape(name: str) -> None:
    with pytest.raises(RuntimeError, match="broadcast shape"):
        executed(HEAD + GROWING[name])
    assert problem(from_python(HEAD + GROWING[name])).code == "op_failed"


@pytest.mark.parametrize(("before", "again"), COSTS.values(), ids=COSTS)
def test_numbers_count_by_what_they_cost(before: str, again: str) -> None:
    with pytest.raises(GradtraceError, match="items in all"):
        from_python(f"import numpy as np\n{HEAD}{before}\nfor k in range(100):\n    {again}")
