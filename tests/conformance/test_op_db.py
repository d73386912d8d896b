"""Every op that torch tests, asked as a graph request, answers what the direct call does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tests.conformance.__main__ import reasons, row
from tests.conformance.converter import full_name
from tests.conformance.engine import engine
from tests.conformance.exceptions import NOT_EXPRESSIBLE, PARTLY, ROUNDED, UNSTEADY
from tests.conformance.figures import DTYPES, Figures, all_figures, differentiable_ops
from tests.conftest import REQUIRE_ALL, uncounted

LEAST = {torch.float64: (524, 520), torch.float32: (524, 520), torch.complex128: (321, 317)}
"""Ops that must pass, and ops that must do so bit for bit."""
PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
SAMPLES = None if REQUIRE_ALL else 1


def figures(dtype: torch.dtype) -> list[Figures]:
    """Return the figures of all ops, from a thread of its own.

    Sampling and seeding walk the whole stack, which is deep in pytest and shallow in a thread.
    """

    def run() -> list[Figures]:
        torch.set_num_threads(1)  # of this thread alone
        return list(all_figures(dtype, engine(), SAMPLES))

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


@uncounted
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_list_of_exceptions_is_the_truth(dtype: torch.dtype) -> None:
    ops = figures(dtype)
    wrong = [
        f"{one.name}: {problem} {one.why[:2]}"
        for one in ops
        if (problem := mistake(one, complete=REQUIRE_ALL))
    ]
    assert wrong == []
    if REQUIRE_ALL:
        assert row(dtype, ops) in PAGE.read_text(), "make conformance > docs/conformance.md"
    passing, exact = LEAST[dtype]
    assert sum(one.passes for one in ops) >= passing
    assert sum(one.exact for one in ops) >= exact


def mistake(figures: Figures, *, complete: bool) -> str:
    """Return how the list of exceptions is wrong about an op; ``complete``: with all samples."""
    name = figures.name
    if name in NOT_EXPRESSIBLE:
        return "" if figures.failed == figures.samples else "is an exception, yet passes"
    if name in PARTLY:
        return "is an exception, yet passes" if complete and figures.passes else ""
    if not figures.passes:
        return "fails, and is no exception"
    if figures.close and name not in ROUNDED and name not in UNSTEADY:
        return "is rounded, and is no exception"
    if complete and name in ROUNDED and figures.exact:
        return "is an exception for its rounding, yet is exact"
    return ""


def test_no_exception_is_of_an_op_that_is_not_there() -> None:
    there = {full_name(op) for dtype in DTYPES for op in differentiable_ops(dtype)}
    assert {*NOT_EXPRESSIBLE, *PARTLY, *ROUNDED, *UNSTEADY} <= there


def test_the_page_tells_every_exception() -> None:
    assert PAGE.read_text().endswith(reasons())
