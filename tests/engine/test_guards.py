"""What is known to bring PyTorch down is refused before the kernel; its neighbours are not."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, tensor
from torch.nn import functional

from service.contract.problem import BadArguments
from service.engine.catalogue import catalogue
from service.engine.guards import ROWS
from tests.engine.asking import leaf, nodes_of, op, problem, trace
from tests.engine.calls import call
from tests.fuzz.hunt import HEAP_CHECKER

NAN = float("nan")
INF = float("inf")
MIN32 = -(2**31)
MIN64 = -(2**63)

IMAGE = torch.ones(1, 1, 4, 4)
VOLUME = torch.ones(1, 1, 4, 4, 4)
PROBABILITIES = torch.zeros(5, 1, 3).log_softmax(2)
TABLE = torch.ones(3, 2)
NOTHING = tensor([], dtype=torch.int64)
EYE = torch.eye(3)
POINTS = torch.ones(3)
HEADS = torch.ones(1, 1, 2, 4)
PAIRS = torch.ones(2, 4)
NO_ROWS = torch.ones(0, 3)
BLOCK: dict[str, Any] = {"weight": None, "bias": None, "group": 1, "eps": 1e-5}
"""What a native group norm is given beside its sizes."""


def grid(value: float) -> Tensor:
    return torch.full((1, 2, 2, 2), value)


def sparse(weights: Tensor, offsets: Tensor) -> dict[str, Any]:
    return {"mode": "sum", "per_sample_weights": weights, "offsets": offsets}


def pivots(*values: int) -> Tensor:
    return tensor(values, dtype=torch.int32)


NORM = {"momentum": 0.1, "eps": 1e-5}
TRUNC = {"rounding_mode": "trunc"}

FFT = {"normalization": 0}
SPECTRUM = torch.ones(3, dtype=torch.complex64)
SEQUENCE = torch.ones(2, 3, 4)
STATE = torch.ones(1, 3, 5)
W, U, B = torch.ones(20, 4), torch.ones(20, 5), torch.ones(20)
PROJECTED_STATE = torch.ones(1, 3, 2)
PROJECTED_U = torch.ones(20, 2)


def lstm(*params: Tensor, h: Tensor = STATE, c: Tensor = STATE, layers: int = 1) -> dict[str, Any]:
    """Return the attrs of an LSTM of these weights."""
    return {
        "hx": [h, c],
        "params": [*params],
        "has_biases": True,
        "num_layers": layers,
        "dropout": 0.0,
        "train": False,
        "bidirectional": False,
        "batch_first": False,
    }


def projecting(
    p: Tensor, u: Tensor = PROJECTED_U, h: Tensor = PROJECTED_STATE, c: Tensor = STATE
) -> dict[str, Any]:
    """Return the attrs of an LSTM that projects its outputs by ``p``."""
    return lstm(W, u, B, B, p, h=h, c=c)


PROJECTION = torch.ones(2, 5)

AA = "bilinear", "bicubic"
NOT_ALIGNED = {"align_corners": False}
BEHIND: list[dict[str, Any]] = [
    {**NOT_ALIGNED, "output_size": [4, 13], "scales_w": 2.0},
    {**NOT_ALIGNED, "output_size": [9, 4], "scales_h": 0.5, "scales_w": 1.0},
    {**NOT_ALIGNED, "output_size": [10**5, 1], "scales_h": 1e-6},
]
"""Scales with which some outputs lie behind an image of 4x4, wide taps or not."""
WITHIN: list[dict[str, Any]] = [
    {**NOT_ALIGNED, "output_size": [2, 12], "scales_h": 0.5, "scales_w": 3.2},
    {"align_corners": True, "output_size": [9, 9], "scales_h": 0.5},
]

EIGENVALUES_THAT_ARE_NOT_FOUND = """
import torch
from tests.engine.calls import call

random = torch.Generator().manual_seed(0)
failed = 0
for op in ["linalg.eig", "linalg.eigvals", "aten.linalg_eig.default"] * 200:
    matrices = torch.randn(2, 5, 5, generator=random, dtype=torch.float64)
    matrices.view(2, 25)[1, int(torch.randint(25, (1,), generator=random))] = 1e300
    try:
        call(op, [matrices.requires_grad_()])
    except torch.linalg.LinAlgError as error:
        told = str(error)
        assert told.startswith("torch.linalg.eig: (Batch element 1): The algorithm failed"), told
        failed += 1
