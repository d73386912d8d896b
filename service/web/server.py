"""The web process from its first moment to its last.

serve ── listen, start the pool beside it, answer
  └ first SIGTERM or SIGINT: /readyz turns 503, requests are still taken and served
      └ none is left, or GRADTRACE_DRAIN_S is over: close the listener, stop the pool, exit 0
  └ second signal: stop at once

Until the event loop takes signals, ``gradtrace serve`` ends at the first one (service/cli).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import orjson
import uvicorn

from service.settings import Settings, misspelt, usable_cpus
from service.web import examples
from service.web.app import create_app
from service.web.lifecycle import Lifecycle
from service.web.logs import AccessLog, log_to, standard_error
from service.web.negotiate import JSON
from service.web.openapi import build
from service.web.protocol import BoundedHttp, raise_file_limit
from service.workers.body import CHUNK
from service.workers.confine import keep_freed
from service.workers.inprocess import InProcess
from service.workers.pool import Pool
from service.workers.seam import Computer, PoolOptions

log = logging.getLogger("gradtrace")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
LOOK_S = 0.05
"""Seconds between two looks at whether a request is left; in as many, one hears that it is over."""
LAST_ANSWERS_S = 2
"""Seconds for the answers that are on their way when the time to drain is over.

What is not taken by then is cut. uvicorn would wait twice as long, and log what is left as errors.
"""
GARBAGE = 20_000
"""Containers made and not freed since the last collection, after which the next one is due.

Python's 700 are reached every few requests, which leave hardly any garbage.
"""
KEEP_ALIVE_S = 75
"""Seconds that an idle connection is kept: longer than most proxies keep theirs."""


def serve(settings: Settings) -> int:
    """Serve until a signal says to stop; return the exit code, 0 after draining."""
    return run(settings, Pool(pool_options(settings)))


def run(settings: Settings, computer: Computer) -> int:
    """Serve with ``computer``, as :func:`serve` does with a pool."""
    stderr = standard_error(settings.log)
    log_to(stderr, settings.log)
    for sentence in misspelt():
        log.warning("%s", sentence)
    raise_file_limit()
    keep_freed(4 * CHUNK)
    server = Server(settings, computer, AccessLog(settings.log, stderr))
    gc.collect()
    gc.set_threshold(GARBAGE)
    gc.freeze()  # the app stays as long as the process: no collection need look at it again
    return server.run_to_the_end()


def pool_options(settings: Settings) -> PoolOptions:
    """Return what the settings say about the workers."""
    seed = next(iter(examples.load()["trace"].values()))["request"]
    return PoolOptions(
        workers=settings.workers,
        queue=settings.queue,
        time_limit_s=settings.time_limit_s,
        memory_limit_mb=settings.memory_limit_mb,
        threads=settings.torch_threads,
        awake=usable_cpus() > 1,
        config=settings.job_config(),
        warm_up=({"job": "trace", "content-type": JSON, "accept": JSON}, orjson.dumps(seed)),
    )


def openapi_document() -> dict[str, Any]:
    """Return the OpenAPI document, whatever the environment says, without starting anything."""
    settings = Settings.model_construct(root_path="", api_keys=(), cors_origins=(), log="json")
    return build(create_app(settings, InProcess()), settings.root_path)


class Server(uvicorn.Server):
    """A uvicorn that first turns unready and only then stops listening.

    uvicorn calls `capture_signals` around its whole run, and `shutdown` once `should_exit` is set.
    """

    def __init__(
        self, settings: Settings, computer: Computer, access_log: AccessLog | None = None
    ) -> None:
        app = create_app(settings, computer, access_log)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                root_path=settings.root_path,
                http=cast(
                    "type[BoundedHttp]",
                    partial(
                        BoundedHttp,
                        observer=app.state.observer,
                        patience_s=settings.body_timeout_s,
                    ),
                ),
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=2 * LAST_ANSWERS_S,
            )
        )
        self.settings = settings
        self.computer = computer
        self.lifecycle: Lifecycle = app.state.lifecycle
        self.exit_code = 0
        self._draining: asyncio.Task[None] | None = None

    def run_to_the_end(self) -> int:
        """Serve; return the exit code."""
        try:
            self.run()
        except SystemExit:  # it could not listen, and has said why
            where = self.settings.host, self.settings.port
            log.error(
                "cannot listen at %s, port %d; choose others with --host and --port, "
                "or GRADTRACE_HOST and GRADTRACE_PORT",
                *where,
            )
            return 1
        return self.exit_code if self.started else 1

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals that stop, for as long as the server runs."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close everything and end the app; cut the answers that are not taken in time.

        uvicorn does not end the app when it must stop at once: the app would be cancelled instead,
        which looks like a crash in the log.
        """
        time_is_up = asyncio.get_running_loop().call_later(LAST_ANSWERS_S, self._cut)
        await super().shutdown(sockets)
        time_is_up.cancel()
        if self.force_exit:
            self._cut()
            await asyncio.sleep(LOOK_S)
            await self.lifespan.shutdown()

    def _cut(self) -> None:
        """Close every connection; to those who answer there, the client has gone away."""
        for connection in list(self.server_state.connections):
            cast("BoundedHttp", connection).cut()

    def _on_signal(self, number: int) -> None:
        if self._draining is None:
            log.info("draining")
            self.lifecycle.draining = True
            self._draining = asyncio.get_running_loop().create_task(self._drain())
            return
        log.warning("stopping at once")
        self.exit_code = 128 + number
        self._draining.cancel()
        self._draining = asyncio.get_running_loop().create_task(self._stop())

    async def _drain(self) -> None:
        """Wait until no request is left; what is there when the time is over is refused."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.settings.drain_s
        await asyncio.sleep(LOOK_S)
        while self.lifecycle.in_flight and loop.time() < end:
            await asyncio.sleep(LOOK_S)
        await self._stop()

    async def _stop(self) -> None:
        """Tell those who still wait that it is over, and leave."""
        if self.lifecycle.in_flight:
            log.warning("%d requests are cut off", self.lifecycle.in_flight)
            await self.computer.stop()
            await asyncio.sleep(LOOK_S)
        for task in list(self.lifecycle.unanswered):  # what is still being sent
            task.cancel()
        self.force_exit = self.exit_code != 0
        self.should_exit = True
