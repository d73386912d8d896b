"""Whether an expression may be left out: it changes nothing that comes after it.

What a script prints, asserts or logs is no part of its graph. It is passed over where every call
in it is known to have no effect, and refused otherwise.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import torch

from service.translate.builtins_read import ENDS
from service.translate.calls import SETTINGS, op_name
from service.translate.layers import CHANGING, LAYERS, WITHOUT_PARAMETERS
from service.translate.leaves import CONSTRUCTORS, LEGACY
from service.translate.module_methods import WALKS
from service.translate.objects import MISSING, Bound, Class, Instance
from service.translate.operations import exists
from service.translate.reading import Reading
from service.translate.saved import check_saved
from service.translate.scopes import Function, Scope
from service.translate.unreadable import Unreadable
from service.translate.values import Method, Node, Path, Tensor, walk

RANDOM = re.compile(
    "rand|normal(?!ize)|bernoulli|multinomial|binomial|poisson|dropout|rrelu|gumbel|lowrank"
    "|lobpcg|fractional_max_pool|multi_head_attention|scaled_dot_product|lstm|gru|rnn|seed"
)
WRITES = re.compile("(batch|instance)_norm|_$|_out$")
TENSOR_METHODS = frozenset(
    "item tolist numpy size dim ndimension numel nelement stride storage_offset element_size "
    "data_ptr is_contiguous is_floating_point is_complex is_leaf get_device cpu equal allclose "
    "type to is_same_size untyped_storage storage nbytes __len__ __repr__ __str__".split()
)
PYTHON_METHODS = frozenset(
    "keys values items get copy index count format join upper lower strip lstrip rstrip title "
    "capitalize ljust rjust center zfill replace split startswith endswith is_integer bit_length "
    "conjugate encode decode isoformat total_seconds elapsed_time item".split()
)
TORCH_FUNCTIONS = frozenset(
    "allclose equal is_tensor is_grad_enabled get_default_dtype is_floating_point is_complex numel "
    "get_num_threads cuda.is_available cuda.device_count cuda.get_device_name initial_seed "
    "typename result_type promote_types can_cast finfo iinfo device Size "
    "no_grad enable_grad testing.assert_close testing.assert_allclose backends.mps.is_available "
    "backends.cudnn.is_available cuda.memory_allocated cuda.max_memory_allocated "
    "cuda.current_device cuda.synchronize get_rng_state __version__ broadcast_shapes".split()
)
"""Functions of torch that are no op of the catalogue and change nothing."""

BUILTINS = frozenset(
    "abs all any ascii bin bool bytearray bytes callable chr complex dict dir divmod enumerate "
    "filter float map format frozenset getattr hasattr hash hex id int isinstance issubclass len "
    "list max min oct ord pow print range repr reversed round set slice sorted str sum tuple type "
    "zip".split()
)
OF_TYPES = PYTHON_METHODS | {"fromkeys", "maketrans", "from_bytes", "fromhex"}
"""Methods that may be called by way of their type, as in ``str.join``."""
NUMPY_WRITES = frozenset("copyto fill_diagonal place put put_along_axis putmask".split())
WRITING = frozenset({"out", "inplace", "max_norm"})
"""Arguments that make a function write into what it is given."""
CALLING = frozenset({("builtins", "map"), ("builtins", "filter")})
"""Functions that call their first argument."""
SAFE_MODULES = frozenset(
    "math cmath time json base64 datetime platform numpy os sys gc copy inspect logging warnings "
    "matplotlib textwrap pprint random".split()
)
MAX_SEARCHED = 1000
"""How many items of nested lists are searched for iterators."""
LEFT_OUT = (
    "what is printed, asserted or put into a text is left out, but this may change what follows; "
    "put it on a line of its own"
)


@dataclass(frozen=True)
class Place:
    """Where an expression stands.

    ``hidden`` are the names that comprehensions and functions around it bind; ``inside`` are the
    functions of the script in whose bodies it is.
    """

    reading: Reading
    scope: Scope
    hidden: frozenset[str] = frozenset()
    inside: tuple[Function, ...] = ()

    def find(self, name: str) -> Any:
        """Return what a name holds; None where nothing is known of it."""
        if name in self.hidden:
            return None
        try:
            return self.scope.find(name)
        except KeyError:
            return Path(("builtins", name))

    def resolve(self, node: ast.expr) -> Any:
        """Return what a name, or a name of a module, stands for; None where nothing is known."""
        if isinstance(node, ast.Name):
            return self.find(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.resolve(node.value)
            if isinstance(owner, Instance):
                return _of_instance(owner, node.attr)
            return Path((*owner.parts, node.attr)) if isinstance(owner, Path) else None
        return None


def resolve(reading: Reading, node: ast.expr) -> Any:
    """Return what a name stands for where the script is being read; as :meth:`Place.resolve`."""
    return Place(reading, reading.scope).resolve(node)


def check_silent(reading: Reading, *nodes: ast.expr) -> None:
    """Refuse expressions that may change what follows.

    Raises:
        Unreadable: one of them may.
    """
    for node in nodes:
        _check(Place(reading, reading.scope, bound_in(node)), node)


def bound_in(node: ast.AST) -> frozenset[str]:
    """Return the names that comprehensions and functions inside an expression bind."""
    stored = {
        part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load)
    }
    return frozenset(stored | {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)})


def _check(place: Place, node: ast.AST) -> None:
    for part in ast.walk(node):
        place.reading.spend(1)
        silent = not isinstance(part, ast.NamedExpr | ast.Yield | ast.YieldFrom | ast.Await)
        if isinstance(part, ast.Call):
            silent = _is_silent_call(place, part)
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            silent = not _holds_iterator(place.find(part.id))
        if not silent:
            raise Unreadable(LEFT_OUT, part if isinstance(part, ast.expr) else None)


def _holds_iterator(value: Any) -> bool:
    """Whether printing a value may use up an iterator, directly or in short lists and dicts."""
    waiting, seen = [value], {id(value)}
    while waiting and len(seen) <= MAX_SEARCHED:
        one = waiting.pop()
        if isinstance(one, Iterator):
            return True
        if isinstance(one, Instance):
            line = one.of.line() if isinstance(one.of, Class) else ()
            of_class = [value for cls in line for value in cls.names.values()]
            one = [*one.own.values(), *one.modules.values(), *of_class]
        if isinstance(one, dict):
            one = list(one.values())
        if isinstance(one, list | tuple) and len(one) <= 100:
            fresh = [item for item in one if id(item) not in seen]
            seen.update(id(item) for item in fresh)
            waiting.extend(fresh)
    return False


def _of_instance(instance: Instance, name: str) -> Any:
    """Return an attribute of an instance; None where nothing is known of it."""
    if name in instance.own:
        return instance.own[name]
    found = instance.of.find(name) if isinstance(instance.of, Class) else MISSING
    if found is not MISSING:
        return Bound(found, instance) if isinstance(found, Function) else found
    return instance.parameters.get(name) or instance.modules.get(name)


def _is_silent_module(module: Instance) -> bool:
    """Whether calling a module of ``torch.nn`` changes nothing."""

    def is_silent(one: Instance) -> bool:
        is_own = not isinstance(one.of, str) or "forward" in one.own
        writes = any(map(one.own.get, WRITING))
        return not is_own and not writes and (one.of == "Sequential" or _is_silent_kind(one.kind))

    def inside(one: Instance) -> list[Instance]:
        return [inner for inner in one.modules.values() if inner is not None]

    return all(map(is_silent, walk([module], inside)))


def _is_silent_kind(name: str) -> bool:
    return name in LAYERS and not CHANGING.search(name)


def _is_silent_call(place: Place, node: ast.Call) -> bool:
    if any(keyword.arg in WRITING for keyword in node.keywords):
        return False
    for given in (*node.args, *(keyword.value for keyword in node.keywords)):
        one = place.resolve(given)
        if isinstance(one, Function | Bound) and not _is_silent_value(place, one):
            return False
        if isinstance(one, Instance) and not _takes_instances(place.resolve(node.func)):
            return False
    function = place.resolve(node.func)
    if isinstance(function, Path):
        if function.parts in CALLING and not all(
            _is_silent_callee(place, one) for one in node.args[:1]
        ):
            return False
        if function.parts[-2:] == ("autograd", "grad"):
            _pass(place, node)
        if _writes_by_place(function, node):
            return False
    if function is not None:
        return _is_silent_value(place, function)
    return _is_silent_callee(place, node.func)


def _is_silent_callee(place: Place, node: ast.expr) -> bool:
    """Whether calling what an expression gives changes nothing."""
    function = place.resolve(node)
    if function is not None:
        return _is_silent_value(place, function)
    if isinstance(node, ast.Lambda):
        return True  # its body is looked at as a part of the expression
    if isinstance(node, ast.Attribute):
        return _is_silent_attribute(place, node)
    if isinstance(node, ast.Call):  # nn.ReLU()(x)
        made = place.resolve(node.func)
        in_nn = isinstance(made, Path) and made.parts[:2] == ("torch", "nn")
        name = made.parts[-1] if in_nn else ""
        return name in WITHOUT_PARAMETERS and _is_silent_kind(name)
    return isinstance(node, ast.Constant)  # filter(None, ...)


def _writes_by_place(function: Path, node: ast.Call) -> bool:
    """Whether a function is told to write into what it is given, not by keyword but by place."""
    root, *rest = function.parts
    try:
        called: Any = reduce(getattr, rest, {"torch": torch, "numpy": np}[root])
        if isinstance(called, np.ufunc):
            return len(node.args) > called.nin
        parameters = list(inspect.signature(called).parameters)
    except (KeyError, AttributeError, TypeError, ValueError):
        return False
    if not any(isinstance(one, ast.Starred) for one in node.args):
        del parameters[len(node.args) :]
    return not WRITING.isdisjoint(parameters)


def _pass(place: Place, node: ast.Call) -> None:
    """Note that ``autograd.grad`` of named tensors goes through the graph, which may free it."""
    named = {keyword.arg: keyword.value for keyword in node.keywords}
    outputs, inputs = (
        node.args[k] if k < len(node.args) else named.get(name)
        for k, name in enumerate(("outputs", "inputs"))
    )
    keeps = named.get("retain_graph", named.get("create_graph"))
    if isinstance(keeps, ast.Constant) and keeps.value:
        return
    roots, towards = (_tensors(place, one) for one in (outputs, inputs))
    if roots and towards:
        check_saved(roots, keeps=False, towards=towards)


def _tensors(place: Place, node: ast.expr | None) -> list[Node]:
    """Return the nodes of tensors that are given by their names."""
    items = node.elts if isinstance(node, ast.List | ast.Tuple) else [node]
    found = [None if one is None else place.resolve(one) for one in items]
    nodes = [one.node for one in found if isinstance(one, Tensor)]
    return nodes if len(nodes) == len(found) else []


def _is_silent_value(place: Place, function: Any) -> bool:
    """Whether calling what is known changes nothing."""
    if isinstance(function, Path):
        return is_silent_path(function)
    if isinstance(function, Instance):
        return _is_silent_module(function)
    if isinstance(function, Bound):
        return _is_silent_function(place, function.function)
    if isinstance(function, Function):
        return _is_silent_function(place, function)
    if isinstance(function, Method):
        return _is_silent_method(function.name, is_tensor=isinstance(function.owner, Tensor))
    return False


def _takes_instances(function: Any) -> bool:
    """Whether a function only looks at an instance, as isinstance does; others may call it."""
    known = ("builtins", "isinstance"), ("builtins", "len"), ("builtins", "type")
    return isinstance(function, Path) and function.parts in known


def _is_silent_attribute(place: Place, node: ast.Attribute) -> bool:
    """Whether calling an attribute of something changes nothing."""
    if isinstance(place.resolve(node.value), Instance):
        return node.attr in WALKS
    if _is_array(node.value):
        return node.attr in PYTHON_METHODS | TENSOR_METHODS
    is_tensor = _is_tensor(place, node.value)
    if node.attr in place.reading.members and not is_tensor:
        return False
    return _is_silent_method(node.attr, is_tensor=is_tensor)


def is_silent_path(path: Path) -> bool:
    """Whether a function of a module changes nothing when it is called."""
    root, *rest = path.parts
    if root == "builtins":
        return rest[0] in BUILTINS and OF_TYPES.issuperset(rest[1:])
    if root != "torch":
        is_random = "random" in rest or path.parts == ("random", "shuffle")
        writes = root == "numpy" and ".".join(rest) in NUMPY_WRITES
        return root in SAFE_MODULES and path.parts not in ENDS and not is_random and not writes
    name = op_name(rest)
    last = name.rpartition(".")[2]
    if RANDOM.search(name) and name != "initial_seed":
        return False
    if name in TORCH_FUNCTIONS or name in CONSTRUCTORS or name in LEGACY or name in SETTINGS:
        return name not in SETTINGS or name == "set_printoptions"
    if rest[:1] == ["nn"] and rest[-1][:1].isupper():
        return len(rest) == 2 and rest[1] in WITHOUT_PARAMETERS
    return not WRITES.search(last) and (exists(name) or exists(last) or name == "autograd.grad")


def _is_silent_method(name: str, *, is_tensor: bool) -> bool:
    if name == "sort":
        return is_tensor  # a list is sorted in place
    if name in TENSOR_METHODS or name in PYTHON_METHODS:
        return True
    return not RANDOM.search(name) and not WRITES.search(name) and exists(name)


def _is_array(node: ast.expr) -> bool:
    """Whether an expression is an array that shares its memory with a tensor."""
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr == "numpy"


def _is_tensor(place: Place, node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return True  # or a list of its own
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return exists(node.func.attr)
    return isinstance(place.resolve(node), Tensor)


SILENT_STATEMENTS = (
    ast.Assign, ast.AnnAssign, ast.Expr, ast.Return, ast.If, ast.For, ast.While, ast.With, ast.Pass,
    ast.Break, ast.Continue, ast.Assert,
)  # fmt: skip


def _is_silent_function(place: Place, function: Function) -> bool:
    """Whether the body of a function of the script only computes."""
    node, inside = function.node, place.inside
    if function in inside or len(inside) > 10:
        return function in inside
    hidden = bound_in(node) | function.own
    body_place = Place(place.reading, function.scope, hidden, (*inside, function))
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    for statement in body:
        for part in ast.walk(statement):
            if isinstance(part, ast.stmt) and not isinstance(part, SILENT_STATEMENTS):
                return False
            stored = isinstance(getattr(part, "ctx", None), ast.Store)
            if stored and isinstance(part, ast.Attribute | ast.Subscript):
                return False
            if isinstance(part, ast.With) and not _are_grad_modes(
                replace(body_place, hidden=frozenset()), part
            ):
                return False
        try:
            _check(body_place, statement)
        except Unreadable:
            return False
    return True


def _are_grad_modes(place: Place, node: ast.With) -> bool:
    calls = (item.context_expr for item in node.items)
    found = (place.resolve(one.func) if isinstance(one, ast.Call) else None for one in calls)
    return all(
        isinstance(one, Path) and one.parts[-1] in ("no_grad", "enable_grad") for one in found
    )
