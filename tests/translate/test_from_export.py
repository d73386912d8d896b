"""An exported module means a graph: its parameters' gradients are the module's own."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from service.contract.problem import GradtraceError, InvalidRequest
from service.contract.response import GradStatus
from service.translate.from_export import from_export, from_export_file
from service.translate.from_python import from_python
from service.translate.to_python import to_python
from tests.translate.oracle import same, trace_of

Inputs = tuple[Any, ...]
SEED = 11


class ConvNet(nn.Module):
    """Convolution, batch norm that trains, in-place ops, views written into, a no_grad block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        h = self.act(self.norm(self.conv(x)))
        h, _ = self.pool(h)
        h += 1
        h = functional.dropout(functional.adaptive_avg_pool2d(h, 1).flatten(1), 0.25, self.training)
        with torch.no_grad():
            scale = (h * 2).mean()
        bias = torch.zeros(2, 5)
        bias[:, 1] = scale
        bias[0] += 2
        bias.t()[2:4].unsqueeze(0).mul_(h.sum())
        return functional.cross_entropy(self.head(h) + bias, target)


class Decoder(nn.Module):
    """A causal decoder whose embedding is also its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(8, 11, bias=False)
        self.out.weight = self.embed.weight
        mask = nn.Transformer.generate_square_subsequent_mask(6)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens: Tensor, *, targets: Tensor) -> Mapping[str, Tensor]:
        h = self.layers(self.embed(tokens), mask=self.mask, is_causal=True)
        logits = self.out(h)
        return {
            "logits": logits,
            "loss": functional.cross_entropy(logits.flatten(0, 1), targets.flatten()),
        }


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)


def own_gradients(module: nn.Module, args: Inputs, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the gradients that the module's own backward pass gives."""
    torch.manual_seed(SEED)
    out = module(*args, **kwargs)
    loss = out["loss"] if isinstance(out, dict) else out
    loss.backward(torch.ones_like(loss))
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    module.zero_grad()
    return gradients


