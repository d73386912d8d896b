"""Calls of exact overloads whose warnings are heard.

PyTorch hands its warnings to Python where one of its own Python functions was called; those of what
`torch.ops` calls go to stderr. So such a call is made from within a function of PyTorch's, a cheap
one, which hands over to whatever has ``__torch_function__``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class _Call:
    """A call that is still to be made."""

    __slots__ = ("call", "values")

    def __init__(self, call: Callable[[Any], Any], values: Any) -> None:
        self.call = call
        self.values = values

    @classmethod
    def __torch_function__(cls, _function: Any, _types: Any, args: Any, _kwargs: Any = None) -> Any:
        (one,) = args
        return one.call(one.values)


def heard(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return ``call``, made so that the warnings of exact overloads in it are Python's."""
    hand_over: Any = torch.numel
    return lambda values: hand_over(_Call(call, values))
