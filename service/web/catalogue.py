"""Questions whose answer never changes while the service runs: ops and capabilities.

A worker answers each of them once; the web process remembers the answer, so that they cost nothing
and are there even while all workers compute.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated

import orjson
from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response

from service.contract.problem import Internal
from service.contract.response import OpDescription, OpList
from service.settings import MEGABYTE, Settings
from service.web import examples
from service.web.compute import problem_code
from service.web.describe import COMPUTED, SECURITY, answers, json_answer
from service.web.exchange import exchange_of
from service.web.models import Capabilities, ServiceLimits
from service.web.negotiate import JSON, negotiate
from service.workers.seam import Computer

REMEMBERED = 16 * MEGABYTE
"""Bytes of answers kept: more than all ops take, and few enough whatever clients ask for."""
MOST = 2048
"""Answers kept: more than there are ops. An answer may be short, and what was asked for long."""


class Catalogue:
    """Asks the computer, and remembers what it said."""

    def __init__(self, settings: Settings, computer: Computer) -> None:
        self.settings = settings
        self.computer = computer
        self._known: OrderedDict[tuple[str, ...], bytes] = OrderedDict()
        self._size = 0

    async def ask(self, request: Request, job: str, **headers: str) -> Response:
        """Answer with what ``job`` says, asking a worker only the first time.

        Raises:
            GradtraceError: whatever keeps a worker from answering now.
        """
        exchange = exchange_of(request.scope)
        negotiate(exchange.header(b"accept"), (JSON,))
        key = (job, *headers.values())
        if key in self._known:
            self._known.move_to_end(key)
            return Response(self._known[key], media_type=JSON)
        answer = await self.computer.compute({"job": job, **headers}, b"")
        exchange.answered(answer)
        if len(answer.body) > REMEMBERED:
            raise Internal("The worker's answer is too long.")
        body = bytes(answer.body)
        if answer.status != 200:
            exchange.code = problem_code(answer)
            return Response(body, answer.status, media_type=answer.headers["content-type"])
        if job == "capabilities":
            body = orjson.dumps({**orjson.loads(body), "limits": limits(self.settings)})
        self._remember(key, body)
        return Response(body, media_type=JSON)

    def _remember(self, key: tuple[str, ...], body: bytes) -> None:
        self._size += len(body) - len(self._known.get(key, b""))  # two may have asked at once
        self._known[key] = body
        while self._size > REMEMBERED or len(self._known) > MOST:
            _, oldest = self._known.popitem(last=False)
            self._size -= len(oldest)


def limits(settings: Settings) -> dict[str, int | float]:
    """Return the limits in force, by the names of their settings."""
    return settings.model_dump(include=set(ServiceLimits.model_fields))


def add_catalogue(app: FastAPI, settings: Settings, computer: Computer) -> None:
    """Add ``/v1/ops``, ``/v1/ops/{name}`` and ``/v1/capabilities``."""
    catalogue = Catalogue(settings, computer)

    @app.get(
        "/v1/ops",
        tags=["catalogue"],
        operation_id="list_ops",
        summary="Which ops are there?",
        response_model=OpList,
        responses=answers(
            [*COMPUTED, "invalid_request"], json_answer("Ops by name.", examples.other("list_ops"))
        ),
        openapi_extra=SECURITY,
    )
    async def list_ops(
        request: Request,
        q: Annotated[
            str,
            Query(
                max_length=200,
                description="Part of a name or summary; left out: all ops.",
                examples=["softmax"],
            ),
        ] = "",
    ) -> Response:
        """Answer with the ops that a graph may use: all, or those that the query finds."""
        return await catalogue.ask(request, "ops", q=q)

    @app.get(
        "/v1/ops/{name}",
        tags=["catalogue"],
        operation_id="describe_op",
        summary="How is an op called?",
        response_model=OpDescription,
        responses=answers(
            [*COMPUTED, "not_found", "invalid_request"],
            json_answer("The op.", examples.other("describe_op")),
        ),
        openapi_extra=SECURITY,
    )
    async def describe_op(
        request: Request,
        name: Annotated[str, Path(max_length=200, description="The op's name.", examples=["pow"])],
    ) -> Response:
        """Answer with the op's signatures, and where PyTorch documents it."""
        return await catalogue.ask(request, "op", name=name)

    @app.get(
        "/v1/capabilities",
        tags=["catalogue"],
        operation_id="capabilities",
        summary="What can this service do?",
        response_model=Capabilities,
        responses=answers(COMPUTED, json_answer("What is here.", examples.other("capabilities"))),
        openapi_extra=SECURITY,
    )
    async def capabilities(request: Request) -> Response:
        """Answer with the versions, devices, dtypes and limits in force."""
        return await catalogue.ask(request, "capabilities")
