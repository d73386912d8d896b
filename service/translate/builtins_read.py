"""Python's builtins and the few modules that everyday scripts use beside torch."""

from __future__ import annotations

import ast
import base64
import binascii
import inspect
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from itertools import chain
from typing import Any

from service.translate.arguments import bind_python, describe, dtype_name
from service.translate.attributes import known_shape
from service.translate.folding import (
    BUILTINS,
    MATH_FUNCTIONS,
    RAISED,
    attempt,
    check_bits,
    check_items,
    is_number,
    nested_items,
    on_numbers,
)
from service.translate.objects import CONTAINERS, Instance
from service.translate.operations import apply
from service.translate.operators import binary_operator
from service.translate.reading import AT_ONCE, Reading
from service.translate.unreadable import Unreadable
from service.translate.values import Array, Base64, Keywords, Path, Several, Tensor, Unknown, Values

IGNORED_MODULES = frozenset({"matplotlib", "warnings", "logging", "time", "os", "sys", "random"})
"""Modules whose calls, as statements of their own, change no number of a graph."""
IGNORED_CALLS = frozenset(
    {
        ("numpy", "random", "seed"),
        ("numpy", "set_printoptions"),
        ("torch", "cuda", "manual_seed"),
        ("torch", "cuda", "manual_seed_all"),
    }
)
"""Other such calls: nothing that NumPy draws is read, and a graph is computed on the CPU."""
IGNORED_SETTINGS = (
    ("torch", "backends", "cudnn"),
    ("torch", "backends", "cuda"),
    ("os", "environ"),
)
"""Modules and dicts that a script may write into likewise."""

ENDS = frozenset({("builtins", "exit"), ("builtins", "quit"), ("sys", "exit"), ("os", "_exit")})
"""Functions behind which nothing of a script is run."""
VIEWS = (KeysView, ValuesView, ItemsView)
ITERABLE = (list, tuple, range, str, dict, *VIEWS)

ON_TENSORS = frozenset({"abs", "round", "pow"})


class Exited(Exception):
    """The end of the script, before its last line."""


def call_builtin(reading: Reading, name: str, values: Values, keywords: Keywords) -> Any:
    """Return what a builtin gives for constants, lists and tensors."""
    if name == "print":
        return None
    if ("builtins", name) in ENDS:
        raise Exited
    if name in ON_TENSORS and values and isinstance(values[0], Tensor):
        return apply(reading, name, values, keywords)
    if not keywords.keys() <= KEYWORDS.get(name, frozenset()):
        known = ", ".join(sorted(KEYWORDS.get(name, ())))
        said = f"with the keyword {known} only" if known else "without keywords"
        raise Unreadable(f"{name} is read {said}")
    if name in COLLECTIONS:
        function = COLLECTIONS[name]
        given = bind_python(f"{name}()", inspect.signature(function), [reading, *values], keywords)
        return attempt(lambda: function(*given.args, **given.kwargs))
    if name in BUILTINS:
        if name in ("max", "min") and len(values) == 1:
            values = [items_of(reading, values[0])]
        if any(isinstance(value, Tensor) for value in values):
            raise Unreadable(f"{name}() of a tensor asks for its value; there is torch.{name}")
        return on_numbers(BUILTINS[name], name, values)
    raise Unreadable(f"{name} is not read here")


def items_of(reading: Reading, value: Any) -> list[Any]:
    """Return the items that a loop goes over; an iterator has none left afterwards.

    Raises:
        Unreadable: their number is known only when the graph runs.
    """
    items = list(iterate(reading, value))
    reading.spend(len(items))
    return items


def iterate(reading: Reading, value: Any) -> Iterator[Any]:
    """Yield the items that a loop goes over, one at a time, as Python does.

    A list that changes meanwhile, or an iterator that somebody else goes on with, then gives what
    it gives in Python.

    Raises:
        Unreadable: their number is known only when the graph runs, or Python would raise.
    """
    items = _iterator(reading, value)
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except RecursionError:
            raise
        except (*RAISED, RuntimeError) as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from error
        yield item


