"""What the translator says of element types is what PyTorch makes, or that it does not know.

The samples of torch's own op database are the calls, and some by hand where it has none: each one
becomes the node that a script with this call becomes.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from service.engine.catalogue import catalogue
from service.engine.dtypes import DTYPE_NAMES
from service.translate import element_type_tables
from service.translate.calls import call
from service.translate.element_types import OWN_RULES, kind_of, last_part
from service.translate.graph import Graph
from service.translate.operations import add, apply, exists
from service.translate.reading import Reading
from service.translate.scopes import Scope
from service.translate.statements import inline
from service.translate.unreadable import Unreadable
from service.translate.values import DType, ElementType, Node, Ref, Several
from service.translate.values import Tensor as Held
from tests.conformance.converter import Call, IndexJson, Made, calls_of
from tests.conftest import long, uncounted

DEFAULTS = ("float32", "float64")
HIDDEN = frozenset("device layout pin_memory requires_grad generator out non_blocking".split())
DTYPES = (
    torch.float32, torch.bfloat16, torch.int32, torch.uint8, torch.bool, torch.complex64,
    torch.float64, torch.int64, torch.complex128,
)  # fmt: skip
SAMPLES = 8


FORGETTING: list[Callable[[int], bool]] = [
    lambda _number: True,
    lambda number: number == 0,
    lambda number: number > 0,
]
"""Which tensors of a call, by their number, are made to be of an unknown element type."""


class NotRead(Exception):
    """A script cannot say this call, or is refused."""


class Script:
    """Calls as a script makes them, on tensors that it knows, or (``forgets``) knows nothing of."""

    def __init__(
        self,
        default: str,
        forgets: Callable[[int], bool] = lambda _number: False,
        *,
        with_shapes: bool = False,
    ) -> None:
        self.reading = Reading(Graph(()), Scope(), inline, call)
        self.reading.graph.dtype = default
        self._forgets = forgets
        self._with_shapes = with_shapes
        self._tensors: dict[int, Held] = {}
        self._made: dict[str, Any] = {}

    def __str__(self) -> str:
        known = [one.node.dtype for one in self._tensors.values()]
        return f"tensors of {known} with the default dtype {self.reading.graph.dtype}"

    def types(self, calls: Sequence[Call], count: int) -> list[ElementType]:
        """Return the element types of the first outputs of the last call."""
        try:
            for call in calls:
                self.call(call)
        except Unreadable as unreadable:
            raise NotRead from unreadable
        result = self._made[calls[-1].id]
        if isinstance(result, Several):
            result.flat = True  # as the outputs of the node
            return [result.output(k).ref.type for k in range(count)]
        return [result.ref.type]

    def call(self, call: Call) -> Held | Several:
        """Return the result of a call, which later ones may use."""
        self._made[call.id] = result = self._result_of(call)
        return result

    def _result_of(self, call: Call) -> Held | Several:
        args = [self._value(value) for value in call.args]
        given = {key: value for key, value in call.kwargs.items() if key not in HIDDEN}
        if call.name == "getitem":
            index = [part.ref if isinstance(part, Held) else part for part in args[1]]
            return add(self.reading, Node("getitem", inputs=[args[0].ref], attrs={"index": index}))
        keywords = {key: self._value(value) for key, value in given.items()}
        return apply(self.reading, call.name, args, keywords)

    def _value(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._tensors.get(id(value)) or self._leaf(value)
        if isinstance(value, Made):
            return self._made[value.id]
        if isinstance(value, torch.dtype):
            return DType(str(value).removeprefix("torch."))
        if isinstance(value, IndexJson | list | tuple):
            return [self._value(item) for item in value]
        return value

    def _leaf(self, tensor: Tensor) -> Held:
        dtype = DTYPE_NAMES.get(tensor.dtype)
        if dtype is None or tensor.layout is not torch.strided:
            raise NotRead
        # What is not known must not be complex.
        known = tensor.is_complex() or not self._forgets(len(self._tensors))
        node = Node(kind=kind_of(dtype), dtype=dtype) if known else Node()
        if self._with_shapes:
            node.shape = tuple(tensor.shape)
        self._tensors[id(tensor)] = Held(Ref(self.reading.graph.add(node)))
        return self._tensors[id(tensor)]


class Claims:
    """Holds claims against PyTorch, and gathers the wrong ones.

    ``known`` are the ops, by the names of the tables, of which something was said.
    """

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.known: set[str] = set()

    def check(self, calls: Sequence[Call], direct: Callable[[], Any]) -> None:
        """Hold the last call against what ``direct`` returns."""
        of_graph = computed(direct, "float32")
        for default in DEFAULTS:
            of_script = of_graph if default == "float32" else computed(direct, default)
            self._compare(Script(default), calls, of_script, of_graph)
        for forgets in FORGETTING:
            self._compare(Script("float32", forgets), calls, of_graph, of_graph)

    def _compare(
        self,
        script: Script,
        calls: Sequence[Call],
        of_script: Sequence[Any],
        of_graph: Sequence[Any],
    ) -> None:
        try:
            said = script.types(calls, len(of_script))
        except NotRead:
            return
        graph, call = script.reading.graph, calls[-1]
        given = [str(arg.dtype) if isinstance(arg, Tensor) else arg for arg in call.args]
        for number, (one, result) in enumerate(zip(said, of_script, strict=False)):
            if not isinstance(result, Tensor):
                continue
            if one.kind is not None:
                self.known.add(last_part(call.name))
            true = DTYPE_NAMES.get(result.dtype, str(result.dtype).removeprefix("torch."))
            what = f"{call.name}{given}{call.kwargs or ''} output {number} is {true}"
            if not (
                one.kind in (None, kind_of(true))
                and one.dtype in (None, true)
                and not (one.kind is None and result.is_complex())
            ):
                self.wrong.append(f"{what}, not {one}, of {script}")
            # A graph is computed with float32 as the default dtype, whatever the script's was.
            if "dtype" not in graph.ops[-1].attrs and of_graph[number].dtype != result.dtype:
                self.wrong.append(f"{what}, and the graph's {of_graph[number].dtype}, of {script}")


def computed(direct: Callable[[], Any], default: str) -> Sequence[Any]:
    """Return what a call returns under a default dtype; nothing where PyTorch refuses it."""
    torch.set_default_dtype(getattr(torch, default))
    try:
        result = direct()
    except Exception:  # noqa: BLE001 - whatever PyTorch raises, it makes nothing
        return []
    finally:
        torch.set_default_dtype(torch.float32)
    return result if isinstance(result, tuple | list) else [result]


# --- torch's own samples ------------------------------------------------------------------------


def samples(
    dtypes: Sequence[torch.dtype] = DTYPES,
) -> Iterator[tuple[list[Call], Callable[[], Any]]]:
    """Yield samples of torch's database as calls, each op under all of its names."""
    from torch.testing._internal.common_methods_invocations import op_db

    pairs = itertools.product(op_db, dtypes)
    is_op = cache(exists)
    for op, dtype in pairs:
        if dtype in op.dtypes:
            # `op.sample_inputs` looks for a test in the stack, which takes longer than all the rest
            given = op.sample_inputs_func(op, "cpu", dtype, False)
            for sample in itertools.islice(given, SAMPLES):
                args, kwargs = (sample.input, *sample.args), dict(sample.kwargs)
                calls = calls_of(op, sample.input, tuple(sample.args), kwargs)
                if not is_op(calls[0].name):
                    continue
                yield calls, partial(op.op, *args, **kwargs)
                for alias in op.aliases:
                    if calls[0].name == op.name and is_op(alias.name):
                        again = Call(alias.name, calls[0].args, calls[0].kwargs)
                        yield [again], partial(alias.op, *args, **kwargs)


