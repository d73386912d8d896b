"""``POST /v1/traces``: a graph a line in, a trace or a problem a line out, in the same order.

    read ── cuts lines while they come ─┐  (waits while enough lines are there)
    dispatch ── a batch for each worker that is free, in parallel ─┐  (waits for the writer)
    write ── the answers in order, each as soon as those before it are done

A client that stops reading stops the writer, which stops the dispatcher, which stops the reader; a
client that goes away stops the computing. Batches are small while workers are idle and grow while
they are not, so that a line alone is quick and a flood of small ones is cheap.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from service.contract.problem import (
    BodyTimeout,
    Draining,
    GradtraceError,
    NotReady,
    Overloaded,
    Problem,
    error_from,
)
from service.settings import Settings
from service.web.body import check_encoding, next_chunk
from service.web.exchange import CLOSE, GONE, Exchange, exchange_of
from service.web.lines import (
    PROBLEM_WORD,
    Line,
    LineSplitter,
    joined,
    problem_line,
    problem_lines,
    with_index,
)
from service.web.negotiate import NDJSON, media_type, negotiate
from service.web.problems import ClientDisconnected, problem_body
from service.web.room import Room, Share
from service.workers.body import Body
from service.workers.seam import Computer
from service.workers.timers import Timers

MAX_LINES = 32
"""Lines of one batch."""
MAX_BYTES = 256 * 1024
"""Bytes after which a batch takes no more lines."""
MAX_WAITING_WEIGHT = 1024 * 1024
"""Weight of the lines that wait for a worker, beyond which no more are read."""
MANY_LINES = 512
"""Lines that may be cut at once; the event loop goes on between more of them."""
SLICE = 4096
"""Bytes of many lines that are cut at once."""
QUICK_S = 0.01
"""A batch that takes less than this makes the next one larger."""
SLOW_S = 0.05
"""A batch that takes more than this makes the next one smaller."""
AGAIN_S = 0.02
"""Seconds after which a batch that found the queue full is tried again."""
AHEAD = 4
"""Batches for each worker that may be computed before the oldest one is written."""


class Part(NamedTuple):
    """Lines that were answered together: by a worker, or with a problem."""

    lines: list[Line]
    answer: Body | GradtraceError

    def text(self) -> Iterator[bytes]:
        """Yield the answer's lines, a chunk at a time."""
        if isinstance(self.answer, GradtraceError):
            return problem_lines(self.lines, self.answer)
        return with_index((line.number for line in self.lines), self.answer)


