"""Which media type came and which one goes back: Content-Type and Accept (RFC 9110)."""

from __future__ import annotations

from email.message import Message
from functools import lru_cache

from service.contract.problem import NotAcceptable, UnsupportedMediaType, quote

JSON = "application/json"
NDJSON = "application/x-ndjson"
PYTHON = "text/x-python"
SAFETENSORS = "application/x-safetensors"
SVG = "image/svg+xml"
GRAPHVIZ = "text/vnd.graphviz"
HTML = "text/html"

LONGEST = 2000
"""Characters of a header beyond which it is not read."""


def negotiate(accept: str, offers: tuple[str, ...]) -> str:
    """Return the one of ``offers`` that ``accept`` likes best; the first of equals.

    Args:
        accept: the Accept header, empty where there is none.
        offers: media types in the order of our preference.

    Raises:
        NotAcceptable: none of them will do.
    """
    return _negotiate(accept[:LONGEST], offers)


@lru_cache(maxsize=256)
def _negotiate(accept: str, offers: tuple[str, ...]) -> str:
    if not accept.strip():
        return offers[0]
    ranges = _ranges(accept)
    best = max(offers, key=lambda offer: _quality(offer, ranges))
    if _quality(best, ranges) <= 0:
        raise NotAcceptable(f"Accept allows none of {', '.join(offers)}.")
    return best


def _ranges(accept: str) -> list[tuple[str, float]]:
    """Split an Accept header into media ranges with their weights; skip what cannot be read."""
    ranges = []
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                weight = _weight(value.strip())
        if "/" in name or name == "*":
            ranges.append(("*/*" if name == "*" else name, weight))
    return ranges


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


def _quality(offer: str, ranges: list[tuple[str, float]]) -> float:
    """Return the weight of the most specific range that fits ``offer``; 0 where none does."""
    weights = dict(reversed(ranges))
    for fitting in (offer, offer.partition("/")[0] + "/*", "*/*"):
        if fitting in weights:
            return weights[fitting]
    return 0.0


def media_type(content_type: str, allowed: tuple[str, ...]) -> str:
    """Return the media type of a Content-Type header, which must be one of ``allowed``.

    Raises:
        UnsupportedMediaType: it is missing, none of them, or in a charset other than UTF-8.
    """
    return _media_type(content_type[:LONGEST], allowed)


@lru_cache(maxsize=256)
def _media_type(content_type: str, allowed: tuple[str, ...]) -> str:
    takes = f"this route reads {' and '.join(allowed)}"
    if not content_type.strip():
        raise UnsupportedMediaType(f"The Content-Type is missing; {takes}.")
    parsed = Message()
    parsed["content-type"] = content_type
    name = parsed.get_content_type()
    if name not in allowed or name not in content_type.lower():
        raise UnsupportedMediaType(f"The body is {quote(content_type)}; {takes}.")
    charset = parsed.get_param("charset")
    if charset is not None and str(charset).lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(f"The charset is {quote(charset)}; it must be UTF-8.")
    return name
