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
from tests.translate.oracle import trace_of

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
