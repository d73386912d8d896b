"""Why a script cannot be read, and where: raised deep inside, placed at the nearest syntax node."""

from __future__ import annotations

import ast
import re

from service.contract.problem import (
    BadArguments,
    GradtraceError,
    InvalidRequest,
    UnknownOp,
    quote,
)

MAX_REASON = 500
"""Characters of a reason; ours have half as many, the script's own words and strings may have more.
"""
LONG_WORD = re.compile(r"\S{100,}")
"""A word of the script's: none of ours is as long."""


class Unreadable(Exception):
    """A part of a script that has no meaning as a graph.

    Args:
        reason: why, in words, and what to write instead where there is something; it may quote the
            script, and is cut to a short quote of it.
        node: the syntax node; filled in by the innermost one that is being read.
        kind: the problem to answer with.
    """

    def __init__(
        self, reason: str, node: ast.AST | None = None, kind: type[GradtraceError] = InvalidRequest
    ) -> None:
        self.reason = quote(LONG_WORD.sub(lambda word: quote(word[0]), reason), MAX_REASON)
        super().__init__(self.reason)
        self.node = node
        self.kind = kind

    def place(self, node: ast.AST) -> None:
        """Say at which syntax node it was, unless one inside of it has been named."""
        self.node = self.node or node

    def problem(self, source: str) -> GradtraceError:
        """Return the problem; its message begins with ``line L, column C: `` (both from 1)."""
        return self.kind(f"{position(source, self.node)}: {self.reason}", pointer="/source")


def from_problem(problem: GradtraceError) -> Unreadable:
    """Return what the catalogue or the binding refused, to be placed in the script."""
    kind = type(problem) if isinstance(problem, UnknownOp | BadArguments) else InvalidRequest
    unreadable = Unreadable("", kind=kind)
    unreadable.reason = problem.detail  # long where an op has many signatures
    return unreadable


def position(source: str, node: ast.AST | None) -> str:
    """Return ``line L, column C`` of ``node``, both counted from 1, columns in characters."""
    line = getattr(node, "lineno", 1)
    offset = getattr(node, "col_offset", 0)  # in bytes of UTF-8
    text = source.splitlines()[line - 1 : line] or [""]
    column = len(text[0].encode()[:offset].decode(errors="replace")) + 1
    return f"line {line}, column {column}"
