"""The compute replicas of the cluster as one `seam.Computer`, in the ingress.

A request whose replica dies is computed again on another one: a graph cannot kill a replica, only
its worker, so the death was not the request's doing, and computing twice changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from service.contract.problem import (
    Draining,
    GradtraceError,
    NotReady,
    Overloaded,
    TimeLimit,
)
from service.ray.compute import Computed
from service.workers.body import Body
from service.workers.seam import Answer, Counters, WorkerStates

log = logging.getLogger("gradtrace")

LOOK_S = 1.0
"""Seconds between two looks at how many replicas there are."""
REPLACE_S = 30.0
"""Seconds without any replica for which requests are still taken: Ray is replacing them."""
TRIES = 5
"""How often a request is computed whose replicas die."""
PAUSE_S = 0.1
"""Seconds before a request is tried again, for Ray to notice what died; twice as long each time."""
SMOOTHING = 0.1
"""Weight of the newest computing time in the running mean."""


class Replicas:
    """Computes requests in whichever replica Ray picks (a `seam.Computer`).

    Args:
        queue: requests of this ingress that may wait.
        workers: workers of each replica.
    """

    DEPLOYMENT: ClassVar[str] = "Compute"

    def __init__(self, queue: int, workers: int) -> None:
        self.counters = Counters()
        """What the requests of this ingress met; a crash is a replica's."""
        self._queue = queue
        self._each = workers
        self._running = 0
        self._seen_at: float | None = None
        self._reason: str | None = "The compute replicas are starting."
        self._in_flight = 0
        self._mean_s = 0.0
        self._stopped = False
        self._settled = asyncio.Event()

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
        return self.waiting >= self._queue and self._in_flight >= self._capacity

    @property
    def waiting(self) -> int:
        """Requests of this ingress for which there is no worker."""
        return max(0, self._in_flight - self._capacity)

    @property
    def workers(self) -> WorkerStates:
        """The workers of all replicas; those are busy that this ingress keeps busy."""
        busy = min(self._in_flight, self._capacity)
        return WorkerStates(idle=self._capacity - busy, busy=busy)

    @property
    def _capacity(self) -> int:
        return self._running * self._each

    async def start(self) -> None:
        """Begin to look for replicas; return at once."""
        self._loop = asyncio.get_running_loop()
        context = serve.get_replica_context()
        self._app = context.app_name
        self._handle: DeploymentHandle[Any] = serve.get_deployment_handle(
            self.DEPLOYMENT, self._app
        )
        self._looking = asyncio.create_task(self._look())

    async def wait_ready(self) -> None:
        """Return when a replica is there; raise NotReady with the reason when there is none."""
        await self._settled.wait()
        if self._reason is not None:
            raise NotReady(self._reason, retry_after_s=1)

    async def compute(self, headers: Mapping[str, str], body: Body | bytes) -> Answer:
        """Compute one request. Cancelling the caller's task kills the worker that computes it.

        Raises:
            NotReady, Draining, Overloaded: refused at once.
            TimeLimit, GraphCrashed, MemoryLimit: as the replica's pool says.
        """
        self._admit()
        self._in_flight += 1
        began = self._loop.time()
        try:
            computed = await self._try(dict(headers), bytes(body))
        except asyncio.CancelledError:
            self.counters.abandoned += 1
            raise
        finally:
            self._in_flight -= 1
        if isinstance(computed, GradtraceError):
            self.counters.time_limits += isinstance(computed, TimeLimit)
            raise computed
        self.counters.answered += 1
        self._mean_s += SMOOTHING * (computed.computing_s - self._mean_s)
        queue_s = self._loop.time() - began - computed.computing_s
        return Answer(computed.status, computed.headers, Body(computed.body), queue_s)

    async def stop(self) -> None:
        """Take no more requests. The replicas are Ray's to stop."""
        self._stopped = True
        self._reason = "The service is shutting down."
        self._looking.cancel()

    # One request

    def _admit(self) -> None:
        if self._stopped:
            raise Draining("The service is shutting down.", retry_after_s=1)
        if self._reason is not None:
            raise NotReady(self._reason, retry_after_s=1)
        if self.full:
            self.counters.rejected += 1
            waiting = self.waiting
            seconds = (waiting + 1) * self._mean_s / max(1, self._capacity)
            raise Overloaded(
                f"Requests that wait already: {waiting}.", retry_after_s=max(1, math.ceil(seconds))
            )

    async def _try(self, headers: dict[str, str], body: bytes) -> Computed | GradtraceError:
        pause = PAUSE_S
        for _ in range(TRIES):
            try:
                return await self._ask(headers, body)
            except RayActorError:
                self.counters.crashes += 1
            except DeploymentUnavailableError as error:
                return NotReady(error.message, retry_after_s=5)
            self.counters.retries += 1
            await asyncio.sleep(pause)
            pause *= 2
        return NotReady(
            "The replicas that computed this died one after the other.", retry_after_s=5
        )

    async def _ask(self, headers: dict[str, str], body: bytes) -> Computed | GradtraceError:
        response = self._handle.compute.remote(headers, body)
        try:
            return await response  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            response.cancel()  # type: ignore[no-untyped-call]
            raise

    # How many replicas there are

    async def _look(self) -> None:
        while True:
            try:
                self._running = await asyncio.to_thread(self._count_running)
                self._judge()
            except Exception:  # the controller may be restarting; what was seen last stands
                log.exception("cannot see how many replicas are running")
            await asyncio.sleep(LOOK_S)

    def _count_running(self) -> int:
        app = serve.status().applications.get(self._app)
        if app is None or self.DEPLOYMENT not in app.deployments:
            return 0
        states = app.deployments[self.DEPLOYMENT].replica_states
        return sum(count for state, count in states.items() if state == "RUNNING")

    def _judge(self) -> None:
        now = self._loop.time()
        if self._running:
            self._seen_at = now
            self._reason = None
            self._settled.set()
        elif self._seen_at is not None and now - self._seen_at > REPLACE_S:
            self._reason = "No compute replica is running."
