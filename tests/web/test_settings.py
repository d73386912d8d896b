from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.settings import Settings, SettingsRefused, from_environment, misspelt, usable_cpus

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
YEAR_S = 365 * 24 * 60 * 60
LARGEST: dict[str, Any] = {
    "port": 65535,
    "workers": 1024,
    "queue": 10**9,
    "time_limit_s": YEAR_S,
    "torch_threads": 1024,
    "memory_limit_mb": 10**9,
    "max_body_mb": 10**9,
    "body_timeout_s": YEAR_S,
    "max_nodes": 10**9,
    "max_elements": 10**15,
    "max_result_elements": 10**15,
    "drain_s": YEAR_S,
}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith("GRADTRACE_"):
            monkeypatch.delenv(name)


def test_every_setting_has_a_row_with_its_default_in_the_documents() -> None:
    rows = re.findall(r"^\| `GRADTRACE_(\w+)` \| (.+?) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    documented = {name.lower(): default for name, default, _ in rows}
    assert set(documented) == set(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        if field.default_factory is None:
            default = field.default
            said = documented[name].split()[0].strip("`")
            assert said == ("none" if default in ("", ()) else str(default)), name


def test_settings_come_from_the_environment_and_arguments_override_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRADTRACE_PORT", "9000")
    monkeypatch.setenv("GRADTRACE_QUEUE", "3")
    monkeypatch.setenv("GRADTRACE_TIME_LIMIT_S", "0.5")
    monkeypatch.setenv("GRADTRACE_CORS_ORIGINS", " https://a.example , https://b.example,")
    made = Settings(port=9001)
    assert (made.port, made.queue, made.time_limit_s) == (9001, 3, 0.5)
    assert made.cors_origins == ("https://a.example", "https://b.example")


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADTRACE_PORT", "")
    monkeypatch.setenv("GRADTRACE_API_KEYS", "")
    assert Settings().port == 8000
    assert Settings().api_keys == ()


@pytest.mark.parametrize("host", ["", " "])
def test_an_empty_address_does_not_open_the_service_to_all(host: str) -> None:
    with pytest.raises(SettingsRefused, match="GRADTRACE_HOST"):
        from_environment(host=host)
    assert from_environment(host=" ::1 ").host == "::1"


def test_settings_cannot_be_changed_once_made() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRADTRACE_WORKERS", "0"),
        ("GRADTRACE_TIME_LIMIT_S", "-1"),
        ("GRADTRACE_LOG", "xml"),
        ("GRADTRACE_QUEUE", "many"),
        ("GRADTRACE_CORS_ORIGINS", "not an origin"),
        ("GRADTRACE_CORS_ORIGINS", "a.example"),
        ("GRADTRACE_CORS_ORIGINS", "https://a.example/"),
        ("GRADTRACE_CORS_ORIGINS", "https://A.example"),
        ("GRADTRACE_CORS_ORIGINS", "https://a.example:443"),
        ("GRADTRACE_CORS_ORIGINS", "https://*.example"),
        ("GRADTRACE_CORS_ORIGINS", "https://a.example,https://b.example/page"),
        ("GRADTRACE_CORS_ORIGINS", ","),
        ("GRADTRACE_ROOT_PATH", "http://x y/?"),
        ("GRADTRACE_ROOT_PATH", "http://a.example/b"),
        ("GRADTRACE_ROOT_PATH", "/a?b"),
        ("GRADTRACE_ROOT_PATH", "/größe"),
        ("GRADTRACE_ROOT_PATH", "/50%"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize("name", LARGEST)
@pytest.mark.parametrize("value", ["1e308", "99999999999999999999", "inf", "nan"])
def test_a_number_that_is_larger_than_could_serve_anybody_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"GRADTRACE_{name.upper()}", value)
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize(("name", "largest"), LARGEST.items())
def test_a_number_is_refused_above_its_bound(name: str, largest: Any) -> None:
    assert getattr(Settings(**{name: largest}), name) == largest
    with pytest.raises(ValidationError):
        Settings(**{name: largest + 1})


def test_every_number_has_a_bound() -> None:
    fields = Settings.model_fields.items()
    assert {name for name, each in fields if each.annotation in (int, float)} == set(LARGEST)


@pytest.mark.parametrize("keys", [",", " ", " , ,", "\n"])
def test_keys_that_got_lost_do_not_open_the_service(
    keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADTRACE_API_KEYS", keys)
    with pytest.raises(ValidationError, match="nothing between the commas"):
        Settings()


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "http://localhost:3000",
        "https://app.example",
        "https://a.example:80",
        "http://[::1]:8080",
        "http://[::80]",
        "chrome-extension://abcdefghijklmnop",
    ],
)
def test_origins_are_taken_as_browsers_send_them(origin: str) -> None:
    assert Settings(cors_origins=origin).cors_origins == (origin,)


def test_keys_are_in_no_text_about_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADTRACE_API_KEYS", "open-sesame,second")
    made = Settings()
    assert [key.get_secret_value() for key in made.api_keys] == ["open-sesame", "second"]
    assert "sesame" not in f"{made!r} {made} {made.model_dump_json()}"
    monkeypatch.setenv("GRADTRACE_API_KEYS", "open sesame")
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        ("/", ""),
        ("a", "/a"),
        ("/a/", "/a"),
        ("a/b", "/a/b"),
        ("/user/a@b.example/x%20y", "/user/a@b.example/x%20y"),
        ("/services/https:name:8443/proxy", "/services/https:name:8443/proxy"),
    ],
)
def test_a_prefix_begins_with_a_slash_and_ends_without(given: str, kept: str) -> None:
    assert Settings(root_path=given).root_path == kept


def test_the_quota_of_a_container_bounds_the_workers(tmp_path: Path) -> None:
    allowed = usable_cpus(tmp_path)
    assert allowed >= 1
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert usable_cpus(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cpus(tmp_path) == allowed
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus(tmp_path) == allowed
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("10000\n")
    assert usable_cpus(tmp_path) == 1


def test_a_variable_that_is_no_setting_is_told_with_the_one_that_is_near() -> None:
    names = ["GRADTRACE_WROKERS", "GRADTRACE_KEY", "gradtrace_port", "GRADTRACE_XYZ", "PATH"]
    assert misspelt(names) == [
        "GRADTRACE_WROKERS is no setting, and is ignored; near: GRADTRACE_WORKERS",
        "GRADTRACE_XYZ is no setting, and is ignored",
    ]
