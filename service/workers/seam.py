"""What the web process expects of whatever computes: bytes and headers in, bytes and headers out.

Local worker processes (`service.workers.pool`), this very process (`service.workers.inprocess`) and
a remote handle are three things behind this one protocol; nothing else knows which one it is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, cast

from service.workers.body import Body, Data

Job = Callable[[Mapping[str, str], bytes | memoryview], tuple[int, dict[str, str], Data]]
"""``job(headers, body) -> (status, headers, body)``; every error it can name is an answer."""

JobConfig = Mapping[str, int | str]


class Answer(NamedTuple):
    """What a request was answered with."""

    status: int
    """HTTP status."""
    headers: dict[str, str]
    body: Body
    queue_s: float
    """Seconds that the request waited for a worker."""


@dataclass(slots=True)
class Counters:
    """What happened to the workers since the start; every number only grows."""

    answered: int = 0
    """Requests that a worker answered, with whatever status."""
    spawned: int = 0
    """Workers that were started."""
    retired: int = 0
    """Workers that were replaced in peace, after many requests or because they had grown."""
    time_limits: int = 0
    """Workers that were killed because the deadline was over."""
    abandoned: int = 0
    """Workers that were killed because nobody waited for the answer any more."""
    crashes: int = 0
    """Workers that died by themselves or by a stranger's hand, idle or computing."""
    retries: int = 0
    """Requests that were run again because their worker died."""
    rejected: int = 0
    """Requests that found the queue full."""
    server_starts: int = 0
    """Fork servers that imported the job; the second and later ones were restarts."""
    takeovers: int = 0
    """Fork servers that died and whose standby took over."""


@dataclass(frozen=True, slots=True)
class WorkerStates:
    """How many workers are in which state at this moment."""

    starting: int = 0
    idle: int = 0
    busy: int = 0


class Computer(Protocol):
    """Computes requests somewhere else than in the coroutine that asks."""

    counters: Counters

    @property
    def ready(self) -> bool:
        """Whether a request can be computed now or, after a wait in the queue, soon."""

    @property
    def reason(self) -> str | None:
        """Why it is not ready, in words; None while it is."""

    @property
    def full(self) -> bool:
        """Whether a request would be refused now, because too many wait."""

    @property
    def waiting(self) -> int:
        """Requests that wait in the queue."""

    @property
    def workers(self) -> WorkerStates:
        """The workers by state."""

    async def start(self) -> None:
        """Begin to start; return at once. ``ready`` and ``reason`` tell how it went."""

    async def wait_ready(self) -> None:
        """Return when it is ready; raise NotReady with the reason when it cannot start."""

    async def compute(self, headers: Mapping[str, str], body: Body | bytes) -> Answer:
        """Compute one request. Cancelling the caller's task stops the computation.

        Raises:
            NotReady: there is no worker yet, or there cannot be one.
            Draining: it is being stopped.
            Overloaded: the queue is full; ``retry_after_s`` is honest.
            TimeLimit: the computation was stopped.
            GraphCrashed: the process that computed died, and a fresh one too.
            MemoryLimit: not even the answer could be built in the memory allowed.
        """

    async def stop(self) -> None:
        """Stop at once: what computes is killed, what waits is refused, no process is left.

        To let requests finish first is the caller's part.
        """


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How many workers there are, what they run, and what one request may take."""

    workers: int
    """Requests computed at the same time."""
    queue: int = 64
    """Requests that may wait."""
    time_limit_s: float = 10.0
    """Computing time of one request; a run again after a crash has the whole of it once more."""
    memory_limit_mb: int = 2048
    """What one request may take beyond a fresh worker, in MiB; 0 sets no limit."""
    threads: int = 1
    """Threads that numeric libraries may use in each worker."""
    job: str = "service.jobs:create"
    """Import string ``module:function`` of what makes the job out of ``config``."""
    config: JobConfig = field(default_factory=dict)
    spares: int = 1
    """Fresh workers kept beyond ``workers``, so that a death is replaced at once."""
    awake: bool = True
    """Whether processes look for their next message for a moment before they sleep (`awake`)."""
    max_requests: int = 10_000
    """Requests after which a worker is replaced."""
    warm_up: tuple[Mapping[str, str], bytes] | None = None
    """A request that a new worker computes for itself before it is ready: the first one is slow,
    because what it touches of the memory shared with the fork server is copied."""


def load_job(job: str, config: JobConfig) -> Job:
    """Import ``module:function`` and let it make the job; whatever it raises goes through."""
    module, _, function = job.partition(":")
    return cast("Job", getattr(importlib.import_module(module), function)(dict(config)))
