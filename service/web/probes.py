"""What an operator's machinery asks: is it alive, may it get requests, what does it count."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from service.contract.problem import Draining, NotReady
from service.web.describe import OPEN, TEXT, answer, answers, json_answer
from service.web.lifecycle import Lifecycle
from service.web.metrics import CONTENT_TYPE, Metrics
from service.web.models import Alive, Ready
from service.workers.seam import Computer

NO_STORE = {"cache-control": "no-store"}
PATHS = ("/livez", "/readyz", "/metrics")


def is_probe(scope: MutableMapping[str, Any]) -> bool:
    """Tell whether a request is one of those that come every few seconds and mean nothing."""
    return str(scope["path"]).endswith(PATHS)


def add_probes(app: FastAPI, lifecycle: Lifecycle, computer: Computer, metrics: Metrics) -> None:
    """Add ``/livez``, ``/readyz`` and ``/metrics``."""

    @app.get(
        "/livez",
        tags=["operation"],
        operation_id="livez",
        summary="Is the web process alive?",
        response_model=Alive,
        responses=answers(["internal"], json_answer("It is.")),
        openapi_extra=OPEN,
    )
    async def livez() -> Response:
        """Answer 200 for as long as the web process runs."""
        return JSONResponse({"status": "alive"}, headers=NO_STORE)

    @app.get(
        "/readyz",
        tags=["operation"],
        operation_id="readyz",
        summary="Is the service ready for requests?",
        response_model=Ready,
        responses=answers(["internal", "not_ready", "draining"], json_answer("It is.")),
        openapi_extra=OPEN,
    )
    async def readyz() -> Response:
        """Answer 200 while requests can be computed, and 503 with the reason while not."""
        if lifecycle.draining:
            raise Draining("The service is shutting down.", retry_after_s=1)
        if computer.reason is not None:
            raise NotReady(computer.reason, retry_after_s=1)
        return JSONResponse({"status": "ready"}, headers=NO_STORE)

    @app.get(
        "/metrics",
        tags=["operation"],
        operation_id="metrics",
        summary="What Prometheus reads",
        response_class=Response,
        responses=answers(["internal"], answer({"text/plain": TEXT}, "Everything counted so far.")),
        openapi_extra=OPEN,
    )
    async def metrics_text() -> Response:
        """Answer with the metrics of the service in Prometheus's text format."""
        return Response(metrics.text(), headers=NO_STORE, media_type=CONTENT_TYPE)
