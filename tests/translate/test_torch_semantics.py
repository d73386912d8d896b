"""What PyTorch does where a shorter reading would say something else, or a refusal in words."""

from __future__ import annotations

from textwrap import dedent

import pytest
import torch

from service.contract.problem import GradtraceError
from service.translate.from_python import from_python
from tests.translate.oracle import check

HEAD = (
    "import numpy as np\nimport torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
    "w = torch.tensor(2.0, requires_grad=True)\nx = torch.tensor([1.0, 2.0])\n"
)

READ = {
    "an in-place operator keeps the dtype": """
        x += torch.ones(2, dtype=torch.float64)
        h = torch.ones(2, dtype=torch.half)
        h += x
        s = torch.tensor(1.5)
        s += torch.tensor(0.1, dtype=torch.float64)
    """,
    "everyday in-place operators": """
        i = torch.arange(3)
        i += 1
        i *= 2
        m = x > 1
        m |= x < 0
        total = torch.zeros(2)
        for k in range(3):
            total += x * k
        y = x.mean()
        y /= 2
        h = F.linear(x, torch.ones(2, 2)) + w
        h -= torch.ones(2)
        h.sum().backward()
    """,
    "losses added up": """
        total = 0.0
        for k in range(3):
            total += F.triplet_margin_loss(x * w, x + k, x - 1)
        total.backward()
    """,
    "facts of whole numbers": """
        i = torch.tensor([1, 2], dtype=torch.int32)
        k = 1
        if i.max(0).indices.dtype == torch.int64 and i.max(0).values.dtype == torch.int32:
            k = k * 2
        if not x.to(w).requires_grad and torch.tensor([1j]).norm().dtype == torch.float32:
            k = k * 3
        if torch.float_power(x, 2).dtype == torch.float64:
            k = k * 5
        y = x * k
    """,
    "what may be changed in place": """
        c = torch.tensor([1j, 2.0])
        c += x
        c *= 2
        x = x.half()
        x += torch.ones(2)
        x /= 3
        with torch.no_grad():
            y = w * 2
            y += 1
        z = y * w
        z.backward()
    """,
    "a name given in the midst of an expression": """
        y = (a := torch.tensor([1.0, 2.0, 3.0, 4.0])).view(2, 2)
        z = a * 2
    """,
    "a matrix product in place is a new tensor": """
        M = torch.ones(2, 2)
        y = x
        x @= M
    """,
    "retain_grad follows an in-place operator": """
        y = w * 2
        y.retain_grad()
        y += 1
        (y * 3).backward()
    """,
    "descent in place": """
        for k in range(3):
            loss = (w * x - 1).pow(2).sum()
            loss.backward()
            with torch.no_grad():
                w -= 0.1 * w.grad
            w.grad = None
        final = w * x
    """,
    "a layer in place": """
        y = x * w - 3
        z = nn.ReLU(inplace=True)(y)
        a = y * 2
        u = x - 3
        F.relu(u, inplace=True)
        v = u + 1
    """,
    "a leaf that something else holds keeps its shape": """
        def f(x):
            a = x.view(2, 2)
            return a.sum() * x
        y = f(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        for one in [torch.tensor([1.0, 2.0, 3.0, 4.0])]:
            b = one.reshape(2, 2)
            c = one * 2
        d = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(2, 2) * 2
    """,
    "a parameter is a tensor of its own": """
        def f(t):
            p = nn.Parameter(t)
            return p * t, p
        z, p = f(torch.tensor([3.0, 4.0]))
        z.sum().backward()
    """,
    "a copy of a gradient": """
        gs = []
        for k in range(3):
            (w * (k + 1)).backward()
            gs.append(w.grad.clone())
        y = torch.stack(gs)
    """,
    "a gradient that is there": """
        y = x * w
        y.retain_grad()
        y.sum().backward()
        a = torch.ones(1) * (2 if y.grad is not None else 3)
        b = y.grad * 2
    """,
    "a gradient that was emptied": """
        (x * w).sum().backward()
        w.grad.zero_()
        c = torch.ones(1) * (2 if w.grad is not None else 3)
        d = w.grad + 1
        w.grad = None
        e = torch.ones(1) * (2 if w.grad is not None else 3)
        (w * 5).backward()
    """,
    "a gradient that was emptied before a pass elsewhere": """
        v = torch.tensor([7.0], requires_grad=True)
        (w * 2).sum().backward()
        w.grad = None
        (v * 3).sum().backward()
    """,
    "gradients of which one tensor was changed, and both were emptied": """
        v = torch.tensor([7.0], requires_grad=True)
        (w * v).sum().backward()
        with torch.no_grad():
            w -= 0.1 * w.grad
        w.grad = None
        v.grad = None
        (w * 2).sum().backward()
    """,
    "a gradient with a graph": """
        y = w ** 3
        y.backward(create_graph=True)
        p = (w.grad * x).sum()
        g = torch.autograd.grad(p, w)[0]
    """,
    "detach_ of a gradient": """
        (w * 3).backward()
        w.grad.detach_()
        (w * 4).backward()
        g = w.grad * 1
    """,
    "facts that are known": """
        a = torch.ones(3)
        k = 1.0
        if a.dtype == torch.float32 and (x > 0).dtype == torch.bool:
            k = k * 2
        if x.is_cuda or x.is_sparse or x.is_quantized or w.retains_grad:
            k = k * 3
        if x.device.type == "cpu" and x.dtype.is_floating_point:
            k = k * 5
        if (torch.arange(3, dtype=torch.int32) * 2.5).dtype == torch.float32:
            k = k * 7
        if (x * 1j).dtype == torch.complex64 and x.max(0).indices.dtype == torch.int64:
            k = k * 11
        v, i = (x * w).max(0)
        if (x * w).int().is_leaf and not torch.logical_not(x * w).requires_grad and i.is_leaf:
            k = k * 13
        n = x.to(torch.zeros(3, 2, dtype=torch.float64))
        k = k * n.shape[0] * len(n.shape)
        y = x * k
    """,
    "kinds of whole numbers and bools": """
        m = x > 1
        i = torch.tensor([1, 2], dtype=torch.int32)
        k = 1
        if (m & m).dtype == torch.bool and m[0].dtype == torch.bool:
            k = k * 2
        if i.sum().dtype == torch.int64 and (i + 1).dtype == torch.int32:
            k = k * 3
        if (i / 2).dtype == torch.float32 and x[m].dtype == torch.float32:
            k = k * 5
        if (x * i).dtype == torch.float32 and m.sum().dtype == torch.int64:
            k = k * 7
        if torch.cat([i, i]).dtype == torch.int32 and m.clone().dtype == torch.bool:
            k = k * 11
        y = x * k
    """,
    "a gradient to start with leaves its seed": """
        y = w * x
        torch.manual_seed(5)
        y.backward(torch.ones(2))
        z = torch.randn(3)
    """,
    "a gradient of a narrower dtype to start with": """
        d = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
        (d * 2).backward(torch.tensor([0.1, 1.0]))
        (d * 3).backward(torch.full((2,), 0.1))
        torch.autograd.backward([d * 5, d * 7], [torch.tensor([0.1, 0.2]), torch.ones(2)])
    """,
    "a gradient of half the width to start with": """
        (w * x).backward(torch.tensor([0.1, 1.0], dtype=torch.float16))
    """,
    "a gradient of bools to start with": """
        (w * x).backward(torch.tensor([True, False]))
    """,
    "a gradient that is infinite in its root's dtype": """
        d = torch.tensor([1.0, 2.0], dtype=torch.float16, requires_grad=True)
        (d * 2).backward(torch.tensor([1e5, 1.0]))
    """,
    "a gradient that is retained only behind another one": """
        y = w * x
        g = torch.autograd.grad((y * y).sum(), w, retain_graph=True)[0]
        y.retain_grad()
        (y * y * y).sum().backward()
    """,
    "one gradient for several passes": """
        y = w * x
        z = w * x * 2
        for g in [torch.ones(2)]:
            y.backward(g)
            z.backward(g)
        g = torch.tensor([1.0, 3.0])
        a, b = w * x, w + x
        torch.autograd.backward([a, b], [g, g])
    """,
    "the condition of where": """
        m = torch.tensor([True, False])
        y = x.where(m, torch.tensor(9.0))
    """,
    "arrays of numpy": """
        a = torch.from_numpy(np.array([0.1], dtype="float32"))
        b = torch.tensor(np.array([1, 0], dtype=np.bool_))
        c = torch.tensor(np.array([0.1], dtype=np.float32), dtype=torch.float64)
        d = torch.tensor(np.array([1.7], dtype=int), dtype=torch.float32)
        e = torch.tensor(np.array([0.5]))
    """,
    "another default dtype": """
        torch.set_default_dtype(torch.float64)
        a = torch.full((2,), 1 + 2j)
        b = torch.signal.windows.hann(4)
        c = torch.fft.fftfreq(4)
        d = torch.tensor([0.1, 0.2])
    """,
    "a gradient that was not there yet": """
        g = w.grad
        (w * x).sum().backward()
        y = x * (2 if g is None else 3) * (5 if None is g else 7) * (11 if g else 13)
        z = x * (2 if w.grad is not None else 3)
    """,
    "a gradient that was there": """
        (w * x).sum().backward()
        g = w.grad
        w.grad = None
        y = x * (2 if g is None else 3)
        del g
        (w * 2).backward()
    """,
    "a gradient of a tensor that is gone": """
        for k in range(3):
            w.grad = None
            y = w * k
            y.retain_grad()
            y.backward()
    """,
    "statistics that nobody else has": """
        a = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
        m = torch.zeros(2)
        y = F.batch_norm(a, torch.zeros(2), torch.ones(2), training=True)
        z = F.batch_norm(a, m.clone(), m + 1, training=True)
        v = F.batch_norm(a, m, m + 1)
        k = F.instance_norm(a[None], m, m + 1, use_input_stats=False)
    """,
    "gradients off and on": """
        def off():
            torch.set_grad_enabled(mode=False)
        @torch.enable_grad()
        def on(t):
            return t * 2
        with torch.no_grad():
            a = on(w)
        with torch.inference_mode(False):
            b = w * 3
        with torch.set_grad_enabled(mode=False):
            c = w * 4
        off()
        d = w * 5
        torch.set_grad_enabled(True)
        e = w * 6
    """,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READ)
