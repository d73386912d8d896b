"""Whether a service is ready: for a container's health check, so it needs no client library."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

PATIENCE_S = 5.0
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, not listened on
"""How this machine is reached where the service listens on all its addresses."""
THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}
"""Asked directly: a proxy that the environment names is for what lies beyond it."""


def ready(url: str | None = None, quiet: bool = False) -> int:
    """Return 0 where ``/readyz`` of the service at ``url`` says so, else 1 and say why."""
    address = f"{(url or _own_url()).rstrip('/')}/readyz"
    try:
        reason = _refusal(address)
    except (OSError, ValueError, HTTPException) as error:
        reason = f"gradtrace: no answer from {address}: {_words(error)}"
    if reason is None:
        return 0
    if not quiet:
        sys.stderr.write(f"{reason}\n")
    return 1


def _refusal(address: str) -> str | None:
    """Return None where ``address`` answers with a status below 400, else the answer's body."""
    direct = urlsplit(address).hostname in THIS_MACHINE
    opener = urllib.request.build_opener(*[urllib.request.ProxyHandler({})] * direct)
    try:
        with opener.open(address, timeout=PATIENCE_S):
            return None
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode(errors="replace")


def _words(error: Exception) -> str:
    """Return what ``error`` says, without the wrapping that urllib puts around it."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(getattr(reason, "strerror", None) or reason) or type(reason).__name__


def _own_url() -> str:
    from service.cli.environment import settings

    own = settings()
    host = LOOPBACK.get(own.host, own.host)
    return f"http://[{host}]:{own.port}" if ":" in host else f"http://{host}:{own.port}"
