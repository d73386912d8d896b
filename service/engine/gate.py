"""Which of torch's names may stand in a request.

The catalogue is derived from torch; this is the gate that every name goes through:

1. it stands in one of PyTorch's documented modules (:data:`MODULES`), and no part of it begins or
   ends with an underscore;
2. it is an overload of the dispatcher, a Python function of one of :data:`PYTHON_MODULES`, or a
   method with an overload;
3. it writes into nothing, returns tensors, and what a request cannot say has a default;
4. PyTorch documents it, or it is one of :data:`WANTED`;
5. it has no prefix of :data:`UNUSABLE`;
6. it is not :data:`DENIED`.

An exact overload `aten.X.overload` goes through the same gate; there X may also be the kernel
behind a documented function of another name (:data:`KERNELS`), underscore or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.masked
import torch.signal.windows

MODULES: Mapping[str, Any] = {
    "": torch,
    "linalg.": torch.linalg,
    "special.": torch.special,
    "fft.": torch.fft,
    "nn.functional.": torch.nn.functional,
    "signal.windows.": torch.signal.windows,
    "masked.": torch.masked,
}
"""Where documented functions stand, by the prefix of their names."""

PYTHON_MODULES = frozenset(
    {
        "torch.functional",
        "torch.nn.functional",
        "torch.masked._ops",
        "torch.signal.windows.windows",
        "torch._lowrank",
    }
)

WANTED = frozenset(
    "relu selu celu rrelu threshold layer_norm group_norm rms_norm log_softmax rsub clamp_min "
    "clamp_max fill constant_pad_nd native_layer_norm native_group_norm native_batch_norm "
    "native_dropout split_with_sizes max_pool1d max_pool2d max_pool3d dropout alpha_dropout "
    "feature_dropout feature_alpha_dropout scalar_tensor".split()
)
"""Without a docstring of their own, but used and well defined."""

UNUSABLE = ("quantize", "q_", "sparse_", "to_")
"""Prefixes of quantisation, and of layouts that an answer cannot carry."""

DENIED: Mapping[str, str] = {
    name: reason
    for reason, names in {
        "it reads files": "from_file",
        "it returns uninitialised memory": "empty empty_like empty_permuted empty_strided "
        "new_empty new_empty_strided",
        "it works on dtypes or layouts that a request cannot give": "dequantize scaled_mm "
        "scaled_addmm scaled_grouped_mm grouped_mm int_repr coalesce indices values crow_indices "
        "col_indices indices_copy values_copy crow_indices_copy col_indices_copy",
        "it corrupts memory on some pivots": "linalg_ldl_solve",
        "it needs another device": "pin_memory",
    }.items()
    for name in names.split()
}
"""Names, public or of kernels, that are not let through, and why."""


def has_underscore(name: str) -> bool:
    """Return whether a part of ``name`` begins or ends with an underscore (rule 1)."""
    return any(part.startswith("_") or part.endswith("_") for part in name.split("."))


def is_refused(base: str) -> bool:
    """Return whether rule 5 or 6 keeps ``base`` out."""
    return base in DENIED or base.startswith(UNUSABLE)


def dispatcher_overloads() -> Mapping[str, frozenset[str]]:
    """Return the overload names of every aten op that the dispatcher knows; '' is `default`."""
    overloads: dict[str, set[str]] = {}
    for qualified in torch._C._dispatch_get_all_op_names():
        namespace, _, name = qualified.partition("::")
        if namespace == "aten":
            base, _, overload = name.partition(".")
            overloads.setdefault(base, set()).add(overload)
    return {base: frozenset(names) for base, names in overloads.items()}
