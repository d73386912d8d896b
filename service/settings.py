"""What an operator can set, as one frozen object.

``main`` makes it once (:func:`from_environment` reads the environment, and nothing else does) and
passes it down. The names, units and defaults of every setting are in ``docs/settings.md``.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, StringConstraints, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MEGABYTE = 2**20
KEY_VARIABLE = "GRADTRACE_KEY"
"""The variable with the key that commands send: no setting of the service."""
CGROUP = Path("/sys/fs/cgroup")

# Upper bounds, far beyond any use. All values up to them work; without them, a number too large for
# a clock, a kernel limit or 64 bits would only fail in every request.
YEAR_S = 365 * 24 * 60 * 60
MOST_WORKERS = 1024
MOST_THREADS = 1024
MOST_MEGABYTES = 10**9
MOST_ELEMENTS = 10**15

Seconds = Annotated[float, Field(le=YEAR_S, allow_inf_nan=False)]
Elements = Annotated[int, Field(ge=1, le=MOST_ELEMENTS)]

ORIGIN = re.compile(
    r"(?!https:.*:443$|http:.*:80$)"  # a browser leaves out the port that the scheme implies
    r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"
)
"""An origin, as a browser sends it."""
PREFIX = re.compile(r"(/([\w.~!$&'()*+,;=:@-]|%[0-9a-fA-F]{2})+)*", re.ASCII)
"""The path of a URL (RFC 3986) that does not end with a slash."""


def usable_cpus(cgroup: Path = CGROUP) -> int:
    """Return how many CPUs this process may use: its affinity, or its cgroup's quota if lower."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    shares = [*_quotas(cgroup), float(allowed or 1)]
    return max(1, math.ceil(min(shares)))


def _quotas(cgroup: Path) -> Iterator[float]:
    """Yield the CPU quota of cgroup v2 and of v1, in CPUs, where one is set."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        if quota != "max":
            yield int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        cpu = cgroup / "cpu"
        quota_us = int((cpu / "cpu.cfs_quota_us").read_text())
        if quota_us > 0:
            yield quota_us / int((cpu / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        pass


def _log_format() -> Literal["json", "text"]:
    return "text" if sys.stderr.isatty() else "json"


class Settings(BaseSettings):
    """The settings in force; making one reads ``GRADTRACE_*`` from the environment."""

    model_config = SettingsConfigDict(
        env_prefix="GRADTRACE_",
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    # To the operating system an empty address means all of them.
    host: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] = Field(
        default="127.0.0.1", description="Address to listen on."
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0: any free.")
    workers: int = Field(
        default_factory=usable_cpus, ge=1, le=MOST_WORKERS, description="Computing processes."
    )
    queue: int = Field(
        default=64, ge=0, le=10**9, description="Requests that wait; the next one gets 429."
    )
    time_limit_s: Seconds = Field(
        default=10.0, gt=0, description="Computing time of one request, queueing not counted."
    )
    torch_threads: int = Field(
        default=1, ge=1, le=MOST_THREADS, description="Torch threads in each worker."
    )
    memory_limit_mb: int = Field(
        default=2048,
        ge=16,
        le=MOST_MEGABYTES,
        description="What one request may take beyond a fresh worker.",
    )
    max_body_mb: float = Field(
        default=64.0,
        gt=0,
        le=MOST_MEGABYTES,
        allow_inf_nan=False,
        description="Size of a body, or of one line.",
    )
    body_timeout_s: Seconds = Field(
        default=30.0, gt=0, description="Silence while a body is being sent, or an answer read."
    )
    max_nodes: int = Field(
        default=100_000, ge=1, le=10**9, description="Leaves and ops of one request."
    )
    max_elements: Elements = Field(
        default=67_108_864, description="Elements of any one tensor, views too."
    )
    max_result_elements: Elements = Field(
        default=33_554_432, description="Elements that one answer may carry."
    )
    drain_s: Seconds = Field(
        default=10.0, ge=0, description="How long requests are served after the signal to stop."
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="Comma-separated keys, one of which everything under /v1 needs."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Comma-separated origins whose pages may call; `*` for all."
    )
    root_path: str = Field(default="", description="The prefix that a proxy in front strips.")
    log: Literal["json", "text"] = Field(
        default_factory=_log_format, description="Form of the log, one line a request."
    )

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        parts = tuple(part.strip() for part in value.split(",") if part.strip())
        if value and not parts:  # keys that got lost on the way must not open the service
            raise ValueError("there is nothing between the commas; unset it for none")
        return parts

    @field_validator("api_keys")
    @classmethod
    def _sendable(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            text = key.get_secret_value()
            if not text.isascii() or not text.isprintable() or " " in text:
                raise ValueError("a key is printable ASCII without spaces")
        return keys

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if all(origin in ("*", "null") or ORIGIN.fullmatch(origin) for origin in origins):
            return origins
        raise ValueError(
            "an origin is written as a browser sends it, such as https://app.example: in lower "
            "case, without the scheme's own port, a path or a slash at the end"
        )

    @field_validator("root_path")
    @classmethod
    def _prefix(cls, value: str) -> str:
        stripped = value.strip("/")
        prefix = f"/{stripped}" if stripped else ""
        if not PREFIX.fullmatch(prefix):
            raise ValueError("a prefix is the path of a URL, such as /gradtrace")
        return prefix

    @property
    def max_body_bytes(self) -> int:
        """The size of the largest body, in bytes."""
        return int(self.max_body_mb * MEGABYTE)

    def job_config(self) -> dict[str, int | str]:
        """Return what a worker has to know."""
        return {
            "max_nodes": self.max_nodes,
            "max_elements": self.max_elements,
            "max_result_elements": self.max_result_elements,
            "torch_threads": self.torch_threads,
            "memory_limit_mb": self.memory_limit_mb,
        }


class SettingsRefused(ValueError):
    """A variable makes no sense: a line for each, which names it and never its value."""


def from_environment(**given: Any) -> Settings:
    """Return the settings in force: what is ``given``, and not None, before GRADTRACE_* variables.

    Raises:
        SettingsRefused: a variable makes no sense; the message names it and says why.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        complaint = _complaint(error)
    raise SettingsRefused(complaint)  # apart from what caused it, which knows the values


def misspelt(names: Iterable[str] = os.environ) -> list[str]:
    """Return a sentence for each variable of ``names`` that looks like a setting and is none."""
    prefix = Settings.model_config["env_prefix"]
    sentences = []
    for name in sorted(names):
        rest = name.upper().removeprefix(prefix).lower()
        known = name.upper() == KEY_VARIABLE or rest in Settings.model_fields
        if name.upper().startswith(prefix) and not known:
            near = get_close_matches(rest, Settings.model_fields, n=1)
            hint = f"; near: {prefix}{near[0].upper()}" if near else ""
            sentences.append(f"{name} is no setting, and is ignored{hint}")
    return sentences


WORDS: Mapping[str, str] = {
    "int_parsing": "must be a whole number, such as 4",
    "int_from_float": "must be a whole number, such as 4",
    "float_parsing": "must be a number, such as 0.5",
    "string_too_short": "must be an address, such as 127.0.0.1",
}
"""What to say of a setting, by pydantic's name for what is wrong; else pydantic says it."""


def _complaint(refused: ValidationError) -> str:
    """Return a line for each variable; never its value, which may be a key."""
    prefix = Settings.model_config["env_prefix"]
    return "\n".join(
        f"{prefix}{str(one['loc'][0]).upper()}: "
        + WORDS.get(one["type"], one["msg"].removeprefix("Value error, "))
        for one in refused.errors(include_url=False, include_input=False)
    )
