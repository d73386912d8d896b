"""What one request may take of this service, as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.contract.problem import LimitExceeded, MemoryLimit, quote

ALLOCATION_FAILED = ("can't allocate memory", "not enough memory", "CUDA out of memory")
"""What PyTorch says where memory runs out."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that the engine checks; every one is named after its setting."""

    max_nodes: int = 100_000
    """Leaves and ops of a request."""
    max_elements: int = 67_108_864
    """Elements of any one tensor, views too."""
    max_result_elements: int = 33_554_432
    """Elements that one answer may carry."""
    memory_limit_mb: int = 2048
    """Memory that one request may take, in MiB; enforced by the kernel, named in messages here."""

    @classmethod
    def of(cls, config: Mapping[str, int | str]) -> Limits:
        """Return the limits that ``config`` names, the defaults for the others."""
        return cls(**{name: int(config[name]) for name in cls.__slots__ if name in config})

    def check(self, name: str, count: int, what: str) -> None:
        """Raise LimitExceeded where ``count`` is above the limit ``name``."""
        limit: int = getattr(self, name)
        if count > limit:
            raise LimitExceeded(
                f"{what}: {quote(count)}, but {name} (GRADTRACE_{name.upper()}) is {limit}"
            )


def allocation_failed(error: BaseException) -> bool:
    """Return whether ``error`` says that memory ran out."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in ALLOCATION_FAILED)
    )


def memory_limit(limits: Limits) -> MemoryLimit:
    """Return the problem that says how much memory there is."""
    return MemoryLimit(
        f"the graph needs more than memory_limit_mb (GRADTRACE_MEMORY_LIMIT_MB) "
        f"of {limits.memory_limit_mb} MiB"
    )
