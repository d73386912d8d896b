"""One call of the catalogue becomes one op of the graph, detached where gradients are off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.contract.problem import GradtraceError
from service.engine.bind import bind
from service.engine.catalogue import Operation, catalogue
from service.translate.arguments import arguments
from service.translate.graph import plain
from service.translate.kinds import TO_FLOAT, result_kind, settle_default
from service.translate.reading import Reading
from service.translate.shapes import shape_of_result
from service.translate.unreadable import Unreadable, from_problem
from service.translate.values import Node, Ref, Several, Tensor, references

VIEWS = frozenset(
    "view view_as reshape reshape_as flatten unflatten squeeze unsqueeze transpose permute "
    "swapaxes swapdims movedim moveaxis T mT H mH t adjoint expand expand_as broadcast_to getitem "
    "slice select narrow diagonal unbind split chunk tensor_split hsplit vsplit dsplit detach "
    "real imag unfold as_strided ravel contiguous to positive".split()
)
"""Ops whose result may share memory with their input."""

CASTS: Mapping[str, str] = {
    "float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16",
    "cfloat": "complex64", "cdouble": "complex128", "long": "int64", "int": "int32",
    "short": "int16", "char": "int8", "byte": "uint8", "bool": "bool",
}  # fmt: skip
"""Methods that convert, and the dtype they convert to."""

NEVER_TRACKED = frozenset(
    "detach zeros_like ones_like full_like rand_like randn_like randint_like new_zeros new_ones "
    "new_full eq ne lt le gt ge argmax argmin argsort isnan isinf isfinite isclose".split()
)


def find(name: str) -> Operation:
    """Return an op of the catalogue."""
    try:
        return catalogue().find(name)
    except GradtraceError as problem:
        raise from_problem(problem) from problem


def exists(name: str) -> bool:
    """Whether the catalogue has an op of this name."""
    try:
        catalogue().find(name)
    except GradtraceError:
        return False
    return True


def apply(
    reading: Reading, name: str, positional: Sequence[Any], keywords: Mapping[str, Any]
) -> Tensor | Several:
    """Append the op that ``name(*positional, **keywords)`` means, and return its result.

    Raises:
        Unreadable: there is no such op, or the arguments do not bind.
    """
    operation = find(name)
    inputs, attrs = arguments(operation, positional, keywords)
    return add(reading, Node(name, inputs=inputs, attrs=attrs))


def add(reading: Reading, node: Node) -> Tensor | Several:
    """Append a bound op, and return its result."""
    assert node.op is not None
    operation = find(node.op)
    settle_default(node, node.op, reading.graph.dtype)
    several, names, count = _outputs(operation, node)
    node.several = several
    sources = references(node.inputs, node.attrs)
    depends = any(ref.node.tracked for ref in sources)
    node.tracked = depends and node.op not in NEVER_TRACKED
    if node.op == "autograd.grad":
        node.tracked = bool(node.attrs.get("create_graph", True))
    node.kind = result_kind(node.op, node)
    node.dtype = _dtype(node, sources)
    node.shape = None if several else shape_of_result(node)
    if node.op in VIEWS:
        node.shares_memory = True
        for ref in sources:
            ref.node.shares_memory = True
    reading.graph.add(node)
    result = Several(node, names, count) if several else Tensor(Ref(node))
    if node.tracked and not reading.grad_enabled:
        return detached(reading, result)
    return result


def detached(reading: Reading, result: Tensor | Several) -> Tensor | Several:
    """Return the result cut off from its history, as ``with torch.no_grad()`` gives it."""
    if isinstance(result, Several):
        if result.count is None:
            raise Unreadable(
                "how many tensors this is, is known only when it runs; under no_grad each has to "
                "be detached, so index the result of a call outside"
            )
        for k in range(result.count):
            cut = add(reading, Node("detach", inputs=[result.output(k).ref]))
            assert isinstance(cut, Tensor)
            result.tensors[k] = cut
        return result
    node = Node("detach", inputs=[result.ref], kind=result.node.kind, shape=result.node.shape)
    return add(reading, node)


def _outputs(operation: Operation, node: Node) -> tuple[bool, tuple[str | None, ...], int | None]:
    """Return whether an op has several outputs, their names, and how many, where it is known."""
    stand_ins: dict[int, Node] = {}

    def stand_in(ref: Ref) -> str:
        stand_ins.setdefault(id(ref.node), ref.node)
        name = f"n{list(stand_ins).index(id(ref.node))}"
        return name if ref.output is None else f"{name}:{ref.output}"

    attrs = plain(node.attrs, stand_in)
    try:
        template = bind(operation, [stand_in(ref) for ref in node.inputs], attrs).template
    except GradtraceError as problem:
        raise from_problem(problem) from problem
    signature = template.signature
    count: int | None = len(signature.outputs)
    if signature.variable:
        count = len(node.inputs) - 1 if node.op == "autograd.grad" else None
    return signature.several, signature.outputs, count


def _dtype(node: Node, sources: Sequence[Ref]) -> str | None:
    """Return the dtype of a result where it is said, or the same as that of all inputs."""
    said = node.attrs.get("dtype") or CASTS.get(node.op or "")
    if isinstance(said, str):
        return said
    dtypes = {ref.node.dtype for ref in sources}
    keeps = node.kind in ("float", "complex") and node.op not in TO_FLOAT and node.op != "to"
    return dtypes.pop() if keeps and len(dtypes) == 1 else None
