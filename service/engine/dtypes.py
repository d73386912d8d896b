"""The element types of the contract, as PyTorch and NumPy know them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from service.contract.request import DType

DTYPES: Final[dict[str, torch.dtype]] = {name.value: getattr(torch, name) for name in DType}
"""PyTorch's dtype for every name of the contract."""

DTYPE_NAMES: Final[dict[torch.dtype, str]] = {dtype: name for name, dtype in DTYPES.items()}
"""The contract's name for every dtype that an answer can carry."""

INTEGERS: Final[dict[str, np.dtype[Any]]] = {
    name: np.dtype(name) for name in ("int64", "int32", "int16", "int8", "uint8")
}
"""NumPy's dtype for the integers."""

COMPLEX_PARTS: Final[dict[str, str]] = {"complex64": "float32", "complex128": "float64"}
"""The dtype of the real and the imaginary part."""
