"""An LSTM's kernel answers what torch.nn.LSTM does, in every layout, with projections too."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

from tests.engine.asking import leaf, nodes_of, op

INPUTS, HIDDEN, BATCH, LENGTH = 3, 4, 2, 5
LAYOUTS = list(product((1, 2, 3), (False, True), (False, True), (False, True)))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("size", [0, 1, 3])
@pytest.mark.parametrize(("layers", "bidirectional", "batch_first", "bias"), LAYOUTS)
def test_an_lstm_is_that_of_the_module_bit_for_bit(
    layers: int, bidirectional: bool, batch_first: bool, bias: bool, size: int
) -> None:
    torch.manual_seed(layers)
    module = torch.nn.LSTM(
        INPUTS, HIDDEN, layers, bias, batch_first, 0.0, bidirectional, proj_size=size
    )
    rows = layers * (1 + bidirectional)
    shape = (BATCH, LENGTH, INPUTS) if batch_first else (LENGTH, BATCH, INPUTS)
    tensors = {
        "x": torch.randn(shape),
        "h": torch.randn(rows, BATCH, size or HIDDEN),
        "c": torch.randn(rows, BATCH, HIDDEN),
        **{name: weight.detach() for name, weight in module.named_parameters()},
    }
    x, h, c = (tensors[name].requires_grad_() for name in "xhc")
    results = [(out := module(x, (h, c)))[0], *out[1]]
    starts = [torch.randn_like(result) for result in results]
    torch.autograd.backward(results, starts)

    attrs: dict[str, Any] = {
        "hx": [{"ref": "h"}, {"ref": "c"}],
        "params": [{"ref": name} for name, _ in module.named_parameters()],
        "has_biases": bias,
        "num_layers": layers,
        "dropout": 0.0,
        "train": True,
        "bidirectional": bidirectional,
        "batch_first": batch_first,
    }
    nodes = nodes_of(
        {
            "leaves": [leaf(name, tensor.tolist()) for name, tensor in tensors.items()],
            "ops": [op("o", "aten.lstm.input", "x", **attrs)],
            "backward": [
                {"node": f"o:{number}", "gradient": start.tolist()}
                for number, start in enumerate(starts)
            ],
        }
    )

    for number, result in enumerate(results):
        assert torch.equal(torch.tensor(nodes[f"o:{number}"]["value"]), result)
    gradients = {"x": x.grad, "h": h.grad, "c": c.grad}
    gradients |= {name: weight.grad for name, weight in module.named_parameters()}
    for name, gradient in gradients.items():
        assert gradient is not None
        assert torch.equal(torch.tensor(nodes[name]["grad"]), gradient), name
