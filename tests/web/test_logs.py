from __future__ import annotations

import time

import pytest

from service.web.logs import now


def test_the_time_is_the_clocks_to_the_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    for nanoseconds, text in (
        (1_700_000_000_000_000_000, "2023-11-14T22:13:20.000+00:00"),
        (1_700_000_000_999_999_999, "2023-11-14T22:13:20.999+00:00"),
        (1_700_000_001_007_000_000, "2023-11-14T22:13:21.007+00:00"),
        (1_700_000_000_042_000_000, "2023-11-14T22:13:20.042+00:00"),
    ):
        monkeypatch.setattr(time, "time_ns", lambda moment=nanoseconds: moment)
        assert now() == text
