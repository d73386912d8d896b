"""A job without torch that does whatever its header ``do`` says, to be run in real workers."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from service.workers import frames

Reply = tuple[int, dict[str, str], bytes]


def echo(body: bytes) -> bytes:
    return body


def pid(body: bytes) -> bytes:
    return str(os.getpid()).encode()


def sleep(body: bytes) -> bytes:
    time.sleep(float(body))
    return str(os.getpid()).encode()


def wait(body: bytes) -> bytes:
    """Compute until there is a file of that name."""
    file = Path(body.decode())
    while not file.exists():
        time.sleep(0.005)
    return str(os.getpid()).encode()


def spin(body: bytes) -> bytes:
    """Hang without ever giving the interpreter a chance to look at a signal."""
    ctypes.PyDLL(None).sleep(3600)
    return b""


def shout(body: bytes) -> bytes:
    """Write more to standard error than a pipe holds, as a library in C does."""
    libc = ctypes.CDLL(None)
    text = b"x" * 100_000
    written = [libc.write(2, text, len(text)) for _ in range(20)]
    return str(sum(count for count in written if count > 0)).encode()


def segfault(body: bytes) -> bytes:
    os.kill(os.getpid(), signal.SIGSEGV)
    return b""


def segfault_soon(body: bytes) -> bytes:
    time.sleep(0.2)
    return segfault(body)


def leave(body: bytes) -> bytes:
    os._exit(int(body))


def die_once(body: bytes) -> bytes:
    """Die on the first run, with a file as memory; answer on the second."""
    marker = Path(body.decode())
    if not marker.exists():
        marker.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{marker.read_text()} {os.getpid()}".encode()


def write(body: bytes) -> bytes:
    """Write this worker's number into a file."""
    with Path(body.decode()).open("a") as diary:
        diary.write(f"{os.getpid()} ")
    return b""


def allocate(body: bytes) -> bytes:
    return str(len(bytearray(int(body) * 2**20))).encode()


def allocate_slowly(body: bytes) -> bytes:
    kept = [bytearray(2**20) for _ in range(int(body))]
    return str(len(kept)).encode()


LEAKED: list[bytearray] = []


def leak(body: bytes) -> bytes:
    LEAKED.append(bytearray(int(body) * 2**20))
    return str(os.getpid()).encode()


def big(body: bytes) -> bytes:
    return b"x" * int(body)


def in_pieces(body: bytes) -> list[bytes | memoryview]:
    view = memoryview(body)
    return [b"", *(view[at : at + 1000] for at in range(0, len(view), 1000))]


def fail(body: bytes) -> bytes:
    raise RuntimeError("a bug")


def hostile(body: bytes) -> bytes:
    """Talk to the pool in the worker's stead, and then hang."""
    talk = socket.socket(fileno=next(filter(_is_socket, range(3, 100))))
    for head, lent, fds in HOSTILE[body.decode()]():
        frames.send(talk, frames.encode(head, lent=lent), fds)
    return spin(body)


def _is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


def _memory(size: int, *, written: bool) -> int:
    fd = os.memfd_create("hostile")
    os.ftruncate(fd, size)
    if written:
        os.pwrite(fd, bytes(size), 0)
    return fd


TYPE = {"content-type": "text/plain"}
Said = list[tuple[Any, int, tuple[int, ...]]]
HOSTILE: dict[str, Callable[[], Said]] = {
    "ready again": lambda: [([frames.READY], 0, ())],
    "retires twice": lambda: [([frames.RETIRE], 0, ())] * 2,
    "no kind": lambda: [([], 0, ())],
    "kind is a list": lambda: [([[frames.ANSWER]], 0, ())],
    "no list": lambda: [({frames.ANSWER: 200}, 0, ())],
    "status": lambda: [([frames.ANSWER, 42, TYPE], 0, ())],
    "status is text": lambda: [([frames.ANSWER, "200", TYPE], 0, ())],
    "no headers": lambda: [([frames.ANSWER, 200], 0, ())],
    "header has a line break": lambda: [([frames.ANSWER, 200, {"a": "b\r\nc: d"}], 0, ())],
    "header is not ASCII": lambda: [([frames.ANSWER, 200, {"a": "\xe9"}], 0, ())],
    "header is a number": lambda: [([frames.ANSWER, 200, {"a": 1}], 0, ())],
    "endless problem": lambda: [([frames.ANSWER, 400, TYPE], 0, (_memory(2**40, written=False),))],
    "long problem": lambda: [([frames.ANSWER, 400, TYPE], 0, (_memory(2**21, written=True),))],
    "endless answer": lambda: [([frames.ANSWER, 200, TYPE], 0, (_memory(2**40, written=False),))],
    "lent without being there": lambda: [
        ([frames.ANSWER, 200, TYPE], 2**21, (_memory(2**22, written=False),))
    ],
    "two bodies": lambda: [
        ([frames.ANSWER, 200, TYPE], 0, tuple(_memory(9, written=True) for _ in range(2)))
    ],
    "a file": lambda: [([frames.ANSWER, 200, TYPE], 0, (os.open("/proc/self/exe", os.O_RDONLY),))],
    "descriptor with nothing": lambda: [([frames.RETIRE], 0, (0,))],
}


