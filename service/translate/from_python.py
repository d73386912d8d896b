"""A PyTorch script as a TraceRequest: read by its syntax, never executed.

    from_python(source) -> TraceRequest as JSON

The script is parsed with :mod:`ast` and followed statement by statement. Python's own constants
are computed (bounded), loops over them unrolled, functions of the script inlined; every call of
PyTorch becomes a leaf or an op of the graph, named after the variable that holds it:

    statements -> expressions -> operators, attributes, calls -> operations -> graph

What has no meaning in a graph is refused with line, column and the reason.
"""

from __future__ import annotations

import ast
import warnings
from typing import Any

from service.contract.problem import InvalidRequest
from service.translate.builtins_read import Exited
from service.translate.calls import call
from service.translate.graph import Graph
from service.translate.reading import Reading
from service.translate.scopes import Scope
from service.translate.statements import execute, inline
from service.translate.unreadable import Unreadable
from service.translate.values import UNINITIALISED

MAIN = "__main__"


def from_python(source: str) -> dict[str, Any]:
    """Return the TraceRequest that a script means, as a JSON-able dict.

    Backward calls become roots; a script without one is traced forward only. Several calls become
    one pass over several roots, so that gradients that add up are equal up to rounding. What a
    script empties in between is left out, and what it empties last is still there: the gradients
    are those that the last calls gave. Ids are the names of variables (``x``, ``x.1`` when assigned
    again or changed in place), and of unnamed results ``loss.mul``.

    Raises:
        InvalidRequest: the script cannot be read; the message begins with ``line L, column C: ``.
        UnknownOp: it calls something of torch that is not in the catalogue; likewise.
        BadArguments: a call does not bind; likewise.
    """
    return read(source).graph.request()


def read(source: str) -> Reading:
    """Return all that a script has become: its graph, and what its names hold.

    Raises:
        InvalidRequest, UnknownOp, BadArguments: as :func:`from_python`.
    """
    tree = parse(source)
    graph = Graph(_assigned_names(tree))
    reading = Reading(graph, Scope({"__name__": MAIN}), inline=inline, call=call)
    try:
        try:
            execute(reading, tree.body)
        except Exited:
            reading.graph.name_rest(0, "")
        if any(node.stale == UNINITIALISED for node in graph.ops):
            raise Unreadable(f"torch.empty: {UNINITIALISED}; here nothing fills it")
        if not graph.leaves and not graph.ops:
            raise Unreadable("the script makes no tensor")
        return reading
    except Unreadable as unreadable:
        raise unreadable.problem(source) from unreadable
    except RecursionError as error:
        reason = "line 1, column 1: an expression of this script is nested too deeply"
        raise InvalidRequest(reason, pointer="/source") from error


def parse(source: str) -> ast.Module:
    """Return the syntax tree of a script.

    Raises:
        InvalidRequest: it is no Python.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source.removeprefix("\ufeff"))  # as Python does with a file
            compile(tree, "script", "exec", dont_inherit=True)  # says what else is no Python
            return tree
    except SyntaxError as error:
        at = f"line {error.lineno or 1}, column {max(error.offset or 1, 1)}"
        raise InvalidRequest(f"{at}: {error.msg}", pointer="/source") from error
    except (RecursionError, MemoryError, ValueError) as error:
        reason = f"line 1, column 1: {str(error) or 'the script is nested too deeply'}"
        raise InvalidRequest(reason, pointer="/source") from error


def _assigned_names(tree: ast.Module) -> set[str]:
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
