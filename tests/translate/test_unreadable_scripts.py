"""What has no meaning in a graph is refused, with line, column and the reason."""

from __future__ import annotations

import re

import pytest

from service.contract.problem import GradtraceError, ProblemCode
from service.translate.from_python import from_python

INVALID = ProblemCode.INVALID_REQUEST
DOUBLES = "torch.set_default_dtype(torch.float64)\ni = torch.arange(3)\nx = i / 2"
TWICE = """x = torch.ones(2, requires_grad=True)
y = x * 2
a = y.sum()
b = (y * y).sum()
w = torch.ones(2, requires_grad=True)
(a + w.sum()).backward()
x.grad.zero_()
b.backward()"""
CASES: list[tuple[str, int, int, str, ProblemCode]] = [
    ("x = torch.ones(2)\nx.addcmul_(x, x)", 3, 1, "in place", INVALID),
    ("x = torch.ones(2)\nF = torch.relu_(x)", 3, 5, "in place", INVALID),
    ("x = torch.ones(3, 2)\nh, e = torch.histogramdd(x, 2)", 3, 1, "within a tuple", INVALID),
    (
        "y = torch.special.i1e(torch.ones(1))\nw = torch.tensor([0.1], dtype=y.dtype)",
        3, 5, "dtype is known only", INVALID,
    ),
    ("x = torch.ones(2)\nx[0] = 5", 3, 1, "in place", INVALID),
    ("x = torch.ones(1)\ny = x.item() * 2 * x", 3, 5, "only when the graph runs", INVALID),
    ("x = torch.ones(1)\nif x.item() > 0:\n    y = 1", 3, 4, "only when the graph runs", INVALID),
    ("x = torch.ones(1)\ny = torch.tensor([x.item()])", 3, 5, "only when the script runs", INVALID),
    ("x = torch.ones(1)\nfor v in x.tolist():\n    y = 1", 3, 10, "only when the script", INVALID),
    ("x = torch.ones(1)\nif torch.equal(x, x):\n    y = 1", 3, 4, "only when the graph", INVALID),
    ("x = torch.ones(2)\ny = x.item()", 3, 5, "2 elements cannot be converted to Scalar", INVALID),
    ("x = torch.ones(2)\ny = x.numpy()", 3, 5, "only when the graph runs", INVALID),
    ("x = torch.ones(2)\ny = 1 + x.data", 3, 9, "detach", INVALID),
    ("x = torch.ones(2)\nif x.sum() > 1:\n    y = 1", 3, 4, "torch.where", INVALID),
    ("x = torch.ones(2)\nwhile x.sum() < 9:\n    x = x + x", 3, 7, "torch.where", INVALID),
    ("x = torch.ones(2)\ny = x and x", 3, 5, "& and |", INVALID),
    ("x = torch.ones(2)\ny = not x", 3, 5, "logical_not", INVALID),
    ("x = torch.ones(2)\ny = float(x)", 3, 5, "value", INVALID),
    ("x = torch.ones(2)\nfor i in x[x > 0]:\n    y = i", 3, 10, "when the graph runs", INVALID),
    ("x = torch.ones(2)\nx.div_(2, rounding_mode='floor')", 3, 1, "write x = x.div(...)", INVALID),
    ("x = torch.ones(2)\nx = x.normal()", 3, 5, "has no method normal", INVALID),
    ("x = torch.ones(2)\nx.normal_()", 3, 1, "write x = torch.randn_like(x)", INVALID),
    ("x = torch.ones(2)\nx.random_(3)", 3, 1, "write what makes a new tensor", INVALID),
    ("x = torch.ones(2)\nx.relu_()", 3, 1, "write x = x.relu(...)", INVALID),
    ("x = torch.ones(2)\nx.data -= 1", 3, 1, "torch.no_grad()", INVALID),
    ("o = torch.optim.RMSprop([], lr=1)", 2, 5, "w -= lr * w.grad", INVALID),
    ("y = z + 1", 2, 5, "not defined", INVALID),
    ("x = torch.ones(2)\n\ny = torch.foo(x)", 4, 5, "no op foo", ProblemCode.UNKNOWN_OP),
    ("x = torch(1)", 2, 5, "torch cannot be called", INVALID),
    ("x = torch.load('model.pt')", 2, 5, "no file is read", INVALID),
    ("x = torch.empty(3)", 2, 1, "uninitialised", INVALID),
    ("x = torch.Tensor(3)", 2, 5, "uninitialised", INVALID),
    ("x = torch.tensor([1, 2], requires_grad=True)", 2, 5, "Only Tensors of floating", INVALID),
    ("x = torch.tensor([[1.0], [2.0, 3.0]])", 2, 5, "differ in length", INVALID),
    ("a = torch.ones(1)\nx = torch.tensor([a, a])", 3, 5, "torch.stack", INVALID),
    ("x = torch.ones(2).sum(3, 4, 5, 6)", 2, 5, "signatures of sum", INVALID),
    ("import torch.nn as nn\nm = nn.LSTM(2, 3)", 3, 5, "many ops in one module", INVALID),
    ("class Net(dict):\n    pass", 2, 11, "hold a module", INVALID),
    ("x = torch.ones(2).cuda()", 2, 5, "request's `device`", INVALID),
    ("x = torch.ones(2, device='cuda')", 2, 5, "request's `device`", INVALID),
    ("x = 2 ** 10 ** 8", 2, 5, "bits", INVALID),
    ("x = 1 / 0", 2, 5, "ZeroDivisionError", INVALID),
    ("x = [0] * 10 ** 9", 2, 5, "items", INVALID),
    ("for i in range(10 ** 9):\n    pass", 2, 10, "items", INVALID),
    ("while True:\n    pass", 2, 7, "steps", INVALID),
    ("def f(x):\n    return f(x)\ny = f(1)", 3, 12, "deep", INVALID),
    ("x = torch.ones(2, requires_grad=True)\nx += 1", 3, 1, "leaf Variable", INVALID),
    ("x = torch.ones(4)\nv = x.view(2, 2)\nv += 1", 4, 1, "share memory", INVALID),
    ("print(torch.randn(2))", 2, 7, "line of its own", INVALID),
    ("x = torch.ones(2)\nw = x.grad + 1", 3, 5, ".grad is None", INVALID),
    ("import numpy as np\nx = np.dot(1, 2)", 3, 5, "not PyTorch", INVALID),
    ("try:\n    pass\nexcept ValueError:\n    pass", 2, 1, "try", INVALID),
    ("break", 2, 1, "break", INVALID),
    ("x = (1 +", 2, 5, "never closed", INVALID),
    ("x = 1", 1, 1, "makes no tensor", INVALID),
    ("ä = 1; é = ü", 2, 12, "not defined", INVALID),
    ("x = torch.manual_seed(-1)", 2, 5, "seed", INVALID),
    (DOUBLES, 4, 5, "default dtype", INVALID),
    ("x = torch.tensor(2**64)", 2, 5, "Overflow when unpacking long long", INVALID),
    ("x = torch.tensor([1, -2**63 - 1])", 2, 5, "Overflow when unpacking", INVALID),
    ("x = torch.tensor([1.5, 10**400])", 2, 5, "too large to convert to float", INVALID),
    ("x = torch.tensor([1j, 10**400])", 2, 5, "too large to convert to float", INVALID),
    ("x = torch.ones(2) * 2**64", 2, 5, "64 bits", ProblemCode.BAD_ARGUMENTS),
    ("x = torch.tensor([[0] * 10**4] * 10**4)", 2, 5, "more than 1000000 items", INVALID),
    ("x = torch.tensor([[]] * 10**6).sum() + torch.tensor([[[]] * 2000] * 2000)", 2, 40,
     "more than 1000000 items", INVALID),
    (TWICE, 9, 1, "split the script", INVALID),
]  # fmt: skip


