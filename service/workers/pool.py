"""The pool: a queue in order of arrival, worker processes that may die, a deadline that kills.

    compute ── admit ── wait in the queue ── a worker has it ── answered: the next, and only then
                                                              │            this one's answer goes on
                                                              └ died: once more, on a fresh worker

Each worker computes one request at a time. Past the deadline, or when the task that awaits
`compute` is cancelled, the worker is killed, not asked. One more worker than may compute is always
there, so that a death costs nobody the time of a fork.

Why none of the libraries. Median of a round trip of 400 bytes, and of 10 MB each way, through one
worker that echoes (uvloop, two cores of a virtual machine with a load of 6, all in one run):

    this pool            92 us    28 ms
    anyio.to_process    143 us    73 ms
    concurrent.futures  350 us    77 ms
    pebble              377 us    51 ms

Pinned to one core it is 52 us; a bare socket's ping-pong is 13 us there, and 65 between two cores.
Beside the time, none of them forks from a process that has imported the job and computed nothing
(some 15 ms for a new worker, where importing takes a second), tells a worker that died before it
took a request from one that the request killed, or passes a large body without copying it twice.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from service.contract.problem import (
    Draining,
    GraphCrashed,
    Internal,
    InvalidRequest,
    MemoryLimit,
    NotReady,
    Overloaded,
    TimeLimit,
)
from service.workers import frames
from service.workers.awake import AWAKE_S, Watch
from service.workers.body import INLINE, Body
from service.workers.handle import Child, State, Worker, WorkerDied
from service.workers.nursery import Nursery
from service.workers.seam import Answer, Counters, PoolOptions, WorkerStates
from service.workers.timers import Timer, Timers

log = logging.getLogger("gradtrace")

STARTING = "The workers are starting."
STOPPING = "The service is shutting down."
STILLBORN = 3
"""Workers in a row that die while they start, after which something is wrong with all of them."""
START_LIMIT_S = 60.0
"""Seconds that a worker may take to start, once it is forked."""
NONE_S = 1.0
"""Seconds without any worker after which it is not ready, where it is known why there is none."""
NONE_YET_S = 5.0
"""Seconds of the same where nobody knows: the machine may be slow."""
NONE_AT_ALL_S = 15.0
"""Seconds of the same after which those who wait are refused, too."""
CAUSES_S = 5.0
"""Seconds in which it is to be heard how both workers of a request died; it takes 1 ms, or 200."""
SMOOTHING = 0.1
"""Weight of the newest service time in the running mean."""


class Request:
    """One request on its way through the pool."""

    __slots__ = ("deaths", "fds", "message", "reply", "since", "timer", "waited_s", "worker")

    def __init__(
        self, message: bytes, fds: tuple[int, ...], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.message = message
        self.fds = fds
        self.reply: asyncio.Future[tuple[Any, Body]] = loop.create_future()
        """Gets the answer, or what went wrong: WorkerDied where it died twice."""
        self.since = loop.time()
        """When it began to wait or, once a worker has it, to be computed, by the loop's clock."""
        self.waited_s = 0.0
        self.worker: Worker | None = None
        """The one that computes it."""
        self.deaths: list[Worker] = []
        """Workers that died while they computed it."""
        self.timer: Timer | None = None


