"""What a reader got wrong once: calls that meant another graph, and short texts without an end."""

from __future__ import annotations

from time import process_time

import pytest

from service.contract.problem import GradtraceError
from service.translate.from_python import from_python, read
from tests.translate.oracle import check

HEAD = "import torch\nimport torch.nn.functional as F\n"
PICTURE = "x = torch.arange(32.).view(1, 2, 4, 4)\n"
CUBE = "x = torch.arange(16.).view(1, 2, 2, 2, 2)\n"
ROW = "x = torch.arange(6.)\n"

SIZES = {
    "one size of a pool in 1d": ROW + "y = F.adaptive_avg_pool1d(x.view(1, 6), 2)",
    "one size of a pool in 2d": PICTURE + "y = F.adaptive_avg_pool2d(x, 1)",
    "one size of a pool in 2d by name": PICTURE + "y = F.adaptive_avg_pool2d(x, output_size=2)",
    "two sizes of a pool in 2d": PICTURE + "y = F.adaptive_avg_pool2d(x, (1, 2))",
    "a size of a pool that is not said": PICTURE + "y = F.adaptive_avg_pool2d(x, (None, 2))",
    "one size of a pool in 3d": CUBE + "y = F.adaptive_avg_pool3d(x, 1)",
    "one size of the best in 2d": PICTURE + "y = F.adaptive_max_pool2d(x, 1)",
    "one size of a kernel's pool": PICTURE
    + "y = torch.ops.aten.adaptive_avg_pool2d.default(x, [2, 2])",
    "sizes of methods": ROW + "a = x.view(6)\nb = x.reshape(2, 3)\nc = b.permute(1, 0)\n"
    "d = x.repeat(2)\ne = x[:1].expand(4)\nf = x.flip(0)\ng = x.tile(2, 2)\nh = x.new_ones(3)\n"
    "i = x.new_zeros(2, 2)\nj = b.sum_to_size(3)\nk = b.squeeze(0)\nl = b.count_nonzero(0)",
    "sizes of functions": "a = torch.ones(2)\nb = torch.zeros(2, 3)\nc = torch.tile(a, (2,))",
    "dimensions of functions": PICTURE + "a = torch.fft.fftshift(x, 0)\nb = x.std(1)\n"
    "c = torch.std(x, (1, 2))\nd = torch.var(x, 2)\ne = torch.fft.ifftshift(x, (2, 3))",
    "sections": ROW + "a, b = x.hsplit(2)\nc, d = torch.hsplit(x, [2])\n",
    "a place in a shape": "i = torch.arange(6)\n(a,) = torch.unravel_index(i, 6)\n"
    "b, c = torch.unravel_index(i, (2, 3))",
}

TYPES = {
    f"{name} of {first} like {second}": f"t = torch.tensor([[1, 0]], dtype=torch.{first})\n"
    f"x = torch.tensor([[1, 2]], dtype=torch.{second})\nv = t.{name}(x)\n"
    "w = torch.ones(2, dtype=v.dtype)"
    for name in ("view_as", "expand_as", "reshape_as")
    for first in ("int64", "bool", "float32", "complex64")
    for second in ("int32", "float32", "float64")
}

MASKS = """
c = torch.tensor([True, False])
o = torch.tensor([False, True])
m = torch.tensor([True, True])
"""
WEIGHT = "w = torch.tensor([1., 2.], requires_grad=True)\n"

ON_CLASS = {
    "where": MASKS + "y = torch.Tensor.where(c, o, m)",
    "where by name": MASKS + "y = torch.Tensor.where(c, condition=o, other=m)",
    "where of a class that is imported": "from torch import Tensor\n"
    + MASKS
    + "y = Tensor.where(c, o, m)",
    "where of torch": MASKS + "y = torch.where(c, o, m)",
    "where of a parameter": MASKS + "y = torch.nn.Parameter.where(c, o, m)",
    "what is a number": WEIGHT + "y = w * torch.Tensor.size(w, 0) + torch.Tensor.dim(w)\n"
    "z = w * torch.Tensor.numel(w)",
    "conversions": WEIGHT + "y = torch.Tensor.to(w, torch.float64)\n"
    "z = torch.Tensor.type(w, torch.int64)\nc = torch.Tensor.cpu(w)\nd = torch.Tensor.clone(w)",
    "backward": WEIGHT + "y = w * 3\ntorch.Tensor.retain_grad(y)\n"
    "torch.Tensor.backward(torch.Tensor.sum(y * w))",
    "a leaf": "w = torch.ones(2)\ntorch.Tensor.requires_grad_(w)\n(w * w).sum().backward()",
    "everyday methods": WEIGHT + "y = torch.Tensor.add(w, 2, alpha=3)\n"
    "z = torch.Tensor.view(y, 2, 1)\nv = torch.Tensor.view_as(y, z)",
}

