"""An answer as a table: colours on a terminal, plain aligned text in a pipe."""

from __future__ import annotations

import json
import sys
from typing import Any

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
PLAIN_WIDTH = 10_000

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


def show_trace(answer: TraceResponse, notes: bool = False) -> None:
    """Print a row for every node, then PyTorch's warnings."""
    headings = ["id", "op", "shape", "value", "gradient", "status"] + ["note"] * notes
    rows = [_row(node)[: len(headings)] for node in answer.nodes]
    show_table(headings, rows)
    for warning in answer.warnings:
        console().print(f"warning: {warning}", markup=False, soft_wrap=True)


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
        console().print(line, markup=False, soft_wrap=True)


def show_table(headings: list[str], rows: list[list[Text]]) -> None:
    """Print ``rows`` under ``headings``."""
    out = console()
    if out.is_terminal:
        out.print(_table(headings, rows, box=True))
        return
    wide = Console(width=PLAIN_WIDTH, color_system=None)
    with wide.capture() as captured:
        wide.print(_table(headings, rows, box=False))
    for line in captured.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def show_ops(found: OpList) -> None:
    """Print a row for every op."""
    rows = [[Text(op.name, "bold"), Text(op.summary)] for op in found.ops]
    show_table(["op", "summary"], rows)


def show_op(op: OpDescription) -> None:
    """Print one op: what it does, where it is documented, how it is called."""
    lines = [op.name, op.summary, op.documentation]
    lines += [
        f"{op.name}({_parameters(s.parameters)}) -> {_outputs(s.outputs)}" for s in op.signatures
    ]
    for line in lines:
        console().print(line, markup=False, soft_wrap=True)


def short(value: Any) -> str:
    """Return nested lists as one short line, the rest of a long one as an ellipsis."""
    text = json.dumps(value)
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def _table(headings: list[str], rows: list[list[Text]], box: bool) -> Table:
    table = Table(header_style="bold") if box else Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _row(node: NodeTrace) -> list[Text]:
    style = STYLES[node.grad_status]
    return [
        Text(node.id, "bold"),
        Text(node.op or "leaf"),
        Text("x".join(map(str, node.shape)) or "scalar"),
        _tensor(node.value),
        _tensor(node.grad) if node.grad is not None else Text("None", style),
        Text(node.grad_status, style),
        Text(node.note or ""),
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
