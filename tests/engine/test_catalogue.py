"""The catalogue: every documented op, described by torch itself, and nothing dangerous."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from service.contract.problem import UnknownOp
from service.contract.response import OpDescription
from service.engine.catalogue import catalogue
from service.engine.gate import dispatcher_overloads
from service.engine.kernels import KERNELS, LAYERS
from service.engine.ops_page import ops_page

TYPE = re.compile(
    r"(Tensor|number|int|float|bool|str|dtype|memory_format|any)(\?)?(\[\])?(\?)?", re.ASCII
)
NAMES = catalogue().names
EXACT = catalogue().exact_names


@pytest.mark.parametrize("kind", ["public", "exact"])
def test_every_name_describes_itself(kind: str) -> None:
    for name in NAMES if kind == "public" else EXACT:
        description = OpDescription.model_validate(catalogue().find(name).describe(), strict=True)
        assert description.name == name
        assert description.summary, name
        assert description.documentation.startswith("https://docs.pytorch.org/docs/stable/"), name
        assert description.signatures, name
        for signature in description.signatures:
            for parameter in signature.parameters:
                assert TYPE.fullmatch(parameter.type), (name, parameter)
                assert not parameter.required or parameter.default is None, (name, parameter)
        assert json.loads(json.dumps(description.model_dump())) == description.model_dump()


LISTS = {
    ("nn.functional.interpolate", "size"): "int[]?",
    ("nn.functional.interpolate", "scale_factor"): "float[]?",
    ("nn.functional.upsample", "size"): "int[]?",
    ("nn.functional.normalize", "dim"): "int[]",
    ("norm", "dim"): "int[]?",
    ("masked.std", "correction"): "number?",
    ("masked.var", "correction"): "number?",
    ("nn.functional.adaptive_avg_pool1d", "output_size"): "int[]",
    ("nn.functional.adaptive_max_pool1d", "output_size"): "int[]",
    ("nn.functional.avg_pool2d", "kernel_size"): "int[]",
    ("nn.functional.max_pool3d", "stride"): "int[]?",
    **{
        (f"nn.functional.adaptive_{pool}_pool{rank}d", "output_size"): "int?[]"
        for pool in ("avg", "max")
        for rank in (2, 3)
    },
}
"""What is documented to take lists, or null in them, or any number."""


@pytest.mark.parametrize(("name", "parameter"), LISTS)
def test_a_type_is_as_wide_as_what_is_documented(name: str, parameter: str) -> None:
    for signature in catalogue().find(name).signatures:
        assert signature.by_name[parameter].kind.text == LISTS[name, parameter]


def test_there_are_as_many_ops_as_torch_documents() -> None:
    assert len(NAMES) > 700
    assert len(EXACT) > 850


UNKNOWN = """
    _softmax add_ __class__ __and__ load save from_file empty empty_like manual_seed seed
    set_default_dtype set_num_threads from_numpy dequantize cudnn_convolution mkldnn_max_pool2d
    sparse_coo_tensor result_type numel equal allclose item is_tensor compile vmap cond
    nn.functional.relu_ nn.functional.handle_torch_function nn.functional.boolean_dispatch
    nn.functional._threshold linalg.ldl_solve linalg.LinAlgError torch.add aten.add
    aten.add_.Tensor aten.add.out aten.add.nothing aten.add.t aten.from_file.default
    aten.empty.memory_format aten.empty_like.default aten.rand.generator
    aten.linalg_ldl_solve.default aten._ctc_loss.default aten._ctc_loss.Tensor
    aten._softmax_backward_data.default aten._local_scalar_dense.default aten.set_.source_Tensor
    aten.record_stream.default aten.to_sparse.default aten.mkldnn_convolution.default
    aten.item.default aten.__class__.default aten..default aten aten. aten.add. .
    prim.device.default Add ADD getitem.__class__ Tensor.add nn.functional._in_projection
    ops.aten.add
"""
"""The second output of ``aten._ctc_loss`` has uninitialised memory."""


@pytest.mark.parametrize("name", [*UNKNOWN.split(), "", " add", "add "])
def test_what_may_not_be_called_is_unknown(name: str) -> None:
    with pytest.raises(UnknownOp):
        catalogue().find(name)


def test_no_public_name_is_private_or_in_place() -> None:
    parts = {part for name in NAMES for part in name.split(".")}
    assert not [part for part in parts if part.startswith("_") or part.endswith("_")]


def test_no_exact_overload_writes_or_takes_a_generator() -> None:
    for name in EXACT:
        _, base, overload = name.split(".")
        schema = getattr(getattr(torch.ops.aten, base), overload)._schema
        assert not schema.is_mutable, name
        required = [a for a in schema.arguments if not a.has_default_value()]
        assert not {str(a.real_type) for a in required} & {"Generator", "Device", "Storage"}, name


USED = """
    add linalg.svd special.xlogy fft.fft nn.functional.cross_entropy view expand repeat to
    contiguous detach getitem autograd.grad T H mT mH unfold type_as float slice new_zeros
    reshape_as unique lu split einsum meshgrid masked.sum signal.windows.hann randn dropout
    nn.functional.dropout bernoulli masked_fill index_put relu layer_norm svd_lowrank norm cdist
    tensordot stft atleast_1d aten.add.Tensor aten.scaled_dot_product_attention.default
    aten.slice.Tensor aten.conv2d.default aten.linear.default aten.batch_norm.default
    aten.layer_norm.default aten.gelu.default aten.embedding.default aten.select.int
    aten.view.default aten.permute.default aten.masked_fill.Scalar
    aten.cross_entropy_loss.default aten.__and__.Tensor aten.split_with_sizes.default
    aten._softmax.default aten._log_softmax.default
    aten._scaled_dot_product_flash_attention_for_cpu.default aten._to_copy.default
    aten.convolution.default aten.native_layer_norm.default aten.index.Tensor
    aten.max_pool2d_with_indices.default aten.alias.default aten.dropout.default
    aten._native_batch_norm_legit_functional.default aten._unsafe_view.default
    aten.upsample_bilinear2d.vec aten.lift_fresh_copy.default aten.arange.start
