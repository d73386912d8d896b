"""The ops that a request can name, derived from torch itself.

    catalogue().find("add") -> Operation -> bind(operation, inputs, attrs)

Public names come from PyTorch's documented modules and from methods without a function; exact
overloads (`aten.add.Tensor`) are looked up one by one. Every name goes through the gate
(:mod:`service.engine.gate`). Building the catalogue runs no op: a process that is going to fork
may do it.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, cached_property
from typing import Any

import torch
from torch._jit_internal import boolean_dispatched
from torch.jit._builtins import _find_builtin

from service.contract.problem import UnknownOp, quote
from service.engine.from_function import signature_of_function
from service.engine.from_schema import signature_of_schema
from service.engine.gate import (
    DENIED,
    MODULES,
    PYTHON_MODULES,
    WANTED,
    dispatcher_overloads,
    has_underscore,
    is_refused,
)
from service.engine.handmade import BY_HAND, FLAG_OUTPUTS, OVERLOAD_ORDER, STARRED, SUMMARIES
from service.engine.kernels import KERNELS, LAYERS
from service.engine.operation import Operation
from service.engine.signature import NoSignature, Signature
from service.engine.summary import summary_of

__all__ = ["Catalogue", "Operation", "catalogue"]

PAGES = "https://docs.pytorch.org/docs/stable"
NEAR_NAMES = 5
OPERATORS: Mapping[str, str] = {
    "+": "add", "-": "sub", "*": "mul", "/": "div", "//": "floor_divide", "%": "remainder",
    "**": "pow", "@": "matmul", "[]": "getitem",
}  # fmt: skip
"""Operators of Python's, and the ops that they call."""


def _has(words: Iterable[str], text: str) -> bool:
    """Return whether ``text`` holds all of ``words``, which are in lower case."""
    lower = text.lower()
    return all(word in lower for word in words)


class Catalogue:
    """All ops, by name."""

    def __init__(self) -> None:
        self._overloads = dispatcher_overloads()
        self._public: dict[str, Operation] = {}
        for operation in self._derive():
            self._public.setdefault(operation.name, operation)
        self._exact: dict[str, Operation] = {}

    @property
    def names(self) -> list[str]:
        """Return the public names, in alphabetical order; exact overloads are not among them."""
        return sorted(self._public, key=str.lower)

    @cached_property
    def exact_names(self) -> list[str]:
        """Return the names of all exact overloads that the gate lets through, in order."""
        candidates = (
            f"aten.{base}.{overload or 'default'}"
            for base, overloads in sorted(self._overloads.items())
            for overload in sorted(overloads)
        )
        return [name for name in candidates if self._find_exact(name)]

    def find(self, name: str) -> Operation:
        """Return the op called ``name``.

        Raises:
            UnknownOp: there is none; the message lists names that look like it.
        """
        operation = self._public.get(name) or self._find_exact(name)
        if operation is None:
            raise UnknownOp(f"there is no op {quote(name)}{self._hint(name)}", pointer="/op")
        return operation

    def _hint(self, name: str) -> str:
        """Return what may have been meant by ``name``, which is no op."""
        if name in OPERATORS:
            return f"; {name} is {OPERATORS[name]}"
        plain = name.removeprefix("torch.")
        for part in (plain.replace(".", "_"), *plain.split(".")):
            if part in DENIED:
                return f": {DENIED[part]}"
        why = ""
        if name.startswith("torch."):
            why = "; names have no torch. before them"
        elif name.endswith("_"):
            why = "; there are no ops that work in place"
        near = ", ".join(self.near(name))
        return f"{why}; near names: {near}" if near else why

    def search(self, text: str = "") -> list[Operation]:
        """Return the ops whose name or summary holds each word of ``text``, in alphabetical order.

        Exact overloads are searched by name, where ``text`` begins with `aten`.
        """
        words = text.lower().split()
        if words and words[0].startswith("aten"):
            return [self.find(name) for name in self.exact_names if _has(words, name)]
        found = (self._public[name] for name in self.names)
        return [one for one in found if _has(words, f"{one.name}\n{one.summary}")]

    def near(self, name: str) -> list[str]:
        """Return up to five names that look like ``name``."""
        plain = name.strip().removeprefix("torch.").removeprefix("Tensor.").strip("_")
        if plain.startswith("aten."):
            base = plain.split(".")[1]
            overloads = self._overloads.get(base.strip("_"), frozenset[str]())
            names = [f"aten.{base.strip('_')}.{overload or 'default'}" for overload in overloads]
            known = sorted(exact for exact in names if self._find_exact(exact))
            if known:
                return known[:NEAR_NAMES]
            plain = base
        plain = plain.lower()  # as in nn.Linear
        last = plain.rpartition(".")[2]
        same_end = [known for known in self.names if known.rpartition(".")[2] == last]
        alike = difflib.get_close_matches(plain, self._public, NEAR_NAMES, 0.6)
        return list(dict.fromkeys([*same_end, *alike]))[:NEAR_NAMES]

    # --- public names -----------------------------------------------------------------------

    def _derive(self) -> Iterator[Operation]:
        yield from BY_HAND
        for prefix, module in MODULES.items():
            for last in dir(module):
                operation = self._derive_function(prefix, last, getattr(module, last))
                if operation is not None:
                    yield operation
        for name in dir(torch.Tensor):
            operation = self._derive_method(name)
            if operation is not None:
                yield operation

    def _derive_function(self, prefix: str, last: str, function: Any) -> Operation | None:
        if has_underscore(last) or not callable(function) or isinstance(function, type):
            return None
        builtin = _kernel_of(function)
        doc = function.__doc__ or ("" if prefix else _doc_of_method(last))
        if not (doc or last in WANTED) or is_refused(builtin) or is_refused(last):
            return None
        if builtin in self._overloads:
            signatures = self._signatures(builtin, last in STARRED)
        elif isinstance(function, types.FunctionType) and function.__module__ in PYTHON_MODULES:
            signatures = tuple(_signatures_of_function(last, function, {}))
        else:
            return None
        if not signatures:
            return None
        if last in SUMMARIES and not prefix:
            summary, title = SUMMARIES[last]
            page = f"{PAGES}/generated/{title}.html"
        else:
            summary = summary_of(doc or getattr(torch.nn.functional, last).__doc__)
            page = _page_of_function(prefix, last, bool(function.__doc__))
        return Operation(prefix + last, function, signatures, summary, page, builtin or last)

    def _derive_method(self, name: str) -> Operation | None:
        method = getattr(torch.Tensor, name)
        usable = isinstance(method, types.MethodDescriptorType) and method.__doc__
        if has_underscore(name) or hasattr(torch, name) or not usable or is_refused(name):
            return None
        signatures = self._signatures(name)
        if not signatures:
            return None
        page = f"{PAGES}/generated/torch.Tensor.{name}.html"
        return Operation(name, method, signatures, summary_of(method.__doc__), page, name)

    def _signatures(self, base: str, star: bool = False) -> tuple[Signature, ...]:
        """Return the signatures of the overloads of ``base`` that the gate lets through."""
        overloads = self._overloads.get(base, ())
        schemas = [
            schema
            for schema in torch._C._jit_get_schemas_for_operator(f"aten::{base}")
            if schema.overload_name in overloads
        ]
        if base in OVERLOAD_ORDER:
            order = OVERLOAD_ORDER[base]
            schemas = [schema for schema in schemas if schema.overload_name in order]
            schemas.sort(key=lambda schema: order.index(schema.overload_name))
        signatures = []
        for schema in schemas:
            try:
                signatures.append(signature_of_schema(schema, star=star))
            except NoSignature:
                continue
        return tuple(signatures)

    # --- exact overloads --------------------------------------------------------------------

    def _find_exact(self, name: str) -> Operation | None:
        if name not in self._exact and name.startswith("aten."):
            operation = self._derive_exact(name)
            if operation is None:  # not remembered: clients can think of any number of names
                return None
            self._exact[name] = operation
        return self._exact.get(name)

    def _derive_exact(self, name: str) -> Operation | None:
        base, _, overload = name.removeprefix("aten.").rpartition(".")
        overload_name = "" if overload == "default" else overload
        if is_refused(base) or overload_name not in self._overloads.get(base, ()):
            return None
        call = getattr(getattr(torch.ops.aten, base), overload)
        try:
            signature = signature_of_schema(call._schema, public=False)
        except NoSignature:
            return None
        layer = LAYERS.get(f"{base}.{overload}")
        public = KERNELS.get(base) or self._public_by_kernel.get(base)
        if layer is not None:
            summary = f"The kernel of torch.nn.{layer}."
            page = f"{PAGES}/generated/torch.nn.{layer}.html"
        elif public is not None:
            summary, page = self._public[public].summary, self._public[public].documentation
        else:
            return None
        return Operation(name, call, (signature,), summary, page, base, exact=True)

    @cached_property
    def _public_by_kernel(self) -> Mapping[str, str]:
        """Return a documented name for every kernel that the gate lets through by its own name."""
        by_name = {name.rpartition(".")[2]: name for name in self._public}
        by_kernel = {operation.base: name for name, operation in self._public.items()}
        both = {**by_name, **by_kernel, **{name: name for name in self._public}}
        return {kernel: name for kernel, name in both.items() if not has_underscore(kernel)}


