"""Facts about ops: of which element type their results are.

A kind is bool, int, float or complex; a dtype says the width as well. Whole numbers are ints and
bools. Ops go by their last name (`norm` is `linalg.norm` too), and each stands in one table for one
fact. A test holds every table against PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping

PARTS_OF: Mapping[str, str] = {"complex64": "float32", "complex128": "float64"}
"""The dtype of the parts of complex numbers."""
OF_PARTS: Mapping[str, str] = {part: dtype for dtype, part in PARTS_OF.items()}

# --- what says the element type, whatever the tensors are ---------------------------------------

CASTS: Mapping[str, str] = {
    "float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16",
    "cfloat": "complex64", "cdouble": "complex128", "long": "int64", "int": "int32",
    "short": "int16", "char": "int8", "byte": "uint8", "bool": "bool",
}  # fmt: skip
"""Methods that convert, and the dtype they convert to."""

ALWAYS: Mapping[str, str] = {
    **CASTS,
    **dict.fromkeys(
        "eq ne lt le gt ge isclose isnan isinf isfinite isposinf isneginf isreal signbit isin "
        "logical_and logical_or logical_not logical_xor greater greater_equal less less_equal "
        "not_equal".split(),
        "bool",
    ),
    **dict.fromkeys(
        "argmax argmin argsort argwhere nonzero nonzero_static count_nonzero one_hot multinomial "
        "matrix_rank".split(),
        "int64",
    ),
    "hash_tensor": "uint64",
}
"""Ops whose result is of one dtype."""

COMPLEX = frozenset(
    "complex polar view_as_complex eigvals eig fft ifft fft2 ifft2 fftn ifftn rfft rfft2 rfftn "
    "ihfft ihfft2 ihfftn r2c".split()
)
"""Ops of complex numbers, of floats too."""

WHOLE_SOURCES = frozenset("randint randperm tril_indices triu_indices".split())
"""Ops that make int64 where no dtype is said."""

SOURCES = frozenset(
    "ones zeros rand randn eye linspace logspace full arange normal hann_window hamming_window "
    "blackman_window bartlett_window kaiser_window scalar_tensor".split()
)
"""Ops that make the default dtype where nothing else says it."""

OF_NUMBERS = frozenset("arange full where".split())
"""Ops that make whole numbers of whole numbers in their attrs, where they have no tensors."""

# --- what the tensors say -----------------------------------------------------------------------
# Of tensors of one float dtype, the ops of the next four tables make floats of that dtype. They
# differ in what they make of whole numbers (ints and bools).

KEEPS = frozenset(
    "add sub mul neg remainder floor_divide pow abs sign square matmul mm mv dot bmm max min amax "
    "amin maximum minimum clamp relu cat stack getitem view reshape flatten unflatten squeeze "
    "unsqueeze transpose permute swapaxes T mT t expand expand_as repeat tile flip roll gather "
    "scatter index_select index_add masked_select masked_fill take where clone contiguous detach "
    "diag tril triu unbind split chunk sort topk unique zeros_like ones_like full_like "
    "bitwise_and bitwise_or bitwise_xor bitwise_not rsub to type_as view_as reshape_as".split()
)
"""Of whole numbers of one dtype they make whole numbers of that dtype."""

SUMS = frozenset("sum prod cumsum cumprod".split())
"""Of whole numbers of any size they make int64."""

MATHS = frozenset(
    "exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal sin cos tan asin acos atan atan2 "
    "sinh cosh tanh asinh acosh atanh sigmoid erf erfc lgamma digamma logit div true_divide divide "
    "xlogy sinc".split()
)
"""Of whole numbers they make floats of the default dtype."""

FLOATS = frozenset(
    "silu gelu selu elu celu mish softplus softsign hardtanh hardswish hardsigmoid leaky_relu "
    "relu6 logsigmoid softmax log_softmax softmin dropout layer_norm rms_norm batch_norm "
    "group_norm instance_norm normalize linear conv1d conv2d conv3d conv_transpose1d "
    "conv_transpose2d bilinear max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d "
    "adaptive_avg_pool2d embedding mse_loss l1_loss smooth_l1_loss huber_loss cross_entropy "
    "nll_loss binary_cross_entropy binary_cross_entropy_with_logits kl_div cosine_similarity "
    "pairwise_distance pad mean var std median mode norm vector_norm matrix_norm logsumexp dist "
    "cdist trace det inv solve cholesky pinv matrix_power matrix_exp einsum tensordot outer ger "
    "kron cross addmm addmv addbmm baddbmm addcmul addcdiv lerp hypot floor ceil round trunc frac "
    "fmod nan_to_num clip positive softshrink hardshrink threshold prelu glu "
    "scaled_dot_product_attention rand_like randn_like bernoulli slice select "
    "narrow diagonal movedim moveaxis swapdims broadcast_to ravel atleast_1d atleast_2d atleast_3d "
    "fliplr flipud rot90 hstack vstack dstack column_stack concat block_diag diag_embed diff "
    "cummax cummin logcumsumexp conj adjoint H mH tensor_split hsplit vsplit dsplit index_fill "
    "index_copy scatter_add index_put take_along_dim new_zeros new_ones new_full unfold nansum "
    "nanmean multi_dot vdot inner subtract multiply negative absolute chain_matmul grad "
    "masked".split()
)
"""What they make of whole numbers is not said here."""

REAL_PARTS = frozenset(
    "real imag abs absolute angle view_as_real norm std var std_mean var_mean vector_norm "
    "matrix_norm cond dist pairwise_distance l1_loss triplet_margin_loss svdvals eigvalsh eigh "
    "irfft irfft2 irfftn hfft hfft2 hfftn c2r".split()
)
"""Ops that make floats of complex numbers."""

WITH_NUMBERS = frozenset(
    "add sub mul rsub pow remainder floor_divide clamp bitwise_and bitwise_or bitwise_xor "
    "where".split()
)
"""Ops in whose attrs a number is an operand like a tensor, not a dimension or what to fill in."""

OF_FIRST = frozenset(
    "getitem gather index_select index_add index_copy index_fill index_put scatter scatter_add "
    "take take_along_dim masked_fill masked_select view_as reshape_as expand_as".split()
)
"""Ops whose first tensor says the element type; the others are indices, masks, shapes or what fits
it."""

# --- several outputs ----------------------------------------------------------------------------

WHOLE_OUTPUTS: Mapping[str, str] = {
    **dict.fromkeys("indices inverse_indices counts max_indices rank".split(), "int64"),
    **dict.fromkeys("pivots info exponent".split(), "int32"),
    "mask": "bool",
}
"""Outputs that are of no floats beside others, by PyTorch's names for them, and their dtype."""
REAL_OUTPUTS = frozenset("S singular_values residuals logabsdet".split())
"""Outputs of floats beside complex ones."""
COMPLEX_OUTPUTS = frozenset("mean eigenvectors".split())
"""Outputs of complex numbers behind a first one of floats."""

UNNAMED: Mapping[str, tuple[str, ...]] = {
    "unique": ("output", "counts", "counts"),
    "unique2": ("output", "counts", "counts"),
    "unique_consecutive": ("output", "counts", "counts"),
    "lu": ("LU", "pivots", "info"),
    "svd_lowrank": ("U", "S", "V"),
    "pca_lowrank": ("U", "S", "V"),
    "var_mean": ("var", "mean"),
    "std_mean": ("std", "mean"),
    "native_dropout": ("output", "mask"),
    **{
        f"{pool}{ending}": ("output", "indices")
        for pool in (
            "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d "
            "adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d".split()
        )
        for ending in ("", "_with_indices")
    },
    **dict.fromkeys(
        ("embedding_bag", "embedding_bag_forward_only"), ("output", "indices", "indices", "indices")
    ),
}
"""Names of outputs that PyTorch does not name."""

OF_EACH = frozenset("grad broadcast_tensors atleast_1d atleast_2d atleast_3d".split())
"""Ops with an output for each of their tensors, of its element type."""

KERNEL_PREFIXES = ("linalg_", "fft_", "special_")
"""What kernels have before the name, where public names have a module."""
