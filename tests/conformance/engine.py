"""The engine's door, as this suite uses it: the bytes of a request in, those of an answer out."""

from __future__ import annotations

from service.jobs import create
from tests.conformance.comparison import Ask

CONFIG = {
    "max_nodes": 100_000,
    "max_elements": 1 << 26,
    "max_result_elements": 1 << 25,
    "torch_threads": 1,
    "memory_limit_mb": 2048,
}
HEADERS = {"job": "trace", "content-type": "application/json", "accept": "application/json"}


def engine() -> Ask:
    """Return a function that sends a trace request to the engine of this process."""
    handle = create(CONFIG)

    def ask(body: bytes) -> tuple[int, bytes]:
        answer = handle(HEADERS, body)
        return answer.status, answer.body

    return ask
