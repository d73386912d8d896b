from __future__ import annotations

import pytest

from service.contract.problem import NotAcceptable, UnsupportedMediaType
from service.web.negotiate import media_type, negotiate

OFFERS = ("application/json", "application/x-safetensors", "image/svg+xml")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("*", "application/json"),
        ("application/json", "application/json"),
        ("APPLICATION/JSON; Q=0.5", "application/json"),
        ("application/json;charset=utf-8", "application/json"),
        ("image/svg+xml", "image/svg+xml"),
        ("image/*", "image/svg+xml"),
        ("image/*, */*;q=0.1", "image/svg+xml"),
        ("application/json;q=0.4, image/svg+xml;q=0.5", "image/svg+xml"),
        ("application/json;q=0, */*", "application/x-safetensors"),
        ("application/*;q=0.5, application/json;q=0.1", "application/x-safetensors"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("nonsense, image/svg+xml", "image/svg+xml"),
        ("image/svg+xml;q=x, application/json", "application/json"),
    ],
)
def test_accept_chooses_by_weight_and_specificity(accept: str, chosen: str) -> None:
    assert negotiate(accept, OFFERS) == chosen


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "*/*;q=0", "x", "q=1"])
def test_an_accept_without_any_of_ours_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        negotiate(accept, OFFERS)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json;charset=utf8; profile=x",
    ],
)
def test_a_content_type_is_read_with_its_parameters(content_type: str) -> None:
    assert media_type(content_type, ("application/json",)) == "application/json"


@pytest.mark.parametrize(
    "content_type",
    ["", " ", "text/plain", "json", "application/json; charset=latin-1", "a/b; application/json"],
)
def test_a_content_type_that_is_not_read_here_is_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        media_type(content_type, ("application/json",))
