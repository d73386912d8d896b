"""What Prometheus sees: everything is counted in the web process, so one registry holds it all.

What there is to know of a request is noted by the event loop, counted for many requests at once in
plain numbers, without the locks of Prometheus's own counters, and turned into metrics when somebody
asks: 1 us for the note and 7 for the counting, where Prometheus's own take 20.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from service.contract.problem import ProblemCode
from service.web.exchange import Exchange
from service.web.lifecycle import Lifecycle
from service.web.logs import AccessLog
from service.workers.seam import Computer

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"})
PHASES = ("total", "queue", "parse", "plan", "forward", "backward", "encode")
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
EDGES = [str(float(edge)) for edge in BUCKETS] + ["+Inf"]
UNCOUNTED = 64
"""Requests that are noted before they are counted."""


class Histogram:
    """How often something took how long."""

    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self._sum += seconds

    def add_to(self, family: HistogramMetricFamily, labels: list[str]) -> None:
        """Add what was counted to a metric."""
        family.add_metric(
            labels, list(zip(EDGES, accumulate(self._counts), strict=True)), self._sum
        )


class Metrics(Collector):
    """What happened since the start: what was counted of the requests, and what the log lost."""

    def __init__(self, computer: Computer, lifecycle: Lifecycle, log: AccessLog) -> None:
        self.log = log
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.problems: Counter[str] = Counter({str(code): 0 for code in ProblemCode})
        self.lines: Counter[str] = Counter(trace=0, problem=0)
        self.phases = {phase: Histogram() for phase in PHASES}
        self.totals: Counter[str] = Counter(body_bytes=0, answer_bytes=0, nodes=0)
        self._noted: list[tuple[Exchange, float]] = []
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.registry.register(ComputerCollector(computer, lifecycle))

    def observe(self, exchange: Exchange, seconds: float) -> None:
        """Note a request that is over and took ``seconds``: it will be counted with others."""
        exchange.headers.clear()  # nobody needs them any more, and they may be long
        self._noted.append((exchange, seconds))
        if len(self._noted) == UNCOUNTED:
            self.count_noted()

    def count_noted(self) -> None:
        """Count what was noted."""
        noted, self._noted = self._noted, []
        for exchange, seconds in noted:
            self._count(exchange, seconds)

    def _count(self, exchange: Exchange, seconds: float) -> None:
        method = exchange.method if exchange.method in METHODS else "other"
        self.requests[method, exchange.route, exchange.status] += 1
        self.phases["total"].observe(seconds)
        for phase, duration in exchange.phases():
            if phase in self.phases:
                self.phases[phase].observe(duration)
        totals = self.totals
        totals["body_bytes"] += exchange.body_bytes
        totals["answer_bytes"] += exchange.sent_bytes
        totals["nodes"] += exchange.nodes
        if exchange.code is not None:
            self.problems[exchange.code] += 1
        if exchange.lines:
            self.lines["trace"] += exchange.lines - exchange.line_problems
            self.lines["problem"] += exchange.line_problems

    def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """Yield requests, problems, lines, phases, totals and what the log lost."""
        self.count_noted()
        requests = CounterMetricFamily(
            "gradtrace_requests",
            "Requests answered; 499 is a client that went away.",
            labels=["method", "route", "status"],
        )
        for (method, route, status), count in self.requests.items():
            requests.add_metric([method, route, str(status)], count)
        yield requests
        yield _by_label(
            "gradtrace_problems",
            "Requests answered with a problem, by its code: also those that a limit refused.",
            "code",
            self.problems.items(),
        )
        yield _by_label(
            "gradtrace_stream_lines", "Lines answered in streams.", "outcome", self.lines.items()
        )
        phases = HistogramMetricFamily(
            "gradtrace_phase_seconds",
            "Time of requests in each phase; total is from the head's arrival to the last byte.",
            labels=["phase"],
        )
        for phase, histogram in self.phases.items():
            histogram.add_to(phases, [phase])
        yield phases
        for name, text in (
            ("body_bytes", "Bytes of bodies received."),
            ("answer_bytes", "Bytes of bodies sent."),
            ("nodes", "Nodes traced."),
        ):
            yield CounterMetricFamily(f"gradtrace_{name}", text, value=self.totals[name])
        yield CounterMetricFamily(
            "gradtrace_log_lines_lost", "Lines of the log that nobody took.", value=self.log.lost
        )


class ComputerCollector(Collector):
    """Shows the computer's own counters."""

    def __init__(self, computer: Computer, lifecycle: Lifecycle) -> None:
        self.computer = computer
        self.lifecycle = lifecycle

    def collect(self) -> Iterator[Metric]:
        """Yield what the workers do now and did since the start."""
        states = self.computer.workers
        workers = GaugeMetricFamily(
            "gradtrace_workers", "Workers, by what they do.", labels=["state"]
        )
        for state in ("starting", "idle", "busy"):
            workers.add_metric([state], getattr(states, state))
        yield workers
        for name, text, now in (
            ("queue_length", "Requests that wait.", self.computer.waiting),
            ("in_flight", "Requests being handled.", self.lifecycle.in_flight),
            ("ready", "1 while requests can be computed.", self.computer.ready),
        ):
            yield GaugeMetricFamily(f"gradtrace_{name}", text, value=now)
        counters = self.computer.counters
        yield _by_label(
            "gradtrace_kills",
            "Workers killed.",
            "reason",
            [("time_limit", counters.time_limits), ("abandoned", counters.abandoned)],
        )
        for name, text, count in (
            ("crashes", "Workers that died by themselves.", counters.crashes),
            ("retries", "Requests computed again because their worker died.", counters.retries),
            ("rejected", "Requests that found the queue full.", counters.rejected),
            ("spawned", "Workers started.", counters.spawned),
            ("retired", "Workers replaced in peace.", counters.retired),
        ):
            yield CounterMetricFamily(f"gradtrace_{name}", text, value=count)


def _by_label(
    name: str, text: str, label: str, counts: Iterable[tuple[str, int]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts:
        family.add_metric([value], count)
    return family
