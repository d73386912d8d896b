"""Hold any service that speaks the contract against the golden cases.

Flags, statuses, shapes and dtypes are compared exactly; numbers as the node's own dtype, bit for
bit or at most ``ULPS`` apart, because PyTorch's last bits depend on the kind of CPU.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from service.cli.source import source
from service.client.calls import post
from service.contract.problem import GradtraceError

ULPS = 4
FLOATS = {
    "float64": (np.float64, np.int64),
    "complex128": (np.float64, np.int64),
    "float32": (np.float32, np.int32),
    "complex64": (np.float32, np.int32),
    "float16": (np.float16, np.int16),
}
TENSORS = ("value", "grad")
BROKEN = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading something else than an answer raises."""
NON_FINITE = {sign: float(sign) for sign in ("NaN", "Infinity", "-Infinity")}


def golden_cases() -> dict[str, dict[str, Any]]:
    """Return the golden cases by name, from the installed package or from the source tree."""
    installed = Path(str(files("service.cli"))) / "golden"
    source_tree = Path(__file__).parents[2] / "tests" / "conformance" / "golden"
    folder = installed if installed.is_dir() else source_tree
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


async def conform(url: str, key: str | None) -> int:
    """Send every golden case to ``url``, print a line for each; return 1 where one differs."""
    failed = 0
    cases = golden_cases()
    async with source(url, key) as ask:
        for name, case in cases.items():
            try:
                text = await ask(post("/v1/trace", json.dumps(case["request"]).encode()))
                answer = json.loads(text, parse_int=_signed)
                found = list(differences(case["nodes"], answer["nodes"]))
            except GradtraceError as error:
                found = [str(error)]
            except BROKEN as error:
                found = [f"no answer of the contract: {error!r}"]
            failed += bool(found)
            print("FAIL" if found else "ok  ", name, "-", case["what"])
            for line in found:
                print("    ", line)
    sys.stdout.write(f"{len(cases) - failed} of {len(cases)} golden cases hold\n")
    return int(failed > 0)


def differences(expected: list[dict[str, Any]], got: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for everything in which ``got`` is not as ``expected``."""
    ids = [node["id"] for node in expected]
    if ids != [node.get("id") for node in got]:
        yield f"nodes: {ids} expected, {[node.get('id') for node in got]} got"
        return
    for wanted, node in zip(expected, got, strict=True):
        for name, value in wanted.items():
            if name not in node:
                yield f"{wanted['id']}.{name}: {value} expected, and it is not there"
                continue
            found = node[name]
            tensor = name in TENSORS
            if not (_same_tensor(value, found, wanted["dtype"]) if tensor else value == found):
                yield f"{wanted['id']}.{name}: {value} expected, {found} got"


def _signed(text: str) -> float:
    """Return an integer, or the -0.0 that some languages print as -0."""
    return -0.0 if text == "-0" else int(text)


def _same_tensor(expected: Any, got: Any, dtype: str) -> bool:
    if expected is None or got is None:
        return expected is got
    if _shape(expected) != _shape(got):
        return False
    wanted, found = list(_numbers(expected)), list(_numbers(got))
    # NumPy reads null as NaN, Python takes true for 1: an answer must not.
    kinds = {bool} if dtype == "bool" else {int, float}
    if not kinds.issuperset(map(type, found)):
        return False
    if not all(map(_is_alike, wanted, found)):
        return False
    if dtype == "bfloat16":
        return _near(_bfloat16(wanted), _bfloat16(found))
    if dtype not in FLOATS:
        return wanted == found
    real, bits = FLOATS[dtype]
    a, b = np.array(wanted, float).astype(real), np.array(found, float).astype(real)
    nan = np.isnan(a)
    return _near(np.where(nan, 0, a.view(bits)), np.where(nan, 0, b.view(bits)))


def _is_alike(a: float, b: float) -> bool:
    """Return whether rounding could make one of the other: not of an infinity, NaN or -0.0."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return a == b or (math.isnan(a) and math.isnan(b))
    return bool(a or b) or math.copysign(1, a) == math.copysign(1, b)


def _near(a: Any, b: Any) -> bool:
    """Return whether the bit patterns ``a`` and ``b`` of floats are at most ``ULPS`` apart."""
    return all(abs(_rank(x, a) - _rank(y, b)) <= ULPS for x, y in zip(a, b, strict=True))


def _rank(pattern: Any, patterns: Any) -> int:
    """Return the place of a bit pattern on the line of all floats, -0 just below 0."""
    number = int(pattern)
    return number if number >= 0 else int(np.iinfo(patterns.dtype).min) - number - 1


def _bfloat16(numbers: list[float]) -> Any:
    wide = np.array(numbers, np.float32).view(np.uint32).astype(np.uint64)
    return ((wide + 0x7FFF + ((wide >> 16) & 1)) >> 16).astype(np.uint16).view(np.int16)


def _numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    else:
        yield NON_FINITE.get(value, value) if isinstance(value, str) else value


def _shape(value: Any) -> list[int]:
    if not isinstance(value, list):
        return []
    return [len(value), *(_shape(value[0]) if value else [])]