LISTED = {
    f"{name} of {what}": "x, z = torch.tensor(3.), torch.tensor([1., 2.])\n"
    f"y = torch.{name}({what}){index}"
    for name in ("atleast_1d", "atleast_2d", "atleast_3d")
    for what, index in [("[x]", "[0]"), ("(x,)", "[0]"), ("[x, z]", "[1]"), ("x", "[0]")]
}


@pytest.mark.parametrize(
    "source",
    [*SIZES.values(), *TYPES.values(), *ON_CLASS.values(), *LISTED.values()],
    ids=[*SIZES, *TYPES, *ON_CLASS, *LISTED],
)
def test_a_call_means_what_it_means_in_pytorch(source: str) -> None:
    check(HEAD + source)


def test_a_list_of_one_tensor_is_unpacked_as_one() -> None:
    check(HEAD + "x = torch.tensor(3.)\n(y,) = torch.atleast_2d([x])\nz = torch.atleast_2d(x)")


REFUSED = {
    "torch.Tensor.where()": "first argument is a tensor",
    "torch.Tensor.add(2, x)": "first argument is a tensor",
    "torch.Tensor.pow_(x, 1)": "in place",
    "torch.Tensor.T(x)": "is no method",
    "torch.Tensor.numpy(x)": "only when the graph runs",
}


@pytest.mark.parametrize(("call", "words"), REFUSED.items())
def test_what_is_no_method_of_a_tensor_is_refused(call: str, words: str) -> None:
    with pytest.raises(GradtraceError, match=words):
        from_python(f"{HEAD}x = torch.ones(2)\ny = {call}")


# --- texts that took long: what they ask for is counted before it is made ------------------------

ENDLESS = {
    "digits": ("x = round(5, -20000000)", "bits"),
    "digits of a bool": ("x = round(True, -20000000)", "bits"),
    "a number in another base": ("x = int('f' * 100000, 16)", "bits"),
    "a loop over rows": ("for r in torch.zeros(3000000):\n    pass", "items"),
    "rows by name": ("a, b = torch.zeros(3000000)", "items"),
    "a rest of rows": ("a, *b = torch.zeros(3000000)", "items"),
    "rows as arguments": ("x = torch.cat(*torch.zeros(3000000))", "items"),
    "a list of rows": ("x = list(torch.zeros(3000000))", "items"),
    "a loop over parts": ("x = torch.zeros(3000000, 1)\nfor r in x.unbind():\n    pass", "items"),
    "parts in a list": ("x = torch.zeros(3000000, 1)\ny = torch.stack(x.unbind())", "steps"),
    "a long list of tensors": ("x = [torch.ones(1)] * 1000000\ny = torch.cat(x)", "steps"),
    "a list that a layer is given": (
        "f = torch.nn.ReLU()\nfor i in range(20):\n    y = f([torch.ones(1)] * 1000000)",
        "steps",
    ),
    "inputs of a gradient": (
        "x = torch.ones(1, requires_grad=True)\ny = torch.autograd.grad(x.sum(), [x] * 1000000)",
        "steps",
    ),
}


@pytest.mark.parametrize(("source", "words"), ENDLESS.values(), ids=ENDLESS)
def test_what_a_short_text_asks_for_is_bounded(source: str, words: str) -> None:
    with pytest.raises(GradtraceError, match=words):
        from_python(HEAD + source)


SLOW = {
    "a tuple joined with nothing": ("x = (1,) * 999000", "x += ()"),
    "a tuple repeated once": ("x = (1,) * 999000", "x *= 1"),
    "a tuple by another name": ("x = (1,) * 999000", "y = x"),
    "a list of one tensor": ("x = [torch.ones(1)] * 999000", "y = x"),
    "a membership": ("x = [1] * 999000", "y = 1 in x"),
    "an insertion": ("x = [1] * 990000", "x.insert(0, 1)"),
    "a reversal": ("x = [1] * 999000", "x.reverse()"),
    "a text in another": ("x = 'a' * 999000", "y = x in x"),
    "a text in a text": ("x = 'a' * 999000", "y = f'{x}b'"),
    "a list in a text": ("x = [1] * 999000", "y = f'{x}'"),
    "what is the same": ("x = [1] * 999000", "y = x is x"),
}


