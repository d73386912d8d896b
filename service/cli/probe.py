"""Whether a service is ready: for a container's health check, so it needs no client library."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request

PATIENCE_S = 5.0
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, not listened on
"""How this machine is reached where the service listens on all its addresses."""


def ready(url: str | None = None, quiet: bool = False) -> int:
    """Return 0 where ``/readyz`` of the service at ``url`` says so, else 1 and say why."""
    address = f"{(url or _own_url()).rstrip('/')}/readyz"
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE_S):  # noqa: S310 - the caller's own
            return 0
    except urllib.error.HTTPError as error:
        reason = error.read().decode(errors="replace")
    except (OSError, ValueError) as error:
        reason = f"gradtrace: {error}"
    if not quiet:
        sys.stderr.write(f"{reason}\n")
    return 1


def _own_url() -> str:
    from service.cli.environment import settings

    own = settings()
    host = LOOPBACK.get(own.host, own.host)
    return f"http://[{host}]:{own.port}" if ":" in host else f"http://{host}:{own.port}"
