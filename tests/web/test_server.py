"""The server as a process: its start, its end, and what strangers do to its sockets."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.contract.problem import Problem
from tests.conftest import long
from tests.processes import PATIENCE_S, wait_until
from tests.web.harness import JSON, NDJSON, Served, launch, served

SLEEP_LONG = {"do": "sleep", "seconds": 60}


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    with served(queue=1, time_limit_s=PATIENCE_S) as running:
        yield running


@pytest.fixture
def server(shared: Served) -> Served:
    """Return a server that has its worker and the spare, whatever the last test did to them."""
    shared.until_metric('gradtrace_workers{state="idle"} 2.0')
    return shared


def read_all(connection: socket.socket) -> bytes:
    """Return everything until the other side closes; a reset fails the test."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def post(path: str, body: bytes, kind: str = "application/json", close: bool = True) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
    head += f"Content-Length: {len(body)}\r\n" + ("Connection: close\r\n" if close else "")
    return head.encode() + b"\r\n" + body


SLEEPER = post("/v1/trace", json.dumps(SLEEP_LONG).encode())


def logged(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@contextlib.contextmanager
def full_queue(server: Served) -> Iterator[None]:
    """Keep the one worker busy and the one place in the queue taken until the block ends."""
    with server.connect() as busy, server.connect() as waiting:
        for connection in (busy, waiting):
            connection.sendall(SLEEPER)
        server.until_metric("gradtrace_queue_length 1.0")
        yield
    server.until_metric('gradtrace_workers{state="busy"} 0.0')


@pytest.mark.parametrize(
    "asked",
    [
        post("/v1/trace", b"{}"),
        post("/v1/trace", b"{"),
        post("/v1/traces", b"{}\n", "application/x-ndjson"),
        post("/v1/traces", b"{}\n", "application/x-ndjson").replace(b"HTTP/1.1", b"HTTP/1.0"),
        b"GET /docs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"not HTTP\r\n\r\n",
    ],
)
def test_every_answer_has_each_header_of_all_once(server: Served, asked: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(asked)
        head, _, _ = read_all(connection).partition(b"\r\n\r\n")
    names = [line.partition(b":")[0] for line in head.split(b"\r\n")[1:]]
    for name in (
        b"x-content-type-options",
        b"referrer-policy",
        b"x-frame-options",
        b"cross-origin-opener-policy",
        b"content-security-policy",
        b"x-request-id",
        b"server-timing",
    ):
        assert names.count(name) == 1, name


def test_a_slow_start_of_the_workers_is_seen_by_readyz_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("START_AFTER", str(tmp_path / "now"))
    with served("tests.web.jobs:slow_start", wait=False) as server:
        assert server.get("/livez").status_code == 200
        not_yet = server.get("/readyz")
        assert not_yet.status_code == 503
        assert not_yet.headers["retry-after"] == "1"
        assert Problem.model_validate_json(not_yet.content).code == "not_ready"
        assert server.trace({}).status_code == 503
        (tmp_path / "now").touch()
        server.until("/readyz", 200)
        assert server.trace({}).status_code == 200


def test_workers_that_cannot_start_make_readyz_say_why() -> None:
    with served("tests.web.jobs:no_such_job", wait=False) as server:
        wait_until(lambda: "no_such_job" in server.get("/readyz").json()["detail"], "it says why")
        assert server.get("/livez").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=long)])
def test_the_first_signal_turns_unready_and_loses_no_request(
    number: signal.Signals, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    with (
        served(drain_s=2 * PATIENCE_S, time_limit_s=PATIENCE_S) as server,
        ThreadPoolExecutor() as threads,
    ):
        slow = threads.submit(server.trace, {"do": "wait", "for": str(end)})
        server.until_metric('gradtrace_workers{state="busy"} 1.0')
        server.signal(number)
        draining = server.until("/readyz", 503)
        assert draining.json()["code"] == "draining"
        late = threads.submit(server.trace, {"late": True})
        server.until_metric("gradtrace_in_flight 3.0")
        end.touch()
        assert slow.result().status_code == 200
        assert late.result().json()["got"] == {"late": True}
        assert late.result().headers["connection"] == "close"
        assert server.process.wait(PATIENCE_S) == 0


def test_what_is_not_done_when_the_time_to_drain_is_over_is_told_so() -> None:
    with served(drain_s=0.3) as server, ThreadPoolExecutor() as threads:
        slow = threads.submit(server.trace, SLEEP_LONG)
        server.until_metric('gradtrace_workers{state="busy"} 1.0')
        server.signal(signal.SIGTERM)
        assert slow.result().status_code == 503
        assert slow.result().json()["code"] == "draining"
        assert server.process.wait(PATIENCE_S) == 0


def test_a_second_signal_stops_at_once_and_is_no_error(tmp_path: Path) -> None:
    with (
        (tmp_path / "log").open("wb") as log,
        served(log=log, drain_s=PATIENCE_S) as server,
        ThreadPoolExecutor() as threads,
    ):
        slow = threads.submit(server.trace, SLEEP_LONG)
        server.until_metric('gradtrace_workers{state="busy"} 1.0')
        server.signal(signal.SIGTERM)
        server.until("/readyz", 503)
        server.signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 128 + signal.SIGTERM
        assert slow.result().json()["code"] == "draining"
    lines = logged(tmp_path / "log")
    assert "stopping at once" in [line.get("message") for line in lines]
    assert [line for line in lines if line["level"] == "error"] == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("signals", "code"), [(1, 0), (2, 128 + signal.SIGTERM)])
