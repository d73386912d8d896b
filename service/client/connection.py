"""The clients: one that blocks and one for asyncio, both on httpx, both saying the same calls.

A service that is full or restarting answers 429 or 503 and says when to come back: both clients
wait that long and ask again, a bounded number of times. Nothing else is repeated.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from itertools import count
from typing import Any, Self

import httpx

from service.client import calls, tensors
from service.client.calls import HTML, NDJSON, SAFETENSORS, Call, Graph
from service.client.tensors import TensorTrace
from service.contract.problem import GradtraceError
from service.contract.response import OpDescription, OpList, TraceResponse

RETRIED = frozenset({429, 503})
LONGEST_PAUSE_S = 30.0
LAST_PORT = 65535
SCHEMES = frozenset({"http", "https"})
DEFAULT_URL = "http://127.0.0.1:8000"
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
"""Asked directly: a proxy that the environment names is for what lies beyond it."""


class _Settings:
    """What both clients are made of: where the service is, and how patient to be with it."""

    def __init__(self, url: str, key: str | None, timeout_s: float, retries: int) -> None:
        # What is wrong with a URL httpx finds out too late, or not in words.
        try:
            parsed = httpx.URL(url)
            host, port = parsed.host, parsed.port
        except UnicodeError as error:
            raise httpx.InvalidURL(f"Invalid host: {error}") from None
        if port is not None and not 0 <= port <= LAST_PORT:
            raise httpx.InvalidURL(f"Invalid port: '{port}'")
        if not (parsed.scheme in SCHEMES and host):
            raise httpx.InvalidURL(f"'{url}' does not begin with http:// or https:// and a host")
        self.options: dict[str, Any] = {
            "base_url": url.rstrip("/"),
            "timeout": httpx.Timeout(timeout_s, pool=None),
            "trust_env": host not in THIS_MACHINE,
            "headers": {"authorization": f"Bearer {key.strip()}".encode()} if key else {},
        }
        self.retries = retries

    def pause_s(self, response: httpx.Response, tried: int) -> float | None:
        """Return how long to wait before trying again, or None where the answer is final."""
        if response.status_code not in RETRIED or tried >= self.retries:
            return None
        named = calls.seconds_of(response.headers.get("retry-after"))
        return min(2**tried if named is None else named, LONGEST_PAUSE_S)


def _request(http: httpx.Client | httpx.AsyncClient, call: Call) -> httpx.Request:
    return http.build_request(
        call.method, call.path, content=call.body, headers=call.headers, params=call.params
    )


def _body(response: httpx.Response) -> bytes:
    kind = response.headers.get("content-type", "")
    if response.is_success and not kind.lower().startswith(HTML):  # a proxy's page, not an answer
        return response.content
    raise calls.error_of(
        response.status_code,
        kind,
        response.content,
        response.headers.get("retry-after"),
    )


class Client:
    """A client that blocks until the answer is there; threads may share one.

    Args:
        url: where the service is, with a prefix where a proxy adds one.
        key: the bearer key, where the service asks for one.
        timeout_s: seconds of silence after which a call is given up; waiting for one of the
            client's 100 connections does not count.
        retries: how often a 429 or 503 is tried again, after the seconds that the service names,
            30 at most.

    Raises:
        httpx.InvalidURL: ``url`` is none.
        GradtraceError: the class of the contract for the problem that the service answered.
        UnexpectedAnswer: what answers is no service that speaks the contract.
        httpx.TransportError: nobody answers, or not to the end.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: int = 5,
    ) -> None:
        self._settings = _Settings(url, key, timeout_s, retries)
        self._http = httpx.Client(**self._settings.options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, call: Call) -> bytes:
        """Send ``call`` as it is and return the body of its answer."""
        for tried in count():
            response = self._http.send(_request(self._http, call))
            pause = self._settings.pause_s(response, tried)
            if pause is None:
                break
            time.sleep(pause)
        return _body(response)

    def trace(self, graph: Graph) -> TraceResponse:
        """Trace ``graph``."""
        body = self.send(calls.post("/v1/trace", calls.graph_json(graph)))
        return calls.model_of(TraceResponse, body)

    def trace_tensors(self, graph: Graph, leaves: Mapping[str, Any]) -> TensorTrace:
        """Trace ``graph`` with ``leaves`` as NumPy arrays or PyTorch tensors; answer in kind."""
        sent = tensors.pack(graph, leaves)
        body = self.send(calls.post("/v1/trace", sent, SAFETENSORS, SAFETENSORS))
        return tensors.unpack(body, tensors.uses_torch(leaves))

    def traces(self, graphs: Iterable[Graph]) -> Iterator[TraceResponse | GradtraceError]:
        """Trace many graphs; yield each answer in order, an error in place of a refused one."""
        for batch in calls.batches(map(calls.graph_json, graphs)):
            body = self.send(calls.post("/v1/traces", calls.joined(batch), NDJSON, NDJSON))
            yield from calls.lines_of(body, len(batch))

    def ops(self, query: str = "") -> OpList:
        """Return the ops of the catalogue, or those that ``query`` finds."""
        return calls.model_of(OpList, self.send(calls.search(query)))

    def op(self, name: str) -> OpDescription:
        """Return the description of one op."""
        return calls.model_of(OpDescription, self.send(calls.describe(name)))


class AsyncClient:
    """The same for asyncio, within one event loop; arguments and errors as :class:`Client`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: int = 5,
    ) -> None:
        self._settings = _Settings(url, key, timeout_s, retries)
        self._http = httpx.AsyncClient(**self._settings.options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, call: Call) -> bytes:
        """Send ``call`` as it is and return the body of its answer."""
        for tried in count():
            response = await self._http.send(_request(self._http, call))
            pause = self._settings.pause_s(response, tried)
            if pause is None:
                break
            await asyncio.sleep(pause)
        return _body(response)

    async def trace(self, graph: Graph) -> TraceResponse:
        """Trace ``graph``."""
        body = await self.send(calls.post("/v1/trace", calls.graph_json(graph)))
        return calls.model_of(TraceResponse, body)

    async def trace_tensors(self, graph: Graph, leaves: Mapping[str, Any]) -> TensorTrace:
        """Trace ``graph`` with ``leaves`` as NumPy arrays or PyTorch tensors; answer in kind."""
        sent = tensors.pack(graph, leaves)
        body = await self.send(calls.post("/v1/trace", sent, SAFETENSORS, SAFETENSORS))
        return tensors.unpack(body, tensors.uses_torch(leaves))

    async def traces(
        self, graphs: Iterable[Graph]
    ) -> AsyncIterator[TraceResponse | GradtraceError]:
        """Trace many graphs; yield each answer in order, an error in place of a refused one."""
        for batch in calls.batches(map(calls.graph_json, graphs)):
            body = await self.send(calls.post("/v1/traces", calls.joined(batch), NDJSON, NDJSON))
            for answer in calls.lines_of(body, len(batch)):
                yield answer

    async def ops(self, query: str = "") -> OpList:
        """Return the ops of the catalogue, or those that ``query`` finds."""
        return calls.model_of(OpList, await self.send(calls.search(query)))

    async def op(self, name: str) -> OpDescription:
        """Return the description of one op."""
        return calls.model_of(OpDescription, await self.send(calls.describe(name)))
