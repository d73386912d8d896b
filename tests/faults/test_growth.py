"""Nothing grows: files, processes and memory after many requests are what they were after few."""

from __future__ import annotations

import http.client
import json

import pytest

from tests.conftest import long
from tests.faults.harness import NO_END, SEED, raw_trace, serving, until_metric
from tests.processes import PATIENCE_S, descendants, open_files, resident_bytes, wait_until
from tests.web.harness import JSON, Served

FEW = 100
MANY = 10_000
ALLOWED = 16 * 2**20
"""What caches may still take; a leak of some kB a request would be more."""


def requests(server: Served, count: int) -> None:
    """Send traces, good and bad, on connections of 100 requests each."""
    good = json.dumps(SEED).encode()
    bad = json.dumps({**SEED, "ops": [{"id": "b", "op": "no_such_op"}]}).encode()
    for _ in range(count // 100):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        for number in range(100):
            body, wanted = (bad, 422) if number % 10 == 9 else (good, 200)
            connection.request("POST", "/v1/trace", body, JSON)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == wanted
        connection.close()


def abandoned(server: Served) -> None:
    """Have a worker killed because its client goes away."""
    with server.connect() as connection:
        connection.sendall(raw_trace(NO_END))
        until_metric(server, 'gradtrace_workers{state="busy"}', 1)
    until_metric(server, 'gradtrace_workers{state="busy"}', 0)


@long
def test_nothing_grows_with_the_number_of_requests(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(workers=2, time_limit_s=100) as server:
        web = server.process.pid

        def processes() -> int:
            return len(descendants(web))

        requests(server, FEW)
        abandoned(server)
        until_metric(server, 'gradtrace_workers{state="idle"}', 3)
        wait_until(lambda: processes() == 5, "fork server, standby, workers, spare")
        files, memory = open_files(web), resident_bytes(web)
        for _ in range(10):
            requests(server, MANY // 10)
            abandoned(server)
        until_metric(server, 'gradtrace_workers{state="idle"}', 3)
        wait_until(lambda: processes() <= 5, "no process more")
        wait_until(lambda: open_files(web) <= files, "no file more")
        grown = resident_bytes(web) - memory
    with capsys.disabled():
        print(
            f"\nafter {MANY} requests: 5 processes, {files} files, "
            f"web at {memory / 2**20:.0f} MiB and {grown / 2**20:+.1f} MiB"
        )
    assert grown < ALLOWED
