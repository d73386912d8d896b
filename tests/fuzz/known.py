"""Ends that the fuzzer knows: no guard can tell them cheaply, so the worker's death is the answer.

By the kernel's name, as the guards have it, and how it ends (:class:`tests.fuzz.hunt.How`).
"""

from __future__ import annotations

from collections.abc import Mapping

KNOWN: Mapping[tuple[str, str], str] = {}
