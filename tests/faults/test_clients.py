"""Clients that vanish, stall, or come all at once: workers and sockets come back."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.conftest import long
from tests.faults.harness import (
    NO_END,
    SEED,
    a_while,
    ask,
    metric,
    raw_trace,
    serving,
    trace,
    until_complete,
    until_metric,
)
from tests.processes import PATIENCE_S, open_files, wait_until
from tests.web.harness import Served, read_all

BUSY = 'gradtrace_workers{state="busy"}'
IDLE = 'gradtrace_workers{state="idle"}'
ABANDONED = 'gradtrace_kills_total{reason="abandoned"}'
LARGE = {
    "ops": [{"id": "a", "op": "randn", "attrs": {"size": [2_000_000]}}],
    "backward": [],
}
"""Its answer, some 20 MB, is more than the kernel keeps for a client that does not read."""


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(workers=1, time_limit_s=100, body_timeout_s=1) as running:
        trace(running, LARGE)  # files that are opened once are open now
        yield running


@pytest.fixture(autouse=True)
def all_comes_back(server: Served) -> Iterator[None]:
    until_metric(server, IDLE, 2)  # the worker and the spare
    files = open_files(server.process.pid)
    yield
    until_metric(server, "gradtrace_in_flight", 1)  # the question itself
    until_metric(server, IDLE, 2)
    assert metric(server, BUSY) == metric(server, "gradtrace_queue_length") == 0
    wait_until(lambda: open_files(server.process.pid) <= files, "its files are closed")
    assert trace(server, SEED)[0] == 200


def sent(server: Served, message: bytes) -> socket.socket:
    connection = server.connect()
    connection.settimeout(PATIENCE_S)
    connection.sendall(message)
    return connection


def test_a_client_that_vanishes_while_its_graph_computes_ends_the_computation(
    server: Served,
) -> None:
    killed = metric(server, ABANDONED)
    connection = sent(server, raw_trace(NO_END))
    until_metric(server, BUSY, 1)
    connection.close()
    until_metric(server, ABANDONED, killed + 1)


def test_clients_that_vanish_in_the_queue_leave_it(server: Served) -> None:
    killed = metric(server, ABANDONED)
    first = sent(server, raw_trace(NO_END))
    until_metric(server, BUSY, 1)
    others = [sent(server, raw_trace(NO_END)) for _ in range(5)]
    until_metric(server, "gradtrace_queue_length", 5)
    for connection in others:
        connection.close()
    until_metric(server, "gradtrace_queue_length", 0)
    assert metric(server, BUSY) == 1
    first.close()
    until_metric(server, ABANDONED, killed + 1)


def test_a_client_that_vanishes_in_the_middle_of_the_answer_holds_nothing(server: Served) -> None:
    connection = sent(server, raw_trace(LARGE))
    assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    connection.close()


def test_a_client_that_stops_reading_is_cut_off(server: Served) -> None:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(PATIENCE_S)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(raw_trace(LARGE))
    assert connection.recv(10).startswith(b"HTTP/1.1")
    until_metric(server, "gradtrace_in_flight", 1)
    assert len(read_all(connection)) < 15_000_000
    connection.close()


def test_a_client_that_stops_reading_a_stream_is_cut_off(server: Served) -> None:
    lines = json.dumps(LARGE).encode() + b"\n"
    head = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
    connection = sent(server, head + b"Content-Length: %d\r\n\r\n" % (9 * len(lines)) + lines * 9)
    assert connection.recv(10).startswith(b"HTTP/1.1")
    until_metric(server, "gradtrace_in_flight", 1)
    assert not read_all(connection).endswith(b"\r\n0\r\n\r\n")
    connection.close()


def test_clients_that_stop_sending_are_told_and_hold_no_worker(server: Served) -> None:
    head, body = raw_trace(SEED).split(b"\r\n\r\n")
    silent = [sent(server, head + b"\r\n\r\n" + body[:10]) for _ in range(20)]
    assert trace(server, SEED)[0] == 200
    for connection in silent:
        answer = read_all(connection)
        connection.close()
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"body_timeout" in answer
        assert b"\r\nconnection: close\r\n" in answer


def test_clients_that_send_a_byte_a_second_hold_no_worker(server: Served) -> None:
    head, body = raw_trace(SEED).split(b"\r\n\r\n")
    slow = [sent(server, head + b"\r\n\r\n") for _ in range(10)]
    for byte in body[:3]:
        for connection in slow:
            with suppress(ConnectionError):  # where this took long, it was silent
                connection.sendall(bytes([byte]))
        assert metric(server, BUSY) == 0
        assert trace(server, SEED)[0] == 200
        time.sleep(0.5)  # longer pauses are silence, and answered with 408
    for connection in slow:
        connection.close()


@long
def test_a_head_that_comes_a_byte_a_second_is_cut_off(server: Served) -> None:
    connection = sent(server, b"POST /v1/trace HTTP/1.1\r\n")
    for _ in range(60):
        try:
            connection.sendall(b"x")
        except OSError:
            break
        time.sleep(1)
    else:
        pytest.fail("it may send for ever")
    connection.close()


CONNECTIONS = 200
WORKERS, QUEUE = 2, 8


def test_a_flood_is_answered_with_200_or_429_while_livez_answers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    graph = raw_trace(a_while(60))
    seen: Counter[int] = Counter()
    times: list[float] = []
    without_retry: list[bytes] = []
    lock = threading.Lock()

    def one(server: Served, gate: threading.Barrier) -> None:
        with server.connect() as connection:
            connection.settimeout(PATIENCE_S)
            gate.wait()
            begun = time.perf_counter()
            connection.sendall(graph.replace(b"Host: x", b"Host: x\r\nConnection: close"))
            answer = read_all(connection)
            took = time.perf_counter() - begun
        status = int(answer[9:12] or 0)
        with lock:
            seen[status] += 1
            if status == 200:
                times.append(took)
            elif b"\r\nretry-after: " not in answer.lower():
                without_retry.append(answer)

    with serving(workers=WORKERS, queue=QUEUE) as server:
        until_complete(server, WORKERS + 1)
        begun = time.perf_counter()
        assert trace(server, a_while(60))[0] == 200
        cost = time.perf_counter() - begun
        gate = threading.Barrier(CONNECTIONS + 1)
        flood = [threading.Thread(target=one, args=(server, gate)) for _ in range(CONNECTIONS)]
        for thread in flood:
            thread.start()
        gate.wait()
        probes = []
        while any(thread.is_alive() for thread in flood):
            begun = time.perf_counter()
            assert ask(server, "GET", "/livez")[0] == 200
            probes.append(time.perf_counter() - begun)
            time.sleep(0.02)
        rejected = metric(server, "gradtrace_rejected_total")
        assert trace(server, SEED)[0] == 200
    bound = cost * (QUEUE / WORKERS + 1)
    with capsys.disabled():
        print(
            f"\nflood of {CONNECTIONS}: {dict(seen)}; one alone {cost * 1e3:.0f} ms, the slowest "
            f"of those accepted {max(times) * 1e3:.0f} ms (queue times cost: {bound * 1e3:.0f}); "
            f"/livez at most {max(probes) * 1e3:.0f} ms"
        )
    assert set(seen) == {200, 429}
    assert seen[200] >= QUEUE + WORKERS
    assert rejected == seen[429]
    assert without_retry == []
