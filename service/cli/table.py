"""An answer as a table: colours on a terminal, plain aligned text in a pipe."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.contract.response import (
    GradStatus,
    Health,
    NodeTrace,
    OpDescription,
    OpList,
    TraceResponse,
)

CELL = 48
NARROWEST = 40
"""Columns of a terminal below which a table in boxes shows nothing."""
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")

STYLES = {
    GradStatus.ACCUMULATED: "green",
    GradStatus.RETAINED: "green",
    GradStatus.NOT_RETAINED: "yellow",
    GradStatus.NOT_ON_PATH: "magenta",
    GradStatus.NON_DIFFERENTIABLE: "magenta",
    GradStatus.CONSTANT: "dim",
    GradStatus.NO_BACKWARD: "dim",
}
NON_FINITE = ('"NaN"', '"Infinity"', '"-Infinity"')


def console() -> Console:
    """Return standard output as rich sees it."""
    return Console(file=sys.stdout, highlight=False)


def show_trace(answer: TraceResponse, notes: bool) -> None:
    """Print a row for every node, then PyTorch's warnings."""
    headings = ["id", "op", "shape", "value", "gradient", "status"] + ["note"] * notes
    rows = [_row(node)[: len(headings)] for node in answer.nodes]
    show_table(headings, rows)
    for warning in answer.warnings:
        _print(f"warning: {warning}")


def show_health(health: Health) -> None:
    """Print the findings of the diagnosis, a line each."""
    found = [health.nonfinite_value, health.nonfinite_grad, *health.leaves_without_grad]
    lines = [finding.note for finding in found if finding is not None]
    lines += [
        f"{relu.node}: {relu.dead_units} of {relu.units} units are dead, "
        f"{relu.inactive_fraction:.0%} of its elements are inactive"
        for relu in health.dead_relus
    ]
    flow = health.gradient_flow
    ratio = "" if flow.ratio is None else f", far from the root {flow.ratio:.3g} times those near"
    lines.append(f"gradients along the depth: {flow.verdict.replace('_', ' ')}{ratio}")
    for line in ("", "health", *(f"  {line}" for line in lines)):
        _print(line)


def show_table(headings: list[str], rows: list[list[Text]]) -> None:
    """Print ``rows`` under ``headings``."""
    out = console()
    if out.is_terminal and out.width >= NARROWEST:
        out.print(_table(headings, rows))
        return
    # Not by rich, which takes a millisecond for a row.
    cells = [headings, *([cell.plain for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (
            cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)
        )
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def show_ops(found: OpList) -> None:
    """Print a row for every op."""
    rows = [[Text(printable(op.name), "bold"), Text(printable(op.summary))] for op in found.ops]
    show_table(["op", "summary"], rows)


def show_op(op: OpDescription) -> None:
    """Print one op: what it does, where it is documented, how it is called."""
    lines = [op.name, op.summary, op.documentation]
    lines += [
        f"{op.name}({_parameters(s.parameters)}) -> {_outputs(s.outputs)}" for s in op.signatures
    ]
    for line in lines:
        _print(line)


def printable(text: str) -> str:
    """Return ``text`` with its control signs escaped: they could do anything to a terminal."""
    return CONTROL.sub(lambda sign: repr(sign[0])[1:-1], text)


def _print(line: str) -> None:
    console().print(printable(line), markup=False, soft_wrap=True)


def short(value: Any) -> str:
    """Return nested lists as one short line, the rest of a long one as an ellipsis."""
    text = json.dumps(value)
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def _table(headings: list[str], rows: list[list[Text]]) -> Table:
    table = Table(header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _row(node: NodeTrace) -> list[Text]:
    style = STYLES[node.grad_status]
    return [
        Text(printable(node.id), "bold"),
        Text(printable(node.op or "leaf")),
        Text("x".join(map(str, node.shape)) or "scalar"),
        _tensor(node.value),
        _tensor(node.grad) if node.grad is not None else Text("None", style),
        Text(node.grad_status, style),
        Text(printable(node.note or "")),
    ]


def _tensor(value: Any) -> Text:
    text = short(value)
    return Text(text, "bold red" if any(sign in text for sign in NON_FINITE) else "")


def _parameters(parameters: list[Any]) -> str:
    return ", ".join(
        f"{p.name}: {p.type}" + ("" if p.required else f" = {json.dumps(p.default)}")
        for p in parameters
    )


def _outputs(outputs: list[str | None]) -> str:
    names = [name or "Tensor" for name in outputs]
    return names[0] if len(names) == 1 else f"({', '.join(names)})"
