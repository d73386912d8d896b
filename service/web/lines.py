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
LINE_COST = 300
"""Bytes of memory that a line takes beside its own, about: there may be very many short ones."""


class Line(NamedTuple):
    """A line of the request that is not empty."""

    number: int
    """Its index among them, from 0."""
    content: Body
    problem: GradtraceError | None = None

    @property
    def weight(self) -> int:
        """Bytes of memory that the line takes, about."""
        return len(self.content) + LINE_COST

    @property
    def is_first(self) -> bool:
        """Whether it is the first one: until it is answered, the whole stream may be refused."""
        return self.number == 0


class LineSplitter:
    """Cuts a body into lines; a line that is too long is a problem and spoils no other.

    Empty lines are passed over and have no index.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.count = 0
        """Lines that were cut."""
        self._partial = Body()
        self._too_long = False

    @property
    def held(self) -> int:
        """Bytes of the line that was begun."""
        return len(self._partial)

    @property
    def _begun(self) -> bool:
        return self._too_long or len(self._partial) > 0

    def drop(self) -> None:
        """Forget the line that was begun."""
        self._partial.close()

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """Yield the lines that end in ``chunk``; raise Overloaded where there is no memory."""
        *ended, begun = chunk.split(b"\n")
        for piece in ended:
            if not self._begun and len(piece) <= self._limit and (not piece or piece.isspace()):
                continue  # at once: there may be very many
            self._grow(piece)
            yield from self.finish()
        self._grow(begun)

    def finish(self) -> Iterator[Line]:
        """Yield the line that was begun, where there is one."""
        partial, too_long = self._partial, self._too_long
        if not too_long and _is_blank(partial):
            partial.close()
            return
        self._partial, self._too_long = Body(), False
        self.count += 1
        problem = too_large(self._limit) if too_long else None
        yield Line(self.count - 1, partial, problem)

    def _grow(self, piece: bytes) -> None:
        if self._too_long or not piece:
            return
        if len(self._partial) + len(piece) > self._limit:
            self._too_long = True
            self._partial.close()
        else:
            add(self._partial, piece)


def _is_blank(line: Body) -> bool:
    return all(chunk.isspace() for chunk in line.chunks())


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
