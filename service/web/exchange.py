"""What is known of one request and its answer, for the log, the metrics and ``Server-Timing``.

The outermost middleware puts an :class:`Exchange` into the ASGI scope; whoever learns something
on the way writes it there.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from random import getrandbits

from starlette.types import Scope

from service.contract.problem import BUG_HEADER
from service.workers.seam import Answer

log = logging.getLogger(__name__)

SCOPE_KEY = "gradtrace.exchange"
"""Where the exchange is in the ASGI scope."""
NO_ROUTE = "unknown"
NO_METHOD = "unknown"
CLIENT_GONE = 499
"""Status in log and metrics where the client did not take the whole answer."""

# Extensions of the scope, by which `protocol` and the app talk to each other:
GONE = "gradtrace.gone"
"""Set by the protocol when the connection was lost before the answer was written."""
LINES = "gradtrace.lines"
"""A function of the protocol's that takes lines of the head as they are (bytes, each with its end):
uvicorn looks at each header for 2 us."""
CLOSE = "gradtrace.close"
"""Set by the app where the rest of a body is not worth waiting for."""

PHASE = re.compile(r"([a-z]+);dur=(\d{1,9}(?:\.\d{1,9})?)")
"""A phase of a ``Server-Timing`` and its milliseconds, such as ``parse;dur=0.012``."""
MAX_NODES_DIGITS = 9
SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Exchange:
    """One request: its id, and by the end what became of it."""

    __slots__ = (
        "answering",
        "body_bytes",
        "code",
        "headers",
        "id",
        "line_problems",
        "lines",
        "method",
        "nodes",
        "queue_s",
        "route",
        "sent_bytes",
        "started",
        "status",
        "timing",
    )

    def __init__(self, method: str, raw_headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.method = method
        self.headers = _by_name(raw_headers)
        self.id = self._request_id()
        self.code: str | None = None
        self.started = time.perf_counter()
        self.route = NO_ROUTE
        self.answering = False
        """Whether the head of an answer has been sent."""
        self.status = CLIENT_GONE  # until an answer begins
        self.nodes = 0
        self.lines = 0
        self.line_problems = 0
        self.queue_s: float | None = None
        """Seconds in the queue; None where no computer answered."""
        self.timing = ""
        """What the computer says of its own phases, as a ``Server-Timing``."""
        self.body_bytes = 0
        self.sent_bytes = 0

    def header(self, name: bytes) -> str:
        """Return a header of the request, all of that name as one; empty where there is none."""
        return self.headers.get(name, b"").decode("latin-1")

    def _request_id(self) -> str:
        """Return the client's X-Request-Id if it is a sane one, else a new one."""
        given = self.headers.get(b"x-request-id", b"")
        if SANE_ID.fullmatch(given):
            return given.decode("ascii")
        return f"{getrandbits(128):032x}"

    def answered(self, answer: Answer) -> None:
        """Note what the computer says of its answer."""
        self.queue_s = answer.queue_s
        self.timing = answer.headers.get("server-timing", "")
        nodes = answer.headers.get("x-nodes", "")
        self.nodes += int(nodes) if nodes.isdecimal() and len(nodes) <= MAX_NODES_DIGITS else 0
        if bug := answer.headers.get(BUG_HEADER):
            log.error("a bug, request %s: %s", self.id, bug)

    def server_timing(self) -> str:
        """Return the value of ``Server-Timing``: the phases known, and all so far, in ms."""
        total = f"total;dur={(time.perf_counter() - self.started) * 1000:.3f}"
        if self.queue_s is None:
            return total
        queue = f"queue;dur={self.queue_s * 1000:.3f}"
        return f"{queue}, {self.timing}, {total}" if self.timing else f"{queue}, {total}"

    def phases(self) -> list[tuple[str, float]]:
        """Return the phases that are known, with their seconds."""
        if self.queue_s is None:
            return []
        told = PHASE.findall(self.timing)
        return [("queue", self.queue_s), *((name, float(each) / 1000) for name, each in told)]


def _by_name(raw_headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in raw_headers:
        headers[name] = headers[name] + b"," + value if name in headers else value
    return headers


def path_of(scope: Scope) -> str:
    """Return the path without the prefix that a proxy has stripped and the server put back."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def exchange_of(scope: Scope) -> Exchange:
    """Return the exchange of the request in ``scope``."""
    return scope[SCOPE_KEY]  # type: ignore[no-any-return]
