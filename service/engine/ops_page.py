"""The page that lists all ops: ``python -m service.engine.ops_page > docs/ops.md``."""

from __future__ import annotations

import sys

import torch

from service.engine.catalogue import catalogue
from service.engine.operation import Operation

INTRODUCTION = """# Ops

All {count} ops of the catalogue, with their signatures, as PyTorch {version} has them. Exact
overloads (`aten.add.Tensor`) are not listed; they bind like the functions they stand behind.
This page is generated.

| op | signatures |
|---|---|
"""


def ops_page() -> str:
    """Return the page as Markdown: every op with its signatures and PyTorch's page."""
    names = catalogue().names
    version = torch.__version__.partition("+")[0]
    rows = (_row(catalogue().find(name)) for name in names)
    return INTRODUCTION.format(count=len(names), version=version) + "\n".join(rows) + "\n"


def _row(operation: Operation) -> str:
    texts = (f"`{signature.text}`" for signature in operation.signatures)
    signatures = "<br>".join(texts).replace("|", "\\|")
    return f"| [`{operation.name}`]({operation.documentation}) | {signatures} |"


if __name__ == "__main__":
    sys.stdout.write(ops_page())
