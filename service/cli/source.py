"""Where a command's answer comes from: a running service, or worker processes of its own.

Both take the same calls. Without a URL nothing listens on a port: the call goes to workers that
live as long as the command does, under the limits of the GRADTRACE_* settings.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote

from service.client import AsyncClient
from service.client.calls import Call, error_of
from service.contract.problem import BUG_HEADER

if TYPE_CHECKING:
    from service.settings import Settings
    from service.workers.seam import Computer, PoolOptions

Ask = Callable[[Call], Awaitable[bytes]]

JOBS = {
    "/v1/trace": "trace",
    "/v1/traces": "traces",
    "/v1/ops": "ops",
    "/v1/import/python": "import_python",
    "/v1/export/python": "export_python",
}


@asynccontextmanager
async def source(url: str | None, key: str | None, workers: int = 1) -> AsyncIterator[Ask]:
    """Yield what answers calls: the service at ``url``, or ``workers`` processes of our own."""
    if url is not None:
        try:
            client = AsyncClient(url, key)
        except (ImportError, ValueError) as error:  # a proxy of the environment, or the key
            raise OSError(f"no client for {url}: {error}") from None
        async with client:
            yield client.send
        return
    from service.cli.environment import settings
    from service.workers.pool import Pool

    logging.getLogger("gradtrace").addHandler(logging.NullHandler())  # what ends is said once
    pool = Pool(_options(settings(), workers))
    await pool.start()
    try:
        await pool.wait_ready()
        yield _asker(pool)
    finally:
        await pool.stop()


def _options(settings: Settings, workers: int) -> PoolOptions:
    from service.settings import usable_cpus
    from service.workers.seam import PoolOptions

    return PoolOptions(
        workers=workers,
        queue=4 * workers,
        time_limit_s=settings.time_limit_s,
        memory_limit_mb=settings.memory_limit_mb,
        threads=settings.torch_threads,
        awake=usable_cpus() > 1,
        config=settings.job_config(),
        spares=0,
    )


def _asker(computer: Computer) -> Ask:
    async def ask(call: Call) -> bytes:
        answer = await computer.compute(_headers(call), call.body)
        if bug := answer.headers.get(BUG_HEADER):
            sys.stderr.write(f"gradtrace: {bug}\n")
        if answer.status >= 400:
            kind = answer.headers["content-type"]
            raise error_of(answer.status, kind, bytes(answer.body), None)
        return bytes(answer.body)

    return ask


def _headers(call: Call) -> dict[str, str]:
    job = JOBS.get(call.path)
    if job is None:
        name = unquote(call.path.removeprefix("/v1/ops/"))
        return {"job": "op", "name": name}
    return {"job": job, **call.headers, **call.params}
