"""Workers that die under a request: nobody sees it, or who brings them down sees it alone."""

from __future__ import annotations

import random
import threading
import time

import pytest

from tests.conftest import long
from tests.faults.harness import (
    NO_END,
    SEED,
    Crowd,
    metric,
    serving,
    trace,
    until_complete,
)
from tests.processes import fork_servers_of, kill, wait_until, workers_of

BUSY = 'gradtrace_workers{state="busy"}'
STORM_S = 30


@long
def test_while_workers_are_killed_at_random_no_client_sees_anything_but_200(
    capsys: pytest.CaptureFixture[str],
) -> None:
    chance = random.Random(4)  # noqa: S311
    killed = 0
    with serving(workers=2) as server, Crowd(server, clients=8) as crowd:
        end = time.monotonic() + STORM_S
        last = 0.0
        while time.monotonic() < end:
            # One kill is survived: where 200 ms are short, wait for those who met the last one.
            wait_until(lambda: crowd.asked_after(last), "they are answered")  # noqa: B023
            if killed % 2:  # of three in a row that die while they start, all would hear
                until_complete(server, 3)
            if workers := workers_of(server.process.pid):
                kill(chance.choice(workers))
                killed += 1
                last = time.perf_counter()
            time.sleep(0.2)
        crowd.__exit__()
        crashes = metric(server, "gradtrace_crashes_total")
        retries = metric(server, "gradtrace_retries_total")
    with capsys.disabled():
        print(
            f"\n{killed} kills in {STORM_S} s: {crowd.answers}, {crashes:g} deaths seen, "
            f"{retries:g} requests computed again, the slowest took {crowd.slowest_s * 1e3:.0f} ms"
        )
    assert set(crowd.answers) == {"200"}
    assert crashes > 0


@long
def test_a_killed_fork_server_is_seen_by_no_client() -> None:
    with serving(workers=2) as server, Crowd(server, clients=4) as crowd:
        for _ in range(3):
            time.sleep(0.5)
            pid = server.process.pid
            wait_until(lambda: len(fork_servers_of(pid)) == 2, "a standby is there")  # noqa: B023
            kill(fork_servers_of(pid)[0])
        time.sleep(1)
        crowd.__exit__()
    assert set(crowd.answers) == {"200"}


@long
def test_a_graph_whose_worker_dies_twice_is_given_up_and_the_next_one_answered() -> None:
    said: list[tuple[int, dict[str, str]]] = []
    with serving(workers=1, time_limit_s=60) as server:
        client = threading.Thread(target=lambda: said.append(trace(server, NO_END)))
        client.start()
        while client.is_alive():  # a worker that dies before it took the request is no death of it
            wait_until(lambda: metric(server, BUSY) == 1 or not client.is_alive(), "it is computed")
            for pid in workers_of(server.process.pid):
                kill(pid)
            client.join(0.5)
        client.join()
        status, problem = said[0]
        assert (status, problem["code"]) == (422, "graph_crashed")
        assert problem["detail"].count("SIGKILL") == 2
        assert trace(server, SEED)[0] == 200