@pytest.mark.parametrize(("before", "again"), SLOW.values(), ids=SLOW)
def test_a_statement_on_a_long_list_is_counted_and_fast(before: str, again: str) -> None:
    begun = process_time()
    with pytest.raises(GradtraceError, match="items in all"):
        from_python(f"{HEAD}{before}\nfor i in range(5000):\n    {again}")
    assert process_time() - begun < 10


@pytest.mark.parametrize("source", ["x = ['a' * 999000] * 1000\ny = f'{x}'", "float('1' * 5000)"])
def test_long_texts_are_refused(source: str) -> None:
    with pytest.raises(GradtraceError, match=r"items|characters"):
        from_python(HEAD + source)


SPREADS = {
    f"{call}({ending})": f"y = torch.{call}(x, {ending})"
    for call in ("std", "var", "masked.std", "masked.var")
    for ending in ("correction=0.5", "correction=2", "dim=0, correction=0.5", "correction=True")
} | {
    "masked.std of a mask": "y = torch.masked.std(x, 0, correction=0.5, mask=x > 1)",
    "std_mean": "y, z = torch.std_mean(x, correction=0.5)",
}


@pytest.mark.parametrize("name", SPREADS)
def test_a_correction_is_any_number(name: str) -> None:
    check(HEAD + ROW.replace("x =", "x = 1 +") + SPREADS[name])


LISTS = {
    "interpolate": PICTURE + "y = F.interpolate(x, size=[2, 3])\nz = F.interpolate(x, 3)\n"
    "a = F.interpolate(x, scale_factor=2)\nb = F.interpolate(x, scale_factor=(2, 0.5))",
    "norm": PICTURE + "y = torch.norm(x, dim=(2, 3))\nz = torch.norm(x, dim=1)\n"
    "a = x.norm(dim=(0, 1))",
    "normalize": PICTURE + "y = F.normalize(x + 1, dim=(2, 3))\nz = F.normalize(x + 1, dim=2)",
    "adaptive": PICTURE + "y = F.adaptive_max_pool2d(x, (None, 2))\n"
    "z = F.adaptive_avg_pool2d(x, [2, None])",
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_read_where_numbers_are(name: str) -> None:
    check(HEAD + LISTS[name])


ADDING_UP = {
    "rows": "a, *b = torch.zeros({})",
    "parts": "x = torch.zeros({}, 1)\na, *b = x.unbind()",
    "tensors of a function": "x = torch.cat([torch.ones(1)] * {})",
    "sizes of a method": "x = torch.ones(1).repeat([1] * {})",
    "sizes by name": "x = torch.ones(1).repeat(repeats=[1] * {})",
}


@pytest.mark.parametrize("source", ADDING_UP.values(), ids=ADDING_UP)
def test_what_an_op_is_given_or_makes_is_counted_as_steps(source: str) -> None:
    few, many = (read(HEAD + source.format(count)).steps for count in (10, 1010))
    assert many - few == 1000


def test_rounding_is_python_s_up_to_the_bound() -> None:
    check(
        HEAD + "a = torch.tensor([round(15, -1), round(25, -1), round(5, -30), round(7, 30), "
        "round(7), round(True, 0)])\nb = torch.tensor([round(2.675, 2), round(5., -400), "
        "round(1.5)])"
    )


def test_rows_of_a_tensor_are_read_as_before() -> None:
    source = HEAD + "x = torch.arange(6.).view(3, 2)\ny = 0\nfor r in x:\n    y = y * 2 + r\n"
    source += (
        "a, *rest = x\nb = torch.stack(list(reversed(rest)))\nc = max(len(r) for r in x) * x\n"
    )
    check(source + "d = torch.stack([p * q for p, q in zip(x, x * 2)])\n")


def test_numbers_of_a_leaf_are_no_steps() -> None:
    assert len(from_python(f"{HEAD}x = torch.tensor([1.0] * 600000)")["leaves"]) == 1
