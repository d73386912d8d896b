"""What Prometheus sees: everything is counted in the web process, so one registry holds it all."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.contract.problem import ProblemCode
from service.web.exchange import Exchange
from service.web.lifecycle import Lifecycle
from service.workers.seam import Computer

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"})
PHASES = ("total", "queue", "parse", "plan", "forward", "backward", "encode")
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters and histograms of the web process, in a registry of their own."""

    def __init__(self, computer: Computer, lifecycle: Lifecycle) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "gradtrace_requests",
            "Requests answered; 499 is a client that went away.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.problems = Counter(
            "gradtrace_problems",
            "Requests answered with a problem, by its code: also those that a limit refused.",
            ("code",),
            registry=self.registry,
        )
        self.lines = Counter(
            "gradtrace_stream_lines",
            "Lines answered in streams.",
            ("outcome",),
            registry=self.registry,
        )
        self.latency = Histogram(
            "gradtrace_phase_seconds",
            "Time that requests spend in each phase; total is from the first byte to the last.",
            ("phase",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.body_bytes = Counter(
            "gradtrace_body_bytes", "Bytes of bodies received.", registry=self.registry
        )
        self.sent_bytes = Counter(
            "gradtrace_answer_bytes", "Bytes of bodies sent.", registry=self.registry
        )
        self.nodes = Counter("gradtrace_nodes", "Nodes traced.", registry=self.registry)
        self._phases = {phase: self.latency.labels(phase) for phase in PHASES}
        self._requests: dict[tuple[str, str, int], Counter] = {}
        for code in ProblemCode:
            self.problems.labels(code)
        self.registry.register(ComputerCollector(computer, lifecycle))

    def observe(self, exchange: Exchange, seconds: float) -> None:
        """Count a request that is over and took ``seconds``."""
        method = exchange.method if exchange.method in METHODS else "other"
        key = (method, exchange.route, exchange.status)
        counter = self._requests.get(key)
        if counter is None:
            counter = self._requests[key] = self.requests.labels(*map(str, key))
        counter.inc()
        self._phases["total"].observe(seconds)
        for phase, duration in exchange.phases():
            if phase in self._phases:
                self._phases[phase].observe(duration)
        self.body_bytes.inc(exchange.body_bytes)
        self.sent_bytes.inc(exchange.sent_bytes)
        if exchange.nodes:
            self.nodes.inc(exchange.nodes)
        if exchange.code is not None:
            self.problems.labels(exchange.code).inc()
        if exchange.lines:
            self.lines.labels("trace").inc(exchange.lines - exchange.line_problems)
            self.lines.labels("problem").inc(exchange.line_problems)

    def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self.registry)


class ComputerCollector(Collector):
    """Reads the computer's own counters when Prometheus asks."""

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
        yield GaugeMetricFamily(
            "gradtrace_queue_length", "Requests that wait.", value=self.computer.waiting
        )
        yield GaugeMetricFamily(
            "gradtrace_in_flight", "Requests being handled.", value=self.lifecycle.in_flight
        )
        yield GaugeMetricFamily(
            "gradtrace_ready", "1 while requests can be computed.", value=self.computer.ready
        )
        counters = self.computer.counters
        kills = CounterMetricFamily("gradtrace_kills", "Workers killed.", labels=["reason"])
        kills.add_metric(["time_limit"], counters.time_limits)
        kills.add_metric(["abandoned"], counters.abandoned)
        yield kills
        for name, text, value in (
            ("crashes", "Workers that died by themselves.", counters.crashes),
            ("retries", "Requests computed again because their worker died.", counters.retries),
            ("rejected", "Requests that found the queue full.", counters.rejected),
            ("spawned", "Workers started.", counters.spawned),
            ("retired", "Workers replaced in peace.", counters.retired),
        ):
            yield CounterMetricFamily(f"gradtrace_{name}", text, value=value)