def _kernel_of(function: Any) -> str:
    """Return the aten name of the kernel behind a function, empty where torch knows none."""
    builtin: str | None = _find_builtin(function)  # type: ignore[no-untyped-call]
    return (builtin or "").removeprefix("aten::")


def _signatures_of_function(
    name: str, function: Callable[..., Any], flags: dict[str, tuple[bool, bool]]
) -> Iterator[Signature]:
    """Yield a signature for every setting of the flags that decide about the outputs."""
    branches: Mapping[str, Any] | None = boolean_dispatched.get(function)
    if branches is not None:
        default = branches["default"]
        for value in (default, not default):
            branch = branches["if_true" if value else "if_false"]
            chosen = {**flags, branches["arg_name"]: (value, default)}
            yield from _signatures_of_function(name, branch, chosen)
        return
    settings = {flag: value for flag, (value, _) in flags.items()}
    outputs = FLAG_OUTPUTS[name](settings) if name in FLAG_OUTPUTS else None
    try:
        yield signature_of_function(function, flags, outputs)
    except NoSignature:
        return


# --- documentation ------------------------------------------------------------------------------


def _doc_of_method(name: str) -> str:
    """Return the docstring of a method: some functions are documented only there."""
    method = getattr(torch.Tensor, name, None)
    return method.__doc__ or "" if method else ""  # from Python 3.13 on None has a docstring, too


def _page_of_function(prefix: str, last: str, documented: bool) -> str:
    """Return the address of the page where PyTorch documents a function."""
    if prefix == "special.":
        return f"{PAGES}/special.html#torch.special.{last}"
    if prefix == "masked.":
        return f"{PAGES}/masked.html"
    if not documented:
        prefix = "Tensor." if _doc_of_method(last) else "nn.functional."
    return f"{PAGES}/generated/torch.{prefix}{last.removesuffix('_with_indices')}.html"


@cache
def catalogue() -> Catalogue:
    """Return the catalogue, made at the first call."""
    return Catalogue()
