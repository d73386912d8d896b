"""Traces of requests reach an OpenTelemetry collector that the environment names."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.processes import PATIENCE_S
from tests.web.harness import JSON, NDJSON, served

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}


class Collector(BaseHTTPRequestHandler):
    spans: Queue[Any] = Queue()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.put(span)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    collector = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{collector.server_port}"
    collector.shutdown()
    collector.server_close()


def test_a_span_names_the_route_carries_the_parent_and_no_value(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with served() as server:
        for path, kind in (("/v1/trace", JSON), ("/v1/traces", NDJSON)):
            asked = {"content": b'{"v":31337}\n', "headers": kind | PARENT}
            httpx.post(server.url + path, **asked, timeout=PATIENCE_S)  # type: ignore[arg-type]
        spans = [Collector.spans.get(timeout=PATIENCE_S) for _ in range(2)]
    assert {span.name for span in spans} == {"POST /v1/trace", "POST /v1/traces"}
    for span in spans:
        assert span.trace_id.hex() == TRACE_ID
        assert "31337" not in str(span)
        attributes = {each.key: each.value for each in span.attributes}
        assert attributes["http.response.status_code"].int_value == 200
