"""The log: one line a request, and everything else that is worth a line, on standard error.

As JSON, or as text for people. Never a tensor's value, a key or a query.
"""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, Protocol

import orjson

from service.web.exchange import Exchange
from service.web.outlet import Outlet

Form = Literal["json", "text"]
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Sink(Protocol):
    """What takes the lines."""

    def write(self, line: str, /) -> object:
        """Take ``line``, which has its end."""


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the millisecond."""
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_second(seconds)}.{milliseconds:03d}+00:00"


@lru_cache(maxsize=1)  # to print a date takes longer than the rest of a line
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class AccessLog:
    """Writes a line for every request: id, route, status, problem's code, milliseconds, nodes."""

    def __init__(self, form: Form, stream: Sink | None = None) -> None:
        self.form = form
        self.stream = stream or sys.stderr

    @property
    def lost(self) -> int:
        """Lines, of requests or anything else, that nobody took."""
        return self.stream.lost_in_all if isinstance(self.stream, Outlet) else 0

    def write(self, exchange: Exchange, seconds: float) -> None:
        """Write the line of a request that is over and took ``seconds``."""
        milliseconds = round(seconds * 1000, 3)
        if self.form == "json":
            line = orjson.dumps(
                {
                    "time": now(),
                    "level": "info",
                    "id": exchange.id,
                    "method": exchange.method,
                    "route": exchange.route,
                    "status": exchange.status,
                    "code": exchange.code,
                    "ms": milliseconds,
                    "nodes": exchange.nodes,
                }
            ).decode()
        else:
            line = (
                f"{now()} {exchange.status} {exchange.code or 'ok'} "
                f"{exchange.method} {exchange.route} "
                f"{milliseconds:.1f} ms, {exchange.nodes} nodes, id {exchange.id}"
            )
        self.stream.write(line + "\n")


class JsonFormatter(logging.Formatter):
    """Formats whatever else is logged as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of ``record``."""
        line: dict[str, Any] = {
            "time": now(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


class TextFormatter(logging.Formatter):
    """Formats whatever else is logged for people, with the time as the requests' lines have it."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002
        """Return the time of ``record``'s line."""
        return now()


def formatter(form: Form) -> logging.Formatter:
    """Return what makes lines of all but the requests."""
    return JsonFormatter() if form == "json" else TextFormatter(TEXT)


def standard_error(form: Form) -> Outlet:
    """Return standard error as all of the log is to use it, so that its lines keep their order."""
    lines = formatter(form)

    def lost(count: int) -> str:
        said = "%d lines of the log are missing here: nobody took them"
        record = logging.LogRecord("gradtrace", logging.WARNING, "", 0, said, (count,), None)
        return lines.format(record) + "\n"

    return Outlet(sys.stderr, lost)


def log_to(stream: Sink, form: Form) -> None:
    """Have all that this process logs with the standard library written to ``stream``."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