def test_an_answer_that_is_cut_at_the_end_is_logged_as_such_and_is_no_error(
    tmp_path: Path, signals: int, code: int, stream: bool
) -> None:
    path, kind = ("/v1/traces", NDJSON) if stream else ("/v1/trace", JSON)
    asked = json.dumps({"do": "bytes", "count": 60_000_000}).encode()
    with (
        (tmp_path / "log").open("wb") as log,
        served(log=log, drain_s=0.3 if signals == 1 else PATIENCE_S) as server,
        server.connect() as connection,
    ):
        connection.sendall(post(path, asked, kind["content-type"]))
        head = connection.recv(1000)
        assert head.startswith(b"HTTP/1.1 200 ")
        server.signal(signal.SIGTERM)
        if signals == 2:
            server.until("/readyz", 503)
            server.signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == code
        assert len(read_all(connection)) < 60_000_000
    lines = logged(tmp_path / "log")
    [told] = [line for line in lines if line.get("route") == path]
    assert told["status"] == 499
    assert [line for line in lines if line["level"] == "error"] == []


def test_a_request_that_is_still_being_sent_at_the_end_does_not_wait_for_those_who_read(
    tmp_path: Path,
) -> None:
    with (
        (tmp_path / "log").open("wb") as log,
        served(log=log, drain_s=0.3) as server,
        server.connect() as sending,
        server.connect() as reading,
    ):
        reading.sendall(post("/v1/trace", b'{"do":"bytes","count":60000000}'))
        assert reading.recv(1)
        sending.sendall(post("/v1/trace", b"{}", close=False)[:-1])
        server.until_metric("gradtrace_in_flight 3.0")
        server.signal(signal.SIGTERM)
        assert b"draining" in read_all(sending)
        assert server.process.wait(PATIENCE_S) == 0
    lines = logged(tmp_path / "log")
    assert [line["status"] for line in lines if line.get("route") == "/v1/trace"] == [503, 499]


def test_a_request_that_is_still_being_sent_at_the_end_is_told_so() -> None:
    with served(drain_s=PATIENCE_S) as server, server.connect() as connection:
        connection.sendall(post("/v1/trace", b"{}")[:-1])
        server.until_metric("gradtrace_in_flight 2.0")
        server.signal(signal.SIGTERM)
        server.until("/readyz", 503)
        server.signal(signal.SIGTERM)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert Problem.model_validate_json(body).code == "draining"


def test_a_port_that_is_taken_is_an_error(server: Served) -> None:
    assert launch(server.port).wait(PATIENCE_S) == 1


def test_a_client_that_goes_away_takes_its_computation_with_it(server: Served) -> None:
    before = metric(server, 'gradtrace_kills_total{reason="abandoned"}')
    with server.connect() as connection:
        connection.sendall(SLEEPER)
        server.until_metric('gradtrace_workers{state="busy"} 1.0')
    server.until_metric(f'gradtrace_kills_total{{reason="abandoned"}} {before + 1}')
    server.until_metric('gradtrace_workers{state="busy"} 0.0')
    assert server.trace({}).status_code == 200
    server.until_metric(
        'gradtrace_requests_total{method="POST",route="/v1/trace",status="499"} 1.0'
    )


def test_a_client_that_goes_away_in_the_queue_is_forgotten(server: Served) -> None:
    with server.connect() as busy:
        busy.sendall(SLEEPER)
        server.until_metric('gradtrace_workers{state="busy"} 1.0')
        with server.connect() as waiting:
            waiting.sendall(post("/v1/trace", b"{}"))
            server.until_metric("gradtrace_queue_length 1.0")
            full = server.trace({})
            assert full.status_code == 429
            assert int(full.headers["retry-after"]) >= 1
        server.until_metric("gradtrace_queue_length 0.0")
    server.until_metric('gradtrace_workers{state="busy"} 0.0')


