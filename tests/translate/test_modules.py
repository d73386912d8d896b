"""Modules of ``torch.nn``, each called once: parameters drawn and gradients, bit for bit."""

from __future__ import annotations

import pytest

from service.translate.layers import LAYERS
from tests.translate.oracle import check_modules

HEAD = "import torch\nimport torch.nn as nn\ntorch.manual_seed(5)\n"
DOUBLE = "torch.set_default_dtype(torch.float64)\n"

OF_ONE: list[tuple[str, str]] = [
    ("nn.Linear(4,3)", "2,4"),
    ("nn.Linear(4,3,bias=False)", "2,4"),
    ("nn.Linear(4,3,dtype=torch.float64)", "2,4,dtype=torch.float64"),
    ("nn.Conv1d(4,6,3,padding=1,groups=2)", "2,4,5"),
    ("nn.Conv2d(2,3,3,stride=2,padding='valid')", "2,2,7,7"),
    ("nn.Conv2d(2,3,3,padding='same')", "2,2,7,7"),
    ("nn.Conv3d(1,2,2)", "1,1,3,3,3"),
    ("nn.ConvTranspose1d(2,3,2,stride=2)", "2,2,4"),
    ("nn.ConvTranspose2d(2,4,3,output_padding=1,stride=2,groups=2)", "1,2,3,3"),
    ("nn.ConvTranspose3d(1,2,2)", "1,1,2,2,2"),
    ("nn.LayerNorm(4)", "2,4"),
    ("nn.LayerNorm([3,4],elementwise_affine=False)", "2,3,4"),
    ("nn.LayerNorm(4,bias=False)", "2,4"),
    ("nn.GroupNorm(2,4)", "2,4,3"),
    ("nn.RMSNorm(4)", "2,4"),
    ("nn.RMSNorm(4,eps=1e-3)", "2,4"),
    ("nn.PReLU()", "2,4"),
    ("nn.PReLU(4, init=0.3)", "2,4"),
    ("nn.BatchNorm1d(4)", "5,4"),
    ("nn.BatchNorm1d(4).eval()", "5,4"),
    ("nn.BatchNorm2d(2,affine=False)", "5,2,3,3"),
    ("nn.BatchNorm3d(2,track_running_stats=False)", "5,2,3,3,2"),
    ("nn.BatchNorm2d(2,momentum=None)", "5,2,3,3"),
    ("nn.BatchNorm1d(2,track_running_stats=False).eval()", "5,2"),
    ("nn.ReLU()", "2,4"),
    ("nn.ReLU6()", "2,4"),
    ("nn.LeakyReLU(0.2)", "2,4"),
    ("nn.RReLU()", "2,4"),
    ("nn.RReLU().eval()", "2,4"),
    ("nn.ELU(0.5)", "2,4"),
    ("nn.CELU()", "2,4"),
    ("nn.SELU()", "2,4"),
    ("nn.GELU()", "2,4"),
    ("nn.GELU('tanh')", "2,4"),
    ("nn.GLU()", "2,4"),
    ("nn.SiLU()", "2,4"),
    ("nn.Mish()", "2,4"),
    ("nn.Softplus(2)", "2,4"),
    ("nn.Softsign()", "2,4"),
    ("nn.Softshrink()", "2,4"),
    ("nn.Hardshrink()", "2,4"),
    ("nn.Tanhshrink()", "2,4"),
    ("nn.Threshold(0.1, 20)", "2,4"),
    ("nn.Sigmoid()", "2,4"),
    ("nn.Tanh()", "2,4"),
    ("nn.LogSigmoid()", "2,4"),
    ("nn.Softmax(dim=1)", "2,4"),
    ("nn.Softmax(-1)", "2,4"),
    ("nn.Softmin(1)", "2,4"),
    ("nn.LogSoftmax(dim=-1)", "2,4"),
    ("nn.Hardtanh(-0.5,0.5)", "2,4"),
    ("nn.Hardswish()", "2,4"),
    ("nn.Hardsigmoid()", "2,4"),
    ("nn.Dropout()", "20,4"),
    ("nn.Dropout(0.2)", "20,4"),
    ("nn.Dropout(0.2).eval()", "20,4"),
    ("nn.Dropout1d()", "2,4,3"),
    ("nn.Dropout2d(0.3)", "2,4,3,3"),
    ("nn.Dropout3d(0.3)", "2,4,3,3,2"),
    ("nn.AlphaDropout()", "20,4"),
    ("nn.FeatureAlphaDropout()", "2,4,3,3"),
    ("nn.Flatten()", "2,4,3"),
    ("nn.Flatten(0,1)", "2,4,3"),
    ("nn.Unflatten(1,(2,2))", "2,4,3"),
    ("nn.Identity()", "2,4"),
    ("nn.Identity(3,a=4)", "2,4"),
    ("nn.MaxPool1d(2)", "2,4,6"),
    ("nn.MaxPool2d(2,stride=1,padding=1)", "2,4,6,6"),
    ("nn.MaxPool3d(2)", "2,4,4,4,4"),
    ("nn.AvgPool1d(3)", "2,4,6"),
    ("nn.AvgPool2d(2)", "2,4,6,6"),
    ("nn.AvgPool2d((2,3),count_include_pad=False,padding=1)", "2,4,6,6"),
    ("nn.AvgPool3d(2,divisor_override=3)", "2,4,4,4,4"),
    ("nn.AdaptiveAvgPool1d(3)", "2,4,6"),
    ("nn.AdaptiveAvgPool2d((1,1))", "2,4,6,6"),
    ("nn.AdaptiveAvgPool2d((None,2))", "2,4,6,6"),
    ("nn.AdaptiveAvgPool3d(2)", "2,4,6,6,5"),
    ("nn.AdaptiveMaxPool1d(3)", "2,4,6"),
    ("nn.AdaptiveMaxPool2d(2)", "2,4,6,6"),
    ("nn.PixelShuffle(2)", "2,4,3,3"),
    ("nn.PixelUnshuffle(2)", "2,4,4,4"),
    ("nn.Sequential(nn.Linear(4,3),nn.ReLU(),nn.Dropout(),nn.Linear(3,1))", "5,4"),
    ("nn.Sequential(nn.Linear(4,3),nn.ReLU(inplace=True),nn.Linear(3,1))", "5,4"),
    (
        "nn.Sequential(nn.Conv2d(1,4,3),nn.BatchNorm2d(4),nn.ReLU(True),nn.MaxPool2d(2),nn.Flatten(),nn.Linear(16,3))",
        "2,1,6,6",
    ),
]
"""Modules of one tensor, and its sizes."""

