"""Corners of modules and classes in which a reader could differ from Python."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.translate.oracle import check_modules
from tests.translate.test_module_state import HEAD

CORNERS = {
    "class attr module": """
        class N(nn.Module):
            lin = nn.Linear(2, 2)
            def forward(self, x):
                return self.lin(x)
        n = N()
        k = torch.tensor(len(list(n.parameters())))
        y = n(x)
        y.sum().backward()
        w = N.lin.weight * 1
    """,
    "instance shadows method": """
        class N(nn.Module):
            def __init__(self):
                super().__init__()
                self.f = lambda v: v * 3
            def f(self, v):
                return v * 5
            def forward(self, x):
                return self.f(x)
        n = N()
        y = n(x)
    """,
    "shared class list": """
        class N:
            seen = []
            def __init__(self):
                self.seen.append(1)
        a = N()
        b = N()
        y = x * len(a.seen)
    """,
    "aug class attr": """
        class N:
            c = 1
            l = [1]
            def go(self):
                self.c += 1
                self.l += [2]
                return self
        a = N()
        b = N()
        a.go()
        y = x * a.c + b.c * 100 + len(b.l) * 1000 + len(N.l) * 10000
    """,
    "super rebind": """
        class A(nn.Module):
            def f(self, x):
                return x * 2
        class B(A):
            def f(self, x):
                return super().f(x) + 1
        class D(B):
            def f(self, x):
                return super(B, self).f(x) + super().f(x) * 10
        d = D()
        y = d.f(x)
    """,
    "class rebinding": """
        class A(nn.Module):
            def f(self, x):
                return x * 2
        B = A
        class A(B):
            def f(self, x):
                return B.f(self, x) + 1
        a = A()
        y = a.f(x)
    """,
    "two init": """
        class N(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = nn.Linear(2, 2)
                super().__init__()
                self.b = nn.Linear(2, 2)
        n = N()
        k = torch.tensor(len(list(n.parameters())))
    """,
    "before super": """
        class N(nn.Module):
            def __init__(self):
                self.k = 3
                super().__init__()
                self.a = nn.Linear(2, self.k)
            def forward(self, x):
                return self.a(x)
        n = N()
        n(x).sum().backward()
    """,
    "training before super": """
        class N(nn.Module):
            def __init__(self):
                self.training = False
                super().__init__()
                self.d = nn.Dropout()
            def forward(self, x):
                return F.dropout(x, 0.5, self.training)
        n = N()
        y = n(x)
    """,
    "relu inplace alias": """
        r = nn.ReLU(inplace=True)
        h = x * 1
        g = h
        y = r(h)
        z = g * 2
    """,
    "set inplace later": """
        r = nn.ReLU()
        r.inplace = True
        h = x * 1
        y = r(h)
        z = h * 2
    """,
    "eval inside": """
        class N(nn.Module):
            def __init__(self):
                super().__init__()
                self.d = nn.Dropout()
            def forward(self, x):
                self.eval()
                return self.d(x)
        n = N()
        y = n(x)
        k = torch.tensor(n.d.training)
    """,
    "train false": """
        n = nn.Sequential(nn.Dropout())
        n.train(False)
        y = n(x)
        n.train()
        z = n(x)
    """,
    "bn shared in two": """
        b = nn.BatchNorm1d(2)
        m = nn.Sequential(b, nn.Linear(2, 2))
        n = nn.Sequential(b)
        y = m(x)
        z = n(x)
        (y + z).sum().backward()
    """,
    "module dict order": """
        d = nn.ModuleDict({'b': nn.Linear(2, 2), 'a': nn.Linear(2, 2)})
        d['c'] = nn.Linear(2, 1)
        y = d['a'](x)
        k = [n for n, _ in d.named_parameters()]
        z = torch.tensor(len(k))
    """,
    "module list set": """
        l = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        l[0] = nn.Linear(2, 2)
        y = l[0](x)
    """,
    "mutated list arg": """
        ls = [nn.Linear(2, 2)]
        m = nn.ModuleList(ls)
        ls.append(nn.Linear(2, 2))
        k = torch.tensor(len(m))
    """,
    "named args": """
        def act(x):
            return x + 1
        class N(nn.Module):
            def __init__(self, act=act):
                super().__init__()
                self.act = act
            def forward(self, x):
                return self.act(x)
        y = N()(x)
        z = N(F.relu)(x)
        q = N(torch.tanh)(x)
        w = N(nn.ReLU())(x)
    """,
    "static fn in class": """
        class N(nn.Module):
            def f(x):
                return x * 2
            def forward(self, x):
                return N.f(x)
        y = N()(x)
    """,
    "call forward direct": """
        class N(nn.Module):
            def forward(self, x, k=2):
                return x * k
        n = N()
        y = n.forward(x, k=3)
        z = N.forward(n, x)
    """,
    "global in method": """
        c = 0
        class N(nn.Module):
            def forward(self, x):
                global c
                c += 1
                return x * c
        n = N()
        n(x)
        y = n(x)
        k = torch.tensor(c)
    """,
    "list comp in method": """
        class N(nn.Module):
            def __init__(self):
                super().__init__()
                self.ls = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
            def forward(self, x):
                return sum([l(x) for l in self.ls])
        n = N()
        n(x).sum().backward()
    """,
    "recursion": """
        class T(nn.Module):
            def __init__(self, d):
                super().__init__()
                self.l = nn.Linear(2, 2)
                self.kid = T(d - 1) if d > 0 else None
            def forward(self, x):
                x = self.l(x)
                return self.kid(x) if self.kid else x
        t_ = T(3)
        t_(x).sum().backward()
    """,
    "int dtype set": """
        torch.set_default_dtype(torch.float64)
        a = nn.Linear(2, 2)
        torch.set_default_dtype(torch.float32)
        b = nn.Linear(2, 2)
        y = a(x.double()) + b(x)
        y.sum().backward()
    """,
    "bias false": """
        n = nn.Linear(2, 2, bias=False)
        k = 1 if n.bias is None else 2
        y = n(x) * k
    """,
    "in features": """
        n = nn.Linear(2, 3)
        y = x * n.in_features + n.out_features
        c = nn.Conv2d(1, 2, 3)
        z = x * c.kernel_size[0] + len(c.stride)
    """,
    "is same param": """
        a = nn.Linear(2, 2)
        b = nn.Linear(2, 2)
        b.weight = a.weight
        k = 1 if a.weight is b.weight else 2
        y = x * k
    """,
    "method held": """
        class N(nn.Module):
            def __init__(self):
                super().__init__()
                self.k = 1
            def f(self, x):
                return x * self.k
        n = N()
        g = n.f
        n.k = 5
        y = g(x)
    """,
    "module method held": """
        n = nn.Linear(2, 2)
        f = n.forward
        y = f(x)
        y.sum().backward()
    """,
    "partial params": """
        n = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        it = n.parameters()
        a = next(it) if False else 0
        ps = list(it)
        k = torch.tensor(len(ps))
    """,
    "any all": """
        n = nn.Linear(2, 2)
        k = torch.tensor(n.weight.requires_grad)
        j = torch.tensor(n.weight.is_leaf)
    """,
    "inplace on output": """
        n = nn.Linear(2, 2)
        y = n(x)
        y += 1
        y *= 2
        y.sum().backward()
    """,
    "print attr call": """
        class N(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = nn.Sequential(nn.Dropout())
        n = N()
        print(n.a(x))
        y = n.a(x)
    """,
    "cond expr module": """
        n = nn.Linear(2, 2)
        y = n(x) if n else x
        y.sum().backward()
    """,
    "seq add": """
        n = nn.Sequential(nn.Linear(2, 2))
        n.append(nn.ReLU())
        n.add_module('z', nn.Linear(2, 1))
        n.append(nn.Tanh())
        y = n(x)
        y.sum().backward()
    """,
    "register buffer twice": """
        n = nn.Module()
        n.register_buffer('a', torch.ones(1))
        n.register_buffer('a', torch.ones(1) * 2)
        y = n.a * 3
    """,
    "module over plain": """
        n = nn.Module()
        n.a = 3
        n.a = nn.Linear(2, 2)
        y = n.a(x)
        k = torch.tensor(len(list(n.parameters())))
    """,
    "nested module class attr": """
        class A(nn.Module):
            def __init__(self, kind=nn.ReLU):
                super().__init__()
                self.f = kind()
            def forward(self, x):
                return self.f(x)
        y = A()(x)
        z = A(nn.Tanh)(x)
        w = A(kind=nn.Identity)(x)
    """,
}


@pytest.mark.parametrize("name", CORNERS)
def test_a_corner_is_read_as_pytorch_runs_it(name: str) -> None:
    check_modules(HEAD + dedent(CORNERS[name]))
