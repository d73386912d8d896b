"""What PyTorch does to fill a new tensor, recorded: no numbers are drawn, no memory is used.

    build(nn.Linear, (2, 3), {}) -> the module, and [uniform of its weight, uniform of its bias]

A module is made by PyTorch itself, with tensors that have a shape and no memory, so that shapes,
defaults and the order of the draws are its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

from service.translate.unreadable import Unreadable
from service.translate.values import Keywords, Values


@dataclass(frozen=True)
class Fill:
    """One write into a whole tensor, or into one ``row`` of it.

    ``how``: ``uniform`` (low, high), ``normal`` (mean, std) or ``full`` (number).
    """

    tensor: torch.Tensor
    how: str
    numbers: tuple[float, ...]
    row: int | None = None


def stand_in(shape: Sequence[int], dtype: torch.dtype | None = None) -> torch.Tensor:
    """Return a tensor of a shape without memory of its own; nothing may be written into it."""
    return torch.empty((), dtype=dtype).expand(tuple(shape))


def build(
    make: Callable[..., nn.Module], values: Values, keywords: Keywords
) -> tuple[nn.Module, list[Fill]]:
    """Return a module of stand-ins, and what fills them, in order.

    Raises:
        Unreadable: PyTorch refuses the arguments.
    """
    module, fills = _attempt(make, values, keywords)
    assert isinstance(module, nn.Module)
    return module, fills


def fills_of(
    function: Callable[..., Any], tensor: torch.Tensor, values: Values, keywords: Any
) -> list[Fill]:
    """Return what a function of ``torch.nn.init`` writes into a stand-in.

    Raises:
        Unreadable: PyTorch refuses the arguments.
    """
    return _attempt(function, [tensor, *values], keywords)[1]


def _attempt(
    make: Callable[..., Any], values: Values, keywords: Keywords
) -> tuple[Any, list[Fill]]:
    recorder = Recorder()
    try:
        with warnings.catch_warnings(), recorder:
            warnings.simplefilter("ignore")
            return make(*values, **keywords), recorder.fills
    except RecursionError:
        raise
    except Exception as error:  # whatever PyTorch says of the arguments
        reason = (str(error) or "refused by PyTorch").partition("\n")[0]
        raise Unreadable(f"{type(error).__name__}: {reason}") from error


class Recorder(TorchFunctionMode):
    """Notes what fills tensors, and makes new ones without memory."""

    def __init__(self) -> None:
        super().__init__()
        self.fills: list[Fill] = []
        self.rows: list[tuple[torch.Tensor, torch.Tensor, int]] = []

    def __torch_function__(
        self,
        function: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Take the place of a function of PyTorch."""
        del types
        given = dict(kwargs or {})
        if function in (torch.empty, torch.zeros, torch.ones):
            sizes = args[0] if len(args) == 1 and not isinstance(args[0], int) else args
            return stand_in(sizes, given.get("dtype"))
        if function is torch.Tensor.is_contiguous:
            return True  # as memory of its own would be
        fill = FILLS.get(function)
        if fill is None:
            result = function(*args, **given)
            if function is torch.Tensor.__getitem__:
                self.rows.append((result, args[0], args[1]))
            return result
        given.pop("generator", None)
        tensor = given.pop("tensor") if "tensor" in given else args[0]
        if 0 not in tensor.shape:
            self._note(tensor, *fill(tensor, *args[1:], **given))
        return tensor

    def _note(self, tensor: torch.Tensor, how: str, numbers: tuple[float, ...]) -> None:
        for row, whole, number in self.rows:
            if row is tensor:
                self.fills.append(Fill(whole, how, numbers, number))
                return
        self.fills.append(Fill(tensor, how, numbers))


Found = tuple[str, tuple[float, ...]]


def _uniform(_tensor: torch.Tensor, a: float = 0.0, b: float = 1.0) -> Found:
    return "uniform", (a, b)


def _normal(_tensor: torch.Tensor, mean: float = 0.0, std: float = 1.0) -> Found:
    return "normal", (mean, std)


def _full(_tensor: torch.Tensor, val: float = 0.0) -> Found:
    return "full", (val,)


class Sized:
    """What a function of ``torch.nn.init`` asks of a tensor whose numbers it draws itself."""

    def __init__(self, shape: torch.Size) -> None:
        self.shape = shape

    def dim(self) -> int:
        """Return the number of dimensions."""
        return len(self.shape)

    def size(self, dim: int) -> int:
        """Return the size of one dimension."""
        return self.shape[dim]

    def uniform_(self, low: float, high: float, **_generator: Any) -> Found:
        """Return what would be drawn."""
        return "uniform", (low, high)


def _kaiming(tensor: torch.Tensor, **settings: Any) -> Any:
    return init.kaiming_uniform_(Sized(tensor.shape), **settings)  # type: ignore[arg-type]


FILLS: Mapping[Any, Callable[..., Found]] = {
    torch.Tensor.uniform_: _uniform,
    torch.Tensor.normal_: _normal,
    torch.Tensor.fill_: _full,
    torch.Tensor.zero_: _full,
    init.uniform_: _uniform,
    init.normal_: _normal,
    init.constant_: _full,
    init.kaiming_uniform_: _kaiming,
}
"""What writes into a tensor, and how; the functions of ``init`` give way to a mode by name."""