def _iterator(reading: Reading, value: Any) -> Iterator[Any]:
    if isinstance(value, range):
        check_items(len(value))
    if isinstance(value, (*ITERABLE, Iterator)):
        return iter(value)
    if isinstance(value, Instance) and value.of in CONTAINERS:
        return iter(value.modules if value.of == "ModuleDict" else value.modules.values())
    if isinstance(value, Several):
        if value.count is None:
            raise Unreadable("how many tensors this is, is known only when the graph runs")
        check_items(value.count)
        return _outputs(reading, value, value.count)
    if isinstance(value, Tensor):
        shape = known_shape(value)
        if not shape:
            raise Unreadable("a tensor without dimensions has no items")
        check_items(shape[0])
        rows = apply(reading, "unbind", [value], {})
        assert isinstance(rows, Several)
        return _outputs(reading, rows, shape[0])
    raise Unreadable(f"{describe(value)} cannot be looped over")


def _outputs(reading: Reading, several: Several, count: int) -> Iterator[Tensor]:
    """Yield the outputs of an op; each is made when it is asked for, and is a step."""
    for k in range(count):
        reading.step()
        yield several.output(k)


def _len(_reading: Reading, value: Any) -> int:
    if isinstance(value, Tensor):
        shape = known_shape(value)
        if not shape:
            raise Unreadable("len() of a 0-d tensor")
        return shape[0]
    if isinstance(value, Several) and value.count is not None:
        return value.count
    if isinstance(value, ITERABLE):
        return len(value)
    if isinstance(value, Instance) and value.of in CONTAINERS:
        return len(value.modules)
    raise Unreadable(f"{describe(value)} has no length that is known here")