class Pool:
    """Computes requests in worker processes on this machine (a `seam.Computer`).

    Must be started, used and stopped in one event loop.
    """

    def __init__(self, options: PoolOptions) -> None:
        self.options = options
        self.counters = Counters()
        self._reason: str | None = STARTING
        """Why it is not ready; None while it is."""
        self._settled = asyncio.Event()
        """Set once the first worker is ready, or it is known that none will be."""
        self._stopped = False
        self._workers: set[Worker] = set()
        """Those that start, are idle or compute."""
        self._idle: deque[Worker] = deque()
        """New ones on the left; on the right the one that answered last."""
        self._busy: dict[Worker, Request] = {}
        self._queue: deque[Request] = deque()
        self._again: deque[Request] = deque()
        """Requests whose worker died: they go before the queue, and to new workers only."""
        self._stillborn = 0
        """Workers in a row that died while they started."""
        self._without_workers: float | None = None
        """Since when there has been no worker that could compute, by the loop's clock."""
        self._looking = False
        """Whether `_look_for_workers` is called again and again, until there is one."""
        self._mean_s = 0.0
        """Running mean of the computing times."""
        self._buffer = bytearray(frames.BUFFER)
        self._deadlines = Timers(options.time_limit_s)
        self._watch = Watch(self._expects)

    @property
    def ready(self) -> bool:
        """Whether a request can be computed now or, after a wait in the queue, soon."""
        return self._reason is None

    @property
    def reason(self) -> str | None:
        """Why it is not ready, in words; None while it is."""
        return self._reason

    @property
    def full(self) -> bool:
        """Whether a request would be refused now, because too many wait."""
        return len(self._queue) >= self.options.queue and not self._can_take(fresh=False)

    @property
    def waiting(self) -> int:
        """Requests that wait in the queue."""
        return len(self._queue) + len(self._again)

    @property
    def workers(self) -> WorkerStates:
        """The workers by state."""
        idle, busy = len(self._idle), len(self._busy)
        return WorkerStates(starting=len(self._workers) - idle - busy, idle=idle, busy=busy)

    async def start(self) -> None:
        """Begin to start; return at once. ``ready`` and ``reason`` tell how it went."""
        self._loop = asyncio.get_running_loop()
        self._nursery = Nursery(self.options, self, self.counters)
        self._nursery.start()

    async def wait_ready(self) -> None:
        """Return when it is ready; raise NotReady with the reason when it cannot start."""
        await self._settled.wait()
        if self._reason is not None:
            raise NotReady(self._reason, retry_after_s=1)

    async def compute(self, headers: Mapping[str, str], body: Body | bytes) -> Answer:
        """Compute one request. Cancelling the caller's task kills the worker that computes it.

        Raises:
            NotReady, Draining, Overloaded: refused at once.
            TimeLimit, GraphCrashed, MemoryLimit, Internal: tried.
        """
        if isinstance(body, bytes) and len(body) > INLINE:
            spilled = await asyncio.to_thread(Body.spilled, body)
            try:
                return await self.compute(headers, spilled)
            finally:
                spilled.close()  # an exception would keep it until the next garbage collection
        self._admit()
        request = Request(*_message(headers, body), self._loop)
        self._queue.append(request)
        self._dispatch()
        try:
            head, answer = await request.reply
        except asyncio.CancelledError:
            self._abandon(request)
            raise
        except WorkerDied:
            raise await _crashed(request.deaths) from None
        return self._answer(head, answer, request.waited_s)

    async def stop(self) -> None:
        """Stop at once: what computes is killed, what waits is refused, no process is left."""
        self._stopped = True
        self._reason = STOPPING
        self._refuse_waiting(Draining(STOPPING, retry_after_s=1))
        for worker in list(self._workers):
            worker.kill(Draining(STOPPING, retry_after_s=1))
        await self._nursery.stop()

    # One request

    def _admit(self) -> None:
        if self._stopped:
            raise Draining(STOPPING, retry_after_s=1)
        if self._reason is not None:
            raise NotReady(self._reason, retry_after_s=1)
        if self.full:
            self.counters.rejected += 1
            raise Overloaded(
                f"Requests that wait already: {len(self._queue)}.",
                retry_after_s=self._retry_after(),
            )

    def _retry_after(self) -> int:
        """Return in how many seconds the queue of now will be worked off, at the pace of late."""
        now = self._loop.time()
        ages = [now - request.since for request in self._busy.values()]
        pace = max(self._mean_s, sum(ages) / len(ages) if ages else 0.0)
        return max(1, math.ceil((len(self._queue) + 1) * pace / self.options.workers))

    def _answer(self, head: Any, body: Body, waited: float) -> Answer:
        match head:
            case [frames.ANSWER, status, headers]:
                self.counters.answered += 1
                return Answer(status, headers, body, waited)
        body.close()
        match head:
            case [frames.NO_MEMORY]:
                raise MemoryLimit(
                    "The answer needs more memory than the "
                    f"{self.options.memory_limit_mb} MiB allowed (GRADTRACE_MEMORY_LIMIT_MB)."
                )
            case [frames.NO_FILES]:
                raise Overloaded("There are too many open files for the answer.", retry_after_s=1)
            case _:
                raise Internal("The worker could not answer.")

    def _abandon(self, request: Request) -> None:
        """Forget a request that nobody waits for any more, and its answer if that has just come."""
        reply = request.reply
        if reply.done() and not reply.cancelled() and reply.exception() is None:
            reply.result()[1].close()
        if request.worker is not None:
            self.counters.abandoned += 1
            request.worker.kill()
        for line in (self._again, self._queue):
            if request in line:
                line.remove(request)

    # Requests and workers, brought together

    def _can_take(self, *, fresh: bool) -> bool:
        if not self._idle or len(self._busy) >= self.options.workers:
            return False
        return not fresh or self._idle[0].served == 0

    def _dispatch(self) -> None:
        """Give the workers that are free to those who wait, the longest waiting first."""
        while self._again and self._can_take(fresh=True):
            self._give(self._again.popleft(), self._idle.popleft)
        while self._queue and self._can_take(fresh=False):
            self._give(self._queue.popleft(), self._idle.pop)

    def _give(self, request: Request, take: Callable[[], Worker]) -> None:
        if request.reply.done():  # nobody waits for it any more
            return
        worker = take()
        now = self._loop.time()
        request.waited_s += now - request.since
        request.since = now
        request.worker = worker
        request.timer = self._deadlines.start(self._loop, partial(self._time_is_up, worker))
        self._busy[worker] = request
        worker.ask(request.message, request.fds)
        if self.options.awake and self._mean_s < AWAKE_S:
            self._watch.start(self._loop)

    def _expects(self) -> bool:
        """Tell whether an answer may be about to come: a worker has just got its request."""
        just = self._loop.time() - 2 * AWAKE_S  # the loop's clock counts milliseconds
        return any(request.since > just for request in self._busy.values())

    def _taken_back(self, worker: Worker) -> Request | None:
        """Return the request that ``worker`` computes no longer; None where it had none."""
        request = self._busy.pop(worker, None)
        if request is None:
            return None
        if request.timer:
            request.timer.stop()
        request.worker = None
        return None if request.reply.done() else request

    def _time_is_up(self, worker: Worker) -> None:
        if not worker.has_taken():  # somebody has stopped it
            worker.kill(WorkerDied(innocent=True))
            return
        self.counters.time_limits += 1
        limit = self.options.time_limit_s
        worker.kill(
            TimeLimit(f"The computation was stopped after {limit:g} s (GRADTRACE_TIME_LIMIT_S).")
        )

    def _refuse_waiting(self, error: Exception) -> None:
        for line in (self._again, self._queue):
            while line:
                request = line.popleft()
                if not request.reply.done():
                    request.reply.set_exception(error)

    # What the nursery and the workers report

    def _refill(self) -> None:
        """Order the workers that are missing; notice where none come."""
        if self._stopped:
            return
        wanted = self.options.workers + self.options.spares
        self._nursery.order_workers(wanted - len(self._workers) - self._nursery.ordered)
        if self._reason is None and not self._looking:
            self._look_for_workers()

    def _look_for_workers(self) -> None:
        """Say that there are none where that lasts, not counting those that are starting."""
        self._looking = not (self._idle or self._busy or self._stopped)
        if not self._looking:
            self._without_workers = None
            return
        now = self._loop.time()
        self._without_workers = self._without_workers or now
        lasts, trouble = now - self._without_workers, self._nursery.trouble
        if lasts >= (NONE_S if trouble else NONE_YET_S):
            self._set_reason(f"There are no workers: {trouble or 'new ones take long to start'}.")
        if lasts >= NONE_AT_ALL_S and self._reason:
            self._refuse_waiting(NotReady(self._reason, retry_after_s=1))
        self._loop.call_later(NONE_S / 2, self._look_for_workers)

    def nursery_ready(self) -> None:
        """Order the workers that are missing."""
        self._refill()

    def nursery_failed(self, reason: str) -> None:
        """Tell everybody why there are no workers."""
        self._fail(f"The workers cannot start: {reason}")

    def _set_reason(self, reason: str | None) -> None:
        """Be ready, or not for ``reason``."""
        if self._stopped or reason == self._reason:
            return
        if reason:
            log.warning("%s", reason)
        elif self._reason != STARTING:
            log.info("There are workers again.")
        self._reason = reason

    def _fail(self, reason: str) -> None:
        """Say why new workers cannot start; where none is left, refuse those that wait."""
        self._set_reason(reason)
        self._settled.set()
        if not self._workers:
            self._refuse_waiting(NotReady(reason, retry_after_s=1))

    def worker_born(self, child: Child, sock: socket.socket) -> None:
        """Take over a worker that has just been forked."""
        self.counters.spawned += 1
        worker = Worker(child, sock, self, self._loop, self._buffer)
        self._workers.add(worker)
        self._loop.call_later(START_LIMIT_S, self._start_is_over, worker)

    def _start_is_over(self, worker: Worker) -> None:
        if worker.state is State.STARTING:
            worker.kill()

    def worker_ready(self, worker: Worker) -> None:
        """Give a new worker its first request, or keep it as a spare."""
        self._stillborn = 0
        self._without_workers = None
        self._set_reason(None)
        self._settled.set()
        self._idle.appendleft(worker)
        self._dispatch()

    def worker_answered(self, worker: Worker, head: Any, body: Body) -> None:
        """Pass an answer on; before that, give the worker its next request: it shall not wait."""
        request = self._taken_back(worker)
        worker.served += 1
        if worker.retiring or worker.served >= self.options.max_requests:
            self.counters.retired += 1
            self._workers.discard(worker)
            worker.retire()
            self._refill()
        else:
            self._idle.append(worker)
        self._dispatch()
        if request:
            taken_s = self._loop.time() - request.since
            self._mean_s += SMOOTHING * (taken_s - self._mean_s)
            request.reply.set_result((head, body))
        else:
            body.close()

    def worker_gone(self, worker: Worker, was: State, error: Exception | None) -> None:
        """Replace a worker that is dead or about to be; run its request again if it died."""
        died = isinstance(error, WorkerDied)
        self.counters.crashes += died
        self._workers.discard(worker)
        if was is State.IDLE and worker in self._idle:
            self._idle.remove(worker)
        request = self._taken_back(worker)
        if request and isinstance(error, WorkerDied):
            self._try_again(request, worker, error)
        elif request and error:
            request.reply.set_exception(error)
        if was is not State.STARTING:
            self._refill()
            self._dispatch()
            return
        self._stillborn += 1
        if self._stillborn >= STILLBORN:
            self._fail("The workers die while they start.")
            self._loop.call_later(min(5.0, 0.1 * 2 ** min(self._stillborn, 10)), self._refill)
        else:
            self._refill()

    def _try_again(self, request: Request, worker: Worker, death: WorkerDied) -> None:
        request.since = self._loop.time()
        if death.innocent:
            line = self._again if request.deaths else self._queue
            line.appendleft(request)
            return
        request.deaths.append(worker)
        if len(request.deaths) > 1:
            request.reply.set_exception(death)
            return
        self.counters.retries += 1
        self._again.appendleft(request)


async def _crashed(deaths: list[Worker]) -> GraphCrashed:
    ended = [worker.child.ended for worker in deaths]
    await asyncio.wait(ended, timeout=CAUSES_S)
    first, second = (end.result() if end.done() else "unknown" for end in ended)
    return GraphCrashed(
        f"The process that computed this graph died ({first}), and so did a fresh one ({second})."
    )


def _message(headers: Mapping[str, str], body: Body | bytes) -> tuple[bytes, tuple[int, ...]]:
    """Return the message for a worker, and the descriptor that goes with it."""
    fds = body.fds if isinstance(body, Body) else ()
    message = frames.encode(dict(headers), b"" if fds else bytes(body))
    if len(message) > frames.BUFFER:
        raise InvalidRequest("The request's headers are too long.")
    return message, fds
