"""NDJSON on its way in and out: lines cut out of chunks as they come, answers given an index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from service.contract.problem import GradtraceError
from service.web.body import add, too_large
from service.web.problems import problem_body
from service.workers.body import Body

PROBLEM_WORD = b',"problem":'
"""What follows the index of a line that is answered with a problem."""


class Line(NamedTuple):
    """A line of the request that is not empty."""

    number: int
    content: Body
    problem: GradtraceError | None = None


class LineSplitter:
    """Cuts a body into lines; a line that is too long is a problem and spoils no other.

    Empty lines are passed over and have no index.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._index = 0
        self._partial = Body()
        self._too_long = False

    @property
    def held(self) -> int:
        """Bytes of the line that was begun."""
        return len(self._partial)

    def drop(self) -> None:
        """Forget the line that was begun."""
        self._partial.close()

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """Yield the lines that end in ``chunk``; raise Overloaded where there is no memory."""
        first, *rest = chunk.split(b"\n")
        self._grow(first)
        for piece in rest:
            yield from self.finish()
            self._grow(piece)

    def finish(self) -> Iterator[Line]:
        """Yield the line that was begun, where there is one."""
        partial, too_long = self._partial, self._too_long
        if not too_long and (not len(partial) or _is_blank(partial)):
            partial.close()
            return
        self._partial, self._too_long = Body(), False
        self._index += 1
        problem = too_large(self._limit) if too_long else None
        yield Line(self._index - 1, partial, problem)

    def _grow(self, piece: bytes) -> None:
        if self._too_long or not piece:
            return
        if len(self._partial) + len(piece) > self._limit:
            self._too_long = True
            self._partial.close()
        else:
            add(self._partial, piece)


def _is_blank(line: Body) -> bool:
    return not line.fds and bytes(line).isspace()


def joined(lines: Iterable[Line]) -> Body:
    """Return the lines as one body, with a line break between two; may raise Overloaded."""
    body = Body()
    for line in lines:
        if len(body):
            add(body, b"\n")
        for chunk in line.content.chunks():
            add(body, chunk)
    return body


def with_index(indices: Iterable[int], answers: Body) -> Iterator[bytes]:
    """Yield the lines ``{"trace": ...}`` of ``answers`` as ``{"index": 0, "trace": ...}``."""
    following = iter(indices)
    begun = False
    left = len(answers)
    for chunk in answers.chunks():
        left -= len(chunk)
        out: list[bytes] = []
        for number, piece in enumerate(chunk.split(b"\n")):
            if number and begun:
                out.append(b"\n")
                begun = False
            if piece and not begun:
                out.append(b'{"index":%d,' % next(following))
                out.append(piece[1:])
                begun = True
            else:
                out.append(piece)
        if begun and not left:
            out.append(b"\n")
        yield b"".join(out)


def problem_line(index: int, problem: bytes) -> bytes:
    """Return the line that says that line ``index`` is answered with ``problem``."""
    return b'{"index":%d,"problem":%b}\n' % (index, problem)


def problem_lines(lines: Iterable[Line], error: GradtraceError) -> Iterator[bytes]:
    """Yield a line for each of ``lines`` that says ``error``."""
    problem = problem_body(error)
    for line in lines:
        yield problem_line(line.number, problem)
