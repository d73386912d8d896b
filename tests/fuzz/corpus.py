"""Where the fuzzer starts: requests that mean something, for every op of the catalogue.

Most come from torch's own database of samples. Ops without an entry there, exact overloads above
all, get the samples of an op with the same kernel, or arguments invented after their signature.
"""

from __future__ import annotations

import base64
import itertools
import random
import warnings
import zlib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo, SampleInput

from service.contract.problem import GradtraceError
from service.engine.bind import bind
from service.engine.catalogue import Operation, catalogue
from service.engine.dtypes import DTYPES
from tests.conformance.converter import OPERATORS, NotExpressible, convert, full_name
from tests.fuzz.by_hand import BY_HAND, by_hand
from tests.fuzz.invented import invent

Request = dict[str, Any]

DATABASE_DTYPES = ("float32", "float64", "complex64", "int64", "bool", "bfloat16", "uint8")
SAMPLES = 4
"""Samples of an op in one dtype."""
MAX_NUMEL = 600
"""Elements of all the leaves of a sample; what a mutation finds it finds in small ones."""
INVENTED = 6
SPARE = {"id": "spare", "dtype": "float32", "shape": [1], "value": [1.0], "requires_grad": False}
"""A leaf for samples without any, for mutations to work with."""


class Corpus:
    """Requests by subject: an op of the database in one dtype, or an op that is not in it."""

    def __init__(self) -> None:
        self._infos: dict[str, OpInfo] = {full_name(op): op for op in op_db}
        self._found: dict[str, list[Request]] = {}
        # Sampling walks the whole stack, which is shallow in a thread of its own.
        self._thread = ThreadPoolExecutor(1)

    @cached_property
    def subjects(self) -> list[str]:
        """What there is to choose from, in an order that never changes."""
        sampled = [
            f"{name} {dtype}"
            for name, info in sorted(self._infos.items())
            for dtype in _dtypes(info)
        ]
        others = [name for name in catalogue().names if name not in self._infos]
        # An op of the database is there once a dtype, so the others are as often.
        return [*sampled, *(others + catalogue().exact_names) * 3]

    def examples(self, name: str) -> Iterator[Request]:
        """Yield requests for the op called ``name``, the likeliest to be answered first."""
        found = False
        for info in self._infos.values():
            if OPERATORS.get(info.name, info.name) == name and (dtype := _first_dtype(info)):
                for request in self.requests(f"{full_name(info)} {dtype}"):
                    found = True
                    yield request
        if not found:
            yield from self.requests(name)

    def requests(self, subject: str) -> list[Request]:
        """Return requests for ``subject``; none where no request can say it."""
        if subject not in self._found:
            name, _, dtype = subject.partition(" ")
            made = self._sampled(name, dtype) if dtype else self._of_name(name)
            self._found[subject] = list(made)
        return self._found[subject]

    def namesakes(self, name: str) -> list[str]:
        """Return the names of all ops with the same kernel."""
        return self._by_base.get(catalogue().find(name).base, [])

    @cached_property
    def _by_base(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = defaultdict(list)
        for name in [*catalogue().names, *catalogue().exact_names]:
            names[catalogue().find(name).base].append(name)
        return names

    def _sampled(self, name: str, dtype: str) -> list[Request]:
        info = self._infos[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._thread.submit(lambda: list(_samples(info, DTYPES[dtype]))).result()

    def _of_name(self, name: str) -> Iterator[Request]:
        operation = catalogue().find(name)
        if name in BY_HAND:
            yield by_hand(operation)
        yield from self._borrowed(operation)
        yield from inventions(operation)

    def _borrowed(self, operation: Operation) -> Iterator[Request]:
        for name in self._by_base.get(operation.base, []):
            for subject in (f"{name} float32", f"{name} int64"):
                if name in self._infos:
                    for request in self.requests(subject):
                        yield from _renamed(request, operation)


def _dtypes(info: OpInfo) -> list[str]:
    supported = info.supported_dtypes("cpu")  # type: ignore[no-untyped-call]
    return [dtype for dtype in DATABASE_DTYPES if DTYPES[dtype] in supported]


def _first_dtype(info: OpInfo) -> str:
    return next(iter(_dtypes(info)), "")


def inventions(operation: Operation) -> Iterator[Request]:
    """Yield requests for ``operation`` that its signature allows, always the same ones."""
    chance = random.Random(zlib.crc32(operation.name.encode()))  # noqa: S311
    for _ in range(INVENTED):
        yield invent(operation, chance)


def _renamed(request: Request, operation: Operation) -> Iterator[Request]:
    op = request["ops"][-1]
    try:
        bind(operation, op["inputs"], op["attrs"])
    except GradtraceError:
        return
    yield {**request, "ops": [*request["ops"][:-1], {**op, "op": operation.name}]}


def _samples(info: OpInfo, dtype: torch.dtype) -> Iterator[Request]:
    seed = zlib.crc32(full_name(info).encode())
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    tracked = dtype.is_floating_point or dtype.is_complex
    tracked = tracked and info.supports_autograd
    samples = info.sample_inputs(  # type: ignore[no-untyped-call]
        "cpu", dtype, requires_grad=tracked
    )
    yield from itertools.islice(_requests(info, samples), SAMPLES)


def _requests(info: OpInfo, samples: Iterator[SampleInput]) -> Iterator[Request]:
    while True:
        try:
            case = convert(info, next(samples))
        except NotExpressible:
            continue
        except Exception:  # noqa: BLE001 - the end, or a dtype that the database only claims
            return
        if sum(tensor.numel() for tensor in case.leaves.values()) <= MAX_NUMEL:
            leaves = list(_leaves(case.request)) or [SPARE]
            yield {**case.request, "encoding": "json", "leaves": leaves}


def _leaves(request: Request) -> Iterator[Request]:
    """Yield the leaves with flat lists of numbers, which a mutation can change."""
    for leaf in request["leaves"]:
        dtype = DTYPES[leaf["dtype"]]
        raw = bytearray(base64.b64decode(leaf["value_base64"]))
        flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
        values = torch.view_as_real(flat) if dtype.is_complex else flat
        others = {key: leaf[key] for key in ("id", "dtype", "shape", "requires_grad")}
        yield {**others, "value": _named(values.tolist())}


def _named(value: Any) -> Any:
    """Return numbers as JSON has them: those that are not finite as strings."""
    if isinstance(value, list):
        return [_named(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value