"""


@pytest.mark.parametrize("name", USED.split())
def test_what_models_and_lessons_use_is_there(name: str) -> None:
    assert catalogue().find(name).signatures


def test_kernels_stand_behind_ops_of_the_catalogue() -> None:
    assert set(KERNELS.values()) <= set(NAMES)
    assert set(KERNELS) <= set(dispatcher_overloads())
    assert {name.split(".")[1] for name in EXACT} >= set(KERNELS)
    assert {f"aten.{name}" for name in LAYERS} <= set(EXACT)
    assert "aten.lstm.data" not in EXACT


def test_types_are_normalised() -> None:
    described = catalogue().find("sum").describe()["signatures"][0]["parameters"]
    assert described == [
        {"name": "self", "type": "Tensor", "required": True, "default": None},
        {"name": "dim", "type": "int[]?", "required": True, "default": None},
        {"name": "keepdim", "type": "bool", "required": False, "default": False},
        {"name": "dtype", "type": "dtype?", "required": False, "default": None},
    ]


def test_outputs_have_pytorch_names() -> None:
    assert catalogue().find("topk").signatures[0].outputs == ("values", "indices")
    assert catalogue().find("linalg.svd").signatures[0].outputs == ("U", "S", "Vh")
    single = catalogue().find("add").signatures[0]
    assert (single.outputs, single.several, single.variable) == ((None,), False, False)
    many = catalogue().find("unbind").signatures[0]
    assert (many.outputs, many.several, many.variable) == ((), True, True)


def test_flags_that_decide_about_outputs_make_signatures() -> None:
    outputs = {signature.outputs for signature in catalogue().find("unique").signatures}
    assert outputs == {(None,), (None, None), (None, None, None)}
    pooling = catalogue().find("nn.functional.max_pool2d").signatures
    assert [signature.several for signature in pooling] == [False, True]


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("cross_entropy", "nn.functional.cross_entropy"),
        ("torch.add", "add"),
        ("add_", "add"),
        ("reul", "relu"),
        ("F.gelu", "nn.functional.gelu"),
        ("aten.add.Tensr", "aten.add.Tensor"),
        ("aten.add_.Tensor", "aten.add.Tensor"),
        ("ReLU", "relu"),
        ("nn.Linear", "nn.functional.linear"),
        ("linalg.inverse", "linalg.inv"),
    ],
)
def test_near_names_are_told(wrong: str, near: str) -> None:
    with pytest.raises(UnknownOp) as caught:
        catalogue().find(wrong)
    assert near in caught.value.detail.partition("near names: ")[2].split(", ")


@pytest.mark.parametrize(
    ("denied", "reason"),
    [
        ("torch.empty", "returns uninitialised memory"),
        ("aten.new_empty.default", "returns uninitialised memory"),
        ("linalg.ldl_solve", "corrupts memory"),
        ("nn.functional.grouped_mm", "dtypes or layouts"),
    ],
)
def test_why_a_name_is_not_let_through_is_told(denied: str, reason: str) -> None:
    with pytest.raises(UnknownOp) as caught:
        catalogue().find(denied)
    assert reason in caught.value.detail


def test_search_looks_in_names_and_summaries() -> None:
    names = [operation.name for operation in catalogue().search("singular value")]
    assert {"svd", "linalg.svd", "linalg.svdvals"} <= set(names)
    assert names == sorted(names, key=str.lower)
    assert "nn.functional.gelu" in {operation.name for operation in catalogue().search("GELU")}
    for words in ("linalg svd", "SVD  linalg"):
        found = [operation.name for operation in catalogue().search(words)]
        assert found == ["linalg.svd", "linalg.svdvals"]
    assert catalogue().search("there is nothing of that kind") == []
    assert [operation.name for operation in catalogue().search("")] == NAMES
    assert [operation.name for operation in catalogue().search("aten.add.")] == [
        "aten.add.Scalar",
        "aten.add.Tensor",
    ]


def test_the_page_lists_every_op() -> None:
    page = ops_page()
    assert all(f"| [`{name}`](https://" in page for name in NAMES)
    written = Path(__file__).parents[2] / "docs" / "ops.md"
    assert written.read_text() == page, "python -m service.engine.ops_page > docs/ops.md"


def test_building_it_runs_no_op() -> None:
    # A process that has run an op and forks can hang; see the fork server.
    script = """
import torch
from torch.utils._python_dispatch import TorchDispatchMode
class NoOp(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        raise AssertionError(f"{function} ran")
with NoOp():
    from service.engine.catalogue import catalogue
    catalogue().exact_names
    catalogue().find("add").describe()
print("no op")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "no op\n", done.stderr
