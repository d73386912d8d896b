"""The web process as an ASGI app: routes, middleware and problems, put together.

It moves bytes and knows no torch: what is to be computed goes to the computer it is given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cached_property

from fastapi import FastAPI
from opentelemetry import trace
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.settings import Settings
from service.web.catalogue import add_catalogue
from service.web.compute import RawRoute
from service.web.exchange import path_of
from service.web.lifecycle import Lifecycle
from service.web.logs import AccessLog
from service.web.metrics import Metrics
from service.web.middleware import (
    CorsMiddleware,
    HeadMiddleware,
    KeyMiddleware,
    ObserveMiddleware,
    Observer,
    UnreadMiddleware,
)
from service.web.openapi import add_openapi
from service.web.pages import add_docs, add_playground
from service.web.probes import add_probes, is_probe
from service.web.problems import ProblemMiddleware, add_problems
from service.web.routes import add_routes
from service.workers.seam import Computer

HEAD = Middleware(HeadMiddleware)


def create_app(
    settings: Settings, computer: Computer, access_log: AccessLog | None = None
) -> FastAPI:
    """Return the app. Its lifespan starts the computer, and stops it at the end.

    ``app.state.lifecycle`` is what the server tells the app about its end, and
    ``app.state.observer`` what it tells of requests that do not reach the app.
    """
    lifecycle = Lifecycle()
    log = access_log or AccessLog(settings.log)
    metrics = Metrics(computer, lifecycle, log)
    observer = Observer(log, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await computer.start()
        try:
            yield
        finally:
            await computer.stop()

    app = Application(
        title="Gradtrace",
        lifespan=lifespan,
        middleware=_middleware(settings, lifecycle, observer),
        redirect_slashes=False,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        telemetry={
            "auto_configure": True,
            "operation_spans": False,
            "metrics": False,
            "logs": False,
            "exclude": is_probe,
        },
    )
    app.state.lifecycle = lifecycle
    app.state.observer = observer
    add_routes(app, settings, computer)
    add_catalogue(app, settings, computer)
    add_probes(app, lifecycle, computer, metrics)
    add_problems(app)
    add_openapi(app, settings.root_path)
    add_docs(app)
    add_playground(app)
    return app


class Application(FastAPI):
    """FastAPI, with a shorter way to the routes that compute.

    What the framework has in between (its own error pages and limits, an exit stack, matching, the
    question whether OpenTelemetry is set up) does nothing for these routes, and costs a tenth of
    what the web process does for a small request. With OpenTelemetry it is kept: it names the span.
    """

    direct: Mapping[str, tuple[Route, ASGIApp]] = {}
    """The routes that compute and the shorter way to each, by their path."""

    @cached_property
    def short(self) -> bool:
        """Whether it is taken; settled with the first request, when the app has begun."""
        return isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)

    def build_middleware_stack(self) -> ASGIApp:
        """Return the whole way, and keep the shorter ones; called once, before the app begins."""
        direct: dict[str, tuple[Route, ASGIApp]] = {}
        for route in self.routes:
            if isinstance(route, RawRoute):
                way = route.app
                for layer in reversed(self.user_middleware):
                    if layer is not HEAD:  # these routes take POST alone
                        way = layer.cls(way, *layer.args, **layer.kwargs)
                direct[route.path] = route, way
        self.direct = direct
        return super().build_middleware_stack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or the app's lifespan."""
        found = self.direct.get(path_of(scope)) if scope["type"] == "http" else None
        if found is None or scope["method"] != "POST" or not self.short:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        scope["route"], way = found
        await way(scope, receive, send)


def _middleware(settings: Settings, lifecycle: Lifecycle, observer: Observer) -> list[Middleware]:
    """Return what every request passes, the outermost first."""
    layers = [
        Middleware(ObserveMiddleware, lifecycle=lifecycle, observer=observer),
        HEAD,
    ]
    if settings.cors_origins:
        layers.append(
            Middleware(
                CorsMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["authorization", "content-type", "x-request-id"],
                expose_headers=["x-request-id", "server-timing", "retry-after"],
                max_age=3600,
            )
        )
    layers += [Middleware(UnreadMiddleware), Middleware(ProblemMiddleware, lifecycle=lifecycle)]
    if settings.api_keys:
        layers.append(Middleware(KeyMiddleware, keys=settings.api_keys))
    return layers
