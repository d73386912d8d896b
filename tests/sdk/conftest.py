"""A real service for the programs of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.cli.demo import running


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with running() as url:
        yield url
