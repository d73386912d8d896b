"""The hunt: choose a sample, spoil it, ask a real worker, and look at what becomes of both.

    Hunt.run ── case ── forward only ── backward from all outputs that are tracked
                            └── a finding: shrink it, print it, count it

A worker that dies is the service's second line of defence; here it is a finding, unless it is
known (:mod:`tests.fuzz.known`).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from service.contract.problem import GradtraceError, GraphCrashed, Internal, Problem, TimeLimit
from service.contract.response import TraceResponse
from service.engine.catalogue import catalogue
from service.workers.pool import Pool
from service.workers.seam import PoolOptions
from tests.fuzz.corpus import Corpus, Request
from tests.fuzz.job import DIFFERS
from tests.fuzz.known import reason_of
from tests.fuzz.mutations import mutate

HEADERS = {"job": "trace", "content-type": "application/json", "accept": "application/json"}
OPTIONS = PoolOptions(
    workers=1,
    spares=2,
    time_limit_s=60,
    memory_limit_mb=256,
    job="tests.fuzz.job:create",
    config={
        "max_elements": 1 << 22,
        "max_result_elements": 1 << 18,
        "torch_threads": 1,
        "memory_limit_mb": 256,
    },
)
HEAP_CHECKER = "libc_malloc_debug.so.0"
MAX_MUTATIONS = 4
IN_A_ROW = 5
MAX_GRADIENT = 2000
ENOUGH = 4
"""Findings of one op after which it is left alone."""


class How(StrEnum):
    """What became of a request."""

    ANSWERED = "answered"
    CRASHED = "crashed"
    ENDLESS = "endless"
    CORRUPTED = "corrupted: died once, though not on a fresh worker"
    UNSTEADY = "unsteady: two runs differ"
    INTERNAL = "internal"
    MALFORMED = "malformed answer"


@dataclass(frozen=True)
class Outcome:
    """What became of a request, and the words about it."""

    how: How
    words: str = ""
    status: int = 0
    nodes: Sequence[Any] = ()


@dataclass(frozen=True)
class Case:
    """A sample of the corpus and the mutations of it, by their seeds."""

    subject: str
    number: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Finding:
    """A request that did not end as it should."""

    outcome: Outcome
    request: Request
    kernel: str

    @property
    def key(self) -> tuple[str, How]:
        """What makes two findings one."""
        return self.kernel, self.outcome.how

    @property
    def known(self) -> str | None:
        """Why it is let be, None where it is new."""
        return reason_of(self.kernel, self.outcome.how.name)

    def __str__(self) -> str:
        op = self.request["ops"][-1]["op"]
        age = f"known ({self.known})" if self.known else "new"
        what = f"{age}, {self.outcome.how}: {op}: {self.outcome.words[:500]}"
        return f"{what}\n  {json.dumps(self.request)}\n"


@dataclass
class Hunt:
    """A hunt, and what it has met so far."""

    corpus: Corpus
    seed: int
    only: str = ""
    """Words of which a subject must hold one; all subjects where there are none."""
    tell: Callable[[str], None] = print
    cases: int = 0
    calls: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    findings: dict[tuple[str, How], Finding] = field(default_factory=dict)
    _tired: Counter[str] = field(default_factory=Counter)

    @property
    def new(self) -> list[Finding]:
        """What was found that is not known."""
        return [finding for finding in self.findings.values() if finding.known is None]

    async def run(self, pool: Pool, *, cases: int | None = None, seconds: float = 1e9) -> None:
        """Try ``cases`` cases, or as many as fit into ``seconds``; the seed says which ones."""
        end = time.monotonic() + seconds
        for case in self._cases():
            if time.monotonic() > end or (cases is not None and self.cases >= cases):
                return
            self.cases += 1
            await self._try(pool, case)

    def _cases(self) -> Iterator[Case]:
        """Yield cases without end, some of a subject in a row: its samples take time."""
        chance = random.Random(self.seed)  # noqa: S311
        words = self.only.split() or [""]
        subjects = [one for one in self.corpus.subjects if any(word in one for word in words)]
        while True:
            subject = chance.choice(subjects)
            samples = self.corpus.requests(subject)
            for _ in range(IN_A_ROW if samples else 0):
                number = chance.randrange(len(samples))
                count = chance.randint(1, MAX_MUTATIONS)
                case = Case(subject, number, tuple(chance.getrandbits(32) for _ in range(count)))
                if self._tired[kernel_of(self._request(case))] < ENOUGH:
                    yield case

    def _request(self, case: Case) -> Request:
        return mutate(self.corpus.requests(case.subject)[case.number], case.seeds, self.corpus)

    async def _try(self, pool: Pool, case: Case) -> None:
        finding = await self._ask(pool, self._request(case))
        if finding is None:
            return
        self._tired[finding.kernel] += 1
        if finding.key not in self.findings:
            self.findings[finding.key] = finding  # so that shrinking does not note it again
            finding = await self._shrunk(pool, case, finding)
            self.findings[finding.key] = finding
            self.tell(str(finding))

    async def _ask(self, pool: Pool, request: Request) -> Finding | None:
        """Ask forward only, then backward from what is tracked; return what goes wrong first."""
        outcome = await self.ask(pool, request)
        if outcome.how is How.ANSWERED and (roots := list(_roots(outcome.nodes))):
            request = {**request, "backward": roots}
            outcome = await self.ask(pool, request)
        if outcome.how is How.ANSWERED:
            return None
        return Finding(outcome, request, kernel_of(request))

    async def ask(self, pool: Pool, request: Request) -> Outcome:
        """Send one request to a worker and look at the answer."""
        self.calls += 1
        retries = pool.counters.retries
        outcome = await _outcome(pool, request)
        if outcome.how is How.ANSWERED and pool.counters.retries > retries:
            outcome = Outcome(How.CORRUPTED)
        self.endings[f"status {outcome.status}" if outcome.status else outcome.how.name] += 1
        return outcome

    async def _shrunk(self, pool: Pool, case: Case, finding: Finding) -> Finding:
        """Drop every mutation that is not needed, then every argument."""
        for seed in case.seeds:
            fewer = Case(case.subject, case.number, tuple(one for one in case.seeds if one != seed))
            found = self._noted(await self._ask(pool, self._request(fewer)))
            if found and found.key == finding.key:
                case, finding = fewer, found
        for request in _simpler(finding.request):
            found = self._noted(await self._ask(pool, request))
            if found and found.key == finding.key:
                finding = found
        return finding

    def _noted(self, found: Finding | None) -> Finding | None:
        """Return what shrinking met; where it is another thing than what is shrunk, keep it."""
        if found and found.key not in self.findings:
            self.findings[found.key] = found
            self.tell(str(found))
        return found


def _simpler(request: Request) -> Iterator[Request]:
    """Yield ``request`` with one argument, or what it asks for beside the values, left out."""
    for name in ("include", "retain_grad"):
        if name in request:
            yield {key: value for key, value in request.items() if key != name}
    op = request["ops"][-1]
    for name in op["attrs"]:
        attrs = {key: value for key, value in op["attrs"].items() if key != name}
        yield {**request, "ops": [*request["ops"][:-1], {**op, "attrs": attrs}]}


def _roots(nodes: Sequence[Any]) -> Iterator[Request]:
    """Yield a root for every tracked output of the last op, with a gradient of ones."""
    for node in nodes:
        numel = 1
        for size in node["shape"]:
            numel *= size
        if node["id"].partition(":")[0] == "out" and node["requires_grad"] and numel < MAX_GRADIENT:
            one: Any = [1.0, 0.5] if node["dtype"].startswith("complex") else 1.0
            yield {"node": node["id"], "gradient": _full(node["shape"], one)}


def _full(shape: Sequence[int], value: Any) -> Any:
    if not shape:
        return value
    return [_full(shape[1:], value) for _ in range(shape[0])]


def kernel_of(request: Request) -> str:
    """Return the kernel's name of the op that a request is about."""
    name: str = request["ops"][-1]["op"]
    try:
        return catalogue().find(name).base
    except GradtraceError:
        return name