@pytest.mark.parametrize(("source", "line", "column", "words", "code"), CASES)
def test_an_unreadable_script_is_told_where_and_why(
    source: str, line: int, column: int, words: str, code: ProblemCode
) -> None:
    with pytest.raises(GradtraceError) as raised:
        from_python("import torch\n" + source)
    (error,) = raised.value.errors
    assert error.code == code
    assert error.pointer == "/source"
    place = re.match(r"line (\d+), column (\d+): ", error.message)
    assert place is not None
    assert words in error.message
    assert (int(place[1]), int(place[2])) == (line, column), error.message


def test_deep_expressions_are_refused_or_read_but_never_overflow() -> None:
    long_sum = "import torch\nx = torch.ones(1)\ny = " + " + ".join(["x"] * 800)
    assert len(from_python(long_sum)["ops"]) == 800
    for source in ("x = " + "(" * 5000 + ")" * 5000, "x = " + "-" * 50_000 + "1", "x = [" * 900):
        with pytest.raises(GradtraceError, match="line 1"):
            from_python(source)


def test_a_byte_order_mark_is_passed_over_as_in_a_file() -> None:
    assert len(from_python("\ufeffimport torch\nx = torch.ones(2)")["ops"]) == 1


def test_a_null_byte_is_no_python() -> None:
    with pytest.raises(GradtraceError, match="line 1"):
        from_python("x = 1\0")


@pytest.mark.parametrize("long", ["k" * 600_000, "k " * 300_000])
@pytest.mark.parametrize(
    "script",
    [
        'x = {}["%s"]',
        '[].index("%s")',
        'd = {}\nd["%s"] += 1',
        '{}[("%s",)]',
        'torch.ones(2).to("%s")',
        "torch.ones(2).%s()",
        "torch.nn.%s()",
        "torch.nn.functional.%s(torch.ones(2))",
    ],
)
def test_what_a_script_says_at_length_is_quoted_shortly(script: str, long: str) -> None:
    if '"' not in script:
        long = long.replace(" ", "_")
    with pytest.raises(GradtraceError) as refused:
        from_python("import torch\n" + script % long)
    assert len(refused.value.detail) < 600
