r"""The request's JSON text, strictly as RFC 8259 has it, becomes plain Python and number arrays.

    parse_json
    ├── no long value in it   orjson, then a count of colons finds keys given twice
    └── long values           cut out of the text (long_values), the rest as above

A key given twice is found by writing the parsed text again: the writer puts one colon to every key
and leaves those within strings alone, so a dropped key is a colon less. Only ``\u003a`` in a
string can spoil the count; such a text, and one that lacks a colon, is read once more by a slower
parser, which also knows where things are. So is one with an integer of so many digits that
it may be beyond 64 bits: orjson makes a float of it, and to an op 1e19 is not what 10**19 is.

Measured on one core of a busy machine, in ratios to orjson.loads: a graph of 285 bytes 1.3 to 2.0;
1,000,000 numbers of 11 bytes 0.35 to 0.5, where simdjson alone takes 0.5 in one piece, 0.3 in
chunks, and numpy.array of what orjson returns adds another 0.3. 5.3 MB of base64: 0.13.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import orjson

from service.contract.negative_zero import keep_signs
from service.contract.problem import BadValue, InvalidJson, InvalidRequest, pointer, quote
from service.engine.long_values import cut_long_values, restore, text_of

MAX_DEPTH = 254
"""How deep lists and objects may be nested; orjson's own bound for writing."""

TOO_DEEP = f"lists and objects are nested more than {MAX_DEPTH} levels deep"

LONG_TEXT = 1 << 14
"""Bytes from which on a text is searched for long lists of numbers."""

NON_FINITE = ("-Infinity", "Infinity", "NaN")
"""In the order in which they are looked for: one ends as another does."""
OF_PYTHON = ("True", "False", "None", "'", "#", "//", "/*")
"""What people write where JSON wants something else."""

ESCAPED_COLON = b"\\u003"

DIGITS_TO_0 = bytes.maketrans(b"123456789", b"000000000")
LONG_INTEGER = b"0" * 19
"""Digits from which on an integer may be beyond 64 bits."""
LONG_INTEGERS = re.compile(rb"(?<=[\[,:\s-])[0-9]{19}")


def parse_json(body: bytes | memoryview) -> Any:
    """Return what ``body`` says.

    A long list of numbers that is the ``value`` of a leaf or the ``gradient`` of a root comes as a
    ``NumberArray``, long base64 there as a view of ``body``; everything else is plain Python.
    Integers beyond 64 bits come as floats, but within ``ops`` as they are.

    Raises:
        InvalidJson: not JSON, a bare NaN or Infinity, a key given twice in an object, not UTF-8,
            a byte order mark, half a surrogate pair, or more than MAX_DEPTH levels.
        BadValue: a number beyond the range of a float64, in a leaf, op or root.
        InvalidRequest: such a number elsewhere.
    """
    if len(body) >= LONG_TEXT and (cut := cut_long_values(text_of(body))) is not None:
        document = _if_valid(cut.text)
        if document is not None and restore(document, cut.values):
            return document
    text = bytes(body)
    try:
        document = orjson.loads(text)
        written = orjson.dumps(document)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        _refuse(text, error)
    if _has_long_integer(text):
        exact = _exact(text)
        if isinstance(document, dict) and "ops" in document:
            document["ops"] = exact["ops"]
    elif not _has_each_key_once(text, written):
        _exact(text)
    keep_signs(document, text)
    return document


def _if_valid(text: bytes) -> Any:
    """Return what ``text`` says, None where it is invalid or needs the slower parser."""
    try:
        document = orjson.loads(text)
        written = orjson.dumps(document)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    if not _has_each_key_once(text, written) or _has_long_integer(text):
        return None
    keep_signs(document, text)
    return document


def _has_long_integer(text: bytes) -> bool:
    """Return whether there may be an integer beyond 64 bits in ``text``."""
    digits = text.translate(DIGITS_TO_0)
    return LONG_INTEGER in digits and LONG_INTEGERS.search(text) is not None


