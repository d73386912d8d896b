"""What all tests share."""

from __future__ import annotations

import os
import shutil

import hypothesis
import pytest

hypothesis.settings.register_profile("no clock", deadline=None)
hypothesis.settings.load_profile("no clock")

REQUIRE_ALL = os.environ.get("REQUIRE_ALL") == "1"
long = pytest.mark.skipif(not REQUIRE_ALL, reason="takes long: REQUIRE_ALL=1 runs it")
"""Marks a test that only the complete run has the time for."""
uncounted = pytest.mark.no_cover
"""Marks a test that takes twice as long while lines are counted, so they are not."""
FIRST = ("tests/ray/test_cluster.py", "tests/image/")
"""Files whose first test waits for minutes: last, they would keep one process busy alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


def missing(what: str) -> None:
    """Skip the test, or fail it where no skip is allowed, because ``what`` is not here."""
    if REQUIRE_ALL:
        pytest.fail(f"{what} is not there, and REQUIRE_ALL=1 allows no skip")
    pytest.skip(f"{what} is not on this machine")


def require_program(name: str) -> str:
    """Return the path of a system program, or skip the test plainly where it is missing."""
    path = shutil.which(name)
    if path is None:
        missing(f"the program {name}")
    assert path is not None
    return path
