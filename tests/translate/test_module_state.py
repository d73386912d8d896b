"""What modules hold and compute: parameters, buffers, flags and gradients, bit for bit."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.translate.oracle import check_modules, executed, traced

HEAD = (
    "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\ntorch.manual_seed(5)\n"
    "x = torch.tensor([[1.0, 2.0], [3.0, -4.0]])\nt = torch.tensor([[1.0], [0.0]])\n"
)

SCRIPTS = {
    "two passes": """
        class Net(nn.Module):
            def __init__(self):
                super(Net, self).__init__()
                self.fc1 = nn.Linear(2, 3)
                self.fc2 = nn.Linear(3, 1)
            def forward(self, x):
                return self.fc2(torch.tanh(self.fc1(x)))
        net = Net()
        for k in range(2):
            net(x).pow(2).sum().backward()
    """,
    "training loop by hand": """
        net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        criterion = nn.MSELoss()
        for epoch in range(3):
            loss = criterion(net(x), t)
            net.zero_grad()
            loss.backward()
            with torch.no_grad():
                for p in net.parameters():
                    p -= 0.1 * p.grad
        loss = criterion(net(x), t)
        net.zero_grad()
        loss.backward()
        del p
    """,
    "unused modules draw": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.unused = nn.Linear(4, 4)
                nn.Embedding(3, 2)
                self.fc = nn.Linear(2, 1)
            def forward(self, x):
                return self.fc(x)
        net = Net()
        y = net(x) + torch.rand(1)
        y.sum().backward()
    """,
    "tied": """
        class LM(nn.Module):
            def __init__(self):
                super().__init__()
                self.emb = nn.Embedding(5, 3)
                self.out = nn.Linear(3, 5, bias=False)
                self.out.weight = self.emb.weight
            def forward(self, i):
                return self.out(self.emb(i))
        lm = LM()
        loss = F.cross_entropy(lm(torch.tensor([1, 2])), torch.tensor([2, 3]))
        loss.backward()
    """,
    "the same module twice": """
        lin = nn.Linear(2, 2)
        net = nn.Sequential(lin, nn.Tanh(), lin)
        net(x).sum().backward()
        n = torch.tensor(len(list(net.parameters())))
    """,
    "parameters by hand": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(torch.randn(3, 2) * 0.1)
                self.b = nn.Parameter(torch.zeros(3))
                self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
                self.register_buffer('m', torch.tensor([1.0, 2.0, 3.0]))
                self.register_parameter('none', None)
                self.plain = torch.randn(3)
            def forward(self, x):
                return (x @ self.w.T + self.b) * self.m + self.frozen * self.plain
        net = Net()
        net(x).sum().backward()
    """,
    "module list and dict": """
        class Net(nn.Module):
            def __init__(self, sizes=(2, 4, 3)):
                super().__init__()
                self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])])
                self.acts = nn.ModuleDict({'r': nn.ReLU(), 'p': nn.PReLU()})
            def forward(self, x):
                for k, layer in enumerate(self.layers):
                    x = layer(x)
                    if k < len(self.layers) - 1:
                        x = self.acts['p'](x)
                return self.acts['r'](x)
        net = Net()
        y = net(x)
        y.sum().backward()
        n = torch.tensor([p.numel() for p in net.parameters()])
    """,
    "init functions": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = nn.Linear(2, 3)
                self.b = nn.Linear(3, 3)
                nn.init.xavier_uniform_(self.a.weight)
                nn.init.zeros_(self.a.bias)
                nn.init.kaiming_normal_(self.b.weight, mode='fan_out', nonlinearity='relu')
                nn.init.constant_(self.b.bias, 0.1)
            def forward(self, x):
                return self.b(F.relu(self.a(x)))
        net = Net()
        net(x).sum().backward()
        r = torch.rand(2)
    """,
    "apply": """
        def init_weights(m):
            if isinstance(m, nn.Linear):
                torch.nn.init.xavier_uniform_(m.weight)
                m.bias.data.fill_(0.01)
        net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
        net.apply(init_weights)
        net(x).sum().backward()
        r = torch.rand(2)
    """,
    "refilled under no_grad": """
        lin = nn.Linear(2, 3)
        with torch.no_grad():
            lin.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
            lin.bias.fill_(0.5)
        emb = nn.Embedding(4, 2)
        emb.weight.data.uniform_(-1, 1)
        lin2 = nn.Linear(2, 2)
        lin2.weight.data.normal_(mean=0.0, std=0.02)
        lin2.bias.data.zero_()
        (lin(x).sum() + emb(torch.tensor([1])).sum() + lin2(x).prod()).backward()
        r = torch.randn(20)
    """,
    "new parameter": """
        lin = nn.Linear(2, 2)
        lin.weight = nn.Parameter(torch.eye(2))
        lin.bias = None
        lin(x).sum().backward()
    """,
    "dropout and eval": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.d = nn.Dropout(0.4)
                self.fc = nn.Linear(2, 20)
            def forward(self, x):
                x = self.d(self.fc(x))
                return F.dropout(x, 0.3, training=self.training)
        net = Net()
        a = net(x)
        net.eval()
        b = net(x)
        flag = torch.tensor(net.training)
        net.train()
        c = net(x)
        net.d.training = False
        d = net(x)
        (a + b + c + d).sum().backward()
    """,
    "batch norm": """
        net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU())
        y = net(torch.randn(6, 2))
        z = net(torch.randn(6, 2))
        (y * z).sum().backward()
    """,
    "batch norm in eval": """
        bn = nn.BatchNorm1d(2)
        bn.eval()
        y = bn(x)
        m = bn.running_mean + 1
        y.sum().backward()
    """,
    "no_grad around": """
        with torch.no_grad():
            net = nn.Linear(2, 3)
            y = net(x)
        z = net(x)
        z.sum().backward()
    """,
    "freeze": """
        net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        for p in net[0].parameters():
            p.requires_grad = False
        net(x).sum().backward()
        del p
    """,
    "freeze by module": """
        net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        net[0].requires_grad_(False)
        net(x).sum().backward()
    """,
    "reassigned module": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = nn.Linear(2, 2)
                self.b = nn.Linear(2, 2)
                self.a = nn.Linear(2, 1)
            def forward(self, x):
                return self.a(self.b(x))
        net = Net()
        net(x).sum().backward()
    """,
    "a parameter over a plain attribute": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = 3
                self.v = nn.Parameter(torch.ones(2))
                self.w = nn.Parameter(torch.ones(2))
                self.v = None
                self.v = nn.Parameter(torch.ones(2) * 2)
            def forward(self, x):
                return x * self.w * self.v
        net = Net()
        net(x).sum().backward()
    """,
    "shared parameter": """
        w = nn.Parameter(torch.randn(2, 2))
        class A(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = w
                self.again = w
            def forward(self, x): return x @ self.w
        class B(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = A()
                self.w = w
                self.c = A()
            def forward(self, x): return self.c(self.a(x)) @ self.w
        b = B()
        b(x).sum().backward()
    """,
    "double": """
        torch.set_default_dtype(torch.float64)
        net = nn.Sequential(nn.Linear(2, 17), nn.LayerNorm(17), nn.Linear(17, 3))
        y = net(x.double())
        y.pow(2).sum().backward()
    """,
    "seed in between": """
        a = nn.Linear(2, 2)
        torch.manual_seed(7)
        b = nn.Linear(2, 2)
        nn.init.zeros_(b.weight)
        torch.manual_seed(9)
        c = nn.Linear(2, 2)
        nn.init.ones_(c.weight)
        torch.manual_seed(11)
        p = nn.Parameter(torch.zeros(2))
        nn.init.ones_(p)
        r = torch.rand(3)
        (a(x) + b(x) + c(x) + p).sum().backward()
    """,
    "zero_grad to zeros": """
        net = nn.Linear(2, 1)
        net(x).sum().backward()
        net.zero_grad(set_to_none=False)
        (net(x) * 3).sum().backward()
    """,
    "gradients to compute with": """
        net = nn.Linear(2, 1)
        net(x).sum().backward()
        g = net.weight.grad * 2
        norm = sum((p.grad ** 2).sum() for p in net.parameters()) ** 0.5
    """,
    "slices of a Sequential": """
        net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        y = net[:2](x)
        z = net[-1](y)
        for layer in net:
            x = layer(x)
        (z + x).sum().backward()
    """,
    "named modules": """
        net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 2)))
        k = [n for n, m in net.named_modules() if isinstance(m, nn.Linear)]
        c = [n for n, m in net.named_children()]
        n = torch.tensor([len(k), len(c), len(list(net.modules())), len(list(net.children()))])
        q = torch.ones(1) if k == ['0', '1.1'] else torch.zeros(1)
        net(x).sum().backward()
    """,
    "buffers changed": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer('n', torch.zeros(1))
                self.f = nn.Linear(2, 2)
            def forward(self, x):
                self.n += 1
                self.n = self.n * 2
                return self.f(x) * self.n
        net = Net()
        y = net(x)
        y = net(x)
        n = net.n
        y.sum().backward()
    """,
    "retain and grad": """
        net = nn.Linear(2, 2)
        h = net(x)

        g, = torch.autograd.grad(h.sum(), net.weight, create_graph=True)
        (h * h).sum().backward()
    """,
    "Parameter in a list is not registered": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.ws = [nn.Parameter(torch.ones(2)), nn.Linear(2, 2)]
                self.f = nn.Linear(2, 2)
            def forward(self, x):
                return self.ws[1](self.f(x)) * self.ws[0]
        net = Net()
        net(x).sum().backward()
    """,
    "append": """
        layers = []
        for k in range(3):
            layers.append(nn.Linear(2, 2))
            layers.append(nn.Tanh())
        net = nn.Sequential(*layers)
        more = nn.ModuleList()
        more.append(nn.Linear(2, 1))
        more.extend([nn.Linear(1, 1)])
        net.add_module('last', more[0])
        net(x).sum().backward()
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_module_is_what_pytorch_makes(name: str) -> None:
    check_modules(HEAD + dedent(SCRIPTS[name]))


FOUND = """
import torch
from torch import nn

x = torch.ones({ones}, requires_grad=True)
y = x[torch.tensor([True, False, True])]
loss = nn.BatchNorm1d(3)(y).pow(3).sum()
loss.backward()
"""
"""How many rows there are is known only when it runs, and with it the shape."""


@pytest.mark.parametrize("ones", ["3, 3", "3, 3, 2"])
def test_one_dimension_is_normalised_with_or_without_a_length(ones: str) -> None:
    check_modules(FOUND.format(ones=ones))


def test_another_number_of_dimensions_is_refused_by_the_run() -> None:
    source = FOUND.format(ones="3, 3, 2, 2")
    with pytest.raises(ValueError, match="2D or 3D"):
        executed(source)
    with pytest.raises(AssertionError, match=r"op_failed.*2 to 3 dimensions"):
        traced(source)
