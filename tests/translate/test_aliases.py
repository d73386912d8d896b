"""Scripts in which two names may be one memory, or one tensor two versions: exact or refused."""

from __future__ import annotations

from textwrap import dedent

import pytest

from service.contract.problem import GradtraceError
from service.translate.from_python import from_python
from tests.translate.oracle import check, executed

HEAD = (
    "import numpy as np\nimport torch\nimport torch.nn.functional as F\ntorch.manual_seed(3)\n"
    "W = torch.randn(3, 4, requires_grad=True)\nx = torch.randn(2, 4)\nh = torch.randn(4, 4)\n"
)

SHARED = {
    "a gradient with a view that is gone": (
        "(W * 2).sum().backward()\ng = [W.grad][0]\ns = g[0].sum()\ng += 1"
    ),
    "a gradient that is cut off": "(W * 2).sum().backward()\ng = W.grad.detach()\ng += 1",
    "an array with a view that is gone": (
        "a = np.array([1.0])\nt = torch.from_numpy(a)\ns = t[0] * 2\nt += 1"
    ),
    "indices that are long already": "i = h.max(0).indices\nj = i.long()\ni += 1",
    "a dropout of nothing": "y = F.dropout(x, 0.0)\nx += 1",
    "an alpha dropout outside of training": "y = F.alpha_dropout(x)\nx += 1",
    "a real conjugate": "y = torch.conj_physical(x)\nx += 1",
    "unsafe parts": "y = torch.unsafe_chunk(x, 2)\nx += 1",
    "what a leaf was cut off": (
        "p = W.detach().requires_grad_()\n(W ** 2).sum().backward()\n"
        "with torch.no_grad():\n    W -= 0.5 * W.grad\nz = p * 3"
    ),
    "what a parameter is made of": (
        "k = W * 1\np = torch.nn.Parameter(k)\nwith torch.no_grad():\n    p += 1\nz = k * 1"
    ),
    "a parameter made under no_grad": (
        "k = W * 1\nwith torch.no_grad():\n    p = torch.nn.Parameter(k)\nk *= 2\nz = p * 1"
    ),
    "where a leaf began": (
        "w = torch.zeros(2)\nstart = w.detach()\nw.requires_grad_()\nw.sum().backward()\n"
        "with torch.no_grad():\n    w -= w.grad\nz = w - start"
    ),
    "what a leaf is a part of": (
        "a, b = x.chunk(2)\na.requires_grad_()\na.sum().backward()\n"
        "with torch.no_grad():\n    a -= a.grad\nz = x * 2"
    ),
    "one factor": "t = torch.arange(3.0)\ny = torch.cartesian_prod(t)\nt += 1",
}

FLAGS = {
    "a view under no_grad, used": "with torch.no_grad():\n    v = W[1:]\ny = v * 2",
    "a view of it": "with torch.no_grad():\n    v = W[1:].T\ny = v * 2",
    "a view under no_grad, asked": "with torch.no_grad():\n    v = W.T\nf = v.requires_grad",
    "a view under no_grad as root": "with torch.no_grad():\n    v = W[0, 0]\nv.backward()",
    "a view of what requires grad later": "v = x[0]\nx.requires_grad_()",
    "the very tensor": "v = x.float()\nv.requires_grad_()",
    "the very tensor, no more": "v = W.float()\nW.requires_grad_(False)",
}

MISSED = r"second time|modified by an inplace"
RAISES = {
    "prod twice": "y = W.prod()\ny.backward()\ny.backward()",
    "rows twice": "y = W[[0, 1]].sum()\ny.backward()\ny.backward()",
    "an index": "i = torch.tensor([0, 1])\ny = W[i].sum()\ni += 1\ny.backward()",
    "a target": ("t = torch.tensor([0, 1])\ny = F.cross_entropy(x @ W.T, t)\nt += 1\ny.backward()"),
    "a condition": "c = x > 0\ny = torch.where(c, W[:2], x).sum()\nc |= True\ny.backward()",
    "a norm": "k = W * 1\ny = k.norm()\nk += 1\ny.backward()",
    "a largest number": "k = W * 1\ny = k.max()\nk += 1\ny.backward()",
    "itself": "k = W * 1\nk *= k\nk.sum().backward()",
}

KEPT = {
    "of a result": (
        "k = W * 1\nk.retain_grad()\n(k * 2).sum().backward(retain_graph=True)\ng = k.grad\n"
        "(k * 3).sum().backward()\nz = g * 1"
    ),
    "of a pass that is tracked": (
        "(W * W).sum().backward(create_graph=True)\ng = W.grad\n"
        "(W * W * W).sum().backward(create_graph=True)\nz = g * 1"
    ),
}

READ = {
    "shapes": """
        s, m, v = h.sum(dim=[]), h.mean(()), h.var(dim=())
        a = torch.cat([torch.tensor([]), h])
        b = torch.cat([torch.tensor([]), h], -1)
        c = F.mse_loss(h, h * 2, reduce=False)
        d = F.cross_entropy(h, torch.tensor([0, 1, 2, 3]), size_average=False)
    """,
    "the name that an operator binds": """
        x += (x := torch.ones(2, 4))
    """,
    "what saves nothing goes twice": """
        y = torch.cat([W - 1, W.T.reshape(3, 4)]).sum()
        y.backward()
        y.backward()
    """,
    "views inside no_grad": """
        with torch.no_grad():
            y = x @ W.T + W[:, 0]
            p = y.argmax(1)
        z = (y * W[0, 0]).sum()
        z.backward()
    """,
    "a root twice in one pass": """
        n = W.exp().sum()
        torch.autograd.backward([n, n])
    """,
}


@pytest.mark.parametrize("name", SHARED)
def test_memory_that_another_tensor_has_is_not_changed_alone(name: str) -> None:
    with pytest.raises(GradtraceError, match="share memory"):
        from_python(HEAD + SHARED[name])


@pytest.mark.parametrize("name", FLAGS)
def test_a_view_that_requires_grad_without_a_history_is_refused(name: str) -> None:
    with pytest.raises(GradtraceError, match=r"requires? grad"):
        from_python(HEAD + FLAGS[name])


@pytest.mark.parametrize("name", RAISES)
def test_a_pass_that_pytorch_refuses_is_refused(name: str) -> None:
    with pytest.raises(RuntimeError, match=MISSED):
        executed(HEAD + RAISES[name])
    with pytest.raises(GradtraceError, match=MISSED):
        from_python(HEAD + RAISES[name])


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_gradient_that_pytorch_replaces_is_refused(name: str) -> None:
    with pytest.raises(GradtraceError, match="made another one"):
        from_python(HEAD + KEPT[name])


def test_a_pass_over_two_versions_of_a_tensor_is_refused() -> None:
    source = "y = W.sum()\nwith torch.no_grad():\n    W += 1\n(y + W.sum()).backward()"
    with pytest.raises(GradtraceError, match="two nodes"):
        from_python(HEAD + source)


@pytest.mark.filterwarnings("ignore:size_average")
@pytest.mark.parametrize("name", READ)
def test_what_is_read_means_what_pytorch_computes(name: str) -> None:
    check(HEAD + dedent(READ[name]))


def test_a_number_of_many_digits_is_no_bug() -> None:
    with pytest.raises(GradtraceError, match="4096 bits"):
        from_python(HEAD + "y = x * 0x" + "f" * 100_000)