OF_MORE: list[tuple[str, str]] = [
    ("nn.Embedding(7,3)", "torch.tensor([[1,2],[0,6]])"),
    ("nn.Embedding(7,3,padding_idx=1)", "torch.tensor([[1,2],[1,6]])"),
    ("nn.Embedding(7,3,padding_idx=-1,scale_grad_by_freq=True)", "torch.tensor([[6,2],[1,6]])"),
    ("nn.Bilinear(2,3,4)", "torch.randn(5,2),torch.randn(5,3)"),
    ("nn.CosineSimilarity()", "x,y"),
    ("nn.PairwiseDistance()", "x,y"),
    ("nn.PairwiseDistance(p=1,keepdim=True)", "x,y"),
    ("nn.MSELoss()", "x,y"),
    ("nn.MSELoss(reduction='sum')", "x,y"),
    ("nn.MSELoss(reduction='none')", "x,y"),
    ("nn.L1Loss()", "x,y"),
    ("nn.SmoothL1Loss(beta=0.5)", "x,y"),
    ("nn.HuberLoss(delta=0.5)", "x,y"),
    ("nn.KLDivLoss(reduction='batchmean')", "x.log_softmax(1),y.softmax(1)"),
    ("nn.KLDivLoss(reduction='sum',log_target=True)", "x.log_softmax(1),y.log_softmax(1)"),
    ("nn.BCELoss()", "x.sigmoid(),y.sigmoid()"),
    ("nn.BCELoss(weight=torch.tensor([1.,2,3,4]))", "x.sigmoid(),y.sigmoid()"),
    ("nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.,2,3,4]))", "x,y.sigmoid()"),
    ("nn.CrossEntropyLoss()", "x,torch.tensor([1,0,3,2,1])"),
    (
        "nn.CrossEntropyLoss(weight=torch.tensor([1.,2,3,4]),label_smoothing=0.1,ignore_index=2)",
        "x,torch.tensor([1,0,3,2,1])",
    ),
    ("nn.CrossEntropyLoss(torch.tensor([1.,2,3,4]))", "x,y.softmax(1)"),
    ("nn.NLLLoss(reduction='sum')", "x.log_softmax(1),torch.tensor([1,0,3,2,1])"),
    ("nn.PoissonNLLLoss()", "x,y.exp()"),
    ("nn.PoissonNLLLoss(log_input=False,full=True)", "x.exp(),y.exp()"),
    ("nn.GaussianNLLLoss()", "x,y,torch.ones(5,4)"),
    ("nn.HingeEmbeddingLoss(0.4)", "x,y.sign()"),
    ("nn.SoftMarginLoss()", "x,y.sign()"),
    ("nn.CosineEmbeddingLoss()", "x,y,torch.tensor([1,-1,1,1,-1])"),
    ("nn.MarginRankingLoss(0.1)", "x,y,torch.ones(5,4)"),
    ("nn.MultiMarginLoss()", "x,torch.tensor([1,0,3,2,1])"),
    ("nn.MultiLabelMarginLoss()", "x,torch.tensor([[1,0,-1,2]]*5)"),
    ("nn.MultiLabelSoftMarginLoss()", "x,(y>0).float()"),
    ("nn.TripletMarginLoss(swap=True)", "x,y,torch.randn(5,4)"),
    ("nn.MSELoss(size_average=False)", "x,y"),
]
"""Modules of other arguments, and these."""