# --- calls by hand ------------------------------------------------------------------------------

SIZE = [2, 2]
MADE = [
    Call("ones", [SIZE]), Call("zeros", [SIZE]), Call("rand", [SIZE]), Call("randn", [SIZE]),
    Call("eye", [2]), Call("linspace", [0, 1, 3]), Call("logspace", [0, 1, 3]),
    Call("linspace", [0, 1j, 3]), Call("full", [SIZE, 2.5]), Call("full", [SIZE, 2]),
    Call("full", [SIZE, True]), Call("full", [SIZE, 1j]), Call("arange", [3]),
    Call("arange", [0, 3, 0.5]), Call("arange", [True]), Call("normal", [0.0, 1.0, SIZE]),
    Call("scalar_tensor", [2]), Call("scalar_tensor", [2.5]), Call("scalar_tensor", [True]),
    *(Call(f"{name}_window", [4]) for name in "hann hamming blackman bartlett kaiser".split()),
    Call("randint", [0, 3, SIZE]), Call("randperm", [3]), Call("tril_indices", [2, 2]),
    Call("triu_indices", [2, 2]), Call("randint", [0, 3, SIZE], {"dtype": torch.int32}),
    Call("ones", [SIZE], {"dtype": torch.complex64}),
]  # fmt: skip
"""Calls without tensors."""


