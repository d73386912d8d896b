"""Python's own rules: what a script computes beside its tensors is what Python computes."""

from __future__ import annotations

import pytest

from service.contract.problem import GradtraceError
from service.translate.from_python import from_python
from tests.translate.oracle import check

HEAD = """import torch
import torch.nn.functional as F
w = torch.tensor(2., requires_grad=True)
x = torch.tensor([1., 2.])
"""

READ = {
    "enumerate from another start": "for k, v in enumerate([1., 2.], start=3):\n    x = x * k + v",
    "enumerate by position": "for k, v in enumerate([1., 2.], 5):\n    x = x * k + v",
    "what a with statement computes once": "modes = [True, False]\n"
    "with torch.inference_mode(modes.pop()):\n    y = x * 2\nz = y * len(modes)",
    "sorted backwards": "y = x * sorted([1., 3., 2.], reverse=True)[0]",
    "sorted strings": "y = x * len(sorted(['b', 'aa'])[0])",
    "sum from a start": "y = x * sum([1., 2.], start=4.)",
    "zip that is strict": "y = x * sum(a * b for a, b in zip([1, 2], [3, 4], strict=True))",
    "max of what a generator gives": "y = x * max(k * k for k in range(4))",
    "a text as a key": "d = {f'k{k}': k for k in ()} if False else {}\n"
    "for k in range(3):\n    d[f'k{k}'] = k\ny = x * d['k2'] + len(d)",
    "a text that is compared": "y = x * (2 if f'{1 + 1}' == '2' else 3)",
    "the length of a text": "n = 3\ny = x * len(f'{n:>5}{n!r}{\"a\"!r}{0.5:.3f}')",
    "a width in a text": "k = 7\ny = x * len(f'{1.5:{k}.2f}')",
    "a text as an equation": "i = 'i'\ny = torch.einsum(f'{i},{i}->', x, x)",
    "a count of tensors in a text": "l = [x, x]\nd = {f'n{len(l)}': 4.}\ny = x * d['n2']",
    "a text of a tensor that is printed": "s = f'{x} {w.item():.3f}' + '!'\nprint(s)\ny = x * 2",
    "times that are printed": "import time\nt = time.time()\ny = x * 2\ne = time.time() - t\n"
    "print(f'{e:.2f} s', e)",
    "functions that only compute": "def f(v):\n    with torch.no_grad():\n        h = v * w\n"
    "    return h.sum()\nprint(f'{f(x):.3f}', f(2.))\nassert f(x) > 0, f(x).item()\ny = x * 3",
    "what is printed of tensors": "l = [x]\nd = {'a': x}\n"
    "print(x.sort(), (x * 2).mean().item(), x.detach().numpy(), l.index(x), d.keys(), w.grad_fn)\n"
    "print('{} {}'.format(x.tolist(), type(x)), torch.allclose(x, x))\n"
    "print([v.sum().item() for v in l])\n"
    "print(F.normalize(x, dim=0), torch.nn.ReLU()(x), sorted(l, key=lambda v: v.sum().item()))\n"
    "assert torch.equal(x, x) and isinstance(x, torch.Tensor)\ny = x * 2",
    "numbers that are noted": "losses, total, hits = [], 0., 0\nfor k in range(3):\n"
    "    loss = (w * k).sum()\n    losses.append(loss.item())\n    total += loss.item() * len(x)\n"
    "    hits += (x > 1).sum().item()\n    loss.backward()\n"
    "avg, accuracy = sum(losses) / len(losses), hits / 3\nprint(f'{avg:.3f}', '%.2f' % total)\n"
    "ok = torch.allclose(x, x * 1)\nprint(ok, x.tolist(), [l for l in losses][-1])\ny = x * 2",
    "logs": "import logging\nlogging.info('x %s', x.sum().item())\ny = x * 2",
    "zip is used up": "z = zip([1., 2.], [3., 4.])\na = list(z)\nb = list(z)\n"
    "y = x * len(a) + len(b)",
    "reversed is used up": "r = reversed([1., 2.])\ny = x\nfor k in r:\n    y = y * 2\n"
    "for k in r:\n    y = y * 3",
    "a generator is used up": "g = (k for k in range(3))\ny = x * sum(g) + sum(g)",
    "a loop goes on with an iterator": "e = enumerate([1., 2., 3.])\ny = x\n"
    "for k, v in e:\n    break\nfor k, v in e:\n    y = y * v + k",
    "a generator computes when it is asked": "torch.manual_seed(0)\n"
    "g = (torch.randn(2) for _ in range(2))\na = torch.randn(2)\nb, c = g",
    "a loop over a generator": "torch.manual_seed(0)\ny = x\n"
    "for a in (torch.randn(2) for _ in range(2)):\n    y = y + a * torch.randn(2)",
    "a walrus in a comprehension": "l = [(last := k * 2) for k in range(4)]\ny = x * last",
    "a walrus in a function's comprehension": "def f():\n    [(m := k) for k in range(4)]\n"
    "    return m\ny = x * f()",
    "a walrus on its own line": "(k := 3, 1)\ny = x * k",
    "global": "k = 1\ndef f():\n    global k\n    k += 1\nf()\nf()\ny = x * k",
    "nonlocal": "def f():\n    k = 1\n    def g():\n        nonlocal k\n        k *= 5\n    g()\n"
    "    return k\ny = x * f()",
    "views of a dict": "d = {'a': 1}\nv = d.values()\nd['b'] = 2\ny = x * sum(v) * len(d.items())\n"
    "for k, n in d.items():\n    y = y + n\nb = 'b' in d.keys()\ny = y * (2 if b else 3)",
    "a list that grows in its loop": "l = [1.]\nfor v in l:\n    x = x * 2\n"
    "    if len(l) < 4:\n        l.append(v)",
    "a list that shrinks in its loop": "l = [1., 2., 3.]\nfor v in l:\n    x = x * v\n    l.pop(0)",
    "the end before the end": "import sys\ny = x * 2\nif len(x) == 2:\n    sys.exit()\ny = y * 3",
    "the end inside a function": "def f(v):\n    z = v * 2\n    exit(0)\n    return z\ny = f(x)",
    "a rest": "a, *rest = [1., 2., 3.]\n*most, b = (4., 5.)\n(c, *d), e = [6., 7.], 8.\n"
    "y = x * len(rest) * most[0] + rest[1] * b + d[0]\n"
    "for f, *g in [(1., 2., 3.)]:\n    y = y * g[1]",
    "a rest of a tensor": "a, *rest = torch.tensor([1., 2., 3.])\ny = rest[1] * len(rest)",
    "a list times a number in place": "a = b = [1., 2.]\na *= 2\ny = x * len(b)",
    "a list is extended in place": "a = [1]\nb = a\na += [2]\ny = x * len(b)",
    "an array does not follow its list": "import numpy as np\nl = [1., 2.]\na = np.array(l)\n"
    "l.append(3.)\ny = torch.from_numpy(a) * 2",
    "a part of a list": "a = [1., 2., 3.]\na[1:] = [5.]\ny = x * a[1] * len(a)",
    "a name of a loop in a function": "def f(v):\n    for k in range(3):\n        v = v * k + 1\n"
    "    return v + k\ny = f(x)",
    "a text that is repeated": "y = x * len('ab' * 3)",
    "an empty gradient does not hold": "y = x * (2 if w.grad or False else 3)",
    "a dict of what a comprehension gives": "d = {f'k{k}': x * k for k in range(3) if k != 1}\n"
    "y = sum(d.values()) + len(d)\nfor k, v in {k: v for v, k in [(1., 2), (2., 3)]}.items():\n"
    "    y = y * k + v",
    "a dict is made in order": "l = [1, 2, 3, 4]\nd = {l.pop(): l.pop(), l.pop(): l.pop()}\n"
    "torch.manual_seed(0)\ne = {len([a := torch.randn(2)]): torch.randn(2)}\ny = a - e[1]\n"
    "z = x * d[4] + d[2]",
    "the same function": "f = torch.relu\ny = x * (2 if f is torch.relu else 3)",
    "what is not the same": "a = 1\nb = True\ny = x * (2 if a is None else 3) * (b is not a)",
    "the same dtype": "y = x * (2 if x.dtype is torch.float32 else 3)",
}