def _range(_reading: Reading, *bounds: Any) -> range:
    if not bounds or not all(isinstance(bound, int) for bound in bounds):
        raise Unreadable("the bounds of range are whole numbers that the script says")
    numbers: range = attempt(range, *bounds)
    check_items(abs(numbers.stop - numbers.start) // abs(numbers.step))
    return numbers


def _zip(reading: Reading, *lists: Any, strict: Any = False) -> Iterator[Any]:
    for row in zip(*(iterate(reading, one) for one in lists), strict=bool(strict)):
        reading.spend(AT_ONCE * len(row))  # each of them goes through several iterators
        yield row


def _reversed(_reading: Reading, items: Any, /) -> Iterator[Any]:
    if not isinstance(items, ITERABLE):
        raise Unreadable(f"reversed() is read with lists, not with {describe(items)}")
    return reversed(items)  # type: ignore[arg-type]


def _bytearray(_reading: Reading, raw: Any, /) -> Any:
    if not isinstance(raw, Base64):
        raise Unreadable("bytearray is read with base64.b64decode(...) only")
    return raw


def _leading_numbers(reading: Reading, items: Iterator[Any], behind: list[Any]) -> Iterator[Any]:
    """Yield numbers up to the first item that is none, which goes to ``behind``."""
    for item in items:
        reading.spend(2)
        if not is_number(item):
            behind.append(item)
            return
        yield item


def _sum(reading: Reading, items: Any, /, start: Any = 0) -> Any:
    """``sum`` as Python does it: numbers in its own way, then one ``+`` after the other."""
    if isinstance(start, str):
        raise Unreadable("TypeError: sum() can't sum strings")
    rest = iterate(reading, items)
    behind: list[Any] = []
    total = start
    if is_number(start):
        total = sum(_leading_numbers(reading, rest, behind), start)
        check_bits(total.bit_length() if isinstance(total, int) else 0)
    for item in chain(behind, rest):
        reading.spend(1)
        if isinstance(total, list | tuple):
            reading.spend(len(total))
        total = binary_operator(reading, ast.Add(), total, item)
    return total


def _sorted(reading: Reading, items: Any, /, *, reverse: Any = False) -> list[Any]:
    found = items_of(reading, items)
    are_texts = all(isinstance(item, str) for item in found)
    if not (are_texts or all(is_number(item) for item in found)):
        raise Unreadable("sorted is read with numbers or with strings; there is torch.sort")
    return sorted(found, reverse=bool(reverse))


COLLECTIONS: Mapping[str, Callable[..., Any]] = {
    "len": _len,
    "range": _range,
    "zip": _zip,
    "enumerate": lambda reading, iterable, start=0: enumerate(iterate(reading, iterable), start),
    "sum": _sum,
    "sorted": _sorted,
    "list": lambda reading, items=(): items_of(reading, items),
    "tuple": lambda reading, items=(): tuple(items_of(reading, items)),
    "reversed": _reversed,
    "bytearray": _bytearray,
    "slice": lambda _reading, *bounds: slice(*bounds),
}
KEYWORDS: Mapping[str, frozenset[str]] = {
    "zip": frozenset({"strict"}),
    "enumerate": frozenset({"iterable", "start"}),
    "sorted": frozenset({"reverse"}),
    "sum": frozenset({"start"}),
}
"""The keywords with which a builtin is read."""
WITH_INSTANCES = frozenset({"super", "isinstance", "getattr", "setattr"})
NAMES = frozenset({*COLLECTIONS, *BUILTINS, *WITH_INSTANCES, "print", "exit", "quit"})
"""The builtins that a script can use."""


NUMPY_DTYPES: Mapping[str, str] = {
    **{name: name for name in ("float64", "float32", "float16", "complex64", "complex128")},
    **{name: name for name in ("int64", "int32", "int16", "int8", "uint8", "bool")},
    "float": "float64", "double": "float64", "single": "float32", "half": "float16",
    "int": "int64", "complex": "complex128",
}  # fmt: skip
"""Dtypes by numpy's names."""


def call_python_module(path: Path, values: Values, keywords: Keywords) -> Any:
    """Return what a function of math, base64 or numpy gives for constants."""
    name = path.parts[-1]
    if path.parts[0] == "math" and name in MATH_FUNCTIONS and not keywords:
        return on_numbers(MATH_FUNCTIONS[name], str(path), values)
    if path.parts in ENDS:
        raise Exited
    if path.parts == ("random", "shuffle"):
        raise Unreadable("random.shuffle leaves a list in an order that only a run decides")
    if path.parts == ("base64", "b64decode") and len(values) == 1:
        return _base64(values[0])
    if path.parts in (("numpy", "array"), ("numpy", "asarray")) and len(values) == 1:
        if not keywords.keys() <= {"dtype", "copy"}:
            raise Unreadable(f"{path} is read with numbers and a dtype only")
        dtype = keywords.get("dtype")
        return Array(_copied(values[0]), numpy_dtype(dtype))
    if path.parts[0] in IGNORED_MODULES:
        return Unknown(f"what {path} returns is there only when the script runs")
    raise Unreadable(f"{path} is not PyTorch, and nothing of a script is run")


def numpy_dtype(value: Any) -> str | None:
    """Return the dtype that numpy takes a value for.

    Raises:
        Unreadable: it is none of those that PyTorch has too.
    """
    if value is None:
        return None
    name = value if isinstance(value, str) else dtype_name(value)
    if isinstance(value, Path) and value.parts[0] == "numpy":
        name = value.parts[-1].rstrip("_")
    name = NUMPY_DTYPES.get(name or "", name)
    if name not in NUMPY_DTYPES.values():
        raise Unreadable("this dtype of numpy is not read; write np.float32, np.int64 or its like")
    return name


def _copied(items: Any) -> Any:
    """Return nested lists as they are now, as an array does not follow its list."""
    if not isinstance(items, list | tuple):
        return items
    nested_items(items)
    return [_copied(item) if isinstance(item, list | tuple) else item for item in items]


def _base64(text: Any) -> Base64:
    if not isinstance(text, str):
        raise Unreadable("base64.b64decode is read with a string")
    try:
        return Base64(text, len(base64.b64decode(text, validate=True)))
    except binascii.Error as error:
        raise Unreadable(f"this is no base64: {error}") from error
