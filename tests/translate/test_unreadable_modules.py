"""What is refused of modules, classes and optimizers, and what each refusal says."""

from __future__ import annotations

from textwrap import dedent

import pytest

from service.contract.problem import GradtraceError
from service.translate.from_python import from_python
from tests.translate.test_module_state import HEAD

REFUSED = {
    "shadowed by a method": (
        """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(2, 2)
            def fc(self, x):
                return x
        net = Net()
        """,
        "already exists",
    ),
    "no super": (
        """
        class Net(nn.Module):
            def __init__(self):
                self.fc = nn.Linear(2, 2)
        net = Net()
        """,
        "super().__init__()",
    ),
    "many": (
        """
        net = nn.Sequential(*[nn.Linear(2, 2) for _ in range(10**6)])
        """,
        "steps",
    ),
    "billion": (
        """
        net = nn.Sequential(*[nn.Linear(2, 2) for _ in range(10**9)])
        """,
        "items",
    ),
    "doubling": (
        """
        m = nn.Tanh()
        for k in range(60):
            m = nn.Sequential(m, m)
        y = m(x)
        """,
        "deep",
    ),
    "itself": (
        """
        m = nn.Sequential()
        m.add_module('m', m)
        y = m(x)
        """,
        "deep",
    ),
    "lstm": (
        """
        m = nn.LSTM(2, 3)
        """,
        "many ops",
    ),
    "batch norm moved": (
        """
        m = nn.BatchNorm1d(2)
        y = m(x)
        m.eval()
        z = m(x)
        """,
        "moved",
    ),
    "batch norm moved buffer": (
        """
        m = nn.BatchNorm1d(2)
        y = m(x)
        z = m.running_mean
        """,
        "moved",
    ),
    "batch norm read before": (
        """
        m = nn.BatchNorm1d(2)
        z = m.running_mean
        y = m(x)
        """,
        "has read before",
    ),
    "hook": (
        """
        m = nn.Linear(2, 2)
        m.register_forward_hook(lambda *a: None)
        """,
        "not read",
    ),
    "property": (
        """
        class A(nn.Module):
            @property
            def f(self): return 1
        a = A()
        """,
        "@property",
    ),
    "dunder": (
        """
        class A(nn.Module):
            def __getattr__(self, n): return 1
        a = A()
        """,
        "__getattr__",
    ),
    "two bases": (
        """
        class A: pass
        class B(nn.Module, A): pass
        """,
        "one base",
    ),
    "override": (
        """
        class A(nn.Module):
            def parameters(self): return []
        """,
        "place of nn.Module",
    ),
    "used then refilled": (
        """
        m = nn.Linear(2, 2)
        y = m(x)
        nn.init.zeros_(m.weight)
        """,
        "used already",
    ),
    "grad mode": (
        """
        m = nn.Linear(2, 2)
        m.weight.fill_(1)
        """,
        "in-place",
    ),
    "silent print": (
        """
        class C:
            def __init__(self): self.n = 0
            def get(self):
                self.n += 1
                return self.n
        c = C()
        print(c.get())
        y = x * c.n
        """,
        "line of its own",
    ),
    "silent f string": (
        """
        class C:
            def __init__(self): self.n = 0
            def get(self):
                self.n += 1
                return self.n
        c = C()
        l=[c]
        print([d.get() for d in l])
        y = x * c.n
        """,
        "line of its own",
    ),
    "random in print": (
        """
        m = nn.Sequential(nn.Dropout(), nn.Linear(2, 2))
        print(torch.rand(1), m(x))
        print(torch.rand(1))
        """,
        "line of its own",
    ),
    "inference": (
        """
        with torch.inference_mode():
            m = nn.Linear(2, 2)
        """,
        "inference",
    ),
    "bad arguments": (
        """
        m = nn.Conv2d(3, 4, 3, groups=2)
        """,
        "divisible",
    ),
    "wrong size": (
        """
        m = nn.Linear(2)
        """,
        "out_features",
    ),
    "loss keyword": (
        """
        y = nn.MSELoss()(x, x, reduction='sum')
        """,
        "reduction",
    ),
    "half": (
        """
        m = nn.Linear(2, 2, dtype=torch.float16)
        """,
        "float16",
    ),
    "dtype": (
        """
        m = nn.Linear(2, 2).double()
        """,
        "double",
    ),
    "sparse": (
        """
        m = nn.Embedding(2, 2, sparse=True)
        """,
        "sparse",
    ),
    "plain over module": (
        """
        m = nn.Sequential(nn.Linear(2, 2))
        class A(nn.Module):
            def __init__(self):
                super().__init__()
                self.f = nn.Linear(2, 2)
                self.f = 3
        a = A()
        """,
        "cannot assign",
    ),
    "init returns": (
        """
        class A:
            def __init__(self): return 1
        a = A()
        """,
        "None",
    ),
    "decorator": (
        """
        import dataclasses
        @dataclasses.dataclass
        class A:
            x: int = 3
        """,
        "decorator",
    ),
    "in function": (
        """
        def f():
            class A: pass
        f()
        """,
        "top of a script",
    ),
    "function as class attribute": (
        """
        class A(nn.Module):
            act = F.relu
            def forward(self, x): return self.act(x)
        a = A()
        y = a(x)
        """,
        "bind",
    ),
    "optimizer": (
        """
        m = nn.Linear(2, 2)
        o = torch.optim.RMSprop(m.parameters())
        """,
        "optim.RMSprop is not read",
    ),
    "none forward": (
        """
        class A(nn.Module): pass
        y = A()(x)
        """,
        "forward",
    ),
    "list call": (
        """
        m = nn.ModuleList([nn.Linear(2, 2)])
        y = m(x)
        """,
        "forward",
    ),
    "state dict": (
        """
        m = nn.Linear(2, 2)
        s = m.state_dict()
        """,
        "not read",
    ),
    "mangled": (
        """
        class A(nn.Module):
            def __init__(self):
                super().__init__()
                self.__w = 3
        a = A()
        """,
        "__w",
    ),
    "private": (
        """
        m = nn.Linear(2, 2)
        for p in m._parameters: pass
        """,
        "own affair",
    ),
    "maybe parameter": (
        """
        p = nn.Parameter(torch.ones(2))
        class A(nn.Module):
            def __init__(self):
                super().__init__()
                self.q = p.contiguous()
        a = A()
        """,
        "whether this is the parameter",
    ),
    "iterator in attribute": (
        """
        class C:
            def __init__(self): self.it = zip([1, 2])
        c = C()
        print(list(c.it))
        y = x * len(list(c.it))
        """,
        "line of its own",
    ),
    "iterator of parameters": (
        """
        m = nn.Linear(2, 2)
        ps = m.parameters()
        print(list(ps))
        y = x * len(list(ps))
        """,
        "line of its own",
    ),
    "max_norm": (
        """
        m = nn.Embedding(3, 2, max_norm=1.0)
        y = m(torch.tensor([1]))
        """,
        "in place",
    ),
    "twice in list": (
        """
        m = nn.Linear(2, 2)
        o = torch.optim.SGD([m.weight, m.weight], lr=0.1)
        """,
        "twice",
    ),
    "bn stats set": (
        """
        m = nn.BatchNorm1d(2)
        m.running_mean = None
        """,
        "when it is made",
    ),
    "scheduler": (
        """
        m = nn.Linear(2, 2)
        o = torch.optim.SGD(m.parameters(), lr=0.1)
        s = torch.optim.lr_scheduler.StepLR(o, 1)
        """,
        "torch.optim.lr_scheduler.StepLR is not read",
    ),
    "norm in a printed method": (
        """
        class N(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm = nn.BatchNorm1d(2)
            def loss(self, x): return self.norm(x)
        m = N()
        print(m.loss(x))
        m.eval()
        y = m.norm(x)
        """,
        "line of its own",
    ),
    "printed map": (
        """
        class C:
            def __init__(self): self.n = 0
            def __call__(self, k):
                self.n += 1
                return self.n
        c = C()
        print(max([1,2], key=c))
        y = x * c.n
        """,
        "line of its own",
    ),
    "printed map of bound": (
        """
        class C:
            def __init__(self): self.n = 0
            def f(self, k):
                self.n += 1
                return self.n
        c = C()
        print(max([1,2], key=c.f))
        y = x * c.n
        """,
        "line of its own",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_graph_cannot_say_is_refused(name: str) -> None:
    source, words = REFUSED[name]
    with pytest.raises(GradtraceError, match="line") as raised:
        from_python(HEAD + dedent(source))
    assert words in str(raised.value)
