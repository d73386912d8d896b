"""The dtype of an op's result, as far as a script shows it; None where only a run says it."""

from __future__ import annotations

from collections.abc import Mapping

from service.translate.kinds import KEEPS, SOURCES, kind_of, numbers_in
from service.translate.values import Node, Ref, references

CASTS: Mapping[str, str] = {
    "float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16",
    "cfloat": "complex64", "cdouble": "complex128", "long": "int64", "int": "int32",
    "short": "int16", "char": "int8", "byte": "uint8", "bool": "bool",
}  # fmt: skip
"""Methods that convert, and the dtype they convert to."""

OF_PARTS: Mapping[str, str] = {"float32": "complex64", "float64": "complex128"}
"""The dtype of a complex tensor, by that of its parts."""

MATHS = frozenset(
    "exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal sin cos tan asin acos atan atan2 "
    "sinh cosh tanh asinh acosh atanh sigmoid erf erfc lgamma digamma logit div true_divide "
    "xlogy sinc".split()
)
"""Ops of a float dtype; of whole numbers they make the default one."""

FLOATS = frozenset(
    "silu gelu selu elu celu mish softplus softsign hardtanh hardswish hardsigmoid leaky_relu "
    "relu6 logsigmoid softmax log_softmax softmin dropout layer_norm rms_norm batch_norm "
    "group_norm "
    "instance_norm normalize linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d "
    "bilinear max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d "
    "adaptive_avg_pool2d embedding "
    "mse_loss l1_loss smooth_l1_loss huber_loss cross_entropy nll_loss binary_cross_entropy "
    "binary_cross_entropy_with_logits kl_div cosine_similarity pairwise_distance pad one mean var "
    "std median mode norm vector_norm matrix_norm logsumexp dist cdist trace det inv solve "
    "cholesky pinv matrix_power matrix_exp einsum tensordot outer ger kron cross addmm addmv "
    "addbmm baddbmm "
    "addcmul addcdiv lerp hypot floor ceil round trunc frac fmod nan_to_num clip positive "
    "softshrink hardshrink threshold prelu glu scaled_dot_product_attention rand_like randn_like "
    "bernoulli view_as expand_as reshape_as slice select narrow diagonal movedim moveaxis swapdims "
    "broadcast_to ravel squeeze atleast_1d atleast_2d atleast_3d fliplr flipud rot90 hstack vstack "
    "dstack column_stack concat block_diag diag_embed diff cummax cummin logcumsumexp rsub conj "
    "adjoint H mH tensor_split hsplit vsplit dsplit index_fill index_copy scatter_add index_put "
    "take_along_dim new_zeros new_ones new_full rand_like unfold nansum nanmean multi_dot vdot "
    "inner subtract multiply negative absolute divide chain_matmul autograd.grad grad".split()
)
"""Other ops whose result has the one float dtype of their tensors."""

WHOLE = frozenset(
    "argmax argmin argsort argwhere nonzero count_nonzero bincount searchsorted bucketize randint "
    "randperm tril_indices triu_indices one_hot multinomial".split()
)
SUMS = frozenset("sum prod cumsum cumprod".split())
"""Of whole numbers of any size they make int64."""


def last_part(op: str | None) -> str:
    """Return the name of an op without what stands before it."""
    parts = (op or "").split(".")
    return parts[1] if parts[0] == "aten" and len(parts) > 1 else parts[-1]


def dtype_at(ref: Ref) -> str | None:
    """Return the dtype of what a reference leads to."""
    return "int64" if ref.output in ref.node.whole else ref.node.dtype


def kind_at(ref: Ref) -> str | None:
    """Return the kind of what a reference leads to."""
    return "int" if ref.output in ref.node.whole else ref.node.kind


def result_dtype(node: Node, default: str) -> str | None:
    """Return the dtype of a result whose kind is known; of several outputs, of the first."""
    said = node.attrs.get("dtype") or CASTS.get(node.op or "")
    if isinstance(said, str):
        return said
    name = last_part(node.op)
    sources = references(node.inputs, node.attrs)
    if name in ("to", "type_as"):
        return dtype_at(sources[-1])
    if name == "float_power":
        return "complex128" if node.kind == "complex" else "float64"
    dtype = _unsaid(node, name, sources, default)
    return dtype if kind_of(dtype) == node.kind else None


def _unsaid(node: Node, name: str, sources: list[Ref], default: str) -> str | None:
    dtypes = {dtype_at(ref) for ref in sources}
    if node.kind == "bool":
        return None if name in ("all", "any") and dtypes != {"bool"} else "bool"
    if node.kind == "int":
        return _whole(name, dtypes, any_sources=bool(sources))
    if not sources:
        return default if name in SOURCES else None
    kinds = {kind_at(ref) for ref in sources}
    if None in dtypes or name not in KEEPS | MATHS | FLOATS:
        return None
    if kinds <= {"int", "bool"}:
        return default if name in MATHS or float in numbers_in(node.attrs) else None
    floats = {dtype for dtype in dtypes if kind_of(dtype) in ("float", "complex")}
    if len(floats) != 1:
        return None
    dtype = floats.pop()
    if complex in numbers_in(node.attrs) and kind_of(dtype) == "float":
        return OF_PARTS.get(dtype or "")
    if node.kind == "float" and kind_of(dtype) == "complex":
        return next((part for part, whole in OF_PARTS.items() if whole == dtype), None)
    return dtype


def _whole(name: str, dtypes: set[str | None], *, any_sources: bool) -> str | None:
    if name in WHOLE or name in SUMS or not any_sources:
        return "int64"
    return dtypes.copy().pop() if len(dtypes) == 1 and name in KEEPS else None
