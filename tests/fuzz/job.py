"""The job of the fuzzer's workers: the service's own, run twice, on a budget of processor time.

Fresh memory is filled with other bytes for the second run, so what comes out of uninitialised or
freed memory differs. A run that goes on past its budget is ended by SIGPROF: that depends on the
work alone, not on how busy the machine is.
"""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from service import jobs
from service.engine.job import Answer

DIFFERS = "x-differs"
"""Header of an answer: the second run said something else."""
CPU_SECONDS = 2.0
FILLS = (0x01, 0xC0)
"""What freed memory is filled with; fresh memory gets its complement. As integers these are far
below zero and far above it, as floats huge and small."""

_M_PERTURB = -6
_libc = ctypes.CDLL(None)


def create(config: Mapping[str, int | str]) -> jobs.Handle:
    """Return the service's job, made to run everything twice."""
    handle = jobs.create(config)

    def run(headers: jobs.Headers, body: jobs.Bytes, fill: int) -> Answer:
        if hasattr(_libc, "mallopt"):
            _libc.mallopt(_M_PERTURB, fill)
        with _budget():
            return handle(headers, body)

    def run_twice(headers: jobs.Headers, body: jobs.Bytes) -> Answer:
        first, second = (run(headers, body, fill) for fill in FILLS)
        if first.status != second.status or first.body != second.body:
            first.headers[DIFFERS] = second.body.decode()[:20_000]
        return first

    return run_twice


@contextmanager
def _budget() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
