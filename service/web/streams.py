"""Later."""

from typing import Any


def add_streams(*_: Any) -> None:
    """Later."""