print(failed)
"""

REFUSED: list[tuple[str, list[Tensor], dict[str, Any]]] = [
    ("div", [tensor([MIN64]), tensor([-1])], TRUNC),
    ("div", [tensor([MIN64])], {"other": -1, **TRUNC}),
    ("divide", [pivots(1, MIN32), pivots(-1)], TRUNC),
    ("aten.div.Tensor_mode", [tensor([MIN64]), tensor([-1])], TRUNC),
    ("aten.div.Scalar_mode", [tensor([MIN64])], {"other": -1, **TRUNC}),
    ("lcm", [tensor([MIN64]), tensor([3])], {}),
    ("aten.lcm.default", [tensor([3]), tensor([MIN64])], {}),
    ("aten.binary_cross_entropy.default", [torch.full([5], 0.5), torch.ones(5, 0, 5)], {}),
    ("linalg.eigvals", [tensor([[NAN, 1], [1, 1]])], {}),
    ("aten.linalg_eigvals.default", [torch.full([3, 3], INF, dtype=torch.complex64)], {}),
    ("nn.functional.grid_sample", [IMAGE, grid(NAN)], {"padding_mode": "border"}),
    ("nn.functional.grid_sample", [IMAGE, grid(INF)], {"padding_mode": "reflection"}),
    (
        "aten.grid_sampler_2d.default",
        [IMAGE, grid(0)],
        {"interpolation_mode": 7, "padding_mode": 0, "align_corners": False},
    ),
    (
        "aten.grid_sampler_3d.default",
        [VOLUME, torch.zeros(1, 2, 2, 2, 3)],
        {"interpolation_mode": 0, "padding_mode": -1, "align_corners": False},
    ),
    (
        "aten.grid_sampler.default",
        [IMAGE, grid(NAN)],
        {"interpolation_mode": 0, "padding_mode": 2, "align_corners": False},
    ),
    ("nn.functional.ctc_loss", [PROBABILITIES, tensor([[-1, 1]]), tensor([5]), tensor([2])], {}),
    ("nn.functional.ctc_loss", [PROBABILITIES, tensor([[1, 3]]), tensor([5]), tensor([2])], {}),
    ("nn.functional.ctc_loss", [PROBABILITIES, tensor([9, 1]), tensor([5]), tensor([2])], {}),
    (
        "nn.functional.ctc_loss",
        [PROBABILITIES, tensor([[10**9]])],
        {"input_lengths": [5], "target_lengths": [1]},
    ),
    (
        "aten.ctc_loss.IntList",
        [PROBABILITIES, tensor([[1, -7]])],
        {"input_lengths": [5], "target_lengths": [2]},
    ),
    ("nn.functional.embedding_bag", [NOTHING, TABLE], sparse(torch.ones(0), tensor([0]))),
    ("nn.functional.embedding_bag", [tensor([0, 1]), TABLE], sparse(torch.ones(2), NOTHING)),
    (
        "nn.functional.embedding_bag",
        [tensor([0, 1]), TABLE],
        {"mode": "sum", "offsets": tensor([0, 2, 1, 2])},
    ),
    ("aten._embedding_bag.default", [TABLE, tensor([0, 1]), tensor([0, 3, 0])], {}),
    *(
        (
            "nn.functional.embedding_bag",
            [tensor([0, 1, 1]), TABLE],
            {
                "mode": mode,
                "offsets": tensor(offsets, dtype=torch.int64),
                "include_last_offset": len(offsets) > 0,
            },
        )
        for mode in ("sum", "mean", "max")
        for offsets in ([], [0], [0, 2])
    ),
    ("aten._embedding_bag.default", [TABLE, tensor([0, 1]), NOTHING], {"mode": 2}),
    ("nn.functional.embedding_bag", [TABLE, tensor([0, 1])], {"offsets": tensor([0, 5])}),
    *(
        (
            "native_batch_norm",
            [torch.ones(shape, requires_grad=True), torch.ones(shape[1]), torch.ones(shape[1])],
            {"weight": None, "bias": None, **NORM, "training": False},
        )
        for shape in ([0, 3, 4], [2, 0])
    ),
    ("aten._weight_norm.default", [PAIRS, PAIRS], {}),
    ("lu_unpack", [EYE, pivots(1)], {}),
    ("lu_unpack", [EYE, pivots(1, 2, 3, 1, 1, 1, 1)], {}),
    ("lu_unpack", [EYE[None], pivots(1, 2, 3).expand(2, 3)], {}),
    ("segment_reduce", [POINTS], {"reduce": "sum", "offsets": tensor([0, 50])}),
    ("segment_reduce", [POINTS], {"reduce": "sum", "offsets": tensor([-9, 3])}),
    ("segment_reduce", [POINTS], {"reduce": "sum", "offsets": tensor([0, 3, 1])}),
    ("segment_reduce", [torch.ones(3, 2)], {"reduce": "mean", "axis": 1, "lengths": tensor([[2]])}),
    ("svd_lowrank", [EYE], {"niter": 1_000_000}),
    ("pca_lowrank", [EYE], {"niter": 1_000_000}),
    ("matrix_power", [EYE], {"n": MIN64}),
    ("linalg.matrix_power", [EYE], {"n": MIN64}),
    ("aten.linalg_matrix_power.default", [EYE], {"n": MIN64}),
    ("combinations", [POINTS], {"r": 1_000_000}),
    ("chunk", [torch.ones(0)], {"chunks": 1_000_000}),
    ("unsafe_chunk", [torch.ones(0)], {"chunks": 1_000_000}),
    ("tensor_split", [POINTS], {"sections": 10_000_000}),
    ("split", [torch.ones(10_000_000, 0)], {"split_size": 1}),
    ("unbind", [torch.ones(10_000_000, 0)], {}),
    ("nn.functional.fractional_max_pool2d", [IMAGE], {"kernel_size": -(2**40), "output_size": 2}),
    ("nn.functional.fractional_max_pool3d", [VOLUME], {"kernel_size": [2, 0, 2], "output_size": 2}),
    (
        "nn.functional.fractional_max_pool2d",
        [IMAGE],
        {"kernel_size": 2, "output_size": 2, "_random_samples": torch.full((1, 1, 2), -1e8)},
    ),
    ("nn.functional.pad", [IMAGE], {"pad": [2**63 - 1] * 4, "mode": "replicate"}),
    ("aten.replication_pad3d.default", [VOLUME], {"padding": [2**63 - 1] * 6}),
    ("nn.functional.pad", [PAIRS], {"pad": [3, -2], "mode": "circular"}),
    ("aten._pad_circular.default", [IMAGE], {"pad": [0, 0, -4, 1]}),
    ("aten._neg_view.default", [tensor([True])], {}),
    ("native_group_norm", [torch.ones(1, 4, 1)], BLOCK | {"N": 0, "C": 4, "HxW": 1}),
    (
        "aten.native_group_norm.default",
        [torch.ones(8)],
        BLOCK | {"N": 1, "C": 3, "HxW": (2**64 + 8) // 3},
    ),
    ("special.legendre_polynomial_p", [tensor([0.5, NAN])], {"n": 2}),
    ("special.laguerre_polynomial_l", [tensor([NAN]), tensor([1, 3])], {}),
    ("aten.special_hermite_polynomial_h.x_scalar", [tensor([2])], {"x": "NaN"}),
    ("nn.functional.unfold", [torch.ones(0, 1, 5, 5)], {"kernel_size": 2, "dilation": 2**32}),
    (
        "aten.im2col.default",
        [IMAGE],
        {"kernel_size": [1, 2], "dilation": [1, 2**32], "padding": [0, 0], "stride": [1, 1]},
    ),
    ("range", [], {"start": 1, "end": 3, "step": 0.5, "dtype": "int64"}),
    ("range", [], {"start": 2**63 - 1, "end": -1, "step": -1, "dtype": "int32"}),
    ("arange", [], {"start": 0, "end": MIN64, "step": -1}),
    ("aten.range.step", [], {"start": 1, "end": 3, "step": -0.5, "dtype": "uint8"}),
    ("nn.functional.multi_margin_loss", [torch.ones(0, 3), NOTHING], {}),
    (
        "nn.functional.multi_margin_loss",
        [torch.ones(0, 3), NOTHING],
        {"reduction": "none", "reduce": True},
    ),
    ("nn.functional.multilabel_margin_loss", [NO_ROWS, NO_ROWS.long()], {}),
    ("nn.functional.multilabel_margin_loss", [NO_ROWS, NO_ROWS.long()], {"reduction": "sum"}),
    ("aten.multilabel_margin_loss.default", [NO_ROWS, NO_ROWS.long()], {}),
    ("aten.multilabel_margin_loss_forward.default", [NO_ROWS, NO_ROWS.long()], {"reduction": 1}),
    (
        "native_batch_norm",
        [torch.ones(2, 4000), torch.ones(1)],
        {**dict.fromkeys(("bias", "running_mean", "running_var")), **NORM, "training": True},
    ),
    (
        "aten._native_batch_norm_legit.no_stats",
        [PAIRS],
        {"weight": None, "bias": None, "training": False, **NORM},
    ),
    (
        "native_batch_norm",
        [PAIRS],
        {
            **dict.fromkeys(("weight", "bias", "running_mean", "running_var")),
            **NORM,
            "training": False,
        },
    ),
    (
        "aten._native_batch_norm_legit_no_training.default",
        [PAIRS, torch.ones(4), torch.ones(4), torch.ones(1), torch.ones(4)],
        NORM,
    ),
    (
        "aten._scaled_dot_product_flash_attention_for_cpu.default",
        [HEADS, torch.ones(2, 3, 3, 4), HEADS],
        {},
    ),
    (
        "aten._scaled_dot_product_flash_attention_for_cpu.default",
        [HEADS, HEADS, HEADS],
        {"attn_mask": torch.ones(7, 9)},
    ),
    ("aten._fft_c2c.default", [SPECTRUM], {**FFT, "dim": [0] * 70, "forward": True}),
    ("aten._fft_c2c.default", [SPECTRUM], {**FFT, "dim": [5], "forward": True}),
    ("aten._fft_c2c.default", [SPECTRUM], {**FFT, "dim": [-1], "forward": True}),
    *(
        ("aten._fft_c2r.default", [SPECTRUM], {**FFT, "dim": [0], "last_dim_size": size})
        for size in (-1, 0, 1, 3, 6, 5000)
    ),
    *(
        (name, [POINTS[None]], {"kernel_size": 2, "ceil_mode": True} | too_much)
        for name in ("nn.functional.max_pool1d", "max_pool1d", "aten.max_pool1d.default")
        for too_much in ({"kernel_size": 2**63 - 1}, {"stride": [2**62]}, {"dilation": 2**31})
    ),
    *(
        ("aten._scaled_dot_product_flash_attention_for_cpu.default", [query, key, key], {})
        for query, key in [
            (torch.ones(1, 1, 1, 2), torch.ones(1, 1, 0, 2)),
            (torch.ones(1, 1, 0, 2), torch.ones(1, 1, 1, 2)),
            (torch.ones(1, 0, 1, 2), torch.ones(1, 0, 1, 2)),
        ]
    ),
    *(
        (name, [HEADS[:1], key, value], {"enable_gqa": True})
        for name in (
            "nn.functional.scaled_dot_product_attention",
            "aten.scaled_dot_product_attention.default",
            "aten._scaled_dot_product_attention_math.default",
        )
        for key, value in [(HEADS[:1, :0], HEADS[:1]), (HEADS[:1], HEADS[:1, :0])]
    ),
    ("aten._pdist_forward.default", [torch.ones(2, 3, 0)], {}),
    ("aten._pdist_forward.default", [torch.ones(0, 3, 8)], {}),
    ("aten.lstm.input", [torch.ones(2, 3, 9)], lstm(W, U, B, B)),
    ("aten.lstm.input", [SEQUENCE], lstm(W, U, B, B, h=torch.ones(1, 3, 50))),
    ("aten.lstm.input", [SEQUENCE], lstm(torch.ones(8, 4), U, B, B)),
    ("aten.lstm.input", [SEQUENCE], lstm(W, U, B, B, layers=2**40)),
    ("aten.lstm.input", [SEQUENCE], lstm(W, PROJECTED_U, B, B, h=PROJECTED_STATE)),
    ("aten.lstm.input", [SEQUENCE], projecting(torch.ones(2, 4))),
    ("aten.lstm.input", [SEQUENCE], projecting(PROJECTION, torch.ones(20, 5))),
    ("aten.lstm.input", [SEQUENCE], projecting(PROJECTION, h=torch.ones(1, 3, 3))),
    ("aten.lstm.input", [SEQUENCE], projecting(PROJECTION, c=torch.ones(1, 2, 5))),
    ("aten.lstm.input", [SEQUENCE], lstm(W, U, B, B, torch.ones(5, 5))),
    (
        "aten.upsample_nearest2d.default",
        [IMAGE],
        {"output_size": [2, 2], "scales_h": 1e-300, "scales_w": -1},
    ),
    *((f"aten._upsample_{name}2d_aa.default", [IMAGE], behind) for name in AA for behind in BEHIND),
    *(
        (f"aten.{name}.default", [TABLE, indices, offsets], {})
        for name in ("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
        for indices, offsets in [
            (tensor([[1, 2], [1, 0]]), tensor([[0, 1], [1, 2]])),
            (tensor([[1, 2], [1, 0]]), tensor([0, 2])),
            (tensor([1, 2, 1, 0]), tensor([[0, 2]])),
            (tensor([1, 2, 1, 0]), tensor(0)),
        ]
    ),
]


@pytest.mark.parametrize(("op", "inputs", "attrs"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_brings_pytorch_down_is_refused(
    op: str, inputs: list[Tensor], attrs: dict[str, Any]
) -> None:
    with pytest.raises(BadArguments, match="PyTorch would crash"):
        call(op, inputs, attrs)


ALLOWED: list[tuple[str, list[Tensor], dict[str, Any]]] = [
    ("div", [tensor([MIN64]), tensor([2])], TRUNC),
    ("div", [tensor([MIN64]), tensor([-1])], {"rounding_mode": "floor"}),
    ("div", [tensor([MIN32], dtype=torch.int32), tensor([-1])], TRUNC),
    ("div", [tensor([-128], dtype=torch.int8), tensor([MIN64])], TRUNC),
    ("lcm", [tensor([4]), tensor([6])], {}),
    ("pdist", [torch.zeros(0, 3)], {}),
    ("pdist", [torch.zeros(0, 3, requires_grad=True)], {}),
    ("aten.binary_cross_entropy.default", [torch.ones(0), torch.ones(0)], {}),
    ("aten.binary_cross_entropy.default", [torch.ones(5, 1), torch.ones(5)], {}),
    ("linalg.eig", [torch.ones(2, 0, 0)], {}),
    ("linalg.eig", [torch.eye(3, dtype=torch.complex64)], {}),
    ("linalg.eigvals", [EYE], {}),
    ("nn.functional.grid_sample", [IMAGE, grid(NAN)], {"align_corners": False}),
    (
        "nn.functional.grid_sample",
        [IMAGE, grid(1e9)],
        {"padding_mode": "border", "align_corners": False},
    ),
    # what lies behind a target's length is padding, whatever it holds
    ("nn.functional.ctc_loss", [PROBABILITIES, tensor([[1, -1]]), tensor([5]), tensor([1])], {}),
    ("nn.functional.embedding_bag", [tensor([0, 1]), TABLE], sparse(torch.ones(2), tensor([0]))),
    (
        "nn.functional.embedding_bag",
        [tensor([0, 1]), TABLE],
        {"offsets": tensor([0, 1, 1, 2]), "include_last_offset": True},
    ),
    (
        "nn.functional.embedding_bag",
        [NOTHING, TABLE],
        {"offsets": tensor([0]), "include_last_offset": True},
    ),
    (
        "native_batch_norm",
        [torch.ones(0, 3), torch.ones(3), torch.ones(3)],
        {"weight": None, "bias": None, **NORM, "training": False},
    ),
    ("aten._weight_norm.default", [PAIRS, torch.ones(2, 1)], {}),
    ("aten._weight_norm.default", [PAIRS, torch.ones(1, 4)], {"dim": 1}),
    ("lu_unpack", [EYE, pivots(1, 2, 3)], {}),
    ("segment_reduce", [POINTS], {"reduce": "sum", "offsets": tensor([0, 3])}),
    ("matrix_power", [EYE], {"n": -5}),
    ("aten.lstm.input", [SEQUENCE], lstm(W, U, B, B)),
    ("aten.lstm.input", [SEQUENCE], projecting(PROJECTION)),
    ("aten._fft_c2r.default", [SPECTRUM], {**FFT, "dim": [0], "last_dim_size": 4}),
    ("combinations", [POINTS], {"r": 3}),
    ("nn.functional.pad", [PAIRS], {"pad": [2, -2], "mode": "circular"}),
    ("nn.functional.pad", [PAIRS], {"pad": [-2, 2], "mode": "constant"}),
    ("nn.functional.pad", [PAIRS], {"pad": [-2, 2]}),
    ("aten.constant_pad_nd.default", [PAIRS], {"pad": [3, -2]}),
    ("aten.replication_pad1d.default", [PAIRS], {"padding": [-2, 2]}),
    ("lu_unpack", [torch.eye(2), torch.zeros(0, dtype=torch.int32)], {"unpack_pivots": False}),
    *((f"aten._upsample_{name}2d_aa.default", [IMAGE], within) for name in AA for within in WITHIN),
    (
        "aten._upsample_bilinear2d_aa.vec",
        [IMAGE],
        {**NOT_ALIGNED, "output_size": None, "scale_factors": [0.3, 3.9]},
    ),
    ("aten._neg_view.default", [POINTS], {}),
    ("native_group_norm", [torch.ones(0, 4, 3)], BLOCK | {"N": 0, "C": 4, "HxW": 3}),
    ("special.legendre_polynomial_p", [tensor([0.5, INF])], {"n": 2}),
    ("special.laguerre_polynomial_l", [tensor([NAN])], {"n": 1}),
    ("nn.functional.unfold", [IMAGE], {"kernel_size": 2, "dilation": 3}),
    ("unfold", [POINTS], {"dimension": 0, "size": 2, "step": 1}),
    ("aten.range.step", [], {"start": 1, "end": 3, "step": 0.5}),
    ("arange", [], {"start": 3, "end": 1, "step": -1}),
    ("aten.range.step", [], {"start": 1, "end": 3, "step": 1.5, "dtype": "int64"}),
    ("chunk", [POINTS], {"chunks": 1_000_000}),
    ("nn.functional.multi_margin_loss", [torch.ones(0, 3), NOTHING], {"reduction": "none"}),
    ("nn.functional.multilabel_margin_loss", [NO_ROWS, NO_ROWS.long()], {"reduction": "none"}),
    ("aten._scaled_dot_product_flash_attention_for_cpu.default", [HEADS, HEADS, HEADS], {}),
    (
        "aten._native_batch_norm_legit.no_stats",
        [PAIRS],
        {"weight": None, "bias": None, "training": True, **NORM},
    ),
]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(("op", "inputs", "attrs"), ALLOWED, ids=lambda value: str(value)[:40])
def test_what_is_harmless_is_let_through(
    op: str, inputs: list[Tensor], attrs: dict[str, Any]
) -> None:
    call(op, inputs, attrs)


def no_rows(columns: int = 3, **attrs: Any) -> dict[str, Any]:
    """Return a graph of the distances between no rows."""
    return {
        "leaves": [leaf("x", [], shape=[0, columns])],
        "ops": [op("y", "mul", "x", other=2.0), op("d", "pdist", "y", **attrs)],
    }


def test_of_no_rows_the_distances_are_let_through_and_their_gradient_is_not() -> None:
    assert (
        nodes_of(no_rows() | {"backward": []})["d"] | {"shape": [0], "value": []}
        == (nodes_of(no_rows() | {"backward": []})["d"])
    )
    aside = no_rows()
    aside["ops"].append(op("s", "sum", "y"))
    assert nodes_of(aside)["d"]["grad_status"] == "not_on_path"
    refused = no_rows()
    refused["ops"].append(op("s", "sum", "d"))
    for include in (["value", "grad"], ["grad", "edges", "health"]):
        told = problem(refused | {"include": include})
        assert (told.code, told.errors[0].pointer) == ("bad_arguments", "/ops/1")
        assert told.errors[0].node == "d"
        assert told.detail.startswith("the gradient of no rows is asked; PyTorch would crash")
    refused["ops"].append(op("g", "autograd.grad", "s", "x"))
    told = problem(refused | {"backward": []})
    assert (told.code, told.errors[0].node) == ("bad_arguments", "g")


@pytest.mark.parametrize("graph", [no_rows(p=0), no_rows(0)])
def test_a_gradient_of_no_rows_that_pytorch_computes_is_answered(graph: dict[str, Any]) -> None:
    nodes = nodes_of(graph | {"backward": [{"node": "d", "gradient": []}]})
    assert (nodes["x"]["grad_status"], nodes["x"]["grad"]) == ("accumulated", [])


BEFORE_2_14, BEFORE_2_15 = (
    pytest.mark.skipif(torch.__version__ >= first, reason=f"PyTorch refuses it from {first} on")
    for first in ("2.14", "2.15")
)


@BEFORE_2_15
@pytest.mark.parametrize(
    ("name", "attrs"),
    [
        ("nn.functional.pad", {"pad": [-1, -1, 0, 0, 0, 0], "mode": "reflect"}),
        ("aten.pad.default", {"pad": [0, 0, -1, -1, 0, 0], "mode": "reflect"}),
        ("aten.reflection_pad3d.default", {"padding": [0, 0, 0, 0, -2, 0]}),
    ],
)
def test_a_reflection_of_which_nothing_is_left_is_let_through_and_its_gradient_is_not(
    name: str, attrs: dict[str, Any]
) -> None:
    leaves = [leaf("x", [1.0] * 8, shape=[1, 2, 2, 2])]
    request = {"leaves": leaves, "ops": [op("p", name, "x", **attrs), op("s", "sum", "p")]}
    assert nodes_of(request | {"backward": []})["s"]["value"] == 0
    told = problem(request)
    assert (told.code, told.errors[0].node) == ("bad_arguments", "p")


def pooled(dims: int, name: str, size: int, **attrs: Any) -> dict[str, Any]:
    """Return the graph of a sum of maxima over windows."""
    leaves = [leaf("x", torch.arange(1.0, size**dims + 1).reshape(1, 1, *[size] * dims).tolist())]
    several = "indices" in name
    ops = [op("p", name.format(dims), "x", **attrs), op("s", "sum", "p:0" if several else "p")]
    return {"leaves": leaves, "ops": ops}


POOLS = [f"{name}.default" for name in ("aten.max_pool{}d", "aten.max_pool{}d_with_indices")]
POOLS.append("nn.functional.max_pool{}d")


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_window_in_the_padding_is_let_through_and_its_gradient_is_not(
    name: str, dims: int
) -> None:
    request = pooled(dims, name, 2, kernel_size=[2] * dims, stride=1, padding=1, dilation=3)
    assert "-Infinity" in str(trace(request | {"backward": []}))
    told = problem(request)
    assert (told.code, told.errors[0].node) == ("bad_arguments", "p")
    assert told.detail.startswith("a window sees nothing but padding; PyTorch would crash")


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_no_other_window_is_refused_its_gradient(size: int, kernel: int, ceil_mode: bool) -> None:
    """Where PyTorch's index names no element, and only there, the gradient is refused."""
    x = torch.arange(1.0, size + 1).reshape(1, 1, size)
    for stride, padding, dilation in itertools.product((1, 2, 3), range(3), range(1, 6)):
        attrs: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "ceil_mode": ceil_mode}
        attrs |= {"padding": padding, "dilation": dilation}
        try:
            _, indices = functional.max_pool1d_with_indices(x, **attrs)
        except RuntimeError:
            continue
        request = pooled(1, POOLS[-1], size, **attrs)
        if bool((indices >= size).any()):
            assert problem(request).code == "bad_arguments"
        else:
            trace(request)


