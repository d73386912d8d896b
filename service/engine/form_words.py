"""What to say of a part of a request that has not the right form, in a client's words.

pydantic speaks of its models and of regular expressions; whoever sent the request thinks of leaves,
ops and roots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from service.contract.problem import quote
from service.contract.request import Leaf, Op, RequestModel, Root, TraceRequest

PARTS: Mapping[str, type[RequestModel]] = {"leaves": Leaf, "ops": Op, "backward": Root}
FORMS: Mapping[type[RequestModel], str] = {
    TraceRequest: 'a request is a JSON object with "leaves" and "ops"',
    Leaf: 'a leaf is an object such as {"id": "a", "value": [1, 2]}',
    Op: 'an op is an object such as {"id": "y", "op": "relu", "inputs": ["a"]}',
    Root: 'a root is an object such as {"node": "y"}',
}
REFERENCE = (
    "a reference is the id of a leaf or an op, with :0 or :name behind it for one of several"
)
TEXTS: Mapping[str, str] = {
    "id": "an id begins with a letter from A to Z, a digit or _, goes on with these and . / -, and "
    "has at most 200 characters",
    "inputs": f'{REFERENCE}; numbers go into attrs, such as {{"other": 2}}',
    "node": REFERENCE,
    "device": "a device is cpu, cuda or cuda:N",
}
"""By field: what stands there is a text of this form."""
ALIASES: Mapping[str, str] = {
    "double": "float64", "float": "float32", "half": "float16", "cdouble": "complex128",
    "cfloat": "complex64", "long": "int64", "int": "int32", "short": "int16", "char": "int8",
    "byte": "uint8",
}  # fmt: skip
"""Other names that PyTorch has for dtypes."""


def words_for(kind: str, words: str, place: Sequence[int | str], value: Any) -> str:
    """Return what is wrong at ``place``.

    Args:
        kind: pydantic's name for the kind of error.
        words: what pydantic says.
        place: the keys and indices that lead from the request to ``value``.
        value: what stands there.
    """
    names = [part for part in place if isinstance(part, str)]
    field = names[-1] if names else ""
    match kind:
        case "extra_forbidden":
            return _no_such_field(PARTS.get(names[0], TraceRequest), field)
        case "model_type":
            return FORMS[PARTS.get(field, TraceRequest)]
        case "string_pattern_mismatch" | "string_type" if field in TEXTS:
            return TEXTS[field]
        case "list_type" if isinstance(value, str):
            return f'must be a list, such as ["{quote(value)}"]'
        case "enum" if field == "dtype" and isinstance(value, str):
            plain = value.removeprefix("torch.")
            known = ALIASES.get(plain, plain if f"'{plain}'" in words else None)
            return f"{words}; {quote(value)} is {known}" if known else words
        case _:
            return words.removeprefix("Value error, ")


def _no_such_field(part: type[RequestModel], name: str) -> str:
    near = get_close_matches(name.lower(), part.model_fields, 1) if len(name) < 100 else ()
    hint = f"near: {near[0]}" if near else f"there are {', '.join(part.model_fields)}"
    return f"there is no field {quote(name)}; {hint}"