def check(
    module: nn.Module, args: Inputs, kwargs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Compare all gradients of a module bit for bit; return the request."""
    request = from_export(torch.export.export(module, args, dict(kwargs or {})))
    request |= {"encoding": "base64", "retain_grad": True, "seed": SEED}
    nodes = trace_of(request)
    for name, gradient in own_gradients(module, args, kwargs or {}).items():
        assert gradient is not None
        raw = base64.b64encode(gradient.contiguous().numpy().tobytes()).decode()
        assert nodes[name]["grad_base64"] == raw, name
    for node in nodes.values():
        assert (node["grad_status"] == GradStatus.RETAINED) == (
            node["grad_base64"] is not None and not node["is_leaf"]
        )
    ops = {op["op"] for op in request["ops"]}
    assert all(op.startswith("aten.") and not op.split(".")[1].endswith("_") for op in ops)
    return request


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_a_convolutional_net_in_training() -> None:
    request = check(ConvNet().train(), (torch.randn(2, 3, 4, 4), torch.tensor([1, 2])))
    leaves = {leaf["id"]: leaf for leaf in request["leaves"]}
    assert leaves["norm.weight"]["requires_grad"]
    assert "requires_grad" not in leaves["norm.running_mean"]
    assert "aten.batch_norm.default" in {op["op"] for op in request["ops"]}


def test_a_convolutional_net_in_evaluation() -> None:
    check(ConvNet().eval(), (torch.randn(2, 3, 4, 4), torch.tensor([1, 2])))


def test_a_transformer_encoder_starts_with_ones() -> None:
    request = check(encoder().train(), (torch.randn(2, 5, 8),))
    (root,) = request["backward"]
    assert base64.b64decode(root["gradient_base64"]) == torch.ones(2, 5, 8).numpy().tobytes()


def test_a_causal_decoder_with_a_tied_embedding_has_it_as_one_leaf() -> None:
    tokens = torch.randint(0, 11, (2, 6))
    request = check(Decoder().train(), (tokens,), {"targets": tokens.roll(1, 1)})
    names = [leaf["id"] for leaf in request["leaves"]]
    assert "embed.weight" in names
    assert "out.weight" not in names
    assert len(request["backward"]) == 1
    assert "gradient_base64" not in request["backward"][0]


def test_a_saved_program_is_the_same_graph(tmp_path: Path) -> None:
    tokens = torch.randint(0, 11, (1, 6))
    program = torch.export.export(Decoder(), (tokens,), {"targets": tokens})
    torch.export.save(program, tmp_path / "model.pt2")
    assert from_export_file(tmp_path / "model.pt2") == from_export(program)


def test_other_inputs_and_other_roots_can_be_given() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
            return x * scale, x.sum(), x.argmax()

    example = torch.ones(2, requires_grad=True)
    program = torch.export.export(Two(), (example, 3.0))
    other = torch.tensor([5.0, 7.0], requires_grad=True)
    request = from_export(program, (other, 3.0), roots=[0])
    nodes = trace_of(request)
    assert nodes["x"]["value"] == [5.0, 7.0]
    assert nodes["x"]["grad"] == [3.0, 3.0]
    assert [root["node"] for root in from_export(program)["backward"]] == ["sum_1"]


def test_a_program_survives_export_to_python() -> None:
    program = torch.export.export(ConvNet(), (torch.randn(2, 3, 4, 4), torch.tensor([1, 2])))
    request = from_export(program)
    assert trace_of(from_python(to_python(request))) == trace_of(request)


def test_a_view_is_looked_at_again_after_a_write() -> None:
    class Views(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            h = x * 1
            row, column = h[0], h[:, 1]
            flat = h.reshape(-1)
            copy = h.t().reshape(-1)
            row.mul_(3)
            h.add_(column.sum())
            flat[2] = 10.0
            return (h * flat.view(2, 2) + row + column + copy.view(2, 2)).sum()

    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    nodes = trace_of(from_export(torch.export.export(Views(), (x,))))
    out = Views()(x)
    out.backward()
    assert x.grad is not None
    assert nodes["x"]["grad"] == x.grad.tolist()


class AsksForValue(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.sum().item()


class DependsOnShape(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0] * 3)


class WritesIntoAnOutput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x * 1
        part = h.chunk(2)[0]
        part.add_(1)
        return h.sum()


class WritesThrough(nn.Module):
    """Writes into what ``look`` makes of a tensor, or into the tensor that it looks at."""

    def __init__(self, look: Callable[[Tensor], Tensor], *, back: bool) -> None:
        super().__init__()
        self.look, self.back = look, back

    def forward(self, x: Tensor) -> Tensor:
        h = x * 1
        part = self.look(h)
        (h if self.back else part).mul_(2)
        return (part if self.back else h).sum()


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize(
    "look",
    [
        lambda h: h.T,
        lambda h: h.swapaxes(0, 1),
        lambda h: h.ravel(),
        lambda h: h.broadcast_to(2, 3),
        lambda h: h.hsplit(3)[1],
        lambda h: torch.atleast_3d(h[0]),  # type: ignore[no-untyped-call]
        lambda h: torch.feature_dropout(h, 0.5, False),
    ],
)
def test_memory_that_is_shared_in_a_way_that_is_not_known_is_refused(
    look: Callable[[Tensor], Tensor], back: bool
) -> None:
    program = torch.export.export(WritesThrough(look, back=back), (torch.randn(2, 3),))
    with pytest.raises(InvalidRequest, match="a write into"):
        from_export(program)


class WritesUnderNoGrad(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x * 1
        with torch.no_grad():
            h[0].mul_(2)
        return h.sum()


class WritesElu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.elu(x * 1, inplace=True).sum()


@pytest.mark.parametrize(
    ("module", "words"),
    [(WritesUnderNoGrad(), "writes under no_grad"), (WritesElu(), "inplace=False")],
)
def test_what_is_written_in_place_with_another_gradient_is_refused(
    module: nn.Module, words: str
) -> None:
    program = torch.export.export(module, (torch.randn(2, 3, requires_grad=True),))
    with pytest.raises(InvalidRequest, match=words):
        from_export(program)


class KeepsItsDtype(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        half = (x * 1.001).bfloat16()
        half.add_(x)
        half.pow_(2)
        counts = torch.full([2, 3], 250, dtype=torch.uint8)
        counts.add_(torch.full([2, 3], 10))
        return (half.float() * counts).sum()


class IsEmptied(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x * 2
        h.zero_()
        return (h * x.detach()).sum()


class HasAnUntrackedOutput(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.zeros_like(x).sum(), x.new_zeros(()), (x * x).sum()


@pytest.mark.parametrize("module", [KeepsItsDtype(), IsEmptied(), HasAnUntrackedOutput()])
def test_what_pytorch_keeps_in_place_is_kept(module: nn.Module) -> None:
    x = torch.tensor([[1.0, 2.0, 3.0], [0.1, 0.7, 1e-3]], requires_grad=True)
    nodes = trace_of(from_export(torch.export.export(module, (x,))))
    out = module(x)
    (out[-1] if isinstance(out, tuple) else out).backward()
    assert x.grad is not None
    assert torch.equal(torch.tensor(nodes["x"]["grad"]), x.grad)


@pytest.mark.parametrize(
    "inputs", [(torch.ones(3), 2.0), (torch.ones(2), 3.0), (torch.ones(2).double(), 2.0)]
)
def test_inputs_that_the_program_was_not_exported_for_are_refused(inputs: Inputs) -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor, scale: float) -> Tensor:
            return x * scale + x.shape[0]

    program = torch.export.export(Scaled(), (torch.ones(2), 2.0))
    assert from_export(program, (torch.zeros(2), 2.0))
    with pytest.raises(InvalidRequest, match="the program"):
        from_export(program, inputs)


@pytest.mark.parametrize(
    ("module", "dynamic", "words"),
    [
        (AsksForValue(), None, "known only when the program runs"),
        (DependsOnShape(), {"x": {0: torch.export.Dim.DYNAMIC}}, "without dynamic shapes"),
        (WritesIntoAnOutput(), None, "a write into"),
    ],
)
def test_what_cannot_be_a_graph_is_told_with_its_node(
    module: nn.Module, dynamic: Any, words: str
) -> None:
    program = torch.export.export(module, (torch.randn(2, 3),), dynamic_shapes=dynamic)
    with pytest.raises(InvalidRequest, match=words):
        from_export(program)


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.new_zeros(3).uniform_()


def test_an_op_outside_the_catalogue_is_told_with_its_node() -> None:
    program = torch.export.export(Noisy(), (torch.randn(2, 3),))
    with pytest.raises(GradtraceError, match="uniform_: there is no op"):
        from_export(program)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(2, 3, num_layers=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.rnn(x)[0]
        return out.square().sum()


@pytest.mark.filterwarnings("ignore:The tensor attributes")
def test_a_recurrent_net() -> None:
    check(Recurrent(), (torch.randn(4, 2, 2),))


# --- memory that several tensors share ----------------------------------------------------------


class TwoInOneMemory(nn.Module):
    """Two parameters, and a buffer, that lie in the same memory."""

    c: Tensor

    def __init__(self, use: Callable[[TwoInOneMemory, Tensor], Tensor]) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        self.b = nn.Parameter(self.a.data)
        self.register_buffer("c", self.a.data)
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, x)


def loaded(module: nn.Module, path: Path, *args: Tensor) -> dict[str, Any]:
    torch.export.save(torch.export.export(module, args), path)
    return from_export_file(path)


def test_parameters_in_the_same_memory_are_leaves_of_their_own(tmp_path: Path) -> None:
    module = TwoInOneMemory(lambda m, x: (m.a * x + m.b.exp() * m.c).sum())
    x = torch.tensor([5.0, 7.0, 11.0])
    request = check(module, (x,))
    leaves = {leaf["id"]: leaf for leaf in request["leaves"]}
    assert leaves.keys() == {"a", "b", "c", "x"}
    assert "requires_grad" not in leaves["c"]
    nodes = trace_of(loaded(module, tmp_path / "m.pt2", x))
    module(x).backward()
    assert same(nodes["a"]["grad"], module.a.grad)
    assert same(nodes["b"]["grad"], module.b.grad)


@pytest.mark.parametrize(("used", "unused"), [("a", "b"), ("b", "a")])
def test_a_parameter_is_not_taken_for_another_one_in_its_memory(used: str, unused: str) -> None:
    module = TwoInOneMemory(lambda m, x: (getattr(m, used) * x).sum())
    nodes = trace_of(from_export(torch.export.export(module, (torch.tensor([5.0, 7.0, 11.0]),))))
    assert nodes[used]["grad"] == [5.0, 7.0, 11.0]
    assert nodes[unused]["grad_status"] == GradStatus.NOT_ON_PATH


def test_the_first_of_two_parameters_in_the_same_memory_is_it_after_loading(tmp_path: Path) -> None:
    module = TwoInOneMemory(lambda m, x: (m.a * x).sum())
    nodes = trace_of(loaded(module, tmp_path / "m.pt2", torch.tensor([5.0, 7.0, 11.0])))
    assert nodes["a"]["grad"] == [5.0, 7.0, 11.0]
    assert nodes["b"]["grad_status"] == GradStatus.NOT_ON_PATH


@pytest.mark.parametrize("strict", [False, True])
def test_tied_parameters_are_one_leaf_after_loading(*, strict: bool, tmp_path: Path) -> None:
    module = Decoder().eval()
    tokens = torch.randint(0, 11, (1, 6))
    program = torch.export.export(module, (tokens,), {"targets": tokens}, strict=strict)
    torch.export.save(program, tmp_path / "m.pt2")
    request = from_export_file(tmp_path / "m.pt2")
    assert request == from_export(program)
    names = [leaf["id"] for leaf in request["leaves"]]
    assert ("embed.weight" in names, "out.weight" in names) == (True, False)


class Halves(nn.Module):
    """Two buffers that lie in one memory beside each other."""

    even: Tensor
    odd: Tensor

    def __init__(self) -> None:
        super().__init__()
        both = torch.arange(6.0)
        self.register_buffer("even", both[::2])
        self.register_buffer("odd", both[1::2])

    def forward(self, x: Tensor) -> Tensor:
        self.even.add_(1)
        return (self.odd * x * self.even).sum()


def test_tensors_beside_each_other_in_memory_can_be_written_into() -> None:
    x = torch.ones(3, requires_grad=True)
    nodes = trace_of(from_export(torch.export.export(Halves(), (x,))))
    assert nodes["x"]["grad"] == [1.0, 9.0, 25.0]


def test_a_write_into_memory_that_inputs_share_is_refused() -> None:
    def write(module: TwoInOneMemory, x: Tensor) -> Tensor:
        module.c.add_(1)
        return (module.a * x).sum()

    program = torch.export.export(TwoInOneMemory(write), (torch.ones(3),))
    with pytest.raises(InvalidRequest, match="add_ writes into memory that c and a share"):
        from_export(program)


def test_a_tensor_that_is_given_twice_is_one_leaf() -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return (x * y.exp()).sum()

    program = torch.export.export(Product(), (torch.ones(2), torch.ones(2)))
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    nodes = trace_of(from_export(program, (x, x)))
    program.module()(x, x).backward()
    assert x.grad is not None
    assert same(nodes["x"]["grad"], x.grad)
    assert "y" not in nodes


# --- what autograd saved, written into ----------------------------------------------------------


class Does(nn.Module):
    def __init__(self, body: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Any:
        return self.body(x)


def go_back(out: Tensor) -> None:
    torch.autograd.backward([out])


def result_written(x: Tensor) -> Tensor:
    y = x.exp()
    y.add_(1)
    return y.sum()


def factor_written(x: Tensor) -> Tensor:
    y, z = x * 2, x * 3
    product = y * z
    z.mul_(2)
    return product.sum()


def view_written(x: Tensor) -> Tensor:
    y = x.sigmoid()
    y[0].zero_()
    return y.sum()


def written_under_no_grad(x: Tensor) -> Tensor:
    scale = torch.ones(2, 3)
    y = x * scale
    with torch.no_grad():
        scale.mul_(2)
    return y.sum()


def index_written(x: Tensor) -> Tensor:
    index = torch.tensor([0, 1])
    y = x[index]
    index.add_(1).clamp_(max=1)
    return y.sum()


def inner_activation(x: Tensor) -> Tensor:
    return functional.dropout(x.tanh(), 0.5, True, inplace=True).square_().sum()


def norm_written(x: Tensor) -> Tensor:
    h = x * 1
    y = functional.layer_norm(h, [3])
    h += y
    return h.sum()


REFUSED = [
    result_written,
    factor_written,
    view_written,
    written_under_no_grad,
    index_written,
    inner_activation,
    norm_written,
]


@pytest.mark.parametrize("body", REFUSED)
def test_a_write_into_what_autograd_saved_is_refused_as_pytorch_does(
    body: Callable[[Tensor], Tensor],
) -> None:
    x = torch.randn(2, 3, requires_grad=True)
    program = torch.export.export(Does(body), (x,))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        go_back(body(x))
    with pytest.raises(InvalidRequest, match="modified by an inplace operation"):
        from_export(program)


def nothing_saved(x: Tensor) -> Tensor:
    y = x + 1
    y.mul_(3).add_(x)
    return y.sum()


def saved_elsewhere(x: Tensor) -> Tensor:
    y = x.exp()
    z = y.clone()
    z.add_(1)
    return (z * y).sum()


def untracked_factor(x: Tensor) -> Tensor:
    scale = torch.ones(2, 3)
    y = x.detach() * scale
    scale.mul_(2)
    return (x * scale + y).sum()


def written_result_saved(x: Tensor) -> Tensor:
    y = (x * 2).add_(x).relu_()
    return functional.dropout(y + 1, 0.5, True, inplace=True).mul(y).sum()


def block_without_autocast(x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        h = x * 2
    h += 1
    return h.sum()


READ = [
    nothing_saved,
    saved_elsewhere,
    untracked_factor,
    written_result_saved,
    block_without_autocast,
]


@pytest.mark.parametrize("body", READ)
def test_a_write_into_what_autograd_did_not_save_is_read(body: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(2, 3, requires_grad=True)
    before = torch.get_rng_state()
    request = from_export(torch.export.export(Does(body), (x,)))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(SEED)
    go_back(body(x))
    assert same(trace_of(request | {"seed": SEED})["x"]["grad"], x.grad)


def test_a_write_is_refused_only_on_the_way_from_the_roots() -> None:
    def body(x: Tensor) -> tuple[Tensor, Tensor]:
        y = x.exp()
        loss = y.sum()
        y.add_(1)
        return loss, x.square().sum()

    x = torch.tensor([1.0, 2.0], requires_grad=True)
    program = torch.export.export(Does(body), (x,))
    assert trace_of(from_export(program, roots=[1]))["x"]["grad"] == [2.0, 4.0]
    with pytest.raises(InvalidRequest, match="modified by an inplace operation"):
        from_export(program)


def test_a_write_into_a_leaf_that_requires_grad_is_refused() -> None:
    program = torch.export.export(Does(lambda x: x.mul_(2).sum()), (torch.ones(2),))
    with pytest.raises(InvalidRequest, match="mul_: PyTorch raises: a leaf Variable that requires"):
        from_export(program, (torch.ones(2, requires_grad=True),))


def test_an_input_that_was_computed_is_a_leaf() -> None:
    program = torch.export.export(Does(nothing_saved), (torch.ones(2),))
    nodes = trace_of(from_export(program, (torch.ones(2, requires_grad=True) * 5,)))
    assert nodes["x"]["value"] == [5.0, 5.0]
    assert nodes["x"]["grad"] == [4.0, 4.0]


def test_a_block_that_is_not_read_is_told() -> None:
    def body(x: Tensor) -> Tensor:
        cond: Any = torch.cond
        h: Tensor = cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x * 1,))
        return h.mul_(2)

    program = torch.export.export(Does(body), (torch.ones(2),))
    with pytest.raises(InvalidRequest, match="cond is not read"):
        from_export(program)


def test_reading_a_program_writes_into_nothing() -> None:
    module = ConvNet().train()
    program = torch.export.export(module, (torch.randn(2, 3, 4, 4), torch.tensor([1, 2])))
    before = {name: tensor.clone() for name, tensor in program.state_dict.items()}
    from_export(program)
    assert all(torch.equal(before[name], now) for name, now in program.state_dict.items())


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.InstanceNorm1d])
def test_running_statistics_are_refused_where_they_are_read_after_an_update(kind: Any) -> None:
    class Reads(nn.Module):
        def __init__(self, *, late: bool) -> None:
            super().__init__()
            self.norm: Any = kind(3, track_running_stats=True)
            self.late = late

        def forward(self, x: Tensor) -> Tensor:
            early = self.norm.running_var.exp()
            h = self.norm(self.norm(x)).square()
            late = self.norm.running_var if self.late else 0
            out: Tensor = (h.sum((0, 2)) * early + late).sum()
            return out

    x = torch.randn(2, 3, 4, requires_grad=True)
    nodes = trace_of(from_export(torch.export.export(Reads(late=False), (x,))))
    Reads(late=False)(x).backward()
    assert same(nodes["x"]["grad"], x.grad)
    with pytest.raises(InvalidRequest, match="norm_1 writes into running statistics"):
        from_export(torch.export.export(Reads(late=True), (x,)))


# --- other inputs of a dynamic shape ------------------------------------------------------------

DYNAMIC = ({0: torch.export.Dim.DYNAMIC},)


def several_roots(x: Tensor) -> tuple[Tensor, Tensor]:
    return x * 2, x.t().exp()


def row_written(x: Tensor) -> Tensor:
    h = x * 1
    h.unsqueeze(0).mul_(3)
    h.copy_(x[0])
    return h * x


def perhaps_a_copy(x: Tensor) -> Tensor:
    h = torch.zeros_like(x)
    h.contiguous().add_(x)
    return h * x


@pytest.mark.parametrize("size", [2, 3, 7])
@pytest.mark.parametrize("body", [several_roots, row_written, perhaps_a_copy])
def test_other_inputs_of_a_dynamic_shape_start_with_ones_of_theirs(
    body: Callable[[Tensor], Any], size: int
) -> None:
    program = torch.export.export(Does(body), (torch.randn(3, 4),), dynamic_shapes=DYNAMIC)
    x = torch.randn(size, 4, requires_grad=True)
    nodes = trace_of(from_export(program, (x,)))
    out = body(x)
    outs = out if isinstance(out, tuple) else (out,)
    torch.autograd.backward(outs, [torch.ones_like(one) for one in outs])
    assert same(nodes["x"]["grad"], x.grad)


def test_the_inputs_of_a_dynamic_shape_that_a_file_brings_along_are_read(tmp_path: Path) -> None:
    x = torch.randn(3, 4, requires_grad=True)
    program = torch.export.export(Does(several_roots), (x,), dynamic_shapes=DYNAMIC)
    torch.export.save(program, tmp_path / "m.pt2")
    request = from_export_file(tmp_path / "m.pt2")
    assert request == from_export(program) == from_export(program, (x,))
    ones = torch.ones(3, 4).numpy().tobytes()
    assert [base64.b64decode(root["gradient_base64"]) for root in request["backward"]] == [ones] * 2


def test_other_inputs_are_looked_at_with_their_own_strides() -> None:
    program = torch.export.export(Does(perhaps_a_copy), (torch.randn(4, 3).t(),))
    x = torch.randn(3, 4, requires_grad=True)
    nodes = trace_of(from_export(program, (x,)))
    go_back(perhaps_a_copy(x).sum())
    assert same(nodes["x"]["grad"], x.grad)


def test_an_output_of_one_element_is_a_loss_on_the_inputs_that_are_given() -> None:
    program = torch.export.export(
        Does(lambda x: (x * 2, x.sum())), (torch.randn(3),), dynamic_shapes=DYNAMIC
    )
    (root,) = from_export(program, (torch.ones(5, requires_grad=True),))["backward"]
    assert root == {"node": "sum_1"}
