"""What a client gets: a trace of every node, as pydantic models.

The engine writes answers as bytes; these models describe them for OpenAPI, type the client, and
check the engine in tests.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

Absent = SkipJsonSchema[None]
"""None in Python for a field that the answer does not have: nobody is ever sent null there."""


class GradStatus(StrEnum):
    """Why a node's gradient is there, or is not."""

    ACCUMULATED = "accumulated"
    RETAINED = "retained"
    NOT_RETAINED = "not_retained"
    NOT_ON_PATH = "not_on_path"
    CONSTANT = "constant"
    NON_DIFFERENTIABLE = "non_differentiable"
    NO_BACKWARD = "no_backward"


def _as_sent(schema: dict[str, Any]) -> None:
    """Take out the defaults: a field that was not asked for is absent, and null says more."""
    for field in schema.get("properties", {}).values():
        field.pop("default", None)


class ResponseModel(BaseModel):
    """What all parts of an answer share. Fields may be added later, so unknown ones are let by."""

    model_config = ConfigDict(extra="ignore", json_schema_extra=_as_sent)


class TensorStats(ResponseModel):
    """Statistics over a tensor's finite elements; complex by magnitude, bool as 0 and 1."""

    min: float | None = Field(description="Smallest finite element; null where there is none.")
    max: float | None = Field(description="Largest finite element.")
    mean: float | None = Field(description="Mean of the finite elements.")
    std: float | None = Field(description="Standard deviation of the population.")
    norm: float | None = Field(description="Euclidean norm of the finite elements.")
    numel: int = Field(description="Number of elements.")
    nan_count: int = Field(description="Number of NaN elements.")
    inf_count: int = Field(description="Number of infinite elements.")
    zero_count: int = Field(description="Number of elements equal to zero.")


class NodeStats(ResponseModel):
    """Statistics of a node's value and of its gradient."""

    value: TensorStats = Field(description="Of the value.")
    grad: TensorStats | None = Field(description="Of the gradient; null where there is none.")


class NodeTrace(ResponseModel):
    """What PyTorch says of one node."""

    id: str = Field(description="The node's id; `id:k` for an output of several.", examples=["c"])
    op: str | None = Field(description="The op as it was asked for; null for a leaf.")
    shape: list[int] = Field(description="The tensor's shape.", examples=[[2, 2]])
    dtype: str = Field(description="The tensor's dtype.", examples=["float32"])
    is_leaf: bool = Field(description="PyTorch's `is_leaf`.")
    requires_grad: bool = Field(description="PyTorch's `requires_grad`.")
    retains_grad: bool = Field(description="PyTorch's `retains_grad`.")
    grad_fn: str | None = Field(
        description="The name of PyTorch's `grad_fn`, null where there is none.",
        examples=["PowBackward0"],
    )
    grad_status: GradStatus = Field(description="Why the gradient is there, or is not.")
    value: Any = Field(
        default=None,
        description=(
            "Nested lists of the tensor's own dtype, where asked for; non-finite numbers are the "
            'strings "NaN", "Infinity" and "-Infinity"; complex numbers are [re, im].'
        ),
    )
    grad: Any = Field(
        default=None,
        description="The gradient like value; null only where PyTorch has none.",
    )
    value_base64: str | Absent = Field(
        default=None, description="Instead of value where the encoding is base64."
    )
    grad_base64: str | None = Field(
        default=None, description="Instead of grad where the encoding is base64."
    )
    stats: NodeStats | Absent = Field(default=None, description="Where asked for.")
    note: str | Absent = Field(
        default=None,
        description="Where asked for: what grad_status says, in words, and what to change.",
    )


class Edge(ResponseModel):
    """One use of a node by an op, and what this use contributes to the node's gradient."""

    from_: str = Field(alias="from", description="A reference to the node that is used.")
    to: str = Field(description="The id of the op that uses it.")
    input: str = Field(
        description="The parameter's name; `tensors[0]` in a list.", examples=["other"]
    )
    grad: Any = Field(
        default=None,
        description="The contribution, like a node's grad; null where this use passes none on.",
    )
    grad_base64: str | None = Field(
        default=None, description="Instead of grad where the encoding is base64."
    )


class NonFinite(StrEnum):
    """A kind of number that is not finite."""

    NAN = "NaN"
    INFINITY = "Infinity"


class NonFiniteValue(ResponseModel):
    """Where the forward pass met its first number that is not finite."""

    node: str = Field(description="The first node in the order of execution.")
    op: str | None = Field(description="The op that made it; null where it came as a leaf.")
    kind: NonFinite = Field(description="NaN where the node has one, else Infinity.")
    producers: list[str] = Field(
        description="Nodes that are not finite although all that they read is; at most 20."
    )
    propagators: list[str] = Field(
        description="Nodes that are not finite because something they read is not; at most 20."
    )
    note: str = Field(description="The same in a sentence.")