ENDS = ("the end before the end", "the end inside a function")


@pytest.mark.parametrize("name", [name for name in READ if name not in ENDS])
def test_a_script_means_what_python_makes_of_it(name: str) -> None:
    check(HEAD + READ[name])


@pytest.mark.parametrize("name", ENDS)
def test_nothing_is_read_behind_the_end(name: str) -> None:
    assert len(from_python(HEAD + READ[name])["ops"]) == 1


REFUSED = {
    "a number that is another": ("a = 1000\nb = 1000\ny = x if a is b else w", "write =="),
    "a text that is another": (
        "def f(r='mean'):\n    return x if r is 'mean' else w\ny = f()", "write =="),
    "a builtin that is not read": ("y = hasattr(x, 'T')", "Python's own hasattr is not read"),
    "sorted by a key": ("sorted([2., 1.], key=lambda v: -v)", "with the keyword reverse only"),
    "max by a key": ("max([1., -2.], key=lambda v: -v)", "max is read without keywords"),
    "pop by a keyword": ("[1].pop(index=0)", "without keywords"),
    "an array of more dimensions": ("import numpy as np\nnp.array([1.], ndmin=2)", "numbers and a"),
    "a keyword twice": ("torch.sum(x, dim=0, **{'dim': 0})", "given twice"),
    "the length of an unknown text": ("len(f'{x}')", "no length"),
    "an unknown text as a key": ("d = {f'{x}': 1}", "keys of a dict"),
    "an unknown text as a key to set": ("d = {}\nd[f'{x}'] = 1", "only when the graph runs"),
    "an unknown text that is compared": ("y = 1 if f'{x}' == 'a' else 2", "only when the graph"),
    "an unknown text that decides": ("y = 1 if f'{x}' else 2", "only when the graph runs"),
    "an unknown text as an argument": ("torch.einsum(f'{x}', x)", "fit none"),
    "a backward pass in a text": ("s = f'{w.backward()}'", "line of its own"),
    "a text on its own line": ("l = [1]\nf'{l.pop()}'", "line of its own"),
    "a very wide text": ("s = f'{1:1000000}'", "1000 places"),
    "a path that decides": ("import os\ny = 1 if os.path.exists('/') else 2", "the script runs"),
    "backward in a function": ("def f():\n    w.backward()\nprint(f())", "line of its own"),
    "pop in a print": ("l = [1, 2]\nprint(l.pop())", "line of its own"),
    "append in an assert": ("l = [1, 2]\nassert l.append(3) is None", "line of its own"),
    "a draw by another name": ("from torch import randn as rn\nprint(rn(3))", "line of its own"),
    "gumbel": ("print(F.gumbel_softmax(x))", "line of its own"),
    "a dropout layer": ("print(torch.nn.Dropout()(x))", "line of its own"),
    "a draw in a log": ("import logging\nlogging.debug(torch.randn(3))", "line of its own"),
    "a draw by a method": ("print((x / 9).bernoulli())", "line of its own"),
    "a function that is passed on": (
        "l = []\ndef f(v):\n    return l.append(v)\nprint(sorted([1], key=f))", "line of its own"),
    "a change of a parameter": ("def f(v):\n    v += 1\n    return v\nprint(f(x))", "of its own"),
    "an iterator that is printed": ("z = zip([1], [2])\nprint(list(z))", "line of its own"),
    "in place by position": ("print(F.elu(x, 1.0, True))", "line of its own"),
    "a layer in place by position": ("print(torch.nn.ReLU(True)(x))", "line of its own"),
    "rows that are scaled in place": (
        "print(F.embedding(torch.tensor([0]), x.expand(1, 2), max_norm=1.0))", "line of its own"),
    "a ufunc that is given where to write": (
        "import numpy as np\nprint(np.add(x.numpy(), 1, x.numpy()))", "line of its own"),
    "an array that is filled": ("print(x.numpy().fill(3))", "line of its own"),
    "a method that is mapped": ("l = []\nprint(list(map(l.append, [1])))", "line of its own"),
    "a change that is mapped": ("print(list(map(F.relu_, [x])))", "line of its own"),
    "a method of a type": ("l = []\nprint(list.append(l, 3))", "line of its own"),
    "a sort of a list": ("l = [2, 1]\nprint(l.sort())", "line of its own"),
    "a method by another name": ("l = [1, 2]\np = l.pop\nprint(p())", "line of its own"),
    "a list in a random order": ("import random\nl = [1, 2]\nrandom.shuffle(l)", "shuffle"),
    "a shuffle by another name": ("from random import shuffle as s\ns([1])", "shuffle"),
    "a dict that grows in its loop": ("d = {1: 1}\nfor k in d:\n    d[k + 1] = 1", "changed size"),
    "zip of unequal lists": ("list(zip([1], [], strict=True))", "zip() argument 2"),
    "a slice of another length": ("a = [1., 2., 3., 4.]\na[::2] = [1.]", "ValueError"),
    "len of nothing": ("len()", "missing a required argument"),
    "len of two": ("len([1], [2])", "too many positional"),
    "sum of nothing": ("sum()", "missing a required argument"),
    "enumerate of nothing": ("enumerate()", "missing a required argument"),
    "enumerate from a text": ("enumerate([1], 'a')", "TypeError"),
    "slice of nothing": ("slice()", "TypeError"),
    "bytearray of nothing": ("bytearray()", "missing a required argument"),
    "set_grad_enabled without a call": ("with torch.set_grad_enabled:\n    pass", "with is read"),
    "a list that holds itself": ("a = [1]\na.append(a)\ny = x[a]", "more than 1000000 items"),
    "a list with itself": ("a = [1]\na.append(a)\nb = a == [2]", "more than 1000000 items"),
    "a list that doubles": ("a = [1]\nfor i in range(40):\n    a.extend(a)", "1000000 items"),
    "a list that doubles by +=": ("a = [1]\nfor i in range(40):\n    a += a", "1000000 items"),
    "a list that doubles by *=": ("a = [1]\nfor i in range(40):\n    a *= 2", "1000000 items"),
    "a slice that doubles": ("a = [1]\nfor i in range(40):\n    a[0:0] = a", "1000000 items"),
    "a text that doubles": ("s = 'ab'\nfor i in range(45):\n    s = s + s", "1000000 items"),
    "many long lists": ("l = []\nfor i in range(99):\n    l.append([0] * 10**6)", "in all"),
    "lists of lists": (
        "l = [1.]\nfor i in range(60):\n    l = [l, l]\ny = torch.tensor(l)", "items"),
    "lists of lists as an index": (
        "l = [1]\nfor i in range(60):\n    l = [l, l]\ny = x[l]", "items"),
    "lists of lists compared": (
        "l = m = [1]\nfor i in range(60):\n    l = [l, l]\n    m = [m, m]\ny = l == m", "items"),
    "a special method": ("x.__add__(2)", "write the operator itself"),
    "a special function": ("torch.Tensor.__add__(x, 2)", "write the operator itself"),
    "a deep expression": ("y = 'x'" + " + '**1'" * 30000, ": "),
    "break in a function": ("def f():\n    break\nfor i in range(3):\n    f()", "outside loop"),
    "return outside": ("return 1", "outside function"),
    "too few names for a tensor": ("x = torch.ones(3)\na, b = x", "3 values for 2 names"),
    "too few values for a rest": ("a, b, *c = [1.]", "1 values for 2 names"),
    "an unbound local": ("k = 1\ndef f():\n    k += 1\n    return k\ny = f()", "belongs to this"),
    "a local before it is there": ("k = 1\ndef f():\n    y = k\n    k = 2\nf()", "belongs to this"),
    "a name that is deleted twice": ("k = 1\ndel k\ndel k", "no name"),
    "tensors in lists that are compared": ("y = [x] == [x * 1]", "values of the tensors"),
    "a tensor in a list that is looked for": ("l = [x, w]\nl.remove(w)", "values of the tensors"),
    "a gradient that decides": ("w.backward()\ny = 1 if w.grad else 2", "torch.where"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_in_words(name: str) -> None:
    source, words = REFUSED[name]
    with pytest.raises(GradtraceError) as raised:
        from_python(HEAD + source)
    message = raised.value.errors[0].message
    assert words in message
    assert not message.endswith(": ")


def test_nested_lists_that_nothing_looks_into_are_only_named() -> None:
    source = HEAD + "l = x\nfor i in range(60):\n    l = [l, l]\ny = x * 2"
    assert len(from_python(source)["ops"]) == 1


def test_what_the_parser_has_no_room_for_is_said() -> None:
    with pytest.raises(GradtraceError, match=r"line 1, column 1: \w"):
        from_python('"x"+"' + "**1" * 3000 + '"' + "**1" * 3000)
