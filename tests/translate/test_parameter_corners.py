"""Corners of parameters, as they are filled and changed, where a reader could be wrong."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.translate.oracle import check_modules
from tests.translate.test_module_state import HEAD

CORNERS = {
    "param del none": """
        n = nn.Linear(2, 2)
        n.bias = None
        n.bias = nn.Parameter(torch.ones(2))
        y = n(x)
        y.sum().backward()
    """,
    "order after reassign": """
        class N(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = nn.Parameter(torch.ones(1))
                self.b = nn.Parameter(torch.ones(2))
                self.a = nn.Parameter(torch.zeros(3))
        n = N()
        y = torch.cat([p.flatten() for p in n.parameters()])
    """,
    "buffer to param": """
        class N(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer('a', torch.ones(1))
                self.a = nn.Parameter(torch.ones(2))
        n = N()
        k = torch.tensor(len(list(n.parameters())) + 10 * len(list(n.buffers())))
    """,
    "buffer set to tensor": """
        class N(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer('a', torch.ones(1))
                self.a = self.a * 2
                self.b = torch.ones(1)
        n = N()
        k = torch.tensor(10 * len(list(n.buffers())))
        y = n.a * n.b
    """,
    "opt step twice": """
        n = nn.Linear(2, 1)
        o = torch.optim.SGD(n.parameters(), lr=0.1)
        n(x).sum().backward()
        o.step()
        o.step()
        y = n(x)
    """,
    "opt frozen": """
        n = nn.Linear(2, 1)
        n.bias.requires_grad = False
        o = torch.optim.Adam(n.parameters(), lr=0.1)
        for k in range(2):
            o.zero_grad()
            n(x).pow(2).sum().backward()
            o.step()
        y = n(x)
    """,
    "opt params iterator shared": """
        n = nn.Linear(2, 1)
        ps = n.parameters()
        o = torch.optim.SGD(ps, lr=0.1)
        k = torch.tensor(len(list(ps)))
    """,
    "opt set param after": """
        n = nn.Linear(2, 1)
        o = torch.optim.SGD(n.parameters(), lr=0.1)
        n.weight = nn.Parameter(torch.ones(1, 2))
        n(x).sum().backward()
        o.step()
        y = n(x)
    """,
    "opt tied": """
        a = nn.Linear(2, 2)
        b = nn.Linear(2, 2)
        b.weight = a.weight
        n = nn.Sequential(a, nn.Tanh(), b)
        o = torch.optim.SGD(n.parameters(), lr=0.1, momentum=0.9)
        for k in range(3):
            o.zero_grad()
            n(x).pow(2).sum().backward()
            o.step()
        y = n(x)
    """,
    "two optimizers": """
        a = nn.Linear(2, 2)
        b = nn.Linear(2, 1)
        o = torch.optim.SGD(a.parameters(), lr=0.1)
        q = torch.optim.Adam(b.parameters(), lr=0.1)
        for k in range(3):
            o.zero_grad()
            q.zero_grad()
            b(torch.tanh(a(x))).pow(2).sum().backward()
            o.step()
            q.step()
        y = b(a(x))
    """,
    "opt module zero_grad": """
        a = nn.Linear(2, 2)
        o = torch.optim.SGD(a.parameters(), lr=0.1)
        for k in range(3):
            a.zero_grad()
            a(x).pow(2).sum().backward()
            o.step()
        y = a(x)
        w = a.weight
    """,
    "weight name held before": """
        a = nn.Linear(2, 2)
        w = a.weight
        o = torch.optim.SGD(a.parameters(), lr=0.1)
        a(x).pow(2).sum().backward()
        o.step()
        y = w * 1
    """,
    "init in between": """
        a = nn.Linear(2, 2)
        b = nn.Linear(2, 2)
        nn.init.normal_(a.weight, std=0.5)
        r = torch.rand(2)
        y = a(b(x))
        y.sum().backward()
    """,
    "init twice": """
        a = nn.Linear(2, 2)
        nn.init.normal_(a.weight)
        nn.init.uniform_(a.weight, -2, 3)
        nn.init.normal_(a.weight, 1, 2)
        r = torch.rand(2)
        y = a(x)
    """,
    "init random param": """
        p = nn.Parameter(torch.randn(3, 2))
        nn.init.xavier_normal_(p)
        r = torch.rand(2)
        y = x @ p.T
        y.sum().backward()
    """,
    "init plain": """
        p = torch.zeros(3, 2)
        nn.init.xavier_normal_(p)
        y = p * 1
        r = torch.rand(1)
    """,
    "init leaf": """
        p = torch.zeros(3, 2, requires_grad=True)
        nn.init.kaiming_uniform_(p, nonlinearity='relu')
        (p * 2).sum().backward()
    """,
    "init seeded": """
        torch.manual_seed(1)
        p = nn.Parameter(torch.randn(3, 2))
        nn.init.zeros_(p)
        r = torch.rand(2)
    """,
    "init first op seeded": """
        torch.manual_seed(3)
        p = nn.Parameter(torch.zeros(3, 2))
        nn.init.ones_(p)
        r = torch.rand(2)
        y = p * 2
    """,
    "init under grad by data": """
        a = nn.Linear(2, 2)
        a.weight.data.fill_(2)
        a.bias.data.copy_(torch.tensor([1.0, 2.0]))
        y = a(x)
        y.sum().backward()
    """,
    "copy self": """
        a = nn.Linear(2, 2)
        b = nn.Linear(2, 2)
        with torch.no_grad():
            b.weight.copy_(a.weight)
        y = b(a(x))
        y.sum().backward()
    """,
    "dropout p0": """
        d = nn.Dropout(0.0)
        y = d(x)
        r = torch.rand(2)
    """,
    "dropout p1": """
        d = nn.Dropout(1.0)
        y = d(x)
        r = torch.rand(2)
    """,
    "dropout inplace": """
        d = nn.Dropout(inplace=True)
        h = x * 1
        y = d(h)
        z = h * 2
    """,
    "set p later": """
        d = nn.Dropout()
        d.p = 0.1
        y = d(x)
    """,
    "param dtype": """
        p = nn.Parameter(torch.ones(2, dtype=torch.float64))
        nn.init.uniform_(p)
        y = p * 2
    """,
    "retain grad param": """
        n = nn.Linear(2, 2)
        n.weight.retain_grad()
        n(x).sum().backward()
    """,
    "zero_grad none": """
        n = nn.Linear(2, 2)
        n.zero_grad()
        n.zero_grad(set_to_none=False)
        n(x).sum().backward()
    """,
    "is none": """
        n = nn.Linear(2, 2)
        k = 1 if n.weight.grad is None else 2
        n(x).sum().backward()
        j = 1 if n.weight.grad is None else 2
        y = x * k * j
    """,
    "spread": """
        class N(nn.Module):
            def __init__(self, **kw):
                super().__init__()
                for k, v in kw.items():
                    setattr(self, k, v)
        n = N(a=nn.Linear(2, 2), b=3)
        y = n.a(x) * n.b
        y.sum().backward()
    """,
    "param mult list": """
        ps = [nn.Parameter(torch.ones(2))] * 2
        y = ps[0] * ps[1]
        y.sum().backward()
    """,
    "autograd.grad wrt params": """
        n = nn.Linear(2, 1)
        gs = torch.autograd.grad(n(x).sum(), n.parameters())
        y = gs[0] * 2
    """,
    "autograd.grad wrt params list": """
        n = nn.Linear(2, 1)
        gs = torch.autograd.grad(n(x).sum(), list(n.parameters()))
        y = gs[0] * 2
    """,
    "maml": """
        n = nn.Linear(2, 1)
        gs = torch.autograd.grad(n(x).pow(2).sum(), list(n.parameters()), create_graph=True)
        w, b = [p - 0.1 * g for p, g in zip(n.parameters(), gs)]
        F.linear(x, w, b).pow(2).sum().backward()
    """,
    "ema": """
        n = nn.Linear(2, 1)
        m = nn.Linear(2, 1)
        with torch.no_grad():
            for p, q in zip(m.parameters(), n.parameters()):
                p.mul_(0.9).add_(q, alpha=0.1)
        y = m(x)
    """,
    "empty seq": """
        n = nn.Sequential()
        y = n(x)
        k = 1 if n else 2
        z = x * k
    """,
    "empty param": """
        class L(nn.Module):
            def __init__(self, i, o):
                super().__init__()
                self.weight = nn.Parameter(torch.empty(o, i))
                self.bias = nn.Parameter(torch.empty(o))
                self.reset_parameters()
            def reset_parameters(self):
                s = 1.0 / self.weight.size(1) ** 0.5
                self.weight.data.uniform_(-s, s)
                nn.init.zeros_(self.bias)
            def forward(self, x):
                return F.linear(x, self.weight, self.bias)
        l = L(2, 3)
        l(x).sum().backward()
        r = torch.rand(2)
    """,
    "empty param kaiming": """
        p = nn.Parameter(torch.empty((3, 2)))
        nn.init.kaiming_uniform_(p, a=5**0.5)
        y = p * 2
        y.sum().backward()
    """,
    "empty fill under no_grad": """
        p = nn.Parameter(torch.empty(3, 2))
        with torch.no_grad():
            p.copy_(torch.ones(3, 2))
        y = p * 1
        y.sum().backward()
    """,
    "empty frozen": """
        p = nn.Parameter(torch.empty(3, 2), requires_grad=False)
        nn.init.normal_(p)
        y = p * 1
    """,
    "gain": """
        p = nn.Parameter(torch.empty(3, 2))
        nn.init.xavier_uniform_(p, gain=nn.init.calculate_gain('leaky_relu', 0.1))
        y = p * 1
    """,
    "fill int": """
        p = nn.Parameter(torch.zeros(3, 2))
        nn.init.constant_(p, 3)
        c = nn.Linear(2, 2)
        c.bias.data.fill_(-2)
        y = c(x)
    """,
    "param over module": """
        n = nn.Module()
        n.a = nn.Linear(2, 2)
        n.a = nn.Parameter(torch.ones(2))
        k = torch.tensor(len(list(n.parameters())))
        y = n.a * 2
    """,
}


@pytest.mark.parametrize("name", CORNERS)
def test_a_corner_is_read_as_pytorch_runs_it(name: str) -> None:
    check_modules(HEAD + dedent(CORNERS[name]))
