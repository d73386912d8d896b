"""Ways to spoil a request: its shapes, dtypes, numbers, indices, options and bindings.

A mutation changes a request in place by the chances of a generator of its own, so that a case is
a sample and a list of seeds, and stays meaningful when one of them is dropped.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

from service.contract.problem import GradtraceError
from service.contract.request import DType
from service.engine.catalogue import catalogue
from service.engine.signature import Parameter
from tests.fuzz.corpus import Corpus, Request
from tests.fuzz.invented import VALUES, a_leaf, a_number

SMALL = (-3, -2, -1, 0, 1, 2, 3, 4, 5, 7, 8, 16)
LARGE = (
    -(2**63), -(2**63) + 1, -(2**31) - 1, -(2**31), -100, 64, 100, 127, 128, 255, 1000, 65_535,
    10**6, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1,
)  # fmt: skip
FLOATS = (
    0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, 1e-45, 1e-300, 1e-6, 0.999999, 1e6, 1e15, 1e30, 1e300,
    "NaN", "Infinity", "-Infinity",
)  # fmt: skip
FLOATS_OF_16_BITS = (0.0, -0.0, 0.5, -1.0, 1e-6, 60_000.0, "NaN", "Infinity", "-Infinity")
WORDS = (
    "none mean sum max min prod amax amin std var trunc floor zeros border reflection bilinear "
    "nearest bicubic linear trilinear area nearest-exact constant reflect replicate circular "
    "forward backward ortho tanh left right ij xy fro nuc reduced complete r same valid gels gelsy "
    "gelsd gelss L U ij,jk->ik ii-> ...i->... i,i->i nonsense"
).split()
SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 17, 33)
MAX_NUMEL = 5000
ALL_DTYPES = tuple(dtype.value for dtype in DType)

Mutation = Callable[[Request, random.Random, Corpus], None]


def an_integer(chance: random.Random) -> int:
    """Return an integer, mostly small, at times where something overflows."""
    return chance.choice(SMALL if chance.random() < 0.6 else LARGE)


def a_value(base: str, chance: random.Random, leaves: Sequence[str]) -> Any:
    """Return a value for a parameter of the type ``base``, or what it should refuse."""
    if base == "int" or (base == "number" and chance.random() < 0.5):
        return an_integer(chance)
    if base in ("float", "number"):
        return chance.choice(FLOATS)
    if base == "str":
        return chance.choice(WORDS)
    if base == "dtype":
        return chance.choice(ALL_DTYPES)
    if base == "Tensor":
        return {"ref": chance.choice(leaves)}
    if base == "any":
        return a_value(chance.choice(("int", "float", "str", "Tensor")), chance, leaves)
    return chance.choice(VALUES[base])


# --- leaves --------------------------------------------------------------------------------------


def reshape_leaf(request: Request, chance: random.Random, _: Corpus) -> None:
    """Change, add or drop a dimension of a leaf."""
    leaf = chance.choice(request["leaves"])
    shape = list(leaf["shape"])
    way = chance.random()
    if shape and way < 0.6:
        shape[chance.randrange(len(shape))] = chance.choice(SIZES)
    elif way < 0.8:
        shape.insert(chance.randint(0, len(shape)), chance.choice(SIZES))
    elif shape:
        del shape[chance.randrange(len(shape))]
    resize(leaf, shape, chance)


def resize(leaf: dict[str, Any], shape: list[int], chance: random.Random) -> None:
    """Give ``leaf`` another shape; its numbers are repeated or cut."""
    count = 1
    for size in shape:
        count *= size
    if count <= MAX_NUMEL:
        numbers = leaf["value"] or [a_number(leaf["dtype"], chance)]
        leaf["value"] = list(itertools.islice(itertools.cycle(numbers), count))
        leaf["shape"] = shape


def shape_like_another(request: Request, chance: random.Random, _: Corpus) -> None:
    """Give a leaf the shape of another one."""
    leaf, other = chance.choice(request["leaves"]), chance.choice(request["leaves"])
    resize(leaf, list(other["shape"]), chance)


def change_dtype(request: Request, chance: random.Random, _: Corpus) -> None:
    """Give a leaf another dtype and numbers that it can hold."""
    leaf = chance.choice(request["leaves"])
    leaf["dtype"] = chance.choice(ALL_DTYPES)
    leaf["value"] = [a_number(leaf["dtype"], chance) for _ in leaf["value"]]
    leaf["requires_grad"] = leaf["requires_grad"] and _can_be_tracked(leaf["dtype"])


def _can_be_tracked(dtype: str) -> bool:
    return "int" not in dtype and dtype != "bool"


def change_numbers(request: Request, chance: random.Random, _: Corpus) -> None:
    """Put extreme numbers into a leaf, in one place or everywhere."""
    leaf = chance.choice(request["leaves"])
    count = len(leaf["value"])
    places = range(count) if chance.random() < 0.3 else [chance.randrange(count or 1)]
    number = _extreme(leaf["dtype"], chance)
    for place in places:
        if place < count:
            leaf["value"][place] = number


def _extreme(dtype: str, chance: random.Random) -> Any:
    if dtype == "bool":
        return chance.random() < 0.5
    if dtype.startswith("complex"):
        return [_extreme("float32", chance), _extreme("float32", chance)]
    if "int" in dtype:
        bits = int(dtype.partition("int")[2])
        signed = not dtype.startswith("u")
        least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        return min(max(an_integer(chance), least), most)
    floats = FLOATS_OF_16_BITS if dtype == "float16" else FLOATS
    number = chance.choice(floats)
    return 1e30 if number == 1e300 and dtype != "float64" else number


def toggle_grad(request: Request, chance: random.Random, _: Corpus) -> None:
    """Track a leaf, or no more."""
    leaf = chance.choice(request["leaves"])
    leaf["requires_grad"] = not leaf["requires_grad"] and _can_be_tracked(leaf["dtype"])


# --- the op --------------------------------------------------------------------------------------


def change_inputs(request: Request, chance: random.Random, _: Corpus) -> None:
    """Swap, repeat, drop or add inputs."""
    inputs = request["ops"][-1]["inputs"]
    way = chance.randrange(4)
    if way == 0:
        chance.shuffle(inputs)
    elif way == 1 and inputs:
        inputs[chance.randrange(len(inputs))] = chance.choice(inputs)
    elif way == 2 and inputs:
        del inputs[chance.randrange(len(inputs))]
    else:
        inputs.append(chance.choice(request["leaves"])["id"])


def change_attr(request: Request, chance: random.Random, _: Corpus) -> None:
    """Change an argument that is given."""
    op = request["ops"][-1]
    if not op["attrs"]:
        return
    name = chance.choice(sorted(op["attrs"]))
    leaves = [leaf["id"] for leaf in request["leaves"]]
    op["attrs"][name] = _changed(op["attrs"][name], chance, leaves)


def _changed(value: Any, chance: random.Random, leaves: Sequence[str]) -> Any:
    way = chance.random()
    if isinstance(value, list):
        return _changed_list(value, chance, leaves)
    if way < 0.05:
        return None
    if way < 0.1:
        return a_value("any", chance, leaves)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + chance.choice((-1, 1)) if way < 0.3 else an_integer(chance)
    if isinstance(value, float):
        return chance.choice(FLOATS)
    if isinstance(value, str):
        return a_value("dtype" if value in ALL_DTYPES else "str", chance, leaves)
    return a_value("Tensor", chance, leaves)


def _changed_list(value: list[Any], chance: random.Random, leaves: Sequence[str]) -> Any:
    value = list(value)
    way = chance.random()
    if way < 0.1:
        return an_integer(chance)
    if way < 0.2 or not value:
        return [*value, an_integer(chance)]
    place = chance.randrange(len(value))
    if way < 0.35:
        del value[place]
    elif way < 0.45:
        value = [_changed(value[place], chance, leaves)] * len(value)
    else:
        value[place] = _changed(value[place], chance, leaves)
    return value


def add_attr(request: Request, chance: random.Random, _: Corpus) -> None:
    """Give an optional argument that is left out."""
    op = request["ops"][-1]
    parameters = _parameters(op["op"])
    left = [one for one in parameters if not one.required and one.name not in op["attrs"]]
    if not left:
        return
    parameter = chance.choice(left)
    leaves = [leaf["id"] for leaf in request["leaves"]]
    if parameter.kind.base == "Tensor" and chance.random() < 0.6:
        leaves = [f"extra{len(leaves)}"]
        like = chance.choice(request["leaves"])
        dtype = like["dtype"] if chance.random() < 0.5 else chance.choice(ALL_DTYPES)
        shape = like["shape"] if chance.random() < 0.5 else [chance.choice(SIZES)]
        request["leaves"].append(a_leaf(leaves[0], shape, dtype, chance))
    count = chance.choice((0, 1, 2, 2, 3))
    items = [a_value(parameter.kind.base, chance, leaves) for _ in range(count)]
    single = a_value(parameter.kind.base, chance, leaves)
    op["attrs"][parameter.name] = items if parameter.kind.is_list else single


def _parameters(name: str) -> list[Parameter]:
    try:
        operation = catalogue().find(name)
    except GradtraceError:
        return []
    found = {one.name: one for signature in operation.signatures for one in signature.parameters}
    return list(found.values())


def change_name(request: Request, chance: random.Random, corpus: Corpus) -> None:
    """Ask for another op with the same kernel: an exact overload, or an alias."""
    op = request["ops"][-1]
    names = corpus.namesakes(op["op"])
    if names:
        op["op"] = chance.choice(names)


def transpose_input(request: Request, chance: random.Random, _: Corpus) -> None:
    """Let an input come from a view, which is not contiguous."""
    op = request["ops"][-1]
    if not op["inputs"] or len(request["ops"]) > 3:
        return
    place = chance.randrange(len(op["inputs"]))
    name = f"view{len(request['ops'])}"
    kind, attrs = chance.choice(
        (
            ("mT", {}),
            ("getitem", {"index": ["...", {"slice": [None, None, 2]}]}),
            ("getitem", {"index": ["...", {"slice": [1, None, None]}]}),
            ("unsqueeze", {"dim": -1}),
            ("conj", {}),
            ("expand", {"size": [3, -1, -1]}),
        )
    )
    view = {"id": name, "op": kind, "inputs": [op["inputs"][place]], "attrs": attrs}
    request["ops"].insert(-1, view)
    op["inputs"][place] = name


def expand_input(request: Request, chance: random.Random, _: Corpus) -> None:
    """Let an input come from a view along one of whose dims every element is the same one."""
    op = request["ops"][-1]
    shapes = {leaf["id"]: leaf["shape"] for leaf in request["leaves"]}
    places = [place for place, one in enumerate(op["inputs"]) if shapes.get(one)]
    if not places or len(request["ops"]) > 3:
        return
    place = chance.choice(places)
    shape = shapes[op["inputs"][place]]
    first: list[Any] = [{"slice": [None, None, None]}] * len(shape)
    first[chance.randrange(len(shape))] = {"slice": [0, 1, None]}
    name = f"view{len(request['ops'])}"
    request["ops"][-1:-1] = [
        {"id": f"{name}.1", "op": "getitem", "inputs": [op["inputs"][place]],
         "attrs": {"index": first}},
        {"id": name, "op": "expand", "inputs": [f"{name}.1"], "attrs": {"size": shape}},
    ]  # fmt: skip
    op["inputs"][place] = name


def ask_for_more(request: Request, chance: random.Random, _: Corpus) -> None:
    """Ask for all that an answer can carry."""
    request["include"] = ["value", "grad", "stats", "edges", "notes", "health"]
    request["retain_grad"] = chance.random() < 0.5


MUTATIONS: tuple[Mutation, ...] = (
    reshape_leaf, reshape_leaf, reshape_leaf, shape_like_another, change_dtype, change_dtype,
    change_numbers, change_numbers, change_numbers, toggle_grad, change_inputs, change_attr,
    change_attr, change_attr, change_attr, add_attr, add_attr, change_name, transpose_input,
    expand_input, ask_for_more,
)  # fmt: skip
"""Those that find more stand there more often."""


def mutate(request: Request, seeds: Sequence[int], corpus: Corpus) -> Request:
    """Return a copy of ``request`` with a mutation applied for each seed."""
    mutated = copy.deepcopy(request)
    for seed in seeds:
        chance = random.Random(seed)  # noqa: S311
        chance.choice(MUTATIONS)(mutated, chance, corpus)
    return mutated
