"""Modules of a script's own: read as Python and ``nn.Module`` run them, bit for bit."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.translate.oracle import check_modules

HEAD = (
    "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\ntorch.manual_seed(5)\n"
    "x = torch.tensor([[1.0, 2.0], [3.0, -4.0]])\nt = torch.tensor([[1.0], [0.0]])\n"
)

SCRIPTS = {
    "inheritance": """
        class Base(nn.Module):
            k = 3
            def __init__(self, n):
                super().__init__()
                self.a = nn.Linear(2, n)
                self.scale = 2.0
            def forward(self, x):
                return self.a(x) * self.scale + self.shift()
            def shift(self):
                return 1
        class Net(Base):
            k = 4
            def __init__(self):
                super().__init__(n=Net.k)
                self.b = nn.Linear(self.k, Base.k)
            def shift(self):
                return 10 + super().shift()
            def forward(self, x):
                return self.b(super().forward(x))
        net = Net()
        y = net(x)
        y.sum().backward()
    """,
    "class constants": """
        class Net(nn.Module):
            sizes = [2, 3]
            act = nn.ReLU
            lr: float = 0.5
            def __init__(self):
                super().__init__()
                self.f = nn.Linear(*self.sizes)
                self.g = self.act()
                self.sizes.append(7)
            def forward(self, x): return self.g(self.f(x)) * self.lr * len(self.sizes)
        net = Net()
        n = torch.tensor(Net.sizes)
        net(x).sum().backward()
    """,
    "plain class": """
        class Counter:
            def __init__(self, n=0):
                self.n = n
                self.seen = []
            def add(self, k):
                self.n += k
                self.seen.append(self.n)
                return self
            def __call__(self, x):
                return x * self.n
        c = Counter(2)
        c.add(3).add(4)
        y = c(x) + len(c.seen)
        n = torch.tensor(c.seen)
    """,
    "functions of the same name": """
        def forward(x):
            return x * 100
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(2, 2)
            def forward(self, x):
                return forward(self.fc(x))
            def fc2(self, x):
                return x
        net = Net()
        y = net.fc2(net(x))
        y.sum().backward()
    """,
    "keywords": """
        class Net(nn.Module):
            def __init__(self, *sizes, bias=True, **rest):
                super().__init__()
                self.f = nn.Linear(in_features=sizes[0], out_features=sizes[1], bias=bias)
                self.rest = rest
            def forward(self, x, *, scale=1.0):
                return self.f(input=x) * scale * self.rest['k']
        net = Net(2, 3, bias=False, k=4)
        net(x, scale=2.0).sum().backward()
    """,
    "global and closures": """
        scale = 3
        def make(n):
            return nn.Sequential(nn.Linear(2, n), nn.ReLU())
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.m = make(4)
            def forward(self, x):
                return self.m(x) * scale
        net = Net()
        other = make(2)
        scale = 5
        (net(x).sum() + other(x).sum()).backward()
    """,
    "default shared by instances": """
        class Net(nn.Module):
            def __init__(self, seen=[], lin=nn.Linear(2, 2)):
                super().__init__()
                self.seen = seen
                self.lin = lin
                seen.append(1)
            def forward(self, x):
                return self.lin(x) * len(self.seen)
        a = Net()
        b = Net()
        (a(x) + b(x)).sum().backward()
    """,
    "lambda attribute": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.act = lambda v: v * 2
                self.f = F.relu
                self.lin = nn.Linear(2, 2)
            def forward(self, x):
                return self.f(self.act(self.lin(x)))
        net = Net()
        net(x).sum().backward()
    """,
    "forward of its own": """
        net = nn.Linear(2, 2)
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.forward = lambda x: x * 5
            def forward(self, x):
                return x
        m = Net()
        y = m(x)
        z = net.forward(x)
        z.sum().backward()
    """,
    "methods with no_grad": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.f = nn.Linear(2, 2)
            @torch.no_grad()
            def mean(self, x):
                return self.f(x).mean()
            def forward(self, x):
                return self.f(x) - self.mean(x)
        net = Net()
        y = net(x)
        y.sum().backward()
    """,
    "state in forward": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.f = nn.Linear(2, 2)
                self.calls = 0
                self.last = None
            def forward(self, x):
                self.calls += 1
                self.last = self.f(x)
                return self.last * self.calls
        net = Net()
        net(x)
        y = net(x)
        h = net.last
        y.sum().backward()
    """,
    "getattr": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                for i in range(3):
                    setattr(self, f'fc{i}', nn.Linear(2, 2))
            def forward(self, x):
                for i in range(3):
                    x = getattr(self, 'fc' + '012'[i])(x)
                return x
        net = Net()
        net(x).sum().backward()
    """,
    "print a net": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.f = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
            def forward(self, x): return self.f(x)
        net = Net()
        print('out', net(x).mean().item(), net(x))
        y = net(x)
        y.sum().backward()
    """,
    "printed": """
        net = nn.Linear(2, 3)
        print(net)
        print(net.weight, net.weight.grad, sum(p.numel() for p in net.parameters()))
        y = net(x)
        y.sum().backward()
        for name, p in net.named_parameters():
            if p.grad is not None:
                print(f'{name}: {p.grad}')
        print(net(x))
        del p
    """,
    "super with no init": """
        class Base(nn.Module):
            def forward(self, x):
                return self.lin(x)
        class Net(Base):
            def __init__(self):
                nn.Module.__init__(self)
                self.lin = nn.Linear(2, 2)
        net = Net()
        net(x).sum().backward()
    """,
    "blocks": """
        class Block(nn.Module):
            def __init__(self, d):
                super().__init__()
                self.norm = nn.LayerNorm(d)
                self.up = nn.Linear(d, 2 * d)
                self.down = nn.Linear(2 * d, d)
            def forward(self, x):
                return x + self.down(F.gelu(self.up(self.norm(x))))
        class Net(nn.Module):
            def __init__(self, d=2, depth=3):
                super().__init__()
                self.blocks = nn.Sequential(*[Block(d) for _ in range(depth)])
                self.head = nn.Linear(d, 1) if depth else None
            def forward(self, x):
                x = self.blocks(x)
                return self.head(x) if self.head is not None else x
        model = Net().to('cpu')
        loss = F.mse_loss(model(x), t)
        loss.backward()
        total = torch.tensor(sum(p.numel() for p in model.parameters() if p.requires_grad))
    """,
    "attention by hand": """
        class Attention(nn.Module):
            def __init__(self, d, heads):
                super().__init__()
                self.q, self.k, self.v = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
                self.heads = heads
                self.register_buffer('mask', torch.tril(torch.ones(3, 3)).bool())
            def split(self, x):
                b, t, d = x.shape
                return x.view(b, t, self.heads, d // self.heads).transpose(1, 2)
            def forward(self, x):
                q, k, v = (self.split(f(x)) for f in (self.q, self.k, self.v))
                a = (q @ k.transpose(-2, -1)) / k.shape[-1] ** 0.5
                a = a.masked_fill(~self.mask, float('-inf')).softmax(-1)
                return (a @ v).transpose(1, 2).reshape(x.shape)
        att = Attention(4, 2)
        y = att(torch.randn(2, 3, 4))
        y.pow(2).sum().backward()
    """,
    "conv net": """
        class CNN(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv1 = nn.Conv2d(1, 4, kernel_size=3, padding=1)
                self.bn = nn.BatchNorm2d(4)
                self.pool = nn.MaxPool2d(2, 2)
                self.fc = nn.Linear(4 * 4 * 4, 3)
                self.drop = nn.Dropout(p=0.25)
            def forward(self, x):
                x = self.pool(F.relu(self.bn(self.conv1(x))))
                x = x.view(x.size(0), -1)
                x = torch.flatten(x, 1)
                return F.log_softmax(self.fc(self.drop(x)), dim=1)
        model = CNN()
        img = torch.randn(2, 1, 8, 8)
        loss = F.nll_loss(model(img), torch.tensor([0, 2]))
        loss.backward()
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_class_is_read_as_python_runs_it(name: str) -> None:
    check_modules(HEAD + dedent(SCRIPTS[name]))
