"""``gradtrace trace FILE.ndjson``: a graph a line in, an answer a line out, in order.

The answers of a long run go to a file that is only ever appended to, so a run that was stopped goes
on behind the last whole line.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import re
import sys
from codecs import BOM_UTF8
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from service.cli.source import Ask, source
from service.client import UnexpectedAnswer
from service.client.calls import NDJSON, OK, batches, joined, post
from service.contract.problem import GradtraceError, Problem, error_from

INDEX = re.compile(rb'^\{(?:"index": *\d+, *)?')
PROBLEM = re.compile(INDEX.pattern + rb'"problem"')
ANSWER = re.compile(INDEX.pattern + rb'"(?:trace|problem)"')
OWN_ANSWER = re.compile(rb'\{"index":(\d+),"(?:trace|problem)":')
"""A line as it is written here."""
OF_A_LINE = frozenset({400, 413, 422, 500, 504})
"""Statuses that speak of a line. With any other one, such as a wrong key or a service that shuts
down, the service refuses to be asked: the run stops there, and may be resumed."""


async def trace_lines(file: Path, output: Path | None, url: str | None, key: str | None) -> int:
    """Trace every line of ``file``, print or append the answers.

    Returns:
        the exit code: 1 where any line was answered with a problem, before a resume too.
    """
    from service.cli.environment import settings

    total = sum(1 for _ in _lines(file))
    workers = settings().workers
    with _sink(output) as sink:
        done, refused = (0, 0) if output is None else _answered(sink, output, total)
        with _progress(total, done) as progress:
            async with source(url, key, workers) as ask:
                async for answer in _answers(_lines(file, done), ask, workers):
                    sink.write(_numbered(done, answer))
                    done += 1
                    refused += PROBLEM.match(answer) is not None
                    progress.advance(progress.task_ids[0])
    if refused:
        sys.stderr.write(f"gradtrace: {refused} of {total} lines were refused\n")
    return int(refused > 0)


async def _answers(lines: Iterable[bytes], ask: Ask, at_once: int) -> AsyncIterator[bytes]:
    """Yield the answer to every line in order, with ``at_once`` batches on their way."""
    running: deque[asyncio.Task[list[bytes]]] = deque()
    try:
        for batch in batches(lines):
            running.append(asyncio.create_task(_batch(batch, ask)))
            if len(running) > at_once:
                for answer in await running.popleft():
                    yield answer
        while running:
            for answer in await running.popleft():
                yield answer
    finally:
        for task in running:
            task.cancel()


async def _batch(batch: list[bytes], ask: Ask) -> list[bytes]:
    """Return an answer for each line of ``batch``.

    Where the batch fails as a whole (its process died, or ran out of time), each line is asked
    alone, so that only the guilty one is answered with the problem.

    Raises:
        GradtraceError: what is wrong is no matter of any line.
        UnexpectedAnswer: the answers are not as many as the lines, or are none.
    """
    try:
        answers = (await ask(post("/v1/traces", joined(batch), NDJSON, NDJSON))).splitlines()
    except GradtraceError as error:
        _check(error)
        return [await _single(line, ask) for line in batch]
    if len(answers) != len(batch):
        raise UnexpectedAnswer(OK, f"{len(batch)} lines were sent, {len(answers)} came back")
    for answer in answers:
        if not (ANSWER.match(answer) and answer.endswith(b"}")):  # cut off, perhaps
            raise UnexpectedAnswer(OK, answer.decode(errors="replace"))
        if PROBLEM.match(answer):
            _check(_error(answer))
    return answers


def _error(answer: bytes) -> GradtraceError:
    try:
        return error_from(Problem.model_validate(json.loads(answer)["problem"], extra="ignore"))
    except ValueError:
        raise UnexpectedAnswer(OK, answer.decode(errors="replace")) from None


async def _single(line: bytes, ask: Ask) -> bytes:
    try:
        return b'{"trace":' + await ask(post("/v1/trace", line)) + b"}"
    except GradtraceError as error:
        _check(error)
        return b'{"problem":' + error.problem().model_dump_json().encode() + b"}"


def _check(error: GradtraceError) -> None:
    """Raise ``error`` unless it speaks of a line."""
    if error.status not in OF_A_LINE:
        raise error


def _numbered(index: int, answer: bytes) -> bytes:
    return INDEX.sub(b'{"index":%d,' % index, answer, count=1) + b"\n"


def _lines(file: Path, skipped: int = 0) -> Iterator[bytes]:
    """Yield the lines of ``file`` that are not blank, without the first ``skipped`` of them."""
    with file.open("rb") as text:
        if text.peek().startswith(BOM_UTF8):  # as at the beginning of one graph
            text.seek(len(BOM_UTF8))
        yield from islice((line for line in text if line.strip()), skipped, None)


def _answered(text: BinaryIO, output: Path, total: int) -> tuple[int, int]:
    """Return how many whole lines ``output`` has, and how many of them are problems.

    What is behind the last of them is cut off.

    Raises:
        OSError: these are not the answers to the first lines of ``total``.
    """
    lines = refused = end = 0
    text.seek(0)
    for line in text:
        if line.endswith(b"\n"):
            own = OWN_ANSWER.match(line)
            if own is None or int(own[1]) != lines:
                raise OSError(f"line {lines + 1} of {output} is no answer to such a line")
            lines, end = lines + 1, end + len(line)
            refused += PROBLEM.match(line) is not None
        elif not line.startswith((b'{"index":%d,' % lines)[: len(line)]):
            raise OSError(f"the end of {output} is no part of an answer")
    if lines > total:
        raise OSError(f"{output} has {lines} answers, and there are {total} lines")
    text.truncate(end)
    return lines, refused


@contextmanager
def _sink(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with output.open("a+b") as text:
        try:
            fcntl.flock(text, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"another run writes to {output}") from None
        yield text


@contextmanager
def _progress(total: int, done: int) -> Iterator[Progress]:
    """Yield a bar on standard error, which shows only on a terminal."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, disable=not terminal.is_terminal) as progress:
        progress.add_task("lines", total=total, completed=done)
        yield progress
