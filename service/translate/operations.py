"""One call of the catalogue becomes one op of the graph, detached where gradients are off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.contract.problem import GradtraceError
from service.engine.bind import bind
from service.engine.catalogue import Operation, catalogue
from service.engine.signature import Signature
from service.engine.template import Template
from service.engine.writes import own_copy, own_copy_of_one
from service.translate.arguments import arguments
from service.translate.default_dtype import settle_default
from service.translate.element_type_tables import CASTS
from service.translate.element_types import element_type, last_part, other_types
from service.translate.graph import plain
from service.translate.parts import parts_of
from service.translate.reading import Reading
from service.translate.shapes import shape_of_result
from service.translate.unreadable import Unreadable, from_problem
from service.translate.values import Keywords, Node, Ref, Several, Tensor, Values, references

VIEWS = frozenset(
    "view view_as reshape reshape_as flatten unflatten squeeze unsqueeze transpose permute "
    "swapaxes swapdims movedim moveaxis T mT H mH t adjoint expand expand_as broadcast_to getitem "
    "slice select narrow diagonal unbind split chunk tensor_split hsplit vsplit dsplit detach "
    "real imag unfold as_strided ravel contiguous positive sum_to_size conj view_as_real "
    "view_as_complex atleast_1d atleast_2d atleast_3d broadcast_tensors meshgrid moveaxis "
    "resolve_conj resolve_neg split_with_sizes alias identity conj_physical cartesian_prod "
    "unsafe_split unsafe_split_with_sizes unsafe_chunk".split()
)
"""Ops whose result may share memory with their input."""

DROPOUTS = frozenset(
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout "
    "feature_alpha_dropout".split()
)
"""Ops that return the very tensor outside of training, or where nothing is dropped."""

NEVER_TRACKED = frozenset(
    "detach zeros_like ones_like full_like rand_like randn_like randint_like new_zeros new_ones "
    "new_full eq ne lt le gt ge argmax argmin argsort isnan isinf isfinite isclose "
    "histc".split()
)
HALF_CUT = (
    "a view that was taken under no_grad still says that it requires grad, without leading back to "
    "its tensor; write .detach() behind it"
)
FOR_INFERENCE = (
    "autograd saves no tensor that was made in inference mode; make it under torch.no_grad(), or "
    ".clone() it outside"
)
LIKE_ANOTHER = frozenset("to type_as expand_as view_as reshape_as".split())
"""Ops that take only the dtype or the shape of their second tensor."""


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


def apply(reading: Reading, name: str, positional: Values, keywords: Keywords) -> Tensor | Several:
    """Append the op that ``name(*positional, **keywords)`` means, and return its result.

    Raises:
        Unreadable: there is no such op, or the arguments do not bind.
    """
    operation = find(name)
    inputs, attrs = arguments(operation, positional, keywords)
    return add(reading, Node(name, inputs=inputs, attrs=attrs))


def compute(reading: Reading, name: str, /, *given: Any, **settings: Any) -> Tensor:
    """Append an op of one output, and return it; as :func:`apply`."""
    made = apply(reading, name, given, settings)
    assert isinstance(made, Tensor)
    return made


def add(reading: Reading, node: Node) -> Tensor | Several:
    """Append a bound op, and return its result."""
    assert node.op is not None
    operation = find(node.op)
    settle_default(node, reading.graph.dtype)
    template, uses = _bound(operation, node)
    _check_written(template, uses)
    names = template.signature.outputs
    node.several = template.signature.several
    sources = references(node.inputs, node.attrs)
    name = last_part(node.op)
    _follow(node, name, sources)
    _note_types(node, names, reading.graph.dtype)
    count = _note_shapes(node, sources, _count(template.signature, node))
    _note_memory(node, name, sources)
    _note_inference(reading, node, sources)
    reading.graph.add(node)
    if any(ref.node.half_cut for ref in sources) and name != "detach":
        if reading.grad_enabled:
            raise Unreadable(HALF_CUT)
        node.half_cut = node.is_view
    result = Several(node, names, count) if node.several else Tensor(Ref(node))
    follows_anyway = node.op == "autograd.grad"  # which create_graph decides, not the mode
    if node.tracked and not reading.grad_enabled and not follows_anyway:
        return detached(reading, result)
    return result


def check_whole(node: Node) -> None:
    """Refuse a view that was taken under no_grad where its history counts."""
    if node.half_cut:
        raise Unreadable(HALF_CUT)


def _follow(node: Node, name: str, sources: Sequence[Ref]) -> None:
    """Note whether autograd follows a result, and to which nodes it leads on."""
    found = [ref.node for ref in (sources[:1] if name in LIKE_ANOTHER else sources) if ref.tracked]
    if node.op == "autograd.grad":
        start = node.attrs.get("grad_outputs")  # a derivative of one gives it back as it is
        is_given_back = isinstance(start, Ref) and start.tracked
        node.tracked = node.unsure = bool(node.attrs.get("create_graph", True)) or is_given_back
    else:
        is_other_dtype = name == "view" and "dtype" in node.attrs  # PyTorch has no derivative of it
        node.tracked = bool(found) and name not in NEVER_TRACKED and not is_other_dtype
        node.unsure = node.tracked and all(one.unsure for one in found)
    node.followed = found if node.tracked else []


def _note_types(node: Node, names: Sequence[str | None], default: str) -> None:
    """Note the element types of the outputs; whole numbers and bools autograd does not follow."""
    first = element_type(node, default)
    node.kind, node.dtype = first.kind, first.dtype
    node.others = other_types(node, names)
    if node.kind in ("int", "bool") and not node.several:
        node.tracked = False


def _note_shapes(node: Node, sources: Sequence[Ref], count: int | None) -> int | None:
    """Note the shapes of the outputs; return how many there are, None where a run alone says it."""
    shape = shape_of_result(node)
    node.shape, node.each = (None, shape) if node.several else (shape, None)
    if shape is not None and all(ref.shape not in (None, shape) for ref in sources):
        node.is_own = True
    if node.several and count is None:
        parts = parts_of(node)
        count, node.uneven = parts.count, parts.uneven
        node.each = node.each if parts.each is None else parts.each
    return count


def _note_memory(node: Node, name: str, sources: Sequence[Ref]) -> None:
    """Note which nodes may share memory with a result, or be the same tensor."""
    if node.op == "autograd.grad":
        _share_start(node)
    elif _may_share(node, sources):
        node.shares_memory = node.is_view = True
        for ref in sources[:1] if name in LIKE_ANOTHER else sources:
            ref.node.shares_memory = True
            ref.node.views.append(node)


def _note_inference(reading: Reading, node: Node, sources: Sequence[Ref]) -> None:
    """Note a tensor of inference mode, views of it too, and refuse it where gradients lead on."""
    is_given = any(ref.node.inference for ref in sources)
    if is_given and node.tracked and reading.grad_enabled:
        raise Unreadable(FOR_INFERENCE)
    node.inference = is_given if node.is_view else reading.inference


def _share_start(node: Node) -> None:
    """Note which tensors a gradient may be: another one, or what the pass started from."""
    node.shares_memory = len(node.inputs) > 2
    start = node.attrs.get("grad_outputs")
    if isinstance(start, Ref) and _is_elsewhere(start.node):
        node.shares_memory = start.node.shares_memory = True
        node.twins.append(start.node)
        start.node.twins.append(node)


def _is_elsewhere(node: Node) -> bool:
    """Whether the script has a node besides where it is made."""
    tensors = (holder() for holder in node.holders)
    is_held = any(one is not None and getattr(one, "held", True) for one in tensors)
    return bool(node.id) or node.used or node.shares_memory or is_held


def _may_share(node: Node, sources: Sequence[Ref]) -> bool:
    """Whether a result may share memory with what it is made of, or be the same tensor."""
    name = last_part(node.op)
    if name in CASTS or name in ("to", "type_as"):
        before = sources[0].type.dtype
        return None in (before, node.dtype) or before == node.dtype
    if name in DROPOUTS:
        trains = node.attrs.get("training", node.attrs.get("train", "alpha" not in name))
        return not (trains and node.attrs.get("p", 0.5))
    if name == "einsum":
        return len(sources) == 1
    if name == "getitem":
        index = node.attrs.get("index", ())  # of which lists, and tensors with dimensions, copy
        copies = (isinstance(i, list) or (isinstance(i, Ref) and bool(i.shape)) for i in index)
        return not any(copies)
    return name in VIEWS


def detached(reading: Reading, result: Tensor | Several) -> Tensor | Several:
    """Return the result cut off from its history, as ``with torch.no_grad()`` gives it."""
    if isinstance(result, Several):
        if result.count is None:
            raise Unreadable(
                "how many tensors this is, is known only when it runs; under no_grad each has to "
                "be detached, so index the result of a call outside"
            )
        for k in range(result.count):
            result.tensors[k] = compute(reading, "detach", result.output(k))
            result.tensors[k].node.half_cut = result.node.is_view
        return result
    shares = result.node.shares_memory
    cut = compute(reading, "detach", result)
    cut.node.shares_memory = shares  # what was cut off has no name
    cut.node.half_cut = result.node.is_view
    return cut


def _bound(operation: Operation, node: Node) -> tuple[Template, list[Ref]]:
    """Return the bound call, and the reference of each of its uses."""
    refs: list[Ref] = []

    def stand_in(ref: Ref) -> str:
        refs.append(ref)
        return f"n{len(refs) - 1}"

    inputs = [stand_in(ref) for ref in node.inputs]
    try:
        bound = bind(operation, inputs, plain(node.attrs, stand_in))
    except GradtraceError as problem:
        raise from_problem(problem) from problem
    return bound.template, [refs[int(name[1:])] for name in bound.references]


def _count(signature: Signature, node: Node) -> int | None:
    """Return how many outputs an op has, where it is known."""
    if signature.variable:
        return len(node.inputs) - 1 if node.op == "autograd.grad" else None
    return len(signature.outputs)


def _check_written(template: Template, uses: Sequence[Ref]) -> None:
    """Refuse a call that writes into a tensor that the script has elsewhere too.

    An op gets a copy of it: nodes never change.
    """
    named = template.named
    is_instance_norm = template.operation.base == "instance_norm"
    trains = named.get("use_input_stats", True) if is_instance_norm else named.get("training")
    for use, prepare in template.prepared.items():
        ref, name = uses[use], template.parameters[use]
        is_own = ref.is_copy or not (ref.node.id or ref.node.used)
        writes = prepare is own_copy and (trains or not name.startswith("running_"))
        if prepare is own_copy_of_one:
            writes = ref.shape is None or ref.shape == () or ref.shape[-1] == 1
        if writes and not is_own:
            raise Unreadable(
                f"this writes into {name} in place, and a node of a graph never changes: pass "
                f"{name}.clone(), and compute the new one in words"
            )