def of_one(x: Tensor) -> list[Call]:
    """Return calls on one matrix of any dtype."""
    index, mask = torch.tensor([0, 1]), torch.tensor([True, False])
    places = torch.zeros(2, 2, dtype=torch.int64)
    single = x.dtype if x.is_floating_point() else torch.float32
    cube = torch.rand(1, 2, 8, 8, 8).to(single)
    pools = {1: cube[0, 0, 0], 2: cube[0, 0], 3: cube[0]}
    return [
        *(Call(name, [x]) for name in element_type_tables.CASTS),
        *(Call(name, [x]) for name in "T mT t H mH nonzero detach relu adjoint".split()),
        *(Call(name, [x, 0, 1]) for name in ("swapaxes", "swapdims", "moveaxis")),
        *(Call(name, [x], {"dtype": dtype}) for name in ("sum", "norm") for dtype in DTYPES),
        *(Call(f"masked.{name}", [x, 0]) for name in "norm std var sum cumsum argmax mean".split()),
        *(Call("linalg.vector_norm", [x], {"dtype": dtype}) for dtype in DTYPES),
        *(Call("to", [x, dtype]) for dtype in DTYPES),
        *(Call("view", [x, dtype]) for dtype in (torch.int32, torch.uint8)),
        *(Call(name, [x, index.to(other)]) for name in ("to", "type_as") for other in DTYPES),
        *(Call("div", [x, 2], {"rounding_mode": mode}) for mode in (None, "floor", "trunc")),
        *(Call("div", [x, 2.5], {"rounding_mode": mode}) for mode in ("floor", "trunc")),
        *(Call("full_like", [x, fill]) for fill in (True, 2, 2.5)),
        *(Call("new_full", [x, SIZE, fill]) for fill in (True, 2, 2.5)),
        *(Call("masked_fill", [x, mask, fill]) for fill in (True, 2, 2.5)),
        *(Call("index_fill", [x, 0, index, fill]) for fill in (True, 2, 2.5)),
        *(Call("scatter", [x, 0, places, fill]) for fill in (True, 2, 2.5)),
        *(Call("nn.functional.pad", [x, [1, 1], "constant", fill]) for fill in (0, 2.5)),
        *(Call("clamp", [x], {"min": least}) for least in (True, 1, 0.5, x, x.float())),
        *(Call("where", [mask, *pair]) for pair in [(x, x), (x, 2), (x, 2.5), (x, 1j), (1, x)]),
        *(Call("where", [mask, *pair]) for pair in [(1, 2), (True, False), (True, 2), (1.0, 2)]),
        *(Call("getitem", [x, IndexJson(part)]) for part in ([0], [index], [mask], [None])),
        Call("where", [x]),
        Call("masked_select", [x, mask]),
        Call("index_put", [x, [index], x[0]]),
        Call("index_copy", [x, 0, index, x]),
        Call("index_add", [x, 0, index, x]),
        Call("scatter_add", [x, 0, places, x]),
        Call("scatter", [x, 0, places, x]),
        Call("take_along_dim", [x, places, 0]),
        Call("bincount", [index, x[0]]),
        Call("bincount", [index]),
        Call("searchsorted", [x, x], {"out_int32": True}),
        Call("searchsorted", [x, x]),
        Call("float_power", [x, 2]),
        Call("float_power", [x, 1j]),
        Call("stft", [x[0].repeat(8), 4], {"return_complex": False}),
        Call("stft", [x[0].repeat(8), 4], {"return_complex": True}),
        Call("unique", [x], {"return_counts": True}),
        Call("unique", [x], {"return_inverse": True}),
        Call("unique", [x], {"return_inverse": True, "return_counts": True}),
        Call("unique_consecutive", [x], {"return_counts": True}),
        Call("nn.functional.one_hot", [x.long()]),
        Call("frexp", [x]),
        Call("lu", [x]),
        Call("lu", [x], {"get_infos": True}),
        Call("native_dropout", [x, 0.5, True]),
        Call("chain_matmul", [x, x]),
        Call("aten._fft_r2c.default", [x, [0], 0, True]),
        Call("aten._fft_c2r.default", [x, [0], 0, 2]),
        Call("aten._unique2.default", [x, True, True, True]),
        Call("aten._embedding_bag_forward_only.default", [x, index, index]),
        *(Call(f"aten.linalg_{name}.default", [x]) for name in ("svdvals", "eigvals", "eigh")),
        Call("nn.functional.adaptive_avg_pool1d", [pools[1], 2]),
        Call("nn.functional.avg_pool1d", [pools[1], 2]),
        *(
            Call(f"nn.functional.{kind}max_pool{dim}d{ending}", [pools[dim], 2], kwargs)
            for dim in (1, 2, 3)
            for kind, more in (("", {}), ("adaptive_", {}), ("fractional_", {"output_size": 2}))
            for ending, own in (("", {"return_indices": True}), ("_with_indices", {}))
            if exists(f"nn.functional.{kind}max_pool{dim}d{ending}")
            for kwargs in [{**own, **more}]
        ),
        *of_gradients(x),
    ]


