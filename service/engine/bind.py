"""One call: a request's inputs and attrs against an op's signatures.

    bind(operation, ["h"], {"dim": 1}) -> Binding(template, references)

Attrs bind by name. Inputs bind, in order, to the positional tensor parameters that attrs left open;
a list of tensors takes all that are left over after the required ones behind it. Of several
signatures the first one that fits holds, in the order of PyTorch's schemas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from service.contract.problem import BadArguments, pointer, quote
from service.engine.guards import guard_of
from service.engine.indexing import convert_index
from service.engine.operation import Operation
from service.engine.signature import HIDDEN, Parameter, Signature
from service.engine.template import Template
from service.engine.values import (
    Hole,
    Mismatch,
    Place,
    Uses,
    convert,
    describe,
    is_reference,
)
from service.engine.writes import prepared_uses

MAX_TEMPLATES = 512
"""Templates that an op remembers."""
MAX_KEY = 256
"""Characters of attrs up to which a binding is remembered."""
MAX_SIGNATURES_TEXT = 900
"""Characters of an op's signatures that a message shows."""


class Binding(NamedTuple):
    """A bound op: the shared part, and the references of this one, a reference for each use."""

    template: Template
    references: list[str]


def bind(operation: Operation, inputs: Sequence[str], attrs: Mapping[str, Any]) -> Binding:
    """Bind ``inputs`` and ``attrs`` to the first signature of ``operation`` that takes them.

    Args:
        operation: of the catalogue.
        inputs: references, as the client wrote them.
        attrs: parsed JSON by parameter name.

    Raises:
        BadArguments: no signature takes them; the pointer is relative to the op.
    """
    references = list(inputs)
    key: Any = len(references)
    if attrs:
        # `repr` tells True, 1, 1.0 and "1" apart, and 0.0 and -0.0: no two JSON values share one.
        text = repr(attrs)
        if "'ref'" in text:
            attrs = {name: _numbered(value, references) for name, value in attrs.items()}
            text = repr(attrs)
        key = key, text
    known = operation.templates.get(key)
    if known is None:
        known = _bind_new(operation, len(inputs), attrs)
        if len(inputs) <= MAX_KEY and (not attrs or len(text) <= MAX_KEY):
            if len(operation.templates) >= MAX_TEMPLATES:
                operation.templates.clear()
            operation.templates[key] = known
    template, order = known
    return Binding(template, [references[use] for use in order] if order else references)


def _numbered(value: Any, references: list[str]) -> Any:
    """Return ``value`` with every reference replaced by its number in ``references``."""
    if isinstance(value, list):
        return [_numbered(item, references) for item in value]
    if is_reference(value):
        references.append(value["ref"])
        return {"ref": str(len(references) - 1)}
    return value


def _bind_new(
    operation: Operation, inputs: int, attrs: Mapping[str, Any]
) -> tuple[Template, tuple[int, ...]]:
    """Bind numbers in the place of references; return the order in which the call uses them.

    The order is empty where it is that of the numbers.
    """
    template, used = _bind_first(operation, [str(number) for number in range(inputs)], attrs)
    order = tuple(map(int, used))
    return template, () if order == tuple(range(len(order))) else order


class _Misfit(Exception):
    """Why a signature does not take the arguments; of several the highest ``rank`` is reported."""

    def __init__(self, rank: int, reason: str, place: str) -> None:
        super().__init__(reason)
        self.rank = rank
        self.reason = reason
        self.place = place


def _bind_first(
    operation: Operation, inputs: Sequence[str], attrs: Mapping[str, Any]
) -> tuple[Template, list[str]]:
    misfits = []
    for signature in operation.signatures:
        try:
            return _bind_one(operation, signature, inputs, attrs)
        except _Misfit as misfit:
            misfits.append(misfit)
    best = max(misfits, key=lambda misfit: misfit.rank)
    there_are = operation.signatures_text()
    if len(there_are) > MAX_SIGNATURES_TEXT:
        there_are = there_are[:MAX_SIGNATURES_TEXT] + "…"
    raise BadArguments(f"{best.reason}; there is: {there_are}", pointer=best.place)


def _bind_one(
    operation: Operation, signature: Signature, inputs: Sequence[str], attrs: Mapping[str, Any]
) -> tuple[Template, list[str]]:
    given = _by_parameter(operation, signature, attrs)
    taken = _share_out(signature, inputs, given)
    uses = Uses()
    named: dict[str, Any] = {}
    for parameter in signature.parameters:
        name = parameter.name
        if name in given:
            spelt, value = given[name]
            if not _left_out(parameter, value):
                named[name] = _converted(operation, parameter, spelt, value, uses)
        elif name in taken:
            named[name] = _taken(parameter, taken[name], inputs, uses)
        elif parameter.required:
            place = "/inputs" if parameter in signature.positional_tensors else "/attrs"
            raise _Misfit(1, f"{name} is missing", place)
    template = _template(operation, signature, named, uses)
    return template, uses.references


