"""The job in this very process: the same protocol as the pool, for tests and small tools.

There is no queue, no deadline and no protection: what crashes PyTorch crashes the caller.
"""

from __future__ import annotations

from collections.abc import Mapping

from service.contract.problem import MemoryLimit, NotReady
from service.workers.body import Body, pieces_of
from service.workers.seam import Answer, Counters, Job, JobConfig, WorkerStates, load_job


class InProcess:
    """Runs the job where it is called (a `seam.Computer`), one request after the other."""

    def __init__(self, job: str = "service.jobs:create", config: JobConfig | None = None) -> None:
        self.counters = Counters()
        self._name = job
        self._config: JobConfig = config or {}
        self._job: Job | None = None

    @property
    def ready(self) -> bool:
        """Whether the job is imported."""
        return self._job is not None

    @property
    def reason(self) -> str | None:
        """Why it is not ready, in words; None while it is."""
        return None if self._job else "The job is not imported."

    @property
    def full(self) -> bool:
        """Nobody is ever refused."""
        return False

    @property
    def waiting(self) -> int:
        """Nobody ever waits."""
        return 0

    @property
    def workers(self) -> WorkerStates:
        """This process counts as one that is idle."""
        return WorkerStates(idle=int(self.ready))

    async def start(self) -> None:
        """Import the job."""
        self._job = load_job(self._name, self._config)

    async def wait_ready(self) -> None:
        """Return; raise NotReady where it was not started."""
        if self._job is None:
            raise NotReady("The job is not imported.", retry_after_s=1)

    async def compute(self, headers: Mapping[str, str], body: Body | bytes) -> Answer:
        """Compute one request, blocking the event loop meanwhile."""
        if self._job is None:
            raise NotReady("The job is not imported.", retry_after_s=1)
        try:
            status, answered, data = self._job(
                headers, body.view() if isinstance(body, Body) else body
            )
        except MemoryError as error:
            raise MemoryLimit("There is not enough memory.") from error
        self.counters.answered += 1
        return Answer(status, answered, Body(b"".join(pieces_of(data))), 0.0)

    async def stop(self) -> None:
        """Forget the job."""
        self._job = None
