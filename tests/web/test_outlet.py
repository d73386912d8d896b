"""The log waits for nobody: what is not taken is lost and counted, and costs no request a thing."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import select
import signal
import socket
import sys
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.web.logs import Form, standard_error
from service.web.outlet import Outlet
from tests.conftest import REQUIRE_ALL
from tests.processes import PATIENCE_S
from tests.web.harness import Served, served

Ends = tuple[int, int]
REQUESTS = 50_000 if REQUIRE_ALL else 5_000
LONG = "-" * 115
"""What makes a line, or the id in it, as long as may be, to fill a pipe with few."""
LINE = f"a line {LONG}\n"


def terminal() -> Ends:
    reads, writes = os.openpty()
    tty.setraw(writes)
    return reads, writes


def sockets() -> Ends:
    """What systemd gives a service."""
    reads, writes = socket.socketpair()
    return reads.detach(), writes.detach()


@pytest.fixture(params=[os.pipe, terminal, sockets], ids=["pipe", "terminal", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    opened: Callable[[], Ends] = request.param
    both = opened()
    yield both
    for end in both:
        with contextlib.suppress(OSError):
            os.close(end)


@contextlib.contextmanager
def outlet_to(file: int) -> Iterator[Outlet]:
    with os.fdopen(file, "w", encoding="utf-8", closefd=False) as stream:
        yield Outlet(stream, lambda count: f"{count} lost\n")


def read_now(reads: int) -> str:
    """Return what is there to be read; a terminal needs a moment to have it there."""
    text = b""
    moment = 0.5 if os.isatty(reads) else 0
    while select.select([reads], [], [], moment)[0]:
        text += os.read(reads, 1 << 20)
    return text.decode()


def read_to(reads: int, end: str) -> str:
    """Return what is there to be read, up to ``end``, which is there or will be in a moment."""
    text = b""
    while not text.endswith(end.encode()):
        assert select.select([reads], [], [], PATIENCE_S)[0], (
            f"{text[-1000:]!r} does not end so: {end!r}"
        )
        text += os.read(reads, 1 << 20)
    return text.decode()


def test_a_line_is_there_at_once_and_whole(ends: Ends) -> None:
    """Longer than what a ready pipe takes at once, and not than what a terminal holds for sure."""
    reads, writes = ends
    with outlet_to(writes) as log:
        for line in ("one\n", "zwölf\n", "\udce9 has no spelling\n", "x" * 6_000 + "\n"):
            log.write(line)
            told = line.replace("\udce9", "\\udce9")
            assert read_to(reads, told) == told


def test_lines_that_nobody_takes_are_lost_and_counted(ends: Ends) -> None:
    """A terminal may make room meanwhile: then there are several holes, and each is counted."""
    reads, writes = ends
    count = 20_000
    with outlet_to(writes) as log:
        for number in range(count):
            log.write(f"{number} {LINE}")
        taken = read_now(reads)
        log.write("again\n")
        *lines, again = (taken + read_to(reads, "again\n")).splitlines()
    told_of = 0
    for line in lines:
        if hole := re.fullmatch(r"(\d+) lost", line):
            told_of += int(hole[1])
        else:
            assert line == f"{told_of} {LINE}".strip()
            told_of += 1
    assert told_of == count
    assert log.lost_in_all == sum(int(line.split()[0]) for line in lines if line.endswith(" lost"))
    assert 0 < len(lines) < count
    assert lines[-1].endswith(" lost")
    assert again == "again"


def test_a_line_of_which_a_part_was_taken_goes_on_before_any_other(ends: Ends) -> None:
    reads, writes = ends
    long = "x" * (30_000 if os.isatty(reads) else 1_200_000) + "\n"
    text, written = "", 1
    with outlet_to(writes) as log:
        log.write("first\n")
        log.write(long)
        log.write("lost\n")
        while "again" not in text:
            log.write("again\n")
            written += 1
            text += read_now(reads)
        log.write("end\n")
        text += read_to(reads, "end\n")
    first, whole, *others, end = text.splitlines()
    assert (first, whole, end) == ("first", long.strip(), "end")
    holes = [re.fullmatch(r"(\d+) lost", line) for line in others if line != "again"]
    assert holes
    assert sum(int(hole[1]) for hole in holes if hole) + others.count("again") == written
    assert others[0] != "again"
    assert all(holes)


def test_a_reader_of_a_pipe_may_be_late() -> None:
    reads, writes = os.pipe()
    with outlet_to(writes) as log:
        for _ in range(5_000):
            log.write(LINE)
        assert read_now(reads) == LINE * 5_000
    os.close(reads)
    os.close(writes)


def test_a_file_that_others_write_to_goes_on_blocking(ends: Ends) -> None:
    with outlet_to(ends[1]) as log:
        log.write(LINE)
        assert not fcntl.fcntl(ends[1], fcntl.F_GETFL) & os.O_NONBLOCK


def test_a_pipe_that_may_not_be_opened_again_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> int:
        raise PermissionError

    reads, writes = os.pipe()
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refused)
        test_lines_that_nobody_takes_are_lost_and_counted((reads, writes))
    os.close(reads)
    os.close(writes)


def test_a_full_disk_and_a_reader_that_has_gone_are_no_errors() -> None:
    reads, writes = os.pipe()
    full = os.open("/dev/full", os.O_WRONLY)
    with outlet_to(writes) as log, outlet_to(full) as other:
        os.close(reads)
        for _ in range(3):
            log.write(LINE)
            other.write(LINE)
    os.close(writes)
    os.close(full)


def test_a_file_gets_its_lines_behind_those_of_others(tmp_path: Path) -> None:
    with (tmp_path / "log").open("a") as file, outlet_to(file.fileno()) as log:
        log.write("one\n")
        os.write(file.fileno(), b"two\n")
        log.write("three\n")
    assert (tmp_path / "log").read_text() == "one\ntwo\nthree\n"


def ask(server: Served, times: int) -> None:
    """Ask ``times`` times, with ids that count from 0."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    for number in range(times):
        connection.request("GET", "/livez", headers={"x-request-id": f"{number}{LONG}"})
        answer = connection.getresponse()
        assert answer.read() == b'{"status":"alive"}'
    connection.close()


