"""Optimizers: what their steps leave, bit for bit."""

from __future__ import annotations

import pytest

from tests.translate.oracle import check_modules

SCRIPT = """
import torch
import torch.nn as nn
import torch.nn.functional as F
torch.manual_seed(5)
torch.set_default_dtype(torch.{dtype})
x = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
t = torch.tensor([[1.0], [0.0]])
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(2, 5)
        self.unused = nn.Linear(2, 2)
        self.fc2 = nn.Linear(5, 1)
    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))
model = Net()
criterion = nn.MSELoss()
optimizer = torch.optim.{optimizer}
losses = []
for epoch in range({epochs}):
    optimizer.zero_grad()
    output = model(x)
    loss = criterion(output, t)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    if epoch % 2 == 0:
        print(f"Epoch {{epoch}}: {{loss.item():.4f}}")
final = criterion(model(x), t)
"""
AGAIN = "optimizer.zero_grad()\nfinal.backward()\n"

OPTIMIZERS = [
    "SGD(model.parameters(), lr=0.1)",
    "SGD(model.parameters(), 1)",
    "SGD(model.parameters(), lr=0.1, momentum=0.9)",
    "SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)",
    "SGD(model.parameters(), lr=0.1, momentum=0.5, dampening=0.1, maximize=True)",
    "Adam(model.parameters(), lr=0.01)",
    "Adam(list(model.parameters()), lr=0.01, betas=(0.8, 0.9), weight_decay=0.1, eps=1e-6)",
    "AdamW(model.parameters())",
    "AdamW(model.parameters(), lr=0.1, maximize=True)",
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("epochs", "dtype"), [(1, "float32"), (4, "float32"), (3, "float64")])
@pytest.mark.parametrize("end", ["", AGAIN])
def test_steps_are_those_of_pytorch(optimizer: str, epochs: int, dtype: str, end: str) -> None:
    check_modules(SCRIPT.format(optimizer=optimizer, epochs=epochs, dtype=dtype) + end)


def test_a_leaf_without_a_module_is_optimized_too() -> None:
    check_modules(
        "import torch\nw = torch.tensor([1.0, 2.0], requires_grad=True)\n"
        "o = torch.optim.SGD([w], lr=0.1)\nfor k in range(3):\n    o.zero_grad()\n"
        "    (w * w).sum().backward()\n    o.step()\ny = w * 2\n"
    )
