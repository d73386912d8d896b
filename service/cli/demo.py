"""``make trace``: a real service on a free port, the lesson's graph, its table, and all is gone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

from service.cli.probe import ready
from service.cli.table import show_trace
from service.client import Client

START_S = 60.0
LESSON = {
    "leaves": [{"id": "a", "value": [[1, 1], [1, 1]], "requires_grad": True}],
    "ops": [
        {"id": "b", "op": "add", "inputs": ["a"], "attrs": {"other": 2}},
        {"id": "c", "op": "pow", "inputs": ["b"], "attrs": {"exponent": 2}},
        {"id": "out", "op": "sum", "inputs": ["c"]},
    ],
    "include": ["value", "grad", "notes"],
}


def demonstrate() -> None:
    """Trace the lesson's graph through a service that lives only for it."""
    with running() as url:
        print(f"POST {url}/v1/trace: a.requires_grad, b = a + 2, c = b ** 2, out = c.sum()\n")
        with Client(url) as client:
            show_trace(client.trace(LESSON), notes=True)


@contextmanager
def running() -> Iterator[str]:
    """Yield the URL of a service that is started for this and stopped after.

    Raises:
        OSError: it does not start; the message holds what it said.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    serve = ["service", "serve", "--port", str(port), "--workers", "1"]
    # Not the package of that name that the caller may have in this directory.
    command = [sys.executable, "-P", "-m", *serve]
    alone = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "GRADTRACE_HOST": "127.0.0.1",
        "GRADTRACE_API_KEYS": "",
    }
    with TemporaryFile("w+") as log, subprocess.Popen(command, env=alone, stderr=log) as process:
        try:
            if not _started(url, process):
                log.seek(0)
                raise OSError(f"the service did not start:\n{log.read()}")
            yield url
        finally:
            process.terminate()


def free_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _started(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the service at ``url`` is ready; return whether it came to that."""
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        if ready(url, quiet=True) == 0:
            return True
        time.sleep(0.05)
    return False