def of_gradients(x: Tensor) -> list[Call]:
    """Return calls of ``autograd.grad``, whose results are like its inputs, not its outputs."""
    if not (x.is_floating_point() or x.is_complex()):
        return []
    leaf = x.clone().requires_grad_()
    other = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    output = leaf * other * torch.ones(2, 2, dtype=torch.complex64)
    given = {"grad_outputs": torch.ones_like(output)}
    return [
        Call("autograd.grad", [output, [leaf]], given),
        Call("autograd.grad", [output, [leaf, other]], given),
    ]


OPERATORS = (
    *"add sub mul div floor_divide remainder pow rsub maximum minimum fmod atan2 hypot".split(),
    *"xlogy eq lt logical_and bitwise_and bitwise_or bitwise_xor lerp float_power".split(),
    *"copysign heaviside ldexp logaddexp true_divide multiply subtract divide".split(),
)
LISTS = "cat stack broadcast_tensors atleast_1d meshgrid hstack block_diag".split()


def of_two(x: Tensor, y: Tensor | complex) -> list[Call]:
    """Return calls on two tensors of any dtypes, or on a tensor and a number."""
    calls = [Call(name, [x, y]) for name in OPERATORS]
    if not isinstance(y, Tensor):
        return [*calls, *(Call(name, [y, x]) for name in ("pow", "remainder", "float_power"))]
    lists = [Call(name, [[x.flatten(), y.flatten()]]) for name in LISTS]
    return [*calls, *lists, *(Call(name, [x, y]) for name in ("matmul", "kron", "dot", "outer"))]


def by_hand() -> Iterator[Call]:
    """Yield all calls by hand."""
    yield from MADE
    tensors = [torch.tensor([[1, 2], [3, 1]]).to(dtype) for dtype in DTYPES]
    for x in tensors:
        yield from of_one(x)
        others: list[Tensor | complex] = [
            *tensors,
            *(one[0, 0] for one in tensors),
            True,
            2,
            2.5,
            2j,
        ]
        for y in others:
            yield from of_two(x, y)


def direct_call(call: Call) -> Any:
    """Return what PyTorch makes of a call by hand."""
    args = [tuple(arg) if isinstance(arg, IndexJson) else arg for arg in call.args]
    return catalogue().find(call.name).call(*args, **call.kwargs)


# --- the tests ----------------------------------------------------------------------------------


@cache
def all_claims() -> Claims:
    """Return all that is said of all calls."""
    claims = Claims()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for call in by_hand():
            claims.check([call], partial(direct_call, call))
        for calls, direct in samples():
            claims.check(calls, direct)
    return claims


@long
@uncounted
def test_what_is_said_is_what_pytorch_makes() -> None:
    assert all_claims().wrong == []


TABLES = {
    name: frozenset(table)
    for name, table in {**vars(element_type_tables), "OWN_RULES": OWN_RULES}.items()
    if name.isupper() and isinstance(table, frozenset | dict)
}
OF_OUTPUTS = {"WHOLE_OUTPUTS", "REAL_OUTPUTS", "COMPLEX_OUTPUTS", "PARTS_OF", "OF_PARTS"}
"""Tables of something else than ops."""


@long
@uncounted
def test_every_op_of_the_tables_is_held_against_pytorch() -> None:
    ops = frozenset[str]().union(*(TABLES[name] for name in TABLES.keys() - OF_OUTPUTS))
    assert ops - all_claims().known == {"masked"}  # which stands for all with a mask


def test_an_op_stands_in_one_table_alone() -> None:
    exclusive = "ALWAYS OWN_RULES WHOLE_SOURCES SOURCES COMPLEX KEEPS SUMS MATHS FLOATS".split()
    for one, other in itertools.combinations(exclusive, 2):
        assert not TABLES[one] & TABLES[other], (one, other)
    of_tensors = TABLES["KEEPS"] | TABLES["SUMS"] | TABLES["MATHS"] | TABLES["FLOATS"]
    assert TABLES["WITH_NUMBERS"] <= TABLES["KEEPS"]
    assert TABLES["OF_FIRST"] <= of_tensors
    assert TABLES["CASTS"] <= TABLES["ALWAYS"]