@pytest.mark.parametrize(("module", "sizes"), OF_ONE)
def test_a_module_of_one_tensor(module: str, sizes: str) -> None:
    check_modules(
        f"{HEAD}m = {module}\nx = torch.randn({sizes}, requires_grad=True)\nh = x * 1\n"
        "y = m(h)\nafter = torch.randn(3)\ny.pow(2).sum().backward()\n"
    )


@pytest.mark.parametrize(("module", "given"), OF_MORE)
@pytest.mark.filterwarnings("ignore:size_average and reduce args")
def test_a_module_of_other_arguments(module: str, given: str) -> None:
    check_modules(
        f"{HEAD}m = {module}\nx = torch.randn(5, 4, requires_grad=True)\ny = torch.randn(5, 4)\n"
        f"z = m({given})\nafter = torch.randn(3)\n"
        "if z.requires_grad:\n    z.pow(2).sum().backward()\n"
    )


@pytest.mark.parametrize("default", ["", DOUBLE])
@pytest.mark.parametrize("sizes", [(1, 1), (2, 3), (3, 5), (16, 1), (5, 7), (17, 33), (64, 65)])
def test_what_is_drawn_has_the_same_bits_whatever_the_size(
    sizes: tuple[int, int], default: str
) -> None:
    check_modules(
        f"{HEAD}{default}m = nn.Linear{sizes}\ne = nn.Embedding{sizes}\n"
        f"b = nn.Bilinear(2, *{sizes})\nafter = torch.rand(2)\n"
    )


def test_every_module_of_the_table_is_called_here() -> None:
    called = {module.partition("(")[0] for module, _ in (*OF_ONE, *OF_MORE)}
    assert {f"nn.{name}" for name in LAYERS} <= called