def _by_parameter(
    operation: Operation, signature: Signature, attrs: Mapping[str, Any]
) -> dict[str, tuple[str, Any]]:
    """Return (the client's spelling, the value) for every parameter that attrs set."""
    given: dict[str, tuple[str, Any]] = {}
    for spelt, value in attrs.items():
        parameter = signature.by_name.get(spelt)
        if parameter is None:
            why = "cannot be set in a request" if spelt in HIDDEN else "is no parameter"
            reason = f"{quote(spelt)} {why} of {operation.name}"
            raise _Misfit(0, reason, pointer("attrs", spelt))
        if parameter.name in given:
            raise _Misfit(0, f"{parameter.name} is given twice", pointer("attrs", spelt))
        given[parameter.name] = spelt, value
    return given


def _share_out(
    signature: Signature, inputs: Sequence[str], given: Mapping[str, Any]
) -> dict[str, Sequence[int]]:
    """Return which inputs, by number, go to which parameter."""
    open_ones = [p for p in signature.positional_tensors if p.name not in given]
    taken: dict[str, Sequence[int]] = {}
    at = 0
    for index, parameter in enumerate(open_ones):
        if parameter.kind.is_list:
            behind = sum(p.required and not p.kind.is_list for p in open_ones[index + 1 :])
            until = max(at, len(inputs) - behind)
            if until > at or (parameter.required and index == 0):
                taken[parameter.name] = range(at, until)
            at = until
        elif at < len(inputs):
            taken[parameter.name] = range(at, at + 1)
            at += 1
    if at < len(inputs):
        takes = f"{at} tensor" + ("" if at == 1 else "s")
        reason = f"there are {len(inputs)} inputs where {takes} can be taken"
        raise _Misfit(1, reason, f"/inputs/{at}")
    return taken


def _taken(
    parameter: Parameter, numbers: Sequence[int], inputs: Sequence[str], uses: Uses
) -> Hole | list[Hole]:
    name = parameter.name
    if parameter.kind.is_list:
        return [
            uses.add(inputs[number], f"{name}[{index}]", f"/inputs/{number}")
            for index, number in enumerate(numbers)
        ]
    return uses.add(inputs[numbers[0]], name, f"/inputs/{numbers[0]}")


def _left_out(parameter: Parameter, value: Any) -> bool:
    """Return whether null leaves the parameter out: for None some schemas say an empty list."""
    kind = parameter.kind
    return value is None and kind.is_list and not kind.optional and parameter.default == []


def _converted(
    operation: Operation, parameter: Parameter, spelt: str, value: Any, uses: Uses
) -> Any:
    place = Place(parameter.name, pointer("attrs", spelt))
    try:
        if parameter.only is not None and value is not parameter.only:
            raise Mismatch(f"must be {describe(parameter.only)}, not {describe(value)}")
        if _is_number_elsewhere(operation, parameter) and type(value) is int:
            raise Mismatch(f"must be {parameter.kind.text}, not {describe(value)}")
        if parameter.kind.base == "index":
            return convert_index(value, place, uses)
        return convert(parameter.kind, value, place, uses, expand=operation.exact)
    except Mismatch as mismatch:
        raise _Misfit(2, f"{parameter.name} {mismatch}", place.pointer) from None


def _is_number_elsewhere(operation: Operation, parameter: Parameter) -> bool:
    """Return whether another signature takes one number for the list that is meant here.

    There PyTorch reads no number as a list: `movedim` takes two numbers or two lists.
    """
    if not parameter.kind.is_list or parameter.kind.size:
        return False
    others = (signature.by_name.get(parameter.name) for signature in operation.signatures)
    kinds = [other.kind for other in others if other is not None]
    return any(kind.base == "int" and not kind.is_list for kind in kinds)


def _template(
    operation: Operation, signature: Signature, named: dict[str, Any], uses: Uses
) -> Template:
    args, kwargs = _arguments(signature, named)
    if operation.outputs_as_many_as is not None:
        count = len(named[operation.outputs_as_many_as])
        signature = replace(signature, outputs=(None,) * count, variable=False)
    return Template(
        operation,
        signature,
        args,
        kwargs,
        tuple(uses.labels),
        tuple(uses.pointers),
        named,
        guard_of(operation.base, named),
        prepared_uses(operation.base, named),
    )


def _arguments(
    signature: Signature, named: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Split the arguments: positional up to the first gap, by keyword from there on.

    A flag that decides about the outputs goes by keyword, too: for `unique_consecutive` PyTorch
    looks at the wrong positions.
    """
    flags = {parameter.name for parameter in signature.parameters if parameter.only is not None}
    given = {**named, **dict(signature.fixed)} if signature.fixed else named
    args: list[Any] = []
    positional = set()
    for name in signature.order:
        if name not in given or name in flags:
            break
        positional.add(name)
        if name == signature.star:
            args.extend(given[name])
        else:
            args.append(given[name])
    kwargs = {
        "input" if signature.says_input and name == "self" else name: value
        for name, value in given.items()
        if name not in positional
    }
    return tuple(args), kwargs
