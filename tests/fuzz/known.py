"""Ends that the fuzzer knows and no guard can tell cheaply: the worker's death is the answer."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple


class Row(NamedTuple):
    """Kernels that end in a known way, and why that is let be."""

    kernels: str
    """Names as the guards have them, as words; `*` stands for anything."""
    how: str
    """The name of a :class:`tests.fuzz.hunt.How`."""
    reason: str


KNOWN = (
    Row(
        "linalg_lstsq",
        "UNSTEADY",
        "LAPACK's answer depends on where its arguments lie in memory, to the last bits",
    ),
    Row(
        "fft_*",
        "CRASHED",
        "MKL does not look whether it got the memory that it plans with, under a memory limit",
    ),
    Row(
        "special*legendre_polynomial_p special*laguerre_polynomial_l",
        "ENDLESS",
        "they take time by the degree, and a degree of 1e15 never ends",
    ),
    Row(
        "conv1d conv2d conv3d conv_transpose* convolution _convolution",
        "ENDLESS",
        "the plain kernels for half precision and complex take time by the square of a stride",
    ),
    Row("mvlgamma special_multigammaln", "ENDLESS", "it takes time by the p that is asked for"),
)


def reason_of(kernel: str, how: str) -> str | None:
    """Return why ``kernel`` may end like that, None where nothing is known."""
    for row in KNOWN:
        if row.how == how and any(fnmatchcase(kernel, name) for name in row.kernels.split()):
            return row.reason
    return None
