"""Errors on their way out: every one of them becomes ``application/problem+json`` here.

The problems of the contract answer for themselves; the framework's errors (a path that is not
there, a method that is not, a bug) are turned into one of them. ``/problems/{code}`` describes each
kind.
"""

from __future__ import annotations

import asyncio
import html
import logging
from collections.abc import Mapping
from typing import Annotated

from fastapi import FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from service.contract.problem import (
    PROBLEM_MEDIA_TYPE,
    BodyTimeout,
    Draining,
    GradtraceError,
    Internal,
    InvalidRequest,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    ProblemError,
    Unauthorized,
    pointer,
    problems,
    quote,
)
from service.web import examples
from service.web.describe import ANSWER_HEADERS, OPEN, TEXT, answers
from service.web.exchange import CLIENT_GONE, exchange_of, path_of
from service.web.lifecycle import Lifecycle
from service.web.models import ProblemKind
from service.web.negotiate import HTML, JSON, negotiate

log = logging.getLogger("gradtrace")


class ClientDisconnected(Exception):
    """The client is gone: there is nobody to answer."""


def problem_body(error: GradtraceError, status: int | None = None) -> bytes:
    """Return the problem as JSON text; ``status`` where it is not the one of its kind."""
    problem = error.problem()
    problem.status = status or error.status
    return problem.model_dump_json().encode()


def problem_response(
    error: GradtraceError,
    scope: Scope,
    headers: Mapping[str, str] | None = None,
    status: int | None = None,
) -> Response:
    """Return the answer that ``error`` is, with the headers its status calls for."""
    exchange_of(scope).code = error.code
    extra = dict(headers or {})
    if error.retry_after_s is not None:
        extra["retry-after"] = str(error.retry_after_s)
    if error.status == Unauthorized.status:
        extra["www-authenticate"] = 'Bearer realm="gradtrace"'
    if error.status == NotAcceptable.status:
        extra["vary"] = "accept"
    if error.status == BodyTimeout.status:
        extra["connection"] = "close"  # the rest of the body would be waited for again
    return Response(
        problem_body(error, status),
        status_code=status or error.status,
        headers=extra,
        media_type=PROBLEM_MEDIA_TYPE,
    )


def add_problems(app: FastAPI) -> None:
    """Answer every error of a route or the framework with a problem; add ``/problems/{code}``.

    `ProblemMiddleware` would do so too, but telemetry sees what comes as far as that, and takes it
    for a bug.
    """

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, GradtraceError)
        return problem_response(error, request.scope)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _http_problem(request, error)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_response(_validation_problem(error), request.scope)

    app.add_exception_handler(GradtraceError, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)

    @app.get(
        "/problems/{code}",
        tags=["operation"],
        operation_id="describe_problem",
        summary="What is this kind of problem?",
        response_model=ProblemKind,
        responses=answers(
            ["not_found", "not_acceptable", "internal"],
            {
                "description": "The kind of problem.",
                "headers": ANSWER_HEADERS,
                "content": {
                    HTML: TEXT,
                    JSON: {"examples": examples.other("describe_problem")},
                },
            },
        ),
        openapi_extra=OPEN,
    )
    async def describe_problem(
        request: Request,
        code: Annotated[str, Path(description="The problem's code.", examples=["cycle"])],
    ) -> Response:
        """Answer with the description that the `type` of every problem refers to."""
        return _describe(code, exchange_of(request.scope).header(b"accept"))


def _http_problem(request: Request, error: HTTPException) -> Response:
    path = quote(path_of(request.scope))
    if error.status_code == MethodNotAllowed.status:
        allow = _with_head((error.headers or {}).get("Allow", ""))
        detail = f"{path} takes {allow}, not {quote(exchange_of(request.scope).method, 20)}."
        return problem_response(MethodNotAllowed(detail), request.scope, {"allow": allow})
    if error.status_code == NotFound.status:
        return problem_response(NotFound(f"There is nothing at {path}."), request.scope)
    log.error("an unexpected HTTP error of the framework: %s", error)
    return problem_response(Internal("The framework refused the request."), request.scope)


def _with_head(allow: str) -> str:
    methods = {part.strip() for part in allow.split(",") if part.strip()}
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))


def _validation_problem(error: RequestValidationError) -> GradtraceError:
    """Say what is wrong with a parameter (bodies are checked elsewhere), without its value."""
    errors = [
        ProblemError(
            pointer="", code=InvalidRequest.code, message=f"{pointer(*each['loc'])}: {each['msg']}"
        )
        for each in error.errors()
    ]
    return InvalidRequest("A parameter does not have the right form.", errors=errors)


class ProblemMiddleware:
    """Answers what no handler of `add_problems` did; a client that is gone gets nothing.

    These are bugs, which are a 500, and problems raised by middleware or on the shorter way of
    `app.Application`.
    """

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self.app = app
        self.lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        except ClientDisconnected:
            exchange_of(scope).status = CLIENT_GONE
        except (Exception, asyncio.CancelledError) as error:
            if exchange_of(scope).answering:
                raise
            # No second name for `error`, whose traceback holds this frame: both would stay until a
            # collection.
            if isinstance(error, GradtraceError):
                answer = problem_response(error, scope)
            elif isinstance(error, asyncio.CancelledError):
                if not self.lifecycle.draining:
                    raise
                stopping = Draining("The service is shutting down.", retry_after_s=1)
                answer = problem_response(stopping, scope)
            else:
                log.exception("a bug, request %s", exchange_of(scope).id)
                bug = Internal("This is a bug in the service, not in the request.")
                answer = problem_response(bug, scope)
            await answer(scope, receive, send)


def _describe(code: str, accept: str) -> Response:
    """Answer for ``/problems/{code}``: what this kind of problem is, as HTML or JSON.

    Raises:
        NotFound: there is no problem of that code.
    """
    kinds = {str(kind.code): kind for kind in problems()}
    if code not in kinds:
        raise NotFound(f"There is no problem {quote(code)}; there are {', '.join(kinds)}.")
    kind = kinds[code]
    media_type = negotiate(accept, (JSON, HTML))
    vary = {"vary": "accept"}
    if media_type == HTML:
        return HTMLResponse(_page(kind), headers=vary)
    return JSONResponse(kind_of(kind).model_dump(), headers=vary)


def kind_of(error: type[GradtraceError]) -> ProblemKind:
    """Return the description of the kind of problem that a class of the contract is."""
    return ProblemKind(
        type=f"/problems/{error.code}",
        code=error.code,
        title=error.title,
        status=error.status,
        description=error.description,
    )


def _page(kind: type[GradtraceError]) -> str:
    title, text = html.escape(kind.title), html.escape(kind.description)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title></head>\n"
        f"<body><main><h1>{title}</h1>\n<p>{text}</p>\n"
        f"<p>Code <code>{kind.code}</code>, HTTP status {kind.status}.</p></main></body></html>\n"
    )
