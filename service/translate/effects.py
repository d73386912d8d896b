"""Whether an expression may be left out: it changes nothing that comes after it.

What a script prints, asserts or logs is no part of its graph. It is passed over where every call
in it is known to have no effect, and refused otherwise.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from service.translate.builtins_read import ENDS
from service.translate.calls import SETTINGS, op_name
from service.translate.layers import CHANGING, LAYERS, WITHOUT_PARAMETERS
from service.translate.leaves import CONSTRUCTORS, LEGACY
from service.translate.module_methods import WALKS
from service.translate.objects import Bound, Class, Instance
from service.translate.operations import exists
from service.translate.reading import Reading
from service.translate.unreadable import Unreadable
from service.translate.values import Function, Method, Path, Scope, Tensor

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


def check_silent(reading: Reading, *nodes: ast.expr) -> None:
    """Refuse expressions that may change what follows.

    Raises:
        Unreadable: one of them may.
    """
    for node in nodes:
        _check(reading, reading.scope, node, bound_in(node), ())


def bound_in(node: ast.AST) -> frozenset[str]:
    """Return the names that comprehensions and functions inside an expression bind."""
    stored = {
        part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load)
    }
    return frozenset(stored | {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)})


def _check(
    reading: Reading,
    scope: Scope,
    node: ast.AST,
    hidden: frozenset[str],
    inside: tuple[Function, ...],
) -> None:
    for part in ast.walk(node):
        reading.spend(1)
        silent = not isinstance(part, ast.NamedExpr | ast.Yield | ast.YieldFrom | ast.Await)
        if isinstance(part, ast.Call):
            silent = _is_silent_call(reading, scope, part, hidden, inside)
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            silent = not _holds_iterator(_find(scope, part.id, hidden))
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
            one = [*one.own.values(), *one.modules.values(), *_of_its_class(one)]
        if isinstance(one, dict):
            one = list(one.values())
        if isinstance(one, list | tuple) and len(one) <= 100:
            fresh = [item for item in one if id(item) not in seen]
            seen.update(id(item) for item in fresh)
            waiting.extend(fresh)
    return False


def _of_its_class(instance: Instance) -> list[Any]:
    line = instance.of.line() if isinstance(instance.of, Class) else ()
    return [value for one in line for value in one.names.values()]


def _find(scope: Scope, name: str, hidden: frozenset[str]) -> Any:
    """Return what a name holds; None where nothing is known of it."""
    if name in hidden:
        return None
    try:
        return scope.find(name)
    except KeyError:
        return Path(("builtins", name))


def resolve(scope: Scope, node: ast.expr, hidden: frozenset[str] = frozenset()) -> Any:
    """Return what a name, or a name of a module, stands for; None where nothing is known."""
    if isinstance(node, ast.Name):
        return _find(scope, node.id, hidden)
    if isinstance(node, ast.Attribute):
        owner = resolve(scope, node.value, hidden)
        if isinstance(owner, Instance):
            return _of_instance(owner, node.attr)
        return Path((*owner.parts, node.attr)) if isinstance(owner, Path) else None
    return None


def _of_instance(instance: Instance, name: str) -> Any:
    """Return an attribute of an instance; None where nothing is known of it."""
    if name in instance.own:
        return instance.own[name]
    if isinstance(instance.of, Class):
        for one in instance.of.line():
            if name in one.names:
                found = one.names[name]
                return Bound(found, instance) if isinstance(found, Function) else found
    return instance.parameters.get(name) or instance.modules.get(name)


def _is_silent_module(module: Instance) -> bool:
    """Whether calling a module of ``torch.nn`` changes nothing."""
    waiting, seen = [module], {module}
    while waiting:
        one = waiting.pop()
        if not isinstance(one.of, str) or "forward" in one.own or one.own.get("inplace"):
            return False
        if one.of != "Sequential" and not _is_silent_kind(one.of):
            return False
        fresh = {inner for inner in one.modules.values() if inner is not None} - seen
        seen |= fresh
        waiting.extend(fresh)
    return True


def _is_silent_kind(name: str) -> bool:
    return name in LAYERS and not CHANGING.search(name)


def _is_silent_call(
    reading: Reading,
    scope: Scope,
    node: ast.Call,
    hidden: frozenset[str],
    inside: tuple[Function, ...],
) -> bool:
    if any(keyword.arg in ("out", "inplace") for keyword in node.keywords):
        return False
    for given in (*node.args, *(keyword.value for keyword in node.keywords)):
        one = resolve(scope, given, hidden)
        if isinstance(one, Function | Bound) and not _is_silent_value(reading, one, inside):
            return False
        if isinstance(one, Instance) and not _takes_instances(scope, node.func, hidden):
            return False
    function = resolve(scope, node.func, hidden)
    if function is not None:
        return _is_silent_value(reading, function, inside)
    if isinstance(node.func, ast.Attribute):
        return _is_silent_attribute(reading, scope, node.func, hidden)
    if isinstance(node.func, ast.Call):  # nn.ReLU()(x)
        made = resolve(scope, node.func.func, hidden)
        in_nn = isinstance(made, Path) and made.parts[:2] == ("torch", "nn")
        name = made.parts[-1] if in_nn else ""
        return name in WITHOUT_PARAMETERS and _is_silent_kind(name)
    return False


def _is_silent_value(reading: Reading, function: Any, inside: tuple[Function, ...]) -> bool:
    """Whether calling what is known changes nothing."""
    if isinstance(function, Path):
        return is_silent_path(function)
    if isinstance(function, Instance):
        return _is_silent_module(function)
    if isinstance(function, Bound):
        return _is_silent_function(reading, function.function, inside)
    if isinstance(function, Function):
        return _is_silent_function(reading, function, inside)
    if isinstance(function, Method):
        return _is_silent_method(function.name, is_tensor=isinstance(function.owner, Tensor))
    return False


def _takes_instances(scope: Scope, node: ast.expr, hidden: frozenset[str]) -> bool:
    """Whether a function only looks at an instance, as isinstance does; others may call it."""
    function = resolve(scope, node, hidden)
    known = ("builtins", "isinstance"), ("builtins", "len"), ("builtins", "type")
    return isinstance(function, Path) and function.parts in known


def _is_silent_attribute(
    reading: Reading, scope: Scope, node: ast.Attribute, hidden: frozenset[str]
) -> bool:
    """Whether calling an attribute of something changes nothing."""
    if isinstance(resolve(scope, node.value, hidden), Instance):
        return node.attr in WALKS
    is_tensor = _is_tensor(scope, node.value, hidden)
    if node.attr in reading.members and not is_tensor:
        return False
    return _is_silent_method(node.attr, is_tensor=is_tensor)


def is_silent_path(path: Path) -> bool:
    """Whether a function of a module changes nothing when it is called."""
    root, *rest = path.parts
    if root == "builtins":
        return rest[0] in BUILTINS
    if root != "torch":
        is_random = "random" in rest or path.parts == ("random", "shuffle")
        return root in SAFE_MODULES and path.parts not in ENDS and not is_random
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


def _is_tensor(scope: Scope, node: ast.expr, hidden: frozenset[str]) -> bool:
    if isinstance(node, ast.BinOp):
        return True  # or a list of its own
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return exists(node.func.attr)
    return isinstance(resolve(scope, node, hidden), Tensor)


SILENT_STATEMENTS = (
    ast.Assign, ast.AnnAssign, ast.Expr, ast.Return, ast.If, ast.For, ast.While, ast.With, ast.Pass,
    ast.Break, ast.Continue, ast.Assert,
)  # fmt: skip


def _is_silent_function(reading: Reading, function: Function, inside: tuple[Function, ...]) -> bool:
    """Whether the body of a function of the script only computes."""
    node = function.node
    if function in inside or len(inside) > 10:
        return function in inside
    hidden = bound_in(node) | function.own
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    for statement in body:
        for part in ast.walk(statement):
            if isinstance(part, ast.stmt) and not isinstance(part, SILENT_STATEMENTS):
                return False
            stored = isinstance(getattr(part, "ctx", None), ast.Store)
            if stored and isinstance(part, ast.Attribute | ast.Subscript):
                return False
            if isinstance(part, ast.With) and not _are_grad_modes(function.scope, part):
                return False
        try:
            _check(reading, function.scope, statement, hidden, (*inside, function))
        except Unreadable:
            return False
    return True


def _are_grad_modes(scope: Scope, node: ast.With) -> bool:
    calls = (item.context_expr for item in node.items)
    found = (resolve(scope, one.func) if isinstance(one, ast.Call) else None for one in calls)
    return all(
        isinstance(one, Path) and one.parts[-1] in ("no_grad", "enable_grad") for one in found
    )
