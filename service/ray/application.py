"""The Ray Serve application: which deployments there are, and how they grow and shrink."""

# Annotations are not postponed here: Ray reads that of `build` to make its argument.

from collections.abc import Callable
from typing import Self

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, model_validator
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import LoggingConfig

from service.ray.compute import Compute
from service.ray.replicas import Replicas
from service.settings import Settings, from_environment
from service.web.app import create_app

INGRESS_REQUESTS = 10_000
"""Requests that Ray lets into one ingress at once: more than it ever keeps, so that it is the web
app that refuses, as a problem."""
LAST_ANSWERS_S = 5.0
"""Seconds beyond the time to drain that a replica is given before it is killed."""


class Arguments(BaseModel):
    """What ``serve run service.ray:build NAME=VALUE`` takes, beside the GRADTRACE_* variables."""

    model_config = ConfigDict(extra="forbid")

    ingress_replicas: int = Field(
        default=1, ge=1, description="Processes that speak HTTP, of a CPU each."
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        description="Workers, and CPUs, of a compute replica. Default: GRADTRACE_WORKERS, or 2.",
    )
    min_replicas: int = Field(default=1, ge=1, description="Compute replicas there always are.")
    max_replicas: int = Field(default=4, ge=1, description="Compute replicas there may be.")
    upscale_delay_s: float = Field(
        default=5, ge=0, description="Seconds of too much work before replicas are added."
    )
    downscale_delay_s: float = Field(
        default=120, ge=0, description="Seconds of too little work before replicas are removed."
    )
    look_back_period_s: float = Field(
        default=30, gt=10, description="Seconds over which the work is averaged; Ray asks every 10."
    )

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas is less than min_replicas")
        return self


def build(arguments: Arguments) -> Application:
    """Return the application for ``serve run`` and ``serve deploy``.

    The settings are read here, once, from the environment of whoever deploys; every replica on
    every node gets the same ones.

    Raises:
        SettingsRefused: a variable makes no sense; the message names it, never its value.
    """
    settings = from_environment()
    given = settings.workers if "workers" in settings.model_fields_set else 2
    workers = arguments.workers or given
    computing = settings.model_copy(update={"workers": workers})
    compute = serve.deployment(
        name=Replicas.DEPLOYMENT,
        ray_actor_options={"num_cpus": workers},
        max_ongoing_requests=workers + 1,
        autoscaling_config=AutoscalingConfig(
            min_replicas=arguments.min_replicas,
            max_replicas=arguments.max_replicas,
            target_ongoing_requests=workers,
            upscale_delay_s=arguments.upscale_delay_s,
            downscale_delay_s=arguments.downscale_delay_s,
            look_back_period_s=arguments.look_back_period_s,
        ),
        health_check_period_s=5,
        health_check_timeout_s=10,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=settings.drain_s + LAST_ANSWERS_S,
        logging_config=LoggingConfig(enable_access_log=False),
    )(Compute)
    ingress = serve.deployment(
        name="Ingress",
        num_replicas=arguments.ingress_replicas,
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=INGRESS_REQUESTS,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=settings.drain_s + LAST_ANSWERS_S,
        logging_config=LoggingConfig(enable_access_log=False),
    )(serve.ingress(_web_app(settings, workers, arguments.max_replicas))())
    return ingress.bind(compute.bind(computing))


def _web_app(settings: Settings, workers: int, max_replicas: int) -> Callable[[], FastAPI]:
    """Return what makes the web app in each ingress replica.

    Its settings say how much is computed at the same time at most, over all replicas: so many
    batches of a stream are under way at once.
    """
    everywhere = settings.model_copy(update={"workers": workers * max_replicas})

    def make() -> FastAPI:
        return create_app(everywhere, Replicas(settings.queue, workers))

    return make
