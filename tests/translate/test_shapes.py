"""What the translator says of shapes is what PyTorch makes, or that it does not know.

The calls are those of test_element_types: the samples of torch's own op database.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from service.translate.element_types import last_part
from service.translate.shape_rules import RULES, SEVERAL_RULES
from service.translate.shapes import ELEMENTWISE, REDUCTIONS
from service.translate.unreadable import Unreadable
from service.translate.values import Several
from tests.conformance.converter import Call
from tests.conftest import long, uncounted
from tests.translate.test_element_types import NotRead, Script, computed, samples

WITHOUT_SAMPLES = {"detach", "gumbel_softmax", "max_pool2d", "nll_loss", "to"}
"""Ops that the database has no sample of: the scripts of test_from_python ask for these shapes."""
DTYPES = (torch.float32, torch.int64, torch.bool)


def said(calls: Sequence[Call], count: int) -> list[tuple[int, ...] | None]:
    """Return what is said of the shapes of the last call's outputs, of tensors that are known."""
    script = Script("float32", with_shapes=True)
    try:
        result: Any = [script.call(call) for call in calls][-1]
        if isinstance(result, Several):
            result.flat = True
            return [result.output(k).ref.shape for k in range(count)]
    except Unreadable as unreadable:
        raise NotRead from unreadable
    return [result.ref.shape]


@cache
def held() -> tuple[list[str], set[str]]:
    """Return what is wrong, and the ops of which something was said."""
    wrong, known = [], set()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for calls, direct in samples(DTYPES):
            results = computed(direct, "float32")
            try:
                shapes = said(calls, len(results))
            except NotRead:
                continue
            for shape, result in zip(shapes, results, strict=False):
                if shape is not None and isinstance(result, Tensor):
                    known.add(last_part(calls[-1].name))
                    if shape != tuple(result.shape):
                        last = calls[-1]
                        given = [
                            tuple(arg.shape) if isinstance(arg, Tensor) else arg
                            for arg in last.args
                        ]
                        wrong.append(
                            f"{last.name}{given}{last.kwargs} is {tuple(result.shape)}, not {shape}"
                        )
    return wrong, known


@long
@uncounted
def test_what_is_said_of_shapes_is_what_pytorch_makes() -> None:
    assert held()[0] == []


@long
@uncounted
def test_every_op_with_a_rule_is_held_against_pytorch() -> None:
    ops = {*ELEMENTWISE, *REDUCTIONS, *RULES, *SEVERAL_RULES}
    assert ops - held()[1] == WITHOUT_SAMPLES
