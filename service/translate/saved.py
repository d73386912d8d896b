"""What autograd saves for a backward pass, as far as a second pass or a change would miss it."""

from __future__ import annotations

from collections.abc import Sequence

from service.translate.element_type_tables import CASTS
from service.translate.element_types import last_part
from service.translate.operations import VIEWS
from service.translate.unreadable import Unreadable
from service.translate.values import Node, Ref, references, walk

SAVES_NOTHING = frozenset(
    "add sub rsub neg sum mean cumsum trace diff cat stack hstack vstack dstack column_stack "
    "block_diag clone to type_as repeat tile roll flip fliplr flipud rot90 tril triu diag "
    "diag_embed diagflat pad constant_pad_nd ceil floor round trunc sign frac".split()
) | (VIEWS - {"conj_physical"}) | frozenset(CASTS)  # fmt: skip
SAVES_RESULT = frozenset(
    "exp exp2 expm1 sigmoid tanh tan sqrt rsqrt reciprocal softmax log_softmax softmin relu "
    "gumbel_softmax".split()
)
"""Ops that save their result, and none of their tensors."""
SAVES_OTHER = frozenset("mul matmul mm mv bmm dot linear".split())
"""Ops that save each of their tensors for the gradient of the other one."""
SAVES_ALL = frozenset(
    "amax amin aminmax cdist cholesky cholesky_ex cholesky_inverse cholesky_solve copysign cumprod "
    "dist float_power hypot index_reduce ldexp det eigh eigvalsh householder_product inv inv_ex "
    "inverse lstsq lu lu_factor lu_factor_ex lu_solve matrix_norm matrix_power pinv qr slogdet "
    "solve solve_ex solve_triangular svd svdvals vector_norm logcumsumexp logsumexp max median min "
    "nanmedian native_group_norm ctc_loss pairwise_distance pdist scaled_dot_product_attention "
    "norm ormqr pca_lowrank pinverse prod scatter_reduce sgn erfcx i0e i1 i1e log_ndtr ndtri std "
    "std_mean svd_lowrank triangular_solve exponential gaussian".split()
)
"""Ops that save their result, and may save their tensors. All others may save their tensors."""


def check_saved(
    roots: Sequence[Node], *, keeps: bool, towards: Sequence[Node] | None = None
) -> None:
    """Refuse a backward pass that PyTorch refuses: what autograd saved is gone, or was changed.

    ``keeps``: this pass leaves everything there for another one. ``towards``: it goes only through
    what leads on to these nodes, as ``torch.autograd.grad`` does.
    """
    between = None if towards is None else _leading(roots, towards)

    def is_passed(node: Node) -> bool:
        is_result = node.tracked and not node.requires_grad and node.op is not None
        return is_result and (between is None or node in between)

    for node in filter(is_passed, walk(roots, lambda one: _sources(one) if is_passed(one) else ())):
        if node.retained_late:
            raise Unreadable(
                "retain_grad between two backward passes keeps the gradient of one of them, and a "
                "trace holds the sum of all"
            )
        if node.freed and _saves(node):
            raise Unreadable(
                "Trying to backward through the graph a second time: the first pass needs "
                "retain_graph=True"
            )
        saved = _saved(node)
        if (node.overwritten and _saves_result(node)) or any(
            source.overwritten and (source is not node.overwrites or saved.count(source) > 1)
            for source in saved
        ):
            raise Unreadable(
                "one of the variables needed for gradient computation has been modified by an "
                "inplace operation"
            )
        node.freed |= not keeps


def _sources(node: Node) -> list[Node]:
    """Return the nodes that a result leads on to, or would if they were tracked."""
    if node.op == "autograd.grad" and not node.attrs.get("create_graph", True):
        return [ref.node for ref in references(node.attrs)]  # its start is all
    return [ref.node for ref in references(node.inputs, node.attrs)]


def _leading(roots: Sequence[Node], towards: Sequence[Node]) -> set[Node]:
    """Return the nodes between ``roots`` and ``towards``, of which one may lead to another."""
    before: dict[Node, list[Node]] = {node: [] for node in walk(roots, lambda one: one.followed)}
    for node in before:
        for source in node.followed:
            before[source].append(node)
    ends = [node for node in towards if node in before]
    return {node for one in walk(ends, before.__getitem__) for node in before[one]}


def _saves(node: Node) -> bool:
    """Whether an op saves anything, or may."""
    name = last_part(node.op)
    by_index = name == "getitem" and any(
        isinstance(item, list | Ref) for item in node.attrs.get("index", ())
    )
    return by_index or name not in SAVES_NOTHING


def _saves_result(node: Node) -> bool:
    name = last_part(node.op)
    if name == "pow":
        return not isinstance(node.attrs.get("exponent"), int | float)
    return name in SAVES_RESULT or name in SAVES_ALL


def _saved(node: Node) -> list[Node]:
    """Return the nodes of the tensors that an op saves, or may save."""
    name = last_part(node.op)
    sources = [ref.node for ref in references(node.inputs, node.attrs)]
    if name in ("getitem", "embedding"):  # which save the index alone
        return [one.node for one in references(node.attrs)] + sources[:1] * (name == "embedding")
    if name in SAVES_NOTHING or name in SAVES_RESULT:
        return []
    if name in SAVES_OTHER:
        others = {
            source: any(one.tracked for one in sources if one is not source) for source in sources
        }
        return [one for one in sources if others[one] or sources.count(one) > 1]
    return sources
