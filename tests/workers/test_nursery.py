"""What the fork server is started with."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from service.workers import nursery


def test_the_keys_are_kept_from_those_who_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = Mock(return_value=1)
    monkeypatch.setattr("os.posix_spawn", spawn)
    monkeypatch.setenv("GRADTRACE_API_KEYS", "sesame-open")
    monkeypatch.setenv("TZ", "UTC")
    nursery._spawn(5, 1)
    environment = spawn.call_args.args[2]
    assert environment["TZ"] == "UTC"
    assert "sesame-open" not in environment.values()
