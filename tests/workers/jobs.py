"""A job without torch that does whatever its header ``do`` says, to be run in real workers."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Reply = tuple[int, dict[str, str], bytes]


def echo(headers: Mapping[str, str], body: bytes | memoryview) -> bytes:
    return bytes(body)


def pid(headers: Mapping[str, str], body: bytes | memoryview) -> bytes:
    return str(os.getpid()).encode()


def sleep(headers: Mapping[str, str], body: bytes | memoryview) -> bytes:
    time.sleep(float(bytes(body)))
    return str(os.getpid()).encode()


def spin(headers: Mapping[str, str], body: bytes | memoryview) -> bytes:
    """Hang without ever giving the interpreter a chance to look at a signal."""
    ctypes.PyDLL(None).sleep(3600)
    return b""


def segfault(headers: Mapping[str, str], body: bytes | memoryview) -> bytes:
    os.kill(os.getpid(), signal.SIGSEGV)
    return b""


def segfault_soon(headers: Mapping[str, str], body: bytes | memoryview) -> bytes:
    time.sleep(0.2)
    return segfault(headers, body)


def leave(headers: Mapping[str, str], body: bytes | memoryview) -> bytes:
    os._exit(int(bytes(body)))


def die_once(headers: Mapping[str, str], body: bytes | memoryview) -> bytes:
    """Die on the first run, with a file as memory; answer on the second."""
    marker = Path(bytes(body).decode())
    if not marker.exists():
        marker.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{marker.read_text()} {os.getpid()}".encode()


def write(headers: Mapping[str, str], body: bytes | memoryview) -> bytes:
    """Write this worker's number into a file."""
    with Path(bytes(body).decode()).open("a") as diary:
        diary.write(f"{os.getpid()} ")
    return b""


def allocate(headers: Mapping[str, str], body: bytes | memoryview) -> bytes:
    return str(len(bytearray(int(bytes(body)) * 2**20))).encode()


def allocate_slowly(headers: Mapping[str, str], body: bytes | memoryview) -> bytes:
    kept = [bytearray(2**20) for _ in range(int(bytes(body)))]
    return str(len(kept)).encode()


LEAKED: list[bytearray] = []


def leak(headers: Mapping[str, str], body: bytes | memoryview) -> bytes:
    LEAKED.append(bytearray(int(bytes(body)) * 2**20))
    return str(os.getpid()).encode()


def big(headers: Mapping[str, str], body: bytes | memoryview) -> bytes:
    return b"x" * int(bytes(body))


def in_pieces(headers: Mapping[str, str], body: bytes | memoryview) -> list[bytes | memoryview]:
    view = memoryview(bytes(body))
    return [b"", *(view[at : at + 1000] for at in range(0, len(view), 1000))]


def fail(headers: Mapping[str, str], body: bytes | memoryview) -> bytes:
    raise RuntimeError("a bug")


def look_around(headers: Mapping[str, str], body: bytes | memoryview) -> bytes:
    """Try what a worker must not do; say what went through."""
    went_through = [name for name, attempt in ATTEMPTS.items() if _works(attempt)]
    descriptors = sum(int(fd) > 2 for fd in os.listdir("/proc/self/fd"))
    return f"{' '.join(went_through)}|{descriptors}".encode()


def _works(attempt: Any) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


ATTEMPTS: dict[str, Any] = {
    "socket": lambda: socket.socket().close(),
    "unix": lambda: socket.socket(socket.AF_UNIX).close(),
    "program": lambda: subprocess.run(["/bin/true"]),
}


def broken(config: Mapping[str, int | str]) -> Any:
    raise ValueError("first line\nno such engine")


def create(config: Mapping[str, int | str]) -> Any:
    """Return a job that answers with what the function named by the header ``do`` returns."""
    jobs = {name: value for name, value in globals().items() if callable(value)}

    def job(headers: Mapping[str, str], body: bytes | memoryview) -> Reply:
        answer = jobs[headers.get("do", "echo")](headers, body)
        return 200, {"content-type": "text/plain", "config": str(config.get("word", ""))}, answer

    return job
