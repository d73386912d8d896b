"""Why a script cannot be read, and where: raised deep inside, placed at the nearest syntax node."""

from __future__ import annotations

import ast

from service.contract.problem import BadArguments, GradtraceError, InvalidRequest, UnknownOp


class Unreadable(Exception):
    """A part of a script that has no meaning as a graph.

    Args:
        reason: why, in words, and what to write instead where there is something.
        node: the syntax node; filled in by the innermost one that is being read.
        kind: the problem to answer with.
    """

    def __init__(
        self,
        reason: str,
        node: ast.AST | None = None,
        kind: type[GradtraceError] = InvalidRequest,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.node = node
        self.kind = kind

    def problem(self, source: str) -> GradtraceError:
        """Return the problem; its message begins with ``line L, column C: `` (both from 1)."""
        return self.kind(f"{position(source, self.node)}: {self.reason}", pointer="/source")


def from_problem(problem: GradtraceError) -> Unreadable:
    """Return what the catalogue or the binding refused, to be placed in the script."""
    kind = type(problem) if isinstance(problem, UnknownOp | BadArguments) else InvalidRequest
    return Unreadable(problem.detail, kind=kind)


def position(source: str, node: ast.AST | None) -> str:
    """Return ``line L, column C`` of ``node``, both counted from 1, columns in characters."""
    line = getattr(node, "lineno", 1)
    offset = getattr(node, "col_offset", 0)  # in bytes of UTF-8
    text = source.splitlines()[line - 1 : line] or [""]
    column = len(text[0].encode()[:offset].decode(errors="replace")) + 1
    return f"line {line}, column {column}"
