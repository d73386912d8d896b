"""Torch's op database against the engine, op by op."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo

from tests.conformance.comparison import Ask, Verdict, compare
from tests.conformance.converter import NotExpressible, convert, full_name

DTYPES = (torch.float64, torch.float32, torch.complex128)
SAMPLE_SEED = 1


@dataclass
class Figures:
    """How one op did in one dtype."""

    name: str
    bitwise: int = 0
    close: int = 0
    failed: int = 0
    why: list[str] = field(default_factory=list)

    @property
    def passes(self) -> bool:
        """Whether every sample agrees with PyTorch, at least within rounding."""
        return not self.failed

    @property
    def exact(self) -> bool:
        """Whether every sample agrees bit for bit."""
        return not self.failed and not self.close

    @property
    def samples(self) -> int:
        """How many samples there were."""
        return self.bitwise + self.close + self.failed


def differentiable_ops(dtype: torch.dtype) -> list[OpInfo]:
    """Return the OpInfos that support autograd in ``dtype`` on the CPU."""
    return [
        op
        for op in op_db
        if op.supports_autograd and dtype in op.supported_backward_dtypes("cpu")  # type: ignore[no-untyped-call]
    ]


def figures_of(op: OpInfo, dtype: torch.dtype, ask: Ask, limit: int | None = None) -> Figures:
    """Hold the samples of an op, or the first ``limit`` of them, against the engine."""
    figures = Figures(full_name(op))
    torch.default_generator.manual_seed(SAMPLE_SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = op.sample_inputs(  # type: ignore[no-untyped-call]
            "cpu", dtype, requires_grad=True
        )
        for number, sample in enumerate(itertools.islice(samples, limit)):
            try:
                verdict, what = compare(figures.name, convert(op, sample), ask)
            except NotExpressible as error:
                verdict, what = Verdict.DIFFERENT, str(error)
            figures.bitwise += verdict is Verdict.BITWISE
            figures.close += verdict is Verdict.CLOSE
            figures.failed += verdict is Verdict.DIFFERENT
            if what:
                figures.why.append(f"sample {number}: {what}")
    return figures


def all_figures(dtype: torch.dtype, ask: Ask, limit: int | None = None) -> Iterator[Figures]:
    """Yield the figures of every op that supports autograd in ``dtype``."""
    for op in differentiable_ops(dtype):
        yield figures_of(op, dtype, ask, limit)
