"""The answers and bodies of the routes beside ``/v1/trace``, for FastAPI and OpenAPI."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from service.contract.problem import Problem
from service.contract.request import DType
from service.contract.response import Absent, ResponseModel, TraceResponse


class PythonSource(BaseModel):
    """A script to read; it is parsed and never executed."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(
        description="Python source in the everyday subset of torch code.",
        examples=["import torch\nx = torch.tensor(3.0, requires_grad=True)\n(x * x).backward()\n"],
    )


class TraceLine(ResponseModel):
    """One line of a streamed answer: the trace of one request line, or its problem."""

    index: int = Field(description="Which line of the request this answers, from 0.", examples=[0])
    trace: TraceResponse | Absent = Field(
        default=None, description="The answer; absent where there is a problem."
    )
    problem: Problem | Absent = Field(
        default=None, description="What is wrong with this line; absent where it was traced."
    )


class Versions(BaseModel):
    """What computes here."""

    gradtrace: str = Field(description="This service.", examples=["0.1.0"])
    torch: str = Field(description="PyTorch.", examples=["2.13.0+cpu"])
    numpy: str = Field(description="NumPy.", examples=["2.4.6"])
    python: str = Field(description="Python.", examples=["3.11.7"])


class ServiceLimits(BaseModel):
    """The limits in force, each named like its setting in lower case."""

    workers: int = Field(description="Requests computed at the same time.", examples=[2])
    queue: int = Field(description="Requests that may wait.", examples=[64])
    time_limit_s: float = Field(description="Computing time of one request, in s.", examples=[10.0])
    torch_threads: int = Field(description="Torch threads of one request.", examples=[1])
    memory_limit_mb: int = Field(description="Memory of one request, in MiB.", examples=[2048])
    max_body_mb: float = Field(description="Size of a body or a line, in MiB.", examples=[64.0])
    body_timeout_s: float = Field(description="Silence allowed within a body, in s.", examples=[30])
    max_nodes: int = Field(description="Leaves and ops of one request.", examples=[100000])
    max_elements: int = Field(description="Elements of any one tensor.", examples=[67108864])
    max_result_elements: int = Field(
        description="Elements that one answer may carry.", examples=[33554432]
    )


class Capabilities(BaseModel):
    """What this service can do."""

    versions: Versions = Field(description="The software that computes.")
    devices: list[str] = Field(description="Devices that a request may name.", examples=[["cpu"]])
    dtypes: list[DType] = Field(description="Dtypes that leaves may have.")
    limits: ServiceLimits = Field(description="The limits in force.")


class ProblemKind(BaseModel):
    """The description of one kind of problem."""

    type: str = Field(description="Where this description is.", examples=["/problems/cycle"])
    code: str = Field(description="The kind as one stable word.", examples=["cycle"])
    title: str = Field(description="The kind in a few words.")
    status: int = Field(description="The HTTP status of such an answer.", examples=[422])
    description: str = Field(description="What it means, and what to do.")


class Alive(BaseModel):
    """The web process runs."""

    status: str = Field(default="alive", description="Always `alive`.", examples=["alive"])


class Ready(BaseModel):
    """Requests can be computed."""

    status: str = Field(default="ready", description="Always `ready`.", examples=["ready"])
