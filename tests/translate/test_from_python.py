"""A script means a graph: what Python computes, the trace of the graph says."""

from __future__ import annotations

import pytest

from service.translate.from_python import from_python
from service.translate.names import unique
from tests.translate.oracle import check, traced

HEAD = "import torch\nimport torch.nn.functional as F\n"

SIXES = """
import torch

a = torch.ones(2, 2, requires_grad=True)
b = a + 2
c = b ** 2
out = c.sum()
out.backward()

print(a.grad)
print(c.grad)
"""

REGRESSION = """
import torch

x = torch.tensor(3.0)
y = torch.tensor(6.0)
w = torch.tensor(1.0, requires_grad=True)

y_pred = w * x
error = y_pred - y
loss = error ** 2
loss.backward()

print(f"w.grad = {w.grad}")
"""


def test_the_first_snippet_of_the_lesson_gives_sixes() -> None:
    nodes = traced(SIXES)
    assert nodes["a"]["grad"] == [[6.0, 6.0], [6.0, 6.0]]
    assert nodes["a"]["grad_status"] == "accumulated"
    assert nodes["c"]["grad_status"] == "not_retained"


def test_the_second_snippet_of_the_lesson_gives_minus_eighteen() -> None:
    nodes = traced(REGRESSION)
    assert nodes["w"]["grad"] == -18.0
    assert nodes["loss"]["value"] == 9.0


def test_the_old_way_with_variables_gives_the_same() -> None:
    source = SIXES.replace("import torch\n", "import torch\nfrom torch.autograd import Variable\n")
    source = source.replace(
        "torch.ones(2, 2, requires_grad=True)", "Variable(torch.ones(2, 2), requires_grad=True)"
    )
    assert traced(source)["a"]["grad"] == [[6.0, 6.0], [6.0, 6.0]]


def test_ids_are_the_names_of_variables() -> None:
    request = from_python(
        HEAD + "x = torch.tensor([1.0, 2.0], requires_grad=True)\n"
        "x = x * 2\nloss = (x - 1).pow(2).sum()\nx = x + loss\n"
    )
    assert [leaf["id"] for leaf in request["leaves"]] == ["x"]
    assert [op["id"] for op in request["ops"]] == ["x.1", "loss.sub", "loss.pow", "loss", "x.2"]
    assert request["backward"] == []


def test_names_beyond_ascii_get_an_id_too() -> None:
    nodes = traced(
        HEAD + "β = torch.tensor(2.0, requires_grad=True)\nloss = β * 3\nloss.backward()"
    )
    assert nodes["beta"]["grad"] == 3.0


def test_the_next_id_of_a_name_is_not_looked_for_from_the_first_one() -> None:
    class Taken(set[str]):
        looks = 0

        def __contains__(self, name: object) -> bool:
            self.looks += 1
            return super().__contains__(name)

    taken, counts = Taken(), dict[str, int]()
    for _ in range(1000):
        taken.add(unique("x", taken, counts))
    assert taken == {"x", *(f"x.{k}" for k in range(1, 1000))}
    assert taken.looks < 4000


def test_an_unnamed_result_takes_no_name_that_a_variable_has() -> None:
    request = from_python(HEAD + "x = torch.ones(2)\n(x * 2).sum()\nmul = x + 1\nsum = mul * 2\n")
    assert [op["id"] for op in request["ops"]] == ["x", "mul.0", "sum.0", "mul", "sum"]


