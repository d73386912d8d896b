"""A request of the wrong form is told what is wrong, and what would be right."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from service.contract.problem import InvalidRequest
from service.engine.check import check_request
from service.engine.dtypes import DTYPES
from service.engine.form_words import ALIASES

LEAF = {"id": "a", "value": [1, 2]}


def told(request: Any) -> tuple[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        check_request(request)
    (error,) = caught.value.errors
    return error.pointer, error.message


@pytest.mark.parametrize(
    ("request_", "place", "words"),
    [
        ([], "", "a request is a JSON object"),
        ({"leaves": [{**LEAF, "requiresGrad": True}]}, "/leaves/0/requiresGrad", "requires_grad"),
        ({"leaves": [LEAF], "graph": 1}, "/graph", "there are leaves, ops, backward"),
        ({"leaves": [LEAF], "k" * 200: 1}, f"/{'k' * 99}…", "there are leaves, ops, backward"),
        ({"leaves": ["a"]}, "/leaves/0", 'a leaf is an object such as {"id": "a"'),
        ({"leaves": [LEAF], "ops": ["relu"]}, "/ops/0", 'an op is an object such as {"id": "y"'),
        ({"leaves": [LEAF], "backward": ["a"]}, "/backward/0", 'such as {"node": "y"}'),
        ({"leaves": [LEAF], "backward": [{"node": 1}]}, "/backward/0/node", "a reference is"),
        ({"leaves": [LEAF], "include": "notes"}, "/include", 'a list, such as ["notes"]'),
        ({"leaves": [LEAF], "device": "gpu"}, "/device", "cpu, cuda or cuda:N"),
        ({"leaves": [{**LEAF, "id": "my a"}]}, "/leaves/0/id", "an id begins with"),
        ({"leaves": [{**LEAF, "dtype": "long"}]}, "/leaves/0/dtype", "long is int64"),
        ({"leaves": [LEAF], "dtype": "torch.int8"}, "/dtype", "torch.int8 is int8"),
        ({"leaves": [LEAF], "dtype": "float8"}, "/dtype", "'uint8' or 'bool'"),
        (
            {"ops": [{"id": "y", "op": "add", "inputs": ["a", 2]}]},
            "/ops/0/inputs/1",
            'numbers go into attrs, such as {"other": 2}',
        ),
        ({"leaves": [LEAF], "seed": "x"}, "/seed", "valid integer"),
    ],
)
def test_what_is_wrong_and_what_would_be_right_is_told(
    request_: Any, place: str, words: str
) -> None:
    pointer, message = told(request_)
    assert pointer == place
    assert words in message


def test_other_names_of_dtypes_are_pytorchs() -> None:
    for other, name in ALIASES.items():
        assert getattr(torch.ones(1), other)().dtype == DTYPES[name]