def answer_twice(body: bytes) -> bytes:
    talk = socket.socket(fileno=next(filter(_is_socket, range(3, 100))))
    frames.send(talk, frames.encode([frames.ANSWER, 200, TYPE], b"first"))
    talk.detach()
    return b"second"


def look_around(body: bytes) -> bytes:
    """Try what a worker must not do; say what went through, or else what did not that should."""
    descriptors = sum(int(fd) > 2 for fd in os.listdir("/proc/self/fd"))
    went_through = [name for name, attempt in ATTEMPTS.items() if _works(attempt)]
    went_through += [f"not {name}" for name, attempt in ALLOWED.items() if not _works(attempt)]
    return f"{' '.join(went_through)}|{descriptors}".encode()


def _works(attempt: Any) -> bool:
    try:
        attempt()
    except (OSError, ValueError):  # setrlimit's
        return False
    return True


def _call(name: str, *arguments: Any) -> Any:
    """Make a call of the C library's; raise OSError where it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)
    os.wait()


def _web() -> int:
    """The web process: the fork server's parent."""
    status = Path(f"/proc/{os.getppid()}/stat").read_text()
    return int(status.rpartition(")")[2].split()[1])


ATTEMPTS: dict[str, Any] = {
    "socket": lambda: socket.socket().close(),
    "unix": lambda: socket.socket(socket.AF_UNIX).close(),
    "program": lambda: subprocess.run(["/bin/true"]),
    "fork": _fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606
    "session": os.setsid,
    "group": lambda: os.setpgid(0, 0),
    "signal": lambda: os.kill(_web(), signal.SIGWINCH),
    "pidfd signal": lambda: signal.pidfd_send_signal(os.pidfd_open(_web()), signal.SIGWINCH),
    "thread's signal": lambda: _call("syscall", 234, _web(), _web(), signal.SIGWINCH),
    "descriptor's signal": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, _web()),
    "limits": lambda: resource.prlimit(_web(), resource.RLIMIT_NOFILE, (0, 0)),
    "more memory": lambda: resource.setrlimit(resource.RLIMIT_DATA, (2**60, 2**60)),
    "affinity": lambda: os.sched_setaffinity(_web(), {0}),
    "priority": lambda: os.setpriority(os.PRIO_PROCESS, _web(), 19),
    "memory": lambda: Path(f"/proc/{_web()}/mem").open("rb").close(),
    "maps": lambda: Path(f"/proc/{_web()}/maps").read_text(),
    "environment": lambda: Path(f"/proc/{_web()}/environ").read_bytes(),
    "descriptors": lambda: _call("syscall", 438, os.pidfd_open(_web()), 0, 0),
    "fork server's memory": lambda: Path(f"/proc/{os.getppid()}/mem").open("rb").close(),
}

ALLOWED: dict[str, Any] = {
    "thread": lambda: threading.Thread(target=int).start(),
    "signal to itself": lambda: os.kill(os.getpid(), signal.SIGWINCH),
    "affinity of its own": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
    "limit of its own": lambda: resource.prlimit(
        0, resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE)
    ),
    "own memory": lambda: Path("/proc/self/maps").read_text(),
    "descriptor": lambda: fcntl.fcntl(0, fcntl.F_GETFD),
}


def broken(config: Mapping[str, int | str]) -> Any:
    raise ValueError("first line\nno such engine")


def create(config: Mapping[str, int | str]) -> Any:
    """Return a job that answers with what the function named by the header ``do`` returns."""
    jobs = {name: value for name, value in globals().items() if callable(value)}

    def job(headers: Mapping[str, str], body: bytes | memoryview) -> Reply:
        answer = jobs[headers["do"]](bytes(body))
        return 200, {"content-type": "text/plain", "config": str(config.get("word", ""))}, answer

    return job
