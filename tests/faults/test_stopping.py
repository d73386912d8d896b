"""The end: a signal loses nothing that was accepted, and no process outlives the service."""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
from typing import Any

import pytest

from tests.conftest import long
from tests.faults.harness import (
    NO_END,
    a_while,
    alive,
    ask,
    metric,
    serving,
    until_complete,
    until_metric,
)
from tests.processes import PATIENCE_S, descendants, wait_until
from tests.web.harness import JSON, Served

BUSY = 'gradtrace_workers{state="busy"}'
QUEUED = "gradtrace_queue_length"


class Client(threading.Thread):
    """Traces a graph once, on a connection that was there before."""

    def __init__(self, server: Served, graph: Any) -> None:
        super().__init__()
        self.status: int | str = "nothing"
        self.code: str | None = None
        self._body = json.dumps(graph).encode()
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        self._connection.connect()
        self.start()

    def run(self) -> None:
        try:
            self._connection.request("POST", "/v1/trace", self._body, JSON)
            answer = self._connection.getresponse()
            body = json.loads(answer.read())
            self.status, self.code = answer.status, body.get("code")
        except (OSError, http.client.HTTPException) as error:
            self.status = repr(error)
        finally:
            self._connection.close()


def test_a_signal_under_load_loses_nothing_that_was_accepted() -> None:
    with serving(workers=2, drain_s=PATIENCE_S, time_limit_s=PATIENCE_S) as server:
        until_complete(server, 3)
        clients = [Client(server, a_while(200)) for _ in range(20)]
        until_metric(server, BUSY, 2)
        wait_until(lambda: metric(server, QUEUED) > 0, "they wait")
        server.signal(signal.SIGTERM)
        wait_until(lambda: ask(server, "GET", "/readyz")[0] == 503, "unready")
        late = Client(server, a_while(1))
        for client in [*clients, late]:
            client.join()
        assert [client.status for client in [*clients, late]] == [200] * 21
        assert server.process.wait(PATIENCE_S) == 0


@long
def test_when_the_time_to_drain_is_over_what_is_left_is_told_so() -> None:
    with serving(workers=1, drain_s=0.5, time_limit_s=100) as server:
        clients = [Client(server, NO_END) for _ in range(3)]
        until_metric(server, QUEUED, 2)
        server.signal(signal.SIGINT)
        for client in clients:
            client.join()
        assert [(client.status, client.code) for client in clients] == [(503, "draining")] * 3
        assert server.process.wait(PATIENCE_S) == 0


@long
def test_a_second_signal_stops_at_once() -> None:
    with serving(workers=1, drain_s=1000, time_limit_s=1000) as server:
        clients = [Client(server, NO_END) for _ in range(2)]
        until_metric(server, QUEUED, 1)
        family = [child.pid for child in descendants(server.process.pid)]
        server.signal(signal.SIGTERM)
        wait_until(lambda: ask(server, "GET", "/readyz")[0] == 503, "unready")
        server.signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 128 + signal.SIGTERM
        for client in clients:
            client.join()
        wait_until(lambda: not any(map(alive, family)), "all are gone")


def test_no_process_outlives_a_web_process_that_is_killed_with_9(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving(workers=2, time_limit_s=1000) as server:
        clients = [Client(server, NO_END) for _ in range(3)]
        until_metric(server, BUSY, 2)
        family = [child.pid for child in descendants(server.process.pid)]
        assert len(family) >= 4
        server.signal(signal.SIGKILL)
        begun = time.perf_counter()
        wait_until(lambda: not any(map(alive, family)), "all are gone")
        gone = time.perf_counter() - begun
        with capsys.disabled():
            print(f"\nall processes gone {gone * 1e3:.0f} ms after the kill")
        for client in clients:
            client.join()
