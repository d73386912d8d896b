"""A real service for the programs of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.cli.demo import running
from tests.conftest import missing
from tests.sdk.generate import LANGUAGES, has_tools


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """Return the address of a service, unless there is no generator and so no program."""
    if not any(map(has_tools, LANGUAGES)):
        missing("every generator (make sdk)")
    with running() as url:
        yield url