def _has_each_key_once(text: bytes, written: bytes) -> bool:
    """Return whether surely no key is given twice; ``written`` is the parsed text written again."""
    if b"\\" in text and ESCAPED_COLON in text:  # a single byte is found far quicker than several
        return False
    return text.count(b":") == written.count(b":")


def _refuse(text: bytes, error: Exception) -> NoReturn:
    """Raise the problem that the quick parser met, in words that help."""
    if isinstance(error, orjson.JSONEncodeError) or error.args[0].startswith("depth limit"):
        raise InvalidJson(TOO_DEEP) from None
    try:
        text.decode()
    except UnicodeDecodeError as invalid:
        raise InvalidJson(f"the bytes from byte {invalid.start} on are not UTF-8") from None
    assert isinstance(error, orjson.JSONDecodeError)
    if "infinity" in error.msg:
        _exact(text)
    where = f"line {error.lineno} column {error.colno}"
    signed = max(0, error.pos - 1)
    for name in NON_FINITE:
        if error.doc.startswith(name, signed if name.startswith("-") else error.pos):
            raise InvalidJson(f'{name} is not JSON; write the string "{name}": {where}') from None
    other = error.doc.startswith(OF_PYTHON, error.pos)
    hint = '; JSON writes true, false, null and "text", and has no comments' if other else ""
    raise InvalidJson(f"{error.msg}: {where}{hint}") from None


class _Twice(dict[str, Any]):
    """An object in which ``key`` is given twice."""

    key: str


class _TooLarge(float):
    """A number beyond the range of float64; ``text`` is how it is spelt."""

    text: str


def _exact(text: bytes) -> Any:
    """Read ``text`` slowly, with integers of any length.

    Raises:
        InvalidJson: a key is given twice.
        BadValue, InvalidRequest: a number is beyond float64.
    """
    try:
        document = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=_number,
            parse_int=_integer,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InvalidJson(f"{error.msg}: {where}") from None
    except RecursionError:
        raise InvalidJson(TOO_DEEP) from None
    for place, item in _walk(document):
        if isinstance(item, _Twice):
            raise InvalidJson(
                f'the key "{quote(item.key)}" is given twice in an object',
                pointer=place,
                node=node_at(document, place.split("/")[1:]),
            )
        if isinstance(item, _TooLarge):
            detail = f"{quote(item.text)} is beyond the range of float64"
            tensor = place.startswith(("/leaves/", "/ops/", "/backward/"))
            problem = BadValue if tensor else InvalidRequest
            raise problem(detail, pointer=place, node=node_at(document, place.split("/")[1:]))
    return document


def node_at(document: Any, place: Sequence[int | str]) -> str | None:
    """Return the id of the leaf or op in which ``place`` is, None where there is none."""
    if len(place) < 2 or place[0] not in ("leaves", "ops"):
        return None
    nodes = document[place[0]]
    if not isinstance(nodes, list):
        return None
    node = nodes[int(place[1])]
    name = node.get("id") if isinstance(node, dict) else None
    return quote(name) if isinstance(name, str) else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) == len(pairs):
        return plain
    twice = _Twice(plain)
    seen: set[str] = set()
    twice.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    if [key for key, _ in pairs].count("id") > 1:
        del twice["id"]  # of two ids neither is the node's
    return twice


def _number(text: str) -> float:
    number = float(text)
    if number - number == 0.0:
        return number
    large = _TooLarge(number)
    large.text = text
    return large


def _integer(text: str) -> float:
    number = _number(text)
    return number if isinstance(number, _TooLarge) else int(text)


def _constant(name: str) -> NoReturn:
    raise InvalidJson(f'{name} is not JSON; write the string "{name}"')


def _walk(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield every value of ``document`` with its pointer, outer ones first."""
    left = [("", document)]
    while left:
        place, item = left.pop()
        yield place, item
        if isinstance(item, dict):
            left += [(place + pointer(key), value) for key, value in item.items()]
        elif isinstance(item, list):
            left += [(f"{place}/{index}", value) for index, value in enumerate(item)]
