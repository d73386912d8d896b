"""What works in place on a tensor that was looked at: read where nobody looks any more."""

from __future__ import annotations

from textwrap import dedent

import pytest

from service.contract.problem import GradtraceError
from service.translate.from_python import from_python
from tests.translate.oracle import check

HEAD = (
    "import torch\nimport torch.nn.functional as F\ntorch.manual_seed(3)\n"
    "W = torch.randn(3, 4, requires_grad=True)\nx = torch.randn(2, 4)\nh = torch.randn(4, 4)\n"
)

READ = {
    "a layer by hand": """
        b = torch.zeros(3, requires_grad=True)
        for step in range(3):
            loss = F.cross_entropy(x @ W.T + b[None, :], torch.tensor([2, 0]))
            loss.backward()
            with torch.no_grad():
                for p in (W, b):
                    p -= 0.5 * p.grad
            W.grad, b.grad = None, None
        last = x @ W.T
        del p, b, W
    """,
    "rows by their numbers": """
        i = torch.tensor([0, 2, 2])
        e, f, g = W[i], W[:, [0, 1]], h[h > 0]
        (e.sum() + f.prod()).backward()
        with torch.no_grad():
            W -= 0.5 * W.grad
        h *= 3
        y = e.sum() + f.sum() + g.sum()
        del W
    """,
    "coefficients one by one": """
        y = W[0] * x[0] + W[1, 2] + sum(row.sum() for row in W)
        (g,) = torch.autograd.grad(y.sum(), W)
        with torch.no_grad():
            W -= g
        z = (W * 2).sum()
        z.backward()
    """,
    "a copy that is cut off": """
        y = W.clone().detach()
        y += 1
        z = (W * y).sum()
        z.backward()
    """,
    "what nothing needs": """
        k = h.requires_grad_() * 2
        s = (x[0] + k[0]).sum()
        k += 1
        (s + k.sum()).backward()
    """,
}

ALIVE = {
    "a name": "v = W.T",
    "a list": "v = [W[0]]",
    "a dict": "v = {'v': W[0]}",
    "a view of a view": "v = W.T[0]",
    "a part": "v, w, u = W.split(1)",
    "parts": "v = W.chunk(2)",
    "a row": "for v in W:\n    pass",
    "a row by a number of its own": "i = torch.tensor(1)\nv = W[i]",
    "a row by an unknown number": "i = torch.tensor([1, 0]).max()\nv = W[i]",
    "a method": "v = W.T.sum",
    "a default": "def f(v=W.T):\n    return v",
    "a closure": "def f():\n    v = W.T\n    return lambda: v\ng = f()",
    "a generator": "g = (v for v in W.unsqueeze(0))",
    "what is cut off": "v = W.detach()",
}


@pytest.mark.parametrize("name", READ)
def test_what_nobody_looks_at_is_changed_in_place(name: str) -> None:
    check(HEAD + dedent(READ[name]))


@pytest.mark.parametrize("name", ALIVE)
def test_what_somebody_may_look_at_is_not(name: str) -> None:
    with pytest.raises(GradtraceError, match="share memory"):
        from_python(HEAD + ALIVE[name] + "\nwith torch.no_grad():\n    W += 1\n")


@pytest.mark.parametrize(
    "source",
    [
        "x.requires_grad_()\ny = (x @ W.T).sum()\nwith torch.no_grad():\n    W += 1\ny.backward()",
        "k = h * W[0, 0]\ny = (W[0] * k[0]).sum()\nk += 1\ny.backward()",
    ],
)
def test_a_view_that_autograd_saved_is_missed_in_backward(source: str) -> None:
    with pytest.raises(GradtraceError, match="modified by an inplace"):
        from_python(HEAD + source)
