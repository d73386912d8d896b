"""Whole scripts of the kind that people paste: models, their losses, a training loop."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.translate.oracle import check_modules

HEAD = (
    "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\ntorch.manual_seed(5)\n"
    "x = torch.tensor([[1.0, 2.0], [3.0, -4.0]])\nt = torch.tensor([[1.0], [0.0]])\n"
)

SCRIPTS = {
    "closure as method": """
        def make(k):
            def f(self, x):
                return x * k
            return f
        k = 100
        class A(nn.Module):
            forward = make(3)
        y = A()(x)
    """,
    "helper as method": """
        def f(self, x):
            return self.l(x)
        class A(nn.Module):
            def __init__(self):
                super().__init__()
                self.l = nn.Linear(2, 2)
            forward = f
            again = forward
        a = A()
        y = a(x) + a.again(x)
    """,
    "isinstance tensors": """
        p = nn.Parameter(torch.ones(2))
        k = [
            isinstance(p, nn.Parameter),
            isinstance(x, torch.Tensor),
            isinstance(x, nn.Linear),
            isinstance(x * 1, nn.Parameter),
        ]
        y = torch.tensor(k)
    """,
    "aug attribute": """
        n = nn.Linear(2, 2)
        with torch.no_grad():
            n.weight *= 2
            n.bias += 1
        y = n(x)
        y.sum().backward()
        k = torch.tensor(len(list(n.parameters())))
    """,
    "self aug": """
        class A(nn.Module):
            def __init__(self):
                super().__init__()
                self.k = 1
                self.h = torch.ones(2)
            def forward(self, x):
                self.k *= 2
                self.h += 1
                return x * self.k + self.h
        a = A()
        a(x)
        y = a(x)
        h = a.h
    """,
    "unpack attrs": """
        class A:
            def __init__(self):
                self.a, (self.b, self.c) = 1, (2, 3)
                self.d: int = 4
        a = A()
        y = x * a.a + a.b * 10 + a.c * 100 + a.d * 1000
    """,
    "imports": """
        from torch.nn import Linear, Module, Sequential
        from torch.optim import SGD
        import torch.nn.init as init
        from torch.nn.parameter import Parameter
        class A(Module):
            def __init__(self):
                super().__init__()
                self.l = Sequential(Linear(2, 2))
                self.p = Parameter(torch.ones(2))
                init.ones_(self.l[0].weight)
            def forward(self, x):
                return self.l(x) * self.p
        a = A()
        o = SGD(a.parameters(), lr=0.1)
        a(x).sum().backward()
        o.step()
        y = a(x)
    """,
    "generator of layers": """
        class A(nn.Module):
            def __init__(self, s):
                super().__init__()
                self.l = nn.Sequential(
                    *(m for a, b in zip(s[:-1], s[1:]) for m in (nn.Linear(a, b), nn.ReLU()))
                )
            def forward(self, x):
                return self.l(x)
        a = A([2, 3, 4, 1])
        a(x).sum().backward()
    """,
    "autoencoder": """
        class AE(nn.Module):
            def __init__(self):
                super().__init__()
                self.enc = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
                self.dec = nn.Sequential(nn.Linear(3, 2), nn.Sigmoid())
            def encode(self, x):
                return self.enc(x)
            def forward(self, x):
                z = self.encode(x)
                return self.dec(z), z
        m = AE()
        r, z = m(x)
        loss = ((r - x) ** 2).mean() + z.abs().mean() * 0.1
        loss.backward()
    """,
    "vae": """
        class V(nn.Module):
            def __init__(self):
                super().__init__()
                self.m = nn.Linear(2, 2)
                self.s = nn.Linear(2, 2)
            def forward(self, x):
                mu, lv = self.m(x), self.s(x)
                z = mu + torch.randn_like(mu) * torch.exp(0.5 * lv)
                return z, mu, lv
        v = V()
        z, mu, lv = v(x)
        kl = -0.5 * torch.sum(1 + lv - mu.pow(2) - lv.exp())
        ((z - x) ** 2).sum().add(kl).backward()
    """,
    "rnn by hand": """
        class R(nn.Module):
            def __init__(self, i, h):
                super().__init__()
                self.h = h
                self.i2h = nn.Linear(i + h, h)
                self.h2o = nn.Linear(h, 1)
            def forward(self, seq):
                h = torch.zeros(1, self.h)
                for t in seq:
                    h = torch.tanh(self.i2h(torch.cat([t.unsqueeze(0), h], dim=1)))
                return self.h2o(h)
        r = R(2, 3)
        y = r(x)
        y.sum().backward()
    """,
    "main guard": """
        class A(nn.Module):
            def __init__(self):
                super().__init__()
                self.l = nn.Linear(2, 1)
            def forward(self, x):
                return self.l(x)
        def main():
            global m, loss
            m = A()
            o = torch.optim.Adam(m.parameters(), lr=1e-2)
            for e in range(2):
                o.zero_grad()
                loss = F.mse_loss(m(x), t)
                loss.backward()
                o.step()
        if __name__ == '__main__':
            main()
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_model_as_it_is_written_is_read(name: str) -> None:
    check_modules(HEAD + dedent(SCRIPTS[name]))
