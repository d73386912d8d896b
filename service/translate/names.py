"""Ids of nodes and names of variables, each made from the other."""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from collections.abc import Callable, Collection

MAX_ID = 200
FOREIGN = re.compile(r"[^A-Za-z0-9_]")


def id_of(variable: str) -> str:
    """Return an id for a variable: ``β`` becomes ``beta``, as ids are ASCII."""
    return "".join(_ascii(sign) for sign in variable)[:100]


def _ascii(sign: str) -> str:
    if sign.isascii():
        return sign
    word = unicodedata.name(sign, "").split(" ")[-1].lower()
    return word if word.isascii() and word.isalnum() else f"u{ord(sign):x}"


def variable_of(node_id: str, taken: Collection[str], counts: dict[str, int]) -> str:
    """Return a variable's name for an id, other than those ``taken`` and Python's own words.

    ``counts`` notes how far each stem has been counted, so that many of one name take no longer.
    """
    stem = FOREIGN.sub("_", node_id)
    if stem[0].isdigit() or stem.startswith("__"):  # such as __warningregistry__
        stem = "n" + stem

    def is_taken(name: str) -> bool:
        is_python = keyword.iskeyword(name) or hasattr(builtins, name) or name == "_"
        return is_python or name in taken

    return _counted(stem, "_", is_taken, counts)


def unique(stem: str, taken: Collection[str], counts: dict[str, int] | None = None) -> str:
    """Return ``stem``, or ``stem.1``, ``stem.2``, ... if it is taken; at most 200 characters.

    ``counts`` notes how far each stem has been counted, so that many of one name take no longer.
    """
    return _counted(stem[: MAX_ID - 10], ".", taken.__contains__, {} if counts is None else counts)


def _counted(stem: str, join: str, is_taken: Callable[[str], bool], counts: dict[str, int]) -> str:
    name, count = stem, counts.get(stem, 0)
    while is_taken(name):
        count += 1
        name = f"{stem}{join}{count}"
    counts[stem] = count
    return name