def test_a_pipe_that_nobody_reads_stalls_no_request() -> None:
    reads, writes = os.pipe()
    with served(log=writes) as server:
        ask(server, REQUESTS)
        metrics = server.get("/metrics").text
        assert server.get("/docs").status_code == 200  # their lines are written by now
        taken = read_now(reads)
        server.signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
    lines = [json.loads(line) for line in (taken + read_now(reads)).splitlines()]
    ids = [line["id"] for line in lines if line.get("route") == "/livez"]
    assert 100 < len(ids) < REQUESTS
    assert ids == [f"{number}{LONG}" for number in range(len(ids))]
    [at] = [at for at, line in enumerate(lines) if "missing" in line.get("message", "")]
    last_one_too = "/docs" not in [line.get("route") for line in lines]
    missing = REQUESTS - len(ids)
    assert f"\ngradtrace_log_lines_lost_total {missing:.1f}\n" in metrics
    missing += 1 + last_one_too  # that of the metrics themselves
    assert lines[at]["message"].startswith(f"{missing} lines of the log are missing here")
    assert lines[at - 1].get("id") == ids[-1]
    assert "draining" in [line.get("message") for line in lines[at:]]
    os.close(reads)
    os.close(writes)


@pytest.mark.parametrize("gone", [True, False], ids=["no reader", "full disk"])
def test_a_log_that_cannot_be_written_breaks_no_request(gone: bool) -> None:
    reads, writes = os.pipe()
    log = writes if gone else os.open("/dev/full", os.O_WRONLY)
    os.close(reads)
    with served(log=log) as server:
        ask(server, 10)
        assert server.trace({}).status_code == 200
        assert server.trace({"do": "bug"}).status_code == 500  # which has a line of its own
        server.signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_is_lost_has_a_line_in_the_form_of_the_others(
    form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, writes = os.pipe()
    with os.fdopen(writes, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        log = standard_error(form)
        for _ in range(20_000):
            log.write(LINE)
        read_now(reads)
        log.write(LINE)
        lost, line = read_now(reads).splitlines()
    os.close(reads)
    assert line == LINE.strip()
    said = r"\d+ lines of the log are missing here: nobody took them"
    if form == "json":
        told = json.loads(lost)
        assert (told["level"], told["logger"]) == ("warning", "gradtrace")
        assert re.fullmatch(said, told["message"])
    else:
        assert re.fullmatch(r"[-0-9]{10}T[:.0-9]{12}\+00:00 WARNING gradtrace: " + said, lost)