@pytest.mark.parametrize(
    ("name", "attrs"),
    [
        ("nn.functional.pad", {"pad": [-1, -1, 0, 0, 0, 0]}),
        pytest.param(
            "nn.functional.pad",
            {"pad": [-1, -1, 0, 0, 0, 0], "mode": "replicate"},
            marks=BEFORE_2_14,
        ),
        pytest.param(
            "aten.replication_pad3d.default", {"padding": [-1, -1, 0, 0, 0, 0]}, marks=BEFORE_2_14
        ),
        ("aten.constant_pad_nd.default", {"pad": [-1, -1, 0, 0, 0, 0]}),
    ],
)
def test_of_other_paddings_nothing_has_a_gradient(name: str, attrs: dict[str, Any]) -> None:
    leaves = [leaf("x", [1.0] * 8, shape=[1, 2, 2, 2])]
    ops = [op("p", name, "x", **attrs), op("s", "sum", "p")]
    assert nodes_of({"leaves": leaves, "ops": ops})["x"]["grad"] == [[[[0.0] * 2] * 2] * 2]


def test_a_reflection_in_three_dimensions_has_its_gradient() -> None:
    leaves = [leaf("x", [1.0, 2.0, 3.0], shape=[1, 1, 1, 3])]
    ops = [op("p", "nn.functional.pad", "x", pad=[-2, 1, 0, 0, 0, 0], mode="reflect")]
    assert nodes_of({"leaves": leaves, "ops": [*ops, op("s", "sum", "p")]})["x"]["grad"] == [
        [[[0.0, 1.0, 1.0]]]
    ]


