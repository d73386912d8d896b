"""A negative zero that is spelt as an integer, -0, as Go's encoding/json writes -0.0.

JSON has one kind of number, and Python's parsers drop the sign of such a zero. In the tensors of a
request, whose dtype is never guessed from how a number is spelt, it is kept. To an op -0 is an
integer, as in Python.
"""

from __future__ import annotations

import json
import re
from typing import Any

NEGATIVE_ZERO = re.compile(rb"(?<![eE])-0(?=[\s,\]}])")
"""Where one may be: within a string it means nothing, in an exponent it is no number."""
TENSORS = (("leaves", "value"), ("backward", "gradient"))


def keep_signs(request: Any, text: bytes) -> None:
    """Put -0.0 in the place of each -0 in the tensors of ``request``, which ``text`` was read as.

    Args:
        request: parsed JSON of whatever form.
        text: valid JSON.
    """
    if b"-0" not in text or NEGATIVE_ZERO.search(text) is None or not isinstance(request, dict):
        return
    signed = json.loads(text, parse_int=_signed)
    for part, tensor in TENSORS:
        nodes = request.get(part)
        for place, node in enumerate(nodes if isinstance(nodes, list) else ()):
            if isinstance(node, dict) and tensor in node:
                node[tensor] = signed[part][place][tensor]


def _signed(text: str) -> float:
    number = int(text)
    if not number and text.startswith("-"):
        return -0.0
    return number if -(2**63) <= number < 2**64 else float(number)