class TraceStream:
    """One stream from its first line to its last."""

    def __init__(
        self,
        settings: Settings,
        computer: Computer,
        exchange: Exchange,
        silence: Timers,
        room: Room,
    ) -> None:
        self.settings = settings
        self.computer = computer
        self.exchange = exchange
        self.silence = silence
        self.room = room
        self._lines_held = Share(room)
        self._answers_held = Share(room)
        self._splitter = LineSplitter(settings.max_body_bytes)
        self._waiting: deque[Line] = deque()
        self._waiting_weight = 0
        self._open_weight = 0
        """Weight of the lines that wait or are computed."""
        self._ended = False
        """Whether the last line has been read."""
        self._end_problem: GradtraceError | None = None
        """Why no more lines are read, where that is not the end of the body."""
        self._started = False
        """Whether the head of the answer has been sent."""
        self._done = False
        """Whether the end of the answer is being sent: from then on the client may go."""
        self._arrived = asyncio.Event()
        """Set when a line has come, or the last one has."""
        self._freed = asyncio.Event()
        """Set when a line is taken by a worker or answered, or an answer by the client."""
        self._computing = asyncio.Semaphore(settings.workers)
        """Batches that may still be given to workers."""
        self._unwritten = asyncio.Semaphore(settings.workers * AHEAD)
        """Batches that may still be begun before the oldest one is written."""
        self._batches: asyncio.Queue[asyncio.Task[list[Part]] | None] = asyncio.Queue()
        """Those that were begun, in order; None behind the last one."""
        self._long_lines: set[Body] = set()
        """Contents of lines that are not answered yet, as far as they are in a memfd."""
        self._unsent: set[Body] = set()
        """Workers' answers that have not been written yet."""
        self._answered_at = -math.inf
        """When the last answer was sent, in the event loop's time."""
        self._batch_lines = 1
        """Lines that the next batch may have."""

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer every line.

        Raises:
            ClientDisconnected: the client went away; nothing is computed any more.
            GradtraceError: nothing could be answered at all.
        """
        try:
            with self._lines_held, self._answers_held:
                async with asyncio.TaskGroup() as group:
                    reading = group.create_task(self._read(receive))
                    dispatching = group.create_task(self._dispatch(group))
                    await self._write(scope, send)
                    reading.cancel()
                    dispatching.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            self._splitter.drop()
            for body in (*self._long_lines, *self._unsent):
                body.close()  # an exception would keep it until the next garbage collection

    # From the client

    async def _read(self, receive: Receive) -> None:
        more = True
        try:
            while more:
                chunk, more = await self._next_chunk(receive)
                self.exchange.body_bytes += len(chunk)
                for piece in _slices(chunk):
                    for line in self._splitter.feed(piece):
                        self._add(line)
                    await self._until_there_is_room()
                    await self._until_few_wait()
                    if piece is not chunk:
                        await asyncio.sleep(0)
            for line in self._splitter.finish():
                self._add(line)
        except (BodyTimeout, Overloaded) as error:
            self._end_problem = error
            self._splitter.drop()
        self._ended = True
        self._arrived.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        if not self._done:
            raise ClientDisconnected

    async def _next_chunk(self, receive: Receive) -> tuple[bytes, bool]:
        """Return what comes next; a client may wait for answers before it sends the next line."""
        while True:
            try:
                return await next_chunk(receive, self.silence)
            except BodyTimeout:
                silent_s = asyncio.get_running_loop().time() - self._answered_at
                owed = self._open_weight or self._unsent or silent_s < self.silence.seconds
                if self._splitter.held or not owed:
                    raise

    def _add(self, line: Line) -> None:
        self._waiting.append(line)
        self._waiting_weight += line.weight
        self._open_weight += line.weight
        if line.content.fds:
            self._long_lines.add(line.content)
        self._arrived.set()

    async def _until_there_is_room(self) -> None:
        """Hold the lines that are not answered yet; read no more while there is no room for them.

        A client that takes its answers more slowly than it sends lines makes room by and by. With
        nothing under way, a stream would wait for others, which might wait for it.

        Raises:
            Overloaded: there is no room for the line that was begun.
        """
        while True:
            try:
                self._lines_held.claim(self._open_weight + self._splitter.held)
                return
            except Overloaded:
                if not self._open_weight and not self._unsent:
                    raise
            self._freed.clear()
            await self._freed.wait()

    async def _until_few_wait(self) -> None:
        while self._waiting_weight > MAX_WAITING_WEIGHT:
            self._freed.clear()
            await self._freed.wait()

    # To the workers

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._unwritten.acquire()
            await self._computing.acquire()
            batch = await self._next_batch()
            if not batch:
                self._batches.put_nowait(None)
                return
            await self._until_answers_are_taken(batch)
            self._batches.put_nowait(group.create_task(self._compute(batch)))

    async def _until_answers_are_taken(self, batch: list[Line]) -> None:
        """Wait while answers fill the room; refuse the first batch instead, and so the stream.

        What has been dispatched is computed whatever the room, even when it is tried again: the
        answers of later batches wait for it, and would fill the room for ever.
        """
        while self.room.full and not batch[0].is_first:
            await asyncio.sleep(AGAIN_S)
        self.room.check()

    async def _next_batch(self) -> list[Line]:
        """Return lines that wait, as many as pay; none when no more will come."""
        while not self._waiting:
            if self._ended:
                return []
            self._arrived.clear()
            await self._arrived.wait()
        batch = [self._take()]
        size = len(batch[0].content)
        while (
            self._waiting
            and batch[0].problem is None
            and self._waiting[0].problem is None
            and len(batch) < self._batch_lines
            and size + len(self._waiting[0].content) <= MAX_BYTES
        ):
            batch.append(self._take())
            size += len(batch[-1].content)
        return batch

    def _take(self) -> Line:
        line = self._waiting.popleft()
        self._waiting_weight -= line.weight
        self._freed.set()
        return line

    async def _compute(self, batch: list[Line]) -> list[Part]:
        try:
            return await self._answer(batch)
        finally:
            self._computing.release()
            for line in batch:
                self._open_weight -= line.weight
                line.content.close()
                self._long_lines.discard(line.content)
            self._lines_held.shrink(self._open_weight + self._splitter.held)
            self._freed.set()

    async def _answer(self, batch: list[Line]) -> list[Part]:
        """Return what ``batch`` is answered with; what fails together is tried line by line."""
        if batch[0].problem is not None:
            return [Part(batch, batch[0].problem)]
        try:
            return [Part(batch, await self._ask_until_taken(batch))]
        except (NotReady, Draining, Overloaded) as error:
            if batch[0].is_first:
                raise
            return [Part(batch, error)]
        except GradtraceError as error:
            if len(batch) == 1:
                return [Part(batch, error)]
        return [part for line in batch for part in await self._answer([line])]

    async def _ask_until_taken(self, batch: list[Line]) -> Body:
        """Ask again until there is a place in the queue; the first batch is refused instead."""
        while True:
            if batch[0].is_first or not self.computer.full:
                try:
                    return await self._ask(batch)
                except Overloaded:
                    if batch[0].is_first:
                        raise
            await asyncio.sleep(AGAIN_S)

    async def _ask(self, batch: list[Line]) -> Body:
        loop = asyncio.get_running_loop()
        began = loop.time()
        body = batch[0].content if len(batch) == 1 else joined(batch)
        try:
            answered = await self.computer.compute(
                {"job": "traces", "content-type": NDJSON, "accept": NDJSON}, body
            )
        finally:
            if len(batch) > 1:
                body.close()
        self.exchange.answered(answered)
        if answered.status >= 400:  # the worker could not answer the lines one by one
            with closing(answered.body):
                raise error_from(Problem.model_validate_json(bytes(answered.body)))
        self._unsent.add(answered.body)
        self._hold_answers()
        self._adapt_batches(len(batch), loop.time() - began - answered.queue_s)
        return answered.body

    def _adapt_batches(self, lines: int, seconds: float) -> None:
        """Make the next batch larger or smaller, after one of ``lines`` took ``seconds``."""
        if seconds < QUICK_S and lines == self._batch_lines:
            self._batch_lines = min(MAX_LINES, 2 * self._batch_lines)
        elif seconds > SLOW_S:
            self._batch_lines = max(1, self._batch_lines // 2)

    # To the client

    async def _write(self, scope: Scope, send: Send) -> None:
        while batch := await self._batches.get():
            for part in await batch:
                await self._start(send)
                await self._write_part(part, scope, send)
            self._unwritten.release()
        if self._end_problem is not None:
            if not self._started:
                raise self._end_problem
            scope.setdefault("extensions", {})[CLOSE] = True
            text = problem_line(self._splitter.count, problem_body(self._end_problem))
            await send({"type": "http.response.body", "body": text, "more_body": True})
        await self._start(send)
        self._done = True
        await send({"type": "http.response.body", "body": b""})

    async def _write_part(self, part: Part, scope: Scope, send: Send) -> None:
        self.exchange.lines += len(part.lines)
        tail = b""
        for text in part.text():
            seen = tail + text  # the word may lie across a border
            tail = seen[1 - len(PROBLEM_WORD) :]
            self.exchange.line_problems += seen.count(PROBLEM_WORD)
            await send({"type": "http.response.body", "body": text, "more_body": True})
            if GONE in scope.get("extensions", ()):  # `_read` may wait, and not hear of it
                raise ClientDisconnected
        self._answered_at = asyncio.get_running_loop().time()
        if isinstance(part.answer, Body):
            self._unsent.discard(part.answer)
            part.answer.close()
            self._hold_answers()

    def _hold_answers(self) -> None:
        """Hold room for the answers that have not been written."""
        self._answers_held.hold(sum(map(len, self._unsent)))
        self._freed.set()

    async def _start(self, send: Send) -> None:
        """Send the head of the answer, once."""
        if not self._started:
            self._started = True
            headers = [(b"content-type", NDJSON.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})


def _slices(chunk: bytes) -> Iterator[bytes]:
    """Yield ``chunk`` itself, or pieces of it where it has many lines."""
    if chunk.count(b"\n") <= MANY_LINES:
        yield chunk
        return
    for start in range(0, len(chunk), SLICE):
        yield chunk[start : start + SLICE]


class StreamEndpoint:
    """The ASGI app of ``POST /v1/traces``."""

    def __init__(self, settings: Settings, computer: Computer, room: Room) -> None:
        self.settings = settings
        self.computer = computer
        self.room = room
        self.silence = Timers(settings.body_timeout_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        exchange = exchange_of(scope)
        media_type(exchange.header(b"content-type"), (NDJSON,))
        negotiate(exchange.header(b"accept"), (NDJSON,))
        check_encoding(exchange)
        stream = TraceStream(self.settings, self.computer, exchange, self.silence, self.room)
        await stream.run(scope, receive, send)
