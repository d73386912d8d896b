"""The processes of this machine, as /proc tells them."""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PATIENCE_S = 120.0
"""Longer than anything here takes on a busy machine; no test passes or fails by it alone."""


class Process(NamedTuple):
    pid: int
    name: str
    state: str
    parent: int


def processes() -> dict[int, Process]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            before, _, after = text.rpartition(")")
            state, parent = after.split()[:2]
            pid = int(entry.name)
            found[pid] = Process(pid, before.partition("(")[2], state, int(parent))
    return found


strangers: set[int] = set()
"""Processes that were there before a test began, such as a service that other tests share."""


def descendants(pid: int, name: str = "") -> list[Process]:
    """The children of ``pid`` and theirs, no strangers, those called ``name`` if one is given."""
    everybody = {at: process for at, process in processes().items() if at not in strangers}
    found: list[Process] = []
    reached = {pid}
    while True:
        new = [p for p in everybody.values() if p.parent in reached and p.pid not in reached]
        if not new:
            return [p for p in found if p.name == name or not name]
        found += new
        reached |= {p.pid for p in new}


def workers_of(pid: int) -> list[int]:
    """Return those that live; a dead one has its name until it is buried."""
    return [p.pid for p in descendants(pid, "gradtrace-work") if p.state != "Z"]


def fork_servers_of(pid: int) -> list[int]:
    return [p.pid for p in descendants(pid, "gradtrace-fork") if p.state != "Z"]


def kill(pid: int) -> None:
    """Kill it with -9; it may be dead already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def files_kept() -> int:
    """Return how many files this process has open that no collection of garbage will close."""
    gc.collect()
    return open_files(os.getpid())


@contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open nothing more until the block ends."""
    gc.collect()  # what it would close in the block would make room there
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # all numbers below it are taken
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def own_port() -> Iterator[int]:
    """Yield a port that is nobody else's until the block ends.

    It is bound here and may be bound again, as servers do; no other process is given it, and who
    connects while no server listens there is refused.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def wait_until(condition: Callable[[], bool], what: str, limit_s: float = PATIENCE_S) -> None:
    """Wait for what will happen soon; fail where it does not."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {limit_s} s"
        time.sleep(0.01)