async def _outcome(pool: Pool, request: Request) -> Outcome:
    try:
        answer = await pool.compute(HEADERS, json.dumps(request).encode())
    except GraphCrashed as crash:
        how = How.ENDLESS if "SIGPROF" in crash.detail else How.CRASHED
        return Outcome(how, crash.detail)
    except TimeLimit as error:
        return Outcome(How.ENDLESS, error.detail)
    except Internal as error:
        return Outcome(How.INTERNAL, error.detail)
    except GradtraceError as error:
        return Outcome(How.ANSWERED, error.detail, error.status)
    return _read(answer.status, answer.headers, bytes(answer.body))


def _read(status: int, headers: dict[str, str], body: bytes) -> Outcome:
    nodes: Sequence[Any] = ()
    try:
        document = json.loads(body, parse_constant=_refuse)
        if status == 200:
            TraceResponse.model_validate(document)
            nodes = document["nodes"]
        elif Problem.model_validate(document).status != status:
            return Outcome(How.MALFORMED, "the problem tells another status", status)
    except (ValueError, ValidationError) as error:
        return Outcome(How.MALFORMED, str(error), status)
    if status == 500:
        return Outcome(How.INTERNAL, document["detail"], status)
    if DIFFERS in headers and b"memory_limit" not in body + headers[DIFFERS].encode():
        return Outcome(How.UNSTEADY, _difference(body.decode(), headers[DIFFERS]), status)
    return Outcome(How.ANSWERED, "", status, nodes)


def _refuse(token: str) -> None:
    raise ValueError(f"{token} is not JSON")


def _difference(one: str, other: str) -> str:
    at = next((k for k, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1), 0)
    start = max(0, at - 60)
    return f"{one[start : at + 60]} | {other[start : at + 60]}"


@asynccontextmanager
async def workers(*, check_heap: bool = False) -> AsyncIterator[Pool]:
    """Start workers for a hunt.

    Args:
        check_heap: let the C library look for writes behind the end of every block when it is
            freed; this finds the op that corrupts the heap, but no uninitialised memory.
    """
    tunables = "glibc.malloc.tcache_count=0"
    more = {"LD_PRELOAD": HEAP_CHECKER} if check_heap else {}
    if check_heap:
        tunables += ":glibc.malloc.check=3"
    with _environment(GLIBC_TUNABLES=tunables, **more):
        pool = Pool(OPTIONS)
        await pool.start()
        try:
            await pool.wait_ready()
            yield pool
        finally:
            await pool.stop()


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def hunt(
    seed: int,
    *,
    cases: int | None = None,
    seconds: float = 1e9,
    check_heap: bool = False,
    only: str = "",
    tell: Callable[[str], None] = print,
) -> Hunt:
    """Hunt with workers of its own and return what was met."""
    found = Hunt(Corpus(), seed, only, tell)

    async def run() -> None:
        async with workers(check_heap=check_heap) as pool:
            await found.run(pool, cases=cases, seconds=seconds)

    asyncio.run(run())
    return found