class NonFiniteGrad(ResponseModel):
    """Where the backward pass met its first number that is not finite."""

    node: str = Field(description="The first node in backward order whose gradient is not finite.")
    op: str | None = Field(
        description="The op whose backward made it; null where a root was given it, or where the "
        "sum of finite parts overflowed."
    )
    made_by: str | None = Field(description="The node of that op.")
    kind: NonFinite = Field(description="NaN where the gradient has one, else Infinity.")
    producers: list[str] = Field(
        description="Nodes whose gradient was made of finite ones; at most 20."
    )
    propagators: list[str] = Field(
        description="Nodes whose gradient came from one that was not finite already; at most 20."
    )
    note: str = Field(description="The same in a sentence.")


class FlowVerdict(StrEnum):
    """How gradients change with their distance from the root."""

    STEADY = "steady"
    VANISHING = "vanishing"
    EXPLODING = "exploding"
    TOO_SHALLOW = "too_shallow"


class FlowLevel(ResponseModel):
    """The gradients at one distance from the roots."""

    depth: int = Field(description="The most ops between these nodes and a root or unused result.")
    nodes: int = Field(description="How many nodes there have a gradient.")
    grad_rms: float = Field(description="Median of the root mean squares of their gradients.")


class GradientFlow(ResponseModel):
    """Gradients near the roots held against those far from them."""

    verdict: FlowVerdict = Field(
        description=(
            "Vanishing where gradients far away are less than a thousandth of those near the root, "
            "exploding where they are more than a thousand times them; too_shallow below depth 5."
        )
    )
    ratio: float | None = Field(
        description=(
            "Largest grad_rms of the far third over that of the near, both of results alone: the "
            "gradient of a weight is a sum over the batch. The single numbers at the end, which a "
            "loss is made of, are left out where more levels come before them. Null without either."
        )
    )
    levels: list[FlowLevel] = Field(description="From the root outwards; at most 100 of them.")


class DeadRelu(ResponseModel):
    """A relu with units that no row of the input makes active."""

    node: str = Field(description="The relu.")
    units: int = Field(description="Elements along dimension 1 (all where there is no such).")
    dead_units: int = Field(description="Those of them that are zero everywhere.")
    inactive_fraction: float = Field(description="The share of all elements that are zero.")


class NoGradReason(StrEnum):
    """Why a leaf that requires grad gets none."""

    UNUSED = "unused"
    CUT = "cut"
    LEADS_TO_NO_ROOT = "leads_to_no_root"
    ALL_ZEROS = "all_zeros"


class LeafWithoutGrad(ResponseModel):
    """A leaf that requires grad and gets none, or only zeros."""

    node: str = Field(description="The leaf.")
    reason: NoGradReason = Field(description="Why.")
    cut_at: list[str] = Field(description="Results computed from it that do not require grad.")
    note: str = Field(description="The same in a sentence.")


class Health(ResponseModel):
    """A diagnosis of the gradients, over all nodes, also those that retain none."""

    nonfinite_value: NonFiniteValue | None = Field(description="Null where all values are finite.")
    nonfinite_grad: NonFiniteGrad | None = Field(description="Null where all gradients are finite.")
    gradient_flow: GradientFlow = Field(description="Whether gradients vanish or explode.")
    dead_relus: list[DeadRelu] = Field(description="At most 20.")
    leaves_without_grad: list[LeafWithoutGrad] = Field(description="At most 20.")


class TraceResponse(ResponseModel):
    """The answer: every node in the request's order, leaves first."""

    nodes: list[NodeTrace] = Field(description="Every leaf, then every output of every op.")
    edges: list[Edge] | Absent = Field(default=None, description="Every use, where asked for.")
    health: Health | Absent = Field(default=None, description="The diagnosis, where asked for.")
    warnings: list[str] = Field(description="PyTorch's own warnings that this graph raised.")
    torch_version: str = Field(description="The PyTorch that computed it.", examples=["2.13.0+cpu"])
    device: str = Field(description="Where it was computed.", examples=["cpu"])


class OpSummary(ResponseModel):
    """An op of the catalogue."""

    name: str = Field(description="The name to use in a request.", examples=["pow"])
    summary: str = Field(description="The first sentence of PyTorch's documentation.")


class OpList(ResponseModel):
    """The catalogue, or what a query found in it."""

    ops: list[OpSummary] = Field(description="Ops in alphabetical order.")


class OpParameter(ResponseModel):
    """A parameter of a signature."""

    name: str = Field(description="The name to use in attrs.", examples=["exponent"])
    type: str = Field(
        description=(
            "Tensor, number, int, float, bool, str, dtype, memory_format or any, each perhaps "
            "with [] for a list and ? where null is allowed."
        ),
        examples=["Tensor"],
    )
    required: bool = Field(description="Whether it must be given.")
    default: Any = Field(default=None, description="What it is where it is not given.")


class OpSignature(ResponseModel):
    """One way to call an op."""

    parameters: list[OpParameter] = Field(description="In PyTorch's order.")
    outputs: list[str | None] = Field(
        description=(
            "PyTorch's name of each output, null where it has none; empty where it returns a list, "
            "whose length depends on the call."
        )
    )


class OpDescription(OpSummary):
    """An op with its documentation and signatures."""

    documentation: str = Field(description="Where PyTorch documents it.")
    signatures: list[OpSignature] = Field(description="The ways to call it.")