def test_an_lstm_of_another_number_of_states_is_refused_in_pytorchs_words() -> None:
    with pytest.raises(RuntimeError, match="lstm expects two hidden states"):
        call("aten.lstm.input", [SEQUENCE], lstm(W, U, B, B) | {"hx": [STATE]})


def test_eigenvalues_that_are_not_found_leave_the_heap_as_it_was() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", EIGENVALUES_THAT_ARE_NOT_FOUND],
        env=os.environ | {"LD_PRELOAD": HEAP_CHECKER, "MALLOC_CHECK_": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 60


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (torch.ones(3), "The input tensor A must have at least 2 dimensions"),
        (torch.ones(2, 3), "A must be batches of square matrices"),
        (tensor([[NAN, 1], [1, 1]]), "input tensor should not contain infs or NaNs"),
        (torch.ones(2, 2, dtype=torch.int64), "Unknown Complex ScalarType for Long"),
    ],
)
def test_what_is_no_matrix_for_eig_is_refused_in_pytorchs_words(matrix: Tensor, words: str) -> None:
    with pytest.raises(RuntimeError) as ours:
        call("linalg.eig", [matrix])
    with pytest.raises(RuntimeError) as pytorchs:
        torch.linalg.eig(matrix)
    assert str(ours.value) == str(pytorchs.value)
    assert words in str(ours.value)


@pytest.mark.parametrize(
    ("name", "stride"),
    [
        ("nn.functional.conv2d", 65536),
        ("aten.conv2d.default", [2**31 - 1, 2]),
        ("nn.functional.conv2d", [2**16] * 2),
    ],
)
def test_strides_that_overflow_are_let_through_and_their_gradient_is_not(
    name: str, stride: Any
) -> None:
    request = {
        "leaves": [
            leaf("x", [1.0] * 16, shape=[1, 1, 4, 4]),
            leaf("w", [1.0] * 16, shape=[1, 1, 4, 4]),
        ],
        "ops": [op("y", name, "x", "w", stride=stride), op("s", "sum", "y")],
    }
    assert nodes_of(request | {"backward": []})["y"]["value"] == [[[[16.0]]]]
    told = problem(request)
    assert (told.code, told.errors[0].node) == ("bad_arguments", "y")
    assert told.detail.startswith("the strides are too large for a gradient; PyTorch would crash")


def test_every_guarded_kernel_is_one_of_the_catalogue() -> None:
    names = [*catalogue().names, *catalogue().exact_names]
    bases = {catalogue().find(name).base for name in names}
    guarded = {kernel for row in ROWS for kernel in row.kernels.split()}
    assert guarded <= bases
