"""What a client sends: the graph, as pydantic models.

The models describe the request for OpenAPI and check it; ``null`` means the same as leaving a field
out. What they cannot say (ids that are unique, references that lead somewhere, numbers that fit
their dtype) is checked where it is known, in the engine.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StrictBool,
    StrictInt,
    StringConstraints,
    model_validator,
)

ID_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$"
REFERENCE_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}(:[A-Za-z0-9_]{1,100})?$"
MAX_SEED = 2**63 - 1
MAX_AXES = 64
MAX_OP_NAME = 200

NodeId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Reference = Annotated[str, StringConstraints(pattern=REFERENCE_PATTERN)]


class DType(StrEnum):
    """An element type, by PyTorch's name without ``torch.``."""

    FLOAT64 = "float64"
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    COMPLEX64 = "complex64"
    COMPLEX128 = "complex128"
    INT64 = "int64"
    INT32 = "int32"
    INT16 = "int16"
    INT8 = "int8"
    UINT8 = "uint8"
    BOOL = "bool"


class Encoding(StrEnum):
    """How tensors come back: nested lists, or base64 of little-endian row-major bytes."""

    JSON = "json"
    BASE64 = "base64"


class Include(StrEnum):
    """A part of the answer that can be asked for."""

    VALUE = "value"
    GRAD = "grad"
    STATS = "stats"
    EDGES = "edges"
    NOTES = "notes"
    HEALTH = "health"


DEFAULT_INCLUDE = (Include.VALUE, Include.GRAD)


class RequestModel(BaseModel):
    """What all parts of a request share: no unknown fields, no guessing of types."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Leaf(RequestModel):
    """A tensor that the client gives: ``value``, or ``value_base64`` with ``shape``."""

    id: NodeId = Field(description="The leaf's name.", examples=["a"])
    value: Any = Field(
        default=None,
        description=(
            "A number, or nested lists of numbers. Non-finite numbers are the strings "
            '"NaN", "Infinity" and "-Infinity"; bool leaves take true and false; complex leaves '
            "have a last axis of two, [re, im]."
        ),
        examples=[[[1, 1], [1, 1]]],
    )
    value_base64: str | None = Field(
        default=None,
        description="Instead of value: base64 of the raw little-endian row-major bytes.",
        examples=["AACAPwAAAEA="],
    )
    shape: list[Annotated[StrictInt, Field(ge=0, le=MAX_SEED)]] | None = Field(
        default=None,
        max_length=MAX_AXES,
        description="Needed with value_base64; with value it reshapes a flat list.",
        examples=[[2]],
    )
    dtype: DType | None = Field(default=None, description="Default: the request's dtype.")
    requires_grad: StrictBool | None = Field(
        default=None, description="Whether autograd tracks this leaf. Default: false."
    )

    @model_validator(mode="after")
    def _one_value(self) -> Self:
        if (self.value is None) == (self.value_base64 is None):
            raise ValueError("a leaf has exactly one of value and value_base64")
        if self.value_base64 is not None and self.shape is None:
            raise ValueError("value_base64 needs a shape")
        return self


class Op(RequestModel):
    """A call of a PyTorch function or method."""

    id: NodeId = Field(description="The name of the result.", examples=["c"])
    op: Annotated[str, StringConstraints(min_length=1, max_length=MAX_OP_NAME)] = Field(
        description=(
            "PyTorch's name without `torch.`, such as `pow`, `linalg.svd` or "
            "`nn.functional.cross_entropy`, or an exact overload such as `aten.add.Tensor`."
        ),
        examples=["pow"],
    )
    inputs: list[Reference] | None = Field(
        default=None,
        description=(
            "References to leaves or to other ops' results, bound in order to the tensor "
            "parameters that attrs leave open. Default: none."
        ),
        examples=[["b"]],
    )
    attrs: dict[str, JsonValue] | None = Field(
        default=None,
        description='Parameters by name; a tensor is {"ref": "id"}. Default: none.',
        examples=[{"exponent": 2}],
    )
    retain_grad: StrictBool | None = Field(
        default=None,
        description="Keep the gradient of this result. Default: the request's retain_grad.",
    )
    requires_grad: StrictBool | None = Field(
        default=None,
        description=(
            "Track the result as a leaf, as torch.ones(2, 2).requires_grad_() does; only where "
            "no input is tracked. Default: false."
        ),
    )
    seed: Annotated[StrictInt, Field(ge=0, le=MAX_SEED)] | None = Field(
        default=None, description="Seed the random number generator again just before this op."
    )


class Root(RequestModel):
    """Where backward starts."""

    node: Reference = Field(description="A reference to the root.", examples=["out"])
    gradient: Any = Field(
        default=None,
        description="The gradient to start with, of the node's shape and dtype. Default: 1.",
        examples=[1.0],
    )
    gradient_base64: str | None = Field(
        default=None, description="Instead of gradient: base64 of the raw bytes."
    )

    @model_validator(mode="after")
    def _one_gradient(self) -> Self:
        if self.gradient is not None and self.gradient_base64 is not None:
            raise ValueError("a root has at most one of gradient and gradient_base64")
        return self


class TraceRequest(RequestModel):
    """A graph, and what to answer about it."""

    leaves: list[Leaf] | None = Field(
        default=None, description="Tensors that the client gives. Default: none."
    )
    ops: list[Op] | None = Field(
        default=None,
        description=(
            "Calls in any order; the earliest in the list whose inputs are there runs next. "
            "Default: none."
        ),
    )
    backward: list[Root] | None = Field(
        default=None,
        description=(
            "Roots of the backward pass. Left out: the last op (the last leaf where there are no "
            "ops). Empty: forward only."
        ),
    )
    retain_grad: StrictBool | None = Field(
        default=None, description="The default of every op's retain_grad. Default: false."
    )
    dtype: DType | None = Field(
        default=None, description="The default dtype of leaves. Default: float32."
    )
    device: Annotated[str, StringConstraints(pattern=r"^(cpu|cuda(:[0-9]{1,3})?)$")] | None = Field(
        default=None, description="`cpu`, `cuda` or `cuda:N`. Default: cpu.", examples=["cpu"]
    )
    seed: Annotated[StrictInt, Field(ge=0, le=MAX_SEED)] | None = Field(
        default=None, description="Seeds PyTorch before the first op. Default: 0."
    )
    encoding: Encoding | None = Field(
        default=None, description="How tensors come back. Default: json."
    )
    include: list[Include] | None = Field(
        default=None, description="What comes back. Default: value and grad."
    )

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.leaves and not self.ops:
            raise ValueError("the graph is empty: it has neither leaves nor ops")
        return self