def test_a_client_that_goes_away_in_a_stream_stops_the_work(server: Served) -> None:
    with server.connect() as connection:
        line = json.dumps(SLEEP_LONG).encode() + b"\n"
        connection.sendall(post("/v1/traces", line * 50, "application/x-ndjson"))
        server.until_metric('gradtrace_workers{state="busy"} 1.0')
    server.until_metric('gradtrace_workers{state="busy"} 0.0')
    server.until_metric("gradtrace_in_flight 1.0")


def test_a_stream_that_finds_the_queue_full_is_refused_as_a_whole(server: Served) -> None:
    with full_queue(server):
        assert server.stream(b"{}\n").status_code == 429


def test_a_line_that_kills_its_worker_is_a_problem_line_among_good_ones(server: Served) -> None:
    lines = [b'{"a":%d}' % number for number in range(40)]
    lines[20] = b'{"do":"die"}'
    answer = server.stream(b"\n".join(lines))
    answered = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["index"] for line in answered] == list(range(40))
    assert answered.pop(20)["problem"]["code"] == "graph_crashed"
    assert all("trace" in line for line in answered)


def test_a_stream_is_answered_line_by_line_while_it_is_sent(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        received = b""
        for number in range(5):
            line = b'{"a":%d}\n' % number
            connection.sendall(b"%x\r\n%b\r\n" % (len(line), line))
            while b'{"index":%d,' % number not in received:
                received += connection.recv(65536)
        connection.sendall(b"0\r\n\r\n")
        while not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(65536)


def test_a_refusal_reaches_a_client_that_goes_on_sending() -> None:
    with served(max_body_mb=0.1) as server:
        body = b"x" * 4_000_000
        for chunked in (False, True):
            content = iter([body[:1_000_000]] * 4) if chunked else body
            answer = httpx.post(
                f"{server.url}/v1/trace", content=content, headers=JSON, timeout=PATIENCE_S
            )
            assert answer.status_code == 413
            assert answer.headers["connection"] == "close"


@long
def test_a_client_that_sends_a_byte_at_a_time_is_cut_off_by_its_silence() -> None:
    with served(body_timeout_s=0.3) as server, server.connect() as connection:
        connection.sendall(post("/v1/trace", b"x" * 100)[:-50])
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"body_timeout" in answer


@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Content-Length: 100"])
def test_a_stream_that_dries_up_is_ended_and_its_connection_closed(framing: str) -> None:
    line = b'{"a":1}\n'
    piece = b"%x\r\n%b\r\n" % (len(line), line) if "chunked" in framing else line
    with served(body_timeout_s=0.3) as server, server.connect() as connection:
        head = "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
        connection.sendall(f"{head}{framing}\r\n\r\n".encode() + piece)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"body_timeout" in answer
    assert answer.endswith(b"0\r\n\r\n")


def test_a_client_that_does_not_read_a_large_answer_is_cut_off() -> None:
    with served(body_timeout_s=0.3) as server, server.connect() as connection:
        asked = json.dumps({"do": "bytes", "count": 60_000_000}).encode()
        connection.sendall(post("/v1/trace", asked))
        server.until_metric(
            'gradtrace_requests_total{method="POST",route="/v1/trace",status="499"} 1.0'
        )
        assert len(read_all(connection)) < 60_000_000


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 100_000 + b"\r\n", 431),
        (b"GET /" + b"x" * 600_000, 431),
    ],
    ids=["no http", "no version", "many headers", "long line"],
)
def test_what_is_no_request_is_refused_with_a_problem(
    server: Served, sent: bytes, status: int
) -> None:
    with server.connect() as connection:
        threading.Thread(target=send_quietly, args=(connection, sent), daemon=True).start()
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-type: application/problem+json" in head
    assert Problem.model_validate_json(body).status == status


def test_a_pipelined_second_request_is_answered_too(server: Served) -> None:
    with server.connect() as connection:
        first = post("/v1/trace", b'{"n":1}', close=False)
        connection.sendall(first + post("/v1/trace", b'{"n":2}'))
        answers = read_all(connection)
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.index(b'{"n":1}') < answers.index(b'{"n":2}')


def test_probes_and_metrics_answer_while_all_workers_compute_and_the_queue_is_full(
    server: Served,
) -> None:
    with full_queue(server):
        for path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/"):
            assert server.get(path).status_code == 200


def test_the_time_limit_is_a_problem_that_names_it() -> None:
    with served(time_limit_s=0.3) as server:
        answer = server.trace(SLEEP_LONG)
        assert answer.status_code == 504
        assert "GRADTRACE_TIME_LIMIT_S" in answer.json()["detail"]


def send_quietly(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(data)


def metric(server: Served, name: str) -> float:
    for line in server.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.rpartition(" ")[2])
    raise KeyError(name)