def test_a_script_means_what_pytorch_does(name: str) -> None:
    with torch.enable_grad():  # a script may leave gradients off
        check(HEAD + dedent(READ[name]))


@pytest.mark.filterwarnings("ignore")
def test_a_list_of_lists_is_a_tuple_of_indices() -> None:
    check(
        "import torch\nx = torch.tensor([[1.0, 2.0], [3.0, 4.0]])\ny = x[[[0, 1], [1, 0]]]\n"
        "z = x[[[0, 1]]]\nv = x[[0, 1]]\n"
    )


REFUSED: dict[str, tuple[str, str]] = {
    "a whole number takes no float": ("i = torch.arange(3)\ni += 1.5", "cast"),
    "a whole number takes no quotient": ("i = torch.arange(3)\ni /= 2", "cast"),
    "a float takes no complex number": ("x *= 1j", "cast"),
    "a bool takes no whole number": ("m = x > 1\nm |= torch.tensor([1, 0])", "cast"),
    "a shape does not grow": ("x += torch.ones(2, 2)", "shape"),
    "history": ("y = w * 2\nwith torch.no_grad():\n    y += 1", "no_grad"),
    "a saved result": ("y = w.exp()\ny += 1\ny.sum().backward()", "modified by an inplace"),
    "a saved input": ("y = w * 2\nz = y * y\ny += 1\nz.backward()", "modified by an inplace"),
    "float may share": ("y = x.float()\ny += 1", "share memory"),
    "type_as may share": ("y = x.type_as(x)\ny += 1", "share memory"),
    "dropout may share": ("y = F.dropout(x, 0.5, training=False)\ny += 1", "share memory"),
    "conj may share": ("y = x.conj()\ny += 1", "share memory"),
    "atleast_1d may share": ("y = torch.atleast_1d(x)\ny += 1", "share memory"),
    "einsum may share": ("y = torch.einsum('ij->ji', torch.ones(2, 2))\ny += 1", "share memory"),
    "linalg.diagonal shares": ("y = torch.linalg.diagonal(torch.ones(2, 2))\ny += 1", "share"),
    "an array shares": ("a = np.array([1.0])\nt = torch.from_numpy(a)\nt += 1", "share memory"),
    "a kept gradient": (
        ("gs = []\nfor k in range(3):\n    (w * k).backward()\n    gs.append(w.grad)\n"
        "y = torch.stack(gs)"), "backward pass"),
    "unpacked gradients": (
        "(w * 2).backward()\na, b = w.grad, w.grad\n(w * 2).backward()\ny = a + b", "backward"),
    "a gradient from before": (
        "(w * 2).backward()\ng = w.grad\nw.grad = None\n(w * 5).backward()\ny = g - w.grad",
        "None"),
    "a gradient decides": ("(w * 2).backward()\nif w.grad:\n    y = x", "decides"),
    "a layout": ("if x.layout == torch.strided:\n    y = x", "not read"),
    "a name": ("if x.name is None:\n    y = x", "not read"),
    "an unknown property": ("if x.is_wonderful:\n    y = x", "not read"),
    "the system": ("import os\nif os.name == 'posix':\n    y = x", "not read"),
    "the platform": ("import sys\nif sys.platform == 'win32':\n    y = x", "not read"),
    "a backend": ("if torch.backends.cudnn.enabled:\n    y = x", "not read"),
    "an unknown dtype": (
        "if F.pad(torch.arange(2), (1, 1)).dtype == x.dtype:\n    y = x", "when the graph runs"),
    "maybe the same": ("y = x * 2 if x.contiguous() is x else x", "one tensor"),
    "maybe the same, to": ("y = x * 2 if x.to(torch.float32) is x else x", "one tensor"),
    "maybe a leaf": ("y = x if w.float().is_leaf else x * 2", "when the graph runs"),
    "dtypes of several floats": (
        ("y = torch.linalg.lstsq(torch.eye(2), torch.ones(2, 1)).solution\n"
        "y += torch.ones(2, 1, dtype=torch.float64)"), "dtype"),
    "no gradients": ("g = torch.autograd.grad(w, w, grad_outputs=[])", "0 gradients"),
    "an array of objects": ("y = torch.tensor(np.array([1.0], dtype='float128'))", "dtype"),
    "whole numbers times 1j": (
        "torch.set_default_dtype(torch.float64)\ny = torch.tensor([1, 2]) * 1j", "default dtype"),
    "retain_grad between": (
        "y = w * 2\nz = y * 1\nz.backward(retain_graph=True)\ny.retain_grad()\nz.backward()",
        "retain_grad"),
    "retain_grad of a part": ("a, b = (x * w).split(1)\na.retain_grad()", "part"),
    "two gradients": ("(w * 2).backward()\ny = x * (2 if w.grad is w.grad else 3)", "same tensor"),
    "a gradient of what was changed": (
        ("y = w + 1\nwith torch.no_grad():\n    w += 5\ny.backward()\n"
        "z = x * (2 if w.grad is None else 3)"), "before it was changed in place"),
    "a kept gradient that is zero": (
        "w.backward()\nw.grad.zero_()\nl = [w.grad]\n(w * 2).backward()\ny = l[0] + 1", "backward"),
    "a part of a kept gradient": (
        ("v = x.requires_grad_()\n(v * 2).sum().backward()\na = v.grad.detach()[0]\n"
        "v.grad.zero_()\ny = a + 1"), "zero_"),
    "another view of a kept gradient": (
        ("v = x.requires_grad_()\n(v * 2).sum().backward()\na = v.grad.view(2, 1)\n"
        "(v * 2).sum().backward()\ny = a + 1"), "backward pass"),
    "a gradient of maybe the same": ("y = w.float()\nz = y * 2 if y.grad is None else y", "very"),
    "a retained gradient that adds up": (
        ("y = w * 2\ny.retain_grad()\ny.backward(retain_graph=True)\nw.grad = None\n"
        "(y * 3).backward()"), "split the script"),
    "a gradient that is changed in place": (
        "(w * 2).sum().backward()\ng = w.grad\ng *= 2", "write g = g"),
    "one of two gradients is emptied before another pass": (
        ("v = torch.ones(1, requires_grad=True)\n(w * v).sum().backward()\nw.grad = None\n"
        "(torch.ones(1, requires_grad=True) * 2).backward()"), "split the script"),
    "one of two that are emptied was changed": (
        ("v = torch.ones(1, requires_grad=True)\n(w * v).sum().backward()\n"
        "with torch.no_grad():\n    w -= w.grad\nv.grad = None\n(w * 2).sum().backward()"),
        "split the script"),
    "a retained gradient of before": (
        ("y = w * 2\ny.retain_grad()\ny.backward()\nw.grad = None\n(w * 3).backward()"), "split"),
    "statistics that are written": (
        "m = torch.zeros(2)\ny = F.batch_norm(torch.ones(3, 2), m, m + 1, training=True)",
        "writes into running_mean"),
    "statistics of an instance": (
        "m = torch.zeros(2)\ny = F.instance_norm(torch.ones(1, 2, 3), m, m + 1)", "running_mean"),
    "rows that are scaled": (
        "e = torch.ones(2, 3)\ny = F.embedding(torch.tensor([1]), e, max_norm=1.0)",
        "writes into weight"),
    "a second pass": ("y = w * 2\ny.backward()\ny.backward()", "second time"),
    "a gradient that fills another on its way": (
        "y = w * x\ny.retain_grad()\ng = torch.autograd.grad((y * y).sum(), w)", "also fills"),
    "a gradient of what retains its own": (
        "y = w * x\ny.retain_grad()\ng = torch.autograd.grad((y * y).sum(), y)", "also fills"),
    "a gradient of another shape": ("(w * x).backward(torch.ones(1) * 2)", "Mismatch in shape"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_graph_cannot_say_is_refused_in_words(name: str) -> None:
    source, words = REFUSED[name]
    with pytest.raises(GradtraceError) as raised:
        from_python(HEAD + source + "\n")
    (error,) = raised.value.errors
    assert words in error.message
