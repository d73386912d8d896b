"""Prints the conformance page: ``python -m tests.conformance > docs/conformance.md``.

Every sample of every op of torch's database, in three dtypes; some minutes on one core.
"""

from __future__ import annotations

import sys

import torch

from tests.conformance.engine import engine
from tests.conformance.exceptions import NOT_EXPRESSIBLE, PARTLY, ROUNDED, UNSTEADY
from tests.conformance.figures import DTYPES, Figures, all_figures

INTRODUCTION = f"""# Conformance

PyTorch ships a database of its own ops with sample inputs, by which it tests itself. Every sample
of every op that supports autograd on the CPU is asked here as a graph request, bytes in and bytes
out, and all outputs and all leaf gradients are compared with the direct call. This page is written
by `make conformance`, with PyTorch {torch.__version__.partition("+")[0]}.

| dtype | ops | pass on every sample | bit for bit | samples |
|---|---|---|---|---|
"""


def page(table: dict[torch.dtype, list[Figures]]) -> str:
    """Return the page of Markdown."""
    rows = "\n".join(row(dtype, figures) for dtype, figures in table.items())
    return f"{INTRODUCTION}{rows}\n\n{reasons()}"


def reasons() -> str:
    """Return the exceptions, with a reason each."""
    lists = (
        ("Not reproduced", {**NOT_EXPRESSIBLE, **PARTLY}),
        ("Equal within rounding", {**ROUNDED, **UNSTEADY}),
    )
    parts = []
    for title, exceptions in lists:
        lines = "\n".join(f"| `{name}` | {why} |" for name, why in sorted(exceptions.items()))
        parts.append(f"## {title}\n\n| op | why |\n|---|---|\n{lines}\n")
    return "\n".join(parts)


def row(dtype: torch.dtype, figures: list[Figures]) -> str:
    """Return the figures of a dtype as a row of the table."""
    # What PyTorch itself does not repeat is counted as rounded, so that the page never changes.
    name = str(dtype).removeprefix("torch.")
    passing = [one for one in figures if one.passes]
    exact = [one for one in passing if one.exact and one.name not in UNSTEADY]
    samples = sum(one.samples for one in figures)
    return f"| {name} | {len(figures)} | {len(passing)} | {len(exact)} | {samples} |"


def main() -> None:
    """Run everything and print the page."""
    torch.set_num_threads(1)
    ask = engine()
    sys.stdout.write(page({dtype: list(all_figures(dtype, ask)) for dtype in DTYPES}))


if __name__ == "__main__":
    main()
