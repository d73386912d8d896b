"""Where the web process stands between its start and its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Lifecycle:
    """Shared by the middleware that counts, the probe that tells and the server that stops."""

    draining: bool = False
    """Whether the signal to stop came; requests are still served."""
    in_flight: int = 0
    """Requests that came and are not answered yet."""
    unanswered: set[asyncio.Task[Any]] = field(default_factory=set)
    """Tasks of those whose answer has not begun."""
