"""The modules of ``torch.nn`` that are read: what function each calls, with what of its own.

A word is an attribute, a parameter or a buffer of the module, and the keyword of the function that
takes it, written ``attribute:keyword`` where the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

CONV = "weight bias stride padding dilation groups"
CONV_TRANSPOSE = "weight bias stride padding output_padding groups dilation"
MAX_POOL = "kernel_size stride padding dilation ceil_mode return_indices"
AVG_POOL = "kernel_size stride padding ceil_mode count_include_pad"
BATCH_NORM = "running_mean running_var weight bias momentum eps"

WITH_PARAMETERS: Mapping[str, tuple[str, str]] = {
    "Linear": ("linear", "weight bias"),
    "Bilinear": ("bilinear", "weight bias"),
    "Embedding": ("embedding", "weight padding_idx max_norm norm_type scale_grad_by_freq"),
    **{f"Conv{n}d": (f"conv{n}d", CONV) for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": (f"conv_transpose{n}d", CONV_TRANSPOSE) for n in (1, 2, 3)},
    "LayerNorm": ("layer_norm", "normalized_shape weight bias eps"),
    "GroupNorm": ("group_norm", "num_groups weight bias eps"),
    "RMSNorm": ("rms_norm", "normalized_shape weight eps"),
    "PReLU": ("prelu", "weight"),
    **{f"BatchNorm{n}d": ("batch_norm", BATCH_NORM) for n in (1, 2, 3)},
}

ACTIVATIONS: Mapping[str, tuple[str, str]] = {
    "ReLU": ("relu", "inplace"),
    "ReLU6": ("relu6", "inplace"),
    "LeakyReLU": ("leaky_relu", "negative_slope inplace"),
    "RReLU": ("rrelu", "lower upper training inplace"),
    "ELU": ("elu", "alpha inplace"),
    "CELU": ("celu", "alpha inplace"),
    "SELU": ("selu", "inplace"),
    "GELU": ("gelu", "approximate"),
    "GLU": ("glu", "dim"),
    "SiLU": ("silu", "inplace"),
    "Mish": ("mish", "inplace"),
    "Softplus": ("softplus", "beta threshold"),
    "Softsign": ("softsign", ""),
    "Softshrink": ("softshrink", "lambd"),
    "Hardshrink": ("hardshrink", "lambd"),
    "Tanhshrink": ("tanhshrink", ""),
    "Threshold": ("threshold", "threshold value inplace"),
    "Sigmoid": ("sigmoid", ""),
    "Tanh": ("tanh", ""),
    "LogSigmoid": ("logsigmoid", ""),
    "Softmax": ("softmax", "dim"),
    "Softmin": ("softmin", "dim"),
    "LogSoftmax": ("log_softmax", "dim"),
    "Hardtanh": ("hardtanh", "min_val max_val inplace"),
    "Hardswish": ("hardswish", "inplace"),
    "Hardsigmoid": ("hardsigmoid", "inplace"),
    **{f"Dropout{n}": (f"dropout{n}", "p training inplace") for n in ("", "1d", "2d", "3d")},
    "AlphaDropout": ("alpha_dropout", "p training"),
    "FeatureAlphaDropout": ("feature_alpha_dropout", "p training"),
}

LOSSES: Mapping[str, tuple[str, str]] = {
    "MSELoss": ("mse_loss", "reduction"),
    "L1Loss": ("l1_loss", "reduction"),
    "SmoothL1Loss": ("smooth_l1_loss", "reduction beta"),
    "HuberLoss": ("huber_loss", "reduction delta"),
    "NLLLoss": ("nll_loss", "weight ignore_index reduction"),
    "CrossEntropyLoss": ("cross_entropy", "weight ignore_index reduction label_smoothing"),
    "BCELoss": ("binary_cross_entropy", "weight reduction"),
    "BCEWithLogitsLoss": ("binary_cross_entropy_with_logits", "weight pos_weight reduction"),
    "KLDivLoss": ("kl_div", "reduction log_target"),
    "PoissonNLLLoss": ("poisson_nll_loss", "log_input full eps reduction"),
    "GaussianNLLLoss": ("gaussian_nll_loss", "full eps reduction"),
    "HingeEmbeddingLoss": ("hinge_embedding_loss", "margin reduction"),
    "SoftMarginLoss": ("soft_margin_loss", "reduction"),
    "CosineEmbeddingLoss": ("cosine_embedding_loss", "margin reduction"),
    "MarginRankingLoss": ("margin_ranking_loss", "margin reduction"),
    "MultiMarginLoss": ("multi_margin_loss", "p margin weight reduction"),
    "MultiLabelMarginLoss": ("multilabel_margin_loss", "reduction"),
    "MultiLabelSoftMarginLoss": ("multilabel_soft_margin_loss", "weight reduction"),
    "TripletMarginLoss": ("triplet_margin_loss", "margin p eps swap reduction"),
}

SHAPING: Mapping[str, tuple[str, str]] = {
    "Identity": ("", ""),
    "Flatten": ("flatten", "start_dim end_dim"),
    "Unflatten": ("unflatten", "dim unflattened_size:sizes"),
    **{f"MaxPool{n}d": (f"max_pool{n}d", MAX_POOL) for n in (1, 2, 3)},
    "AvgPool1d": ("avg_pool1d", AVG_POOL),
    "AvgPool2d": ("avg_pool2d", f"{AVG_POOL} divisor_override"),
    "AvgPool3d": ("avg_pool3d", f"{AVG_POOL} divisor_override"),
    **{f"AdaptiveAvgPool{n}d": (f"adaptive_avg_pool{n}d", "output_size") for n in (1, 2, 3)},
    "AdaptiveMaxPool1d": ("adaptive_max_pool1d", "output_size return_indices"),
    "AdaptiveMaxPool2d": ("adaptive_max_pool2d", "output_size return_indices"),
    "PixelShuffle": ("pixel_shuffle", "upscale_factor"),
    "PixelUnshuffle": ("pixel_unshuffle", "downscale_factor"),
    "CosineSimilarity": ("cosine_similarity", "dim eps"),
    "PairwiseDistance": ("pairwise_distance", "norm:p eps keepdim"),
}

WITHOUT_PARAMETERS: Mapping[str, tuple[str, str]] = {**ACTIVATIONS, **LOSSES, **SHAPING}
LAYERS: Mapping[str, tuple[str, str]] = {**WITH_PARAMETERS, **WITHOUT_PARAMETERS}

CHANGING = re.compile("Dropout|RReLU|BatchNorm")
"""Modules that draw numbers, or change what they keep, when they are called in training."""

SETTABLE = frozenset({"training", "p", "inplace", "eps"})
"""Attributes of a module of ``torch.nn`` that a script may set afterwards."""

IN_FULL = (
    "; write its step as a function of tensors, or make a graph of the whole model with "
    "torch.export and `gradtrace from-export`"
)
NOT_READ: Mapping[str, str] = {
    **dict.fromkeys(
        "LSTM GRU RNN LSTMCell GRUCell RNNCell MultiheadAttention Transformer TransformerEncoder "
        "TransformerDecoder TransformerEncoderLayer TransformerDecoderLayer".split(),
        "is many ops in one module" + IN_FULL,
    ),
    **dict.fromkeys(
        "InstanceNorm1d InstanceNorm2d InstanceNorm3d SyncBatchNorm".split(),
        "keeps statistics, and is not read" + IN_FULL,
    ),
    "DataParallel": "spreads a model over devices, which is the request's affair",
    "ParameterList": "is not read; write nn.Module with an attribute for each parameter",
    "ParameterDict": "is not read; write nn.Module with an attribute for each parameter",
}


def refusal(name: str) -> str:
    """Return why a module of ``torch.nn`` is not read."""
    return f"nn.{name} {NOT_READ.get(name, 'is not among the modules that are read' + IN_FULL)}"


def words_of(kind: str) -> list[tuple[str, str]]:
    """Return (attribute of the module, keyword of its function) for a module of LAYERS."""
    pairs = (word.partition(":") for word in LAYERS[kind][1].split())
    return [(attribute, keyword or attribute) for attribute, _, keyword in pairs]


def is_default(value: Any, default: Any) -> bool:
    """Whether an argument is what its function takes without it."""
    plain = list(value) if isinstance(value, tuple) else value
    return type(plain) is type(default) and bool(plain == default)