SCRIPTS = {
    "operators": """
        x = torch.tensor([1.5, -2.0, 3.0], requires_grad=True)
        y = torch.tensor([2.0, 0.5, -1.0])
        a = x + y - 2 * x / 3
        b = 2 - x
        c = 2 / y
        d = 2 ** x
        e = x // 2 + x % 2
        f = -x + +x
        g = (x > y) & (y != 2) | ~(x <= 0)
        h = abs(x)
        m = 1 < x
        out = (a * b * c * d * h).sum()
        out.backward()
    """,
    "matrices": """
        A = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        B = A @ A.T
        C = B.mT + A.t()
        D = torch.linalg.inv(C + 3 * torch.eye(2))
        U, S, Vh = torch.linalg.svd(A)
        out = D.trace() + S.sum()
        B.retain_grad()
        out.backward()
    """,
    "indexing": """
        x = torch.arange(12.0).reshape(3, 4).requires_grad_()
        a = x[0]
        b = x[:, 1:3]
        c = x[..., -1]
        d = x[None, 2, ::2]
        e = x[[0, 2], [1, 3]]
        f = x[x > 5]
        i = torch.tensor([2, 0])
        g = x[i]
        h = x[True]
        out = a.sum() + b.sum() + (c * c).sum() + d.sum() + e.prod() + f.sum() + g.mean() + h.sum()
        out.backward()
    """,
    "several outputs": """
        x = torch.tensor([[3.0, 1.0, 2.0], [4.0, 6.0, 5.0]], requires_grad=True)
        values, indices = x.topk(2, dim=1)
        best = torch.max(x, dim=1)
        first, second = x.split(1)
        parts = torch.chunk(x, 3, dim=1)
        row, other = x
        s = torch.sort(x, descending=True).values
        out = values.sum() + best.values.sum() + best[0].prod() + (first * second).sum()
        out = out + parts[1].sum() + row.sum() - other.sum() + s[0, 0]
        out.backward()
    """,
    "functional": """
        torch.manual_seed(3)
        x = torch.randn(4, 3)
        w = torch.randn(3, 5, requires_grad=True)
        b = torch.zeros(5, requires_grad=True)
        t = torch.tensor([0, 2, 4, 1])
        h = F.dropout(F.relu(x @ w + b), p=0.3)
        loss = F.cross_entropy(h, t, reduction="mean")
        p = torch.softmax(h, dim=-1)
        q = F.layer_norm(h, (5,))
        r = h.log_softmax(1)
        z = torch.nn.functional.pad(h, (1, 1), value=float("inf"))
        loss.backward()
    """,
    "lists": """
        xs = [torch.tensor([float(k)], requires_grad=True) for k in range(3)]
        hs = []
        for x in xs:
            hs.append(x * x)
        c = torch.cat(hs)
        s = torch.stack([c, c + 1], dim=0)
        n = len(xs)
        total = sum(hs) / n
        ab = torch.einsum("ij,kj->ik", s, s)
        m = torch.where(s > 1, s, 0.0)
        del x
        total.backward()
    """,
    "loops and constants": """
        import math
        lr = 0.1 ** 2 * 3
        x: float = torch.tensor(1.0, requires_grad=True)
        y = x
        for k in range(1, 4):
            if k % 2 == 0:
                continue
            y = y * k + math.sin(k)
        while lr < 1:
            lr *= 4
        z = y * lr
        z.backward()
        assert x.grad is not None
    """,
    "functions": """
        def layer(x, w, scale=2.0):
            h = x @ w
            return torch.tanh(h) * scale

        square = lambda v: v ** 2

        @torch.no_grad()
        def still(v):
            return v * 2

        x = torch.tensor([[1.0, -1.0]])
        w = torch.tensor([[0.5], [0.25]], requires_grad=True)
        y = layer(x, w)
        z = layer(y, w[:1], scale=3)
        k = still(z)
        out = square(z).sum() + k.sum()
        out.backward()
    """,
    "cutting the graph": """
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        y = x * x
        d = y.detach()
        with torch.no_grad():
            n = y * 3
            v, i = n.max(0)
        z = (y * d * n).sum()
        z.backward()
    """,
    "in-place operators make new nodes": """
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        b = x * 1
        alias = b
        b += 2
        b *= x
        out = (b + alias).sum()
        out.backward()
    """,
    "gradients in words": """
        x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        y = x ** 3
        (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        h = torch.autograd.grad(g, x, grad_outputs=torch.tensor([1.0, 0.0, 2.0]),
                                retain_graph=True)[0]
        g.backward(torch.ones(3))
    """,
    "a gradient to start with": """
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        v = torch.tensor([0.5, -1.0])
        y = x * x
        y.retain_grad()
        y.backward(gradient=v * 2)
    """,
    "several backward passes": """
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        y = x * x
        a = y.sum()
        b = y.prod()
        a.backward(retain_graph=True)
        b.backward()
        torch.autograd.backward([(x * 4).sum(), (x * 8).sum()])
    """,
    "an emptied gradient": """
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        x.sum().backward()
        x.grad.zero_()
        (x * 5).sum().backward()
    """,
    "dtypes": """
        a = torch.tensor([1, 2, 3])
        b = torch.tensor([1.5, 2], dtype=torch.float64, requires_grad=True)
        c = torch.tensor([True, False])
        d = torch.tensor([1, 2 + 3j])
        e = torch.tensor([[]])
        f = torch.tensor([1.25, -3.75], dtype=torch.int64)
        g = a.float() / 2
        h = b.to(torch.float32).double()
        i = torch.tensor([float("nan"), -float("inf"), -0.0, 1e300])
        l = torch.tensor([65519.0, 65520.0, 1], dtype=torch.half)
        j = torch.FloatTensor([1, 2])
        k = torch.full((2, 2), 7)
        m = torch.arange(3)
        n = torch.linspace(0, 1, steps=3)
        o = (a + True).type(torch.float16)
        p = d.real + d.conj().imag
        q = torch.ones_like(b)
        r = h.new_zeros(2, dtype=h.dtype)
        (b * h).sum().backward()
    """,
    "random numbers": """
        torch.manual_seed(0)
        a = torch.rand(3)
        b = torch.randn(2, 2, requires_grad=True)
        torch.manual_seed(7)
        c = torch.randint(0, 10, (4,))
        d = torch.bernoulli(torch.full((3,), 0.5))
        b.sum().backward()
    """,
    "leaves that start to require grad": """
        x = torch.ones(3)
        y = x * 2
        x.requires_grad_()
        w = torch.zeros(2)
        w.requires_grad = True
        k = (y + 1).requires_grad_()
        d = (x * 2).detach().requires_grad_(True)
        ((x * y).sum() + w.sum() + (k * k).sum() + d.prod()).backward()
    """,
    "shapes that the script says": """
        x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
        n, m = x.shape
        loss = (x ** 2).sum() / x.size(0) / len(x) * x.numel()
        y = x.view(x.shape[1], -1) * m
        rows = [row * k for k, row in enumerate(x)]
        loss.backward()
    """,
    "shapes of results": """
        torch.manual_seed(1)
        x = torch.randn(2, 4, 8, requires_grad=True)
        w = torch.randn(8, 3)
        k = x @ w
        q = k.transpose(-2, -1) * k.shape[-1] ** -0.5
        s = F.softmax(k @ q, dim=-1)
        t = s.sum(1, keepdim=True) + s.mean(dim=[0, 2], keepdim=True)
        u = torch.stack([k, k], -1).view(2, -1).unsqueeze(1)
        v = torch.cat([k.permute(2, 0, 1), k.mT.reshape(3, 2, 4)], dim=-1)
        d = F.linear(x, w.T) + torch.where(s.sum() > 0, w.sum(0), 0.0)
        out = (t.sum() / t.numel() + u.sum() / u.size(2) + v.sum() / v.shape[2]) * d.dim()
        out.backward()
    """,
    "shapes of parts": """
        x = torch.arange(24.0).view(2, 12).requires_grad_()
        q, k, v = x.view(2, 2, 6).chunk(3, dim=-1)
        a, b = x.split(6, 1)
        p, i = x.max(dim=1, keepdim=True)
        s, j = torch.topk(x, 5)
        t, l = x.sort()
        first, second = x
        (g,) = torch.autograd.grad((x * x).sum(), x)
        y = (q @ k.transpose(-2, -1)) / k.shape[-1] * v.size(2) + len(b) + i.ndim
        z = y.sum() / s.shape[1] + sum(row.sum() / row.numel() for row in x.unbind(1))
        z = z * len(x.chunk(4, 1)) + sum(len(part) for part in g) + first.numel() + len(p) + len(j)
        for part in x.split(3, dim=1):
            z = z + part.prod() / part.shape[1]
        z.backward()
    """,
    "shapes of pictures": """
        torch.manual_seed(1)
        x = torch.randn(2, 3, 9, 8)
        w = torch.randn(4, 3, 3, 2, requires_grad=True)
        a = F.conv2d(x, w, torch.zeros(4), stride=2, padding=(1, 0))
        b = F.conv2d(x[0], w, dilation=2, padding=1)
        c = F.conv2d(x, w[:, :1], groups=1) if False else F.max_pool2d(a, 2)
        d = F.avg_pool2d(x, (3, 2), stride=1, padding=1)
        e = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        f = torch.flatten(c, 1)
        h = F.linear(f, torch.ones(5, f.shape[1])).view(f.size(0), -1)
        k = F.conv1d(torch.randn(2, 3, 7), torch.randn(4, 3, 3), padding=2)
        o = F.conv2d(x, w, padding="valid")
        n = torch.zeros(a.numel(), b.shape[2]), torch.zeros(d.shape[2:]), torch.zeros(k.shape[-1])
        m = torch.cat([torch.ones(len(one)) for one in n])
        u = x.flatten(1, -2).flatten()
        (h.sum() + b.sum()).backward()
    """,
    "shapes of what is indexed and made": """
        x = torch.arange(24.0).view(2, 3, 4)
        a, b, c, d = x[1], x[:, -1:], x[..., None, ::2], x[None, 0, 5:]
        n = torch.zeros(a.shape[1] * b.shape[1], c.shape[-1], len(d[0]))
        e, f, g = torch.arange(5), torch.arange(7, 1, -2), torch.eye(2, 3)
        m = [len(e), len(f), g.shape[1], torch.linspace(0, 1, 4).numel(), len(torch.randperm(3))]
        h = F.one_hot(e, 6).float()
        k = F.embedding(e.view(1, 5), torch.ones(5, 2))
        z = torch.zeros(h.shape[1], k.dim(), k.shape[-1]) + sum(m)
        y = torch.stack([row * torch.tensor(2.0) for row in torch.eye(3)])
        for i in torch.arange(3):
            z = z + i
    """,
    "shapes of what tensors and lists pick": """
        x = torch.arange(120.0).view(2, 3, 4, 5).requires_grad_()
        i, j = torch.tensor([[0, 1, 1]]), torch.tensor([1, 0, 1])
        k = torch.tensor([2, 0, 1])
        parts = [
            x[i], x[[0, 1, 0]], x[:, i], x[:, :, i, j], x[i, j], x[i, :, j], x[0, i, :, j],
            x[:, 0, i], x[i, 0], x[i, 0, j], x[..., j], x[..., i, :], x[j, ..., j], x[None, j],
            x[:, None, j], x[j, None, j], x[j, None], x[1:, j, ::2], x[:, [[0, 1], [1, 1]]],
            x[:, k, -1], x[:, :, [0, 1], [1, 1]], x[[0], [1], [2], [3]],
        ]
        y = sum(part.sum() / part.shape[-1] * len(part.shape) for part in parts)
        z = torch.tensor([size for part in parts for size in part.shape])
        y.backward()
    """,
    "what is set up and changes no number": """
        import os, random
        import numpy as np
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.manual_seed(1)
        torch.cuda.manual_seed_all(1)
        np.random.seed(1)
        np.set_printoptions(precision=3)
        random.seed(1)
        x = torch.randn(3, requires_grad=True)
        (x * 2).sum().backward()
    """,
    "shapes of other results": """
        x = torch.arange(24.0).view(2, 3, 4).requires_grad_()
        a, b = x[:1].squeeze(), x.squeeze(1)
        c = torch.einsum("bij,bkj->bik", x, x).shape
        d = torch.ones(1, 4).expand(3, -1).shape + torch.ones(2).repeat(3, 2).shape
        e = torch.gather(x, 2, torch.tensor([[[0, 1]]])).shape + x.select(1, 0).shape
        f = F.pad(x, (1, 2, 0, 1)).shape + x.narrow(2, 1, 2).shape + x.ravel().shape
        g = F.scaled_dot_product_attention(x, x, x).shape + torch.outer(x[0, 0], x[0, :, 0]).shape
        h = torch.hstack([x, x]).shape + torch.vstack([x[0, 0], x[0]]).shape + x.flip(0).shape
        k = F.conv_transpose1d(x, torch.ones(3, 2, 3), stride=2, output_padding=1).shape
        l = F.mse_loss(x, x * 2, reduction="none").shape + x.max().shape + x.swapaxes(0, 2).shape
        m = F.nll_loss(F.log_softmax(x[0], 0), torch.tensor([0, 1, 1])).shape
        n = torch.diag(x[0, 0], 1).shape + torch.diag(x[0], -1).shape + x.detach().erf().shape
        z = torch.tensor([*a.shape, *b.shape, *c, *d, *e, *f, *g, *h, *k, *l, *m, *n])
        (a.sum() + b.sum()).backward()
    """,
    "losses and layers without parameters": """
        from torch import nn
        criterion = nn.MSELoss(reduction="sum")
        act = nn.ReLU()
        w = nn.Parameter(torch.tensor([1.0, -1.0]))
        out = criterion(act(w), torch.tensor([3.0, 4.0]))
        out.backward()
    """,
    "the first axis by NumPy's names": """
        x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        s = torch.sum(x, axis=0, keepdims=True)
        m = x.mean(1)
        s.sum().backward()
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_means_what_python_computes(name: str) -> None:
    lines = [line.removeprefix("        ") for line in SCRIPTS[name].splitlines()]
    check(HEAD + "\n".join(lines))


def test_gradient_descent_is_a_graph_with_a_leaf_for_every_step() -> None:
    nodes = traced(
        """
import torch
X = torch.tensor([1, 2, 3, 4], dtype=torch.float32)
Y = torch.tensor([2, 4, 6, 8], dtype=torch.float32)
w = torch.tensor(0.0, requires_grad=True)
learning_rate = 0.01
for epoch in range(3):
    y_pred = w * X
    l = ((y_pred - Y) ** 2).mean()
    l.backward()
    with torch.no_grad():
        w -= learning_rate * w.grad
    w.grad.zero_()
    if epoch % 1 == 0:
        print(f"epoch {epoch + 1}: w = {w:.3f}, loss = {l.item():.8f}")
"""
    )
    assert [nodes[k]["grad"] for k in ("w", "w.1", "w.2")] == [-30.0, -25.5, -21.675]
    assert nodes["w.3"]["value"] == 0.7717499
    assert nodes["w.3"]["is_leaf"]


def test_another_default_dtype_is_the_requests() -> None:
    source = (
        "import torch\ntorch.set_default_dtype(torch.float64)\ntorch.manual_seed(0)\n"
        "a = torch.tensor([0.1, 0.2], requires_grad=True)\n"
        "b = torch.ones(2) * torch.rand(2)\n"
        "n = torch.arange(2)\n"
        "c = (a * b * n).sum()\n"
        "c.backward()\n"
    )
    assert from_python(source)["dtype"] == "float64"
    check(source)


def test_a_script_without_backward_is_traced_forward_only() -> None:
    nodes = traced(HEAD + "x = torch.ones(2, requires_grad=True)\ny = x * 2\n")
    assert nodes["y"]["grad_status"] == "no_backward"


def test_nothing_of_a_script_is_run() -> None:
    source = HEAD + "import os\nos.remove('/nowhere/at/all')\nx = torch.ones(1)\n"
    assert from_python(source)["ops"][0]["id"] == "x"


def test_settings_of_other_devices_change_nothing() -> None:
    """They cannot be run here: PyTorch's own test code locks these settings."""
    rest = "x = torch.ones(2, requires_grad=True)\n(x * 2).sum().backward()\n"
    settings = "torch.backends.cudnn.deterministic = True\ntorch.backends.cudnn.benchmark = False\n"
    assert from_python(HEAD + settings + rest) == from_python(HEAD + rest)
