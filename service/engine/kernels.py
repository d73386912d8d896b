"""Kernels behind documented functions of another name, as exact overloads name them."""

from __future__ import annotations

from collections.abc import Mapping

KERNELS: Mapping[str, str] = {
    "cross_entropy_loss": "nn.functional.cross_entropy",
    "__and__": "bitwise_and",
    "split_with_sizes": "split",
}
