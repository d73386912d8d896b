"""An exported program run once by PyTorch, for what its graph alone does not tell.

That is the sizes and strides of what it computes from other inputs than those it was exported
with, and whether autograd refuses its writes in place: only autograd knows what it saves.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import HigherOrderOperator, OpOverload
from torch.export import ExportedProgram

from service.contract.problem import InvalidRequest

NO_GRAD_BLOCK = "wrap_with_set_grad_enabled"
AUTOCAST_BLOCK = "wrap_with_autocast"
RAISED = (RuntimeError, IndexError, TypeError, ValueError)
"""What PyTorch raises for tensors that it does not take."""


def writes_in_place(module: torch.nn.Module) -> bool:
    """Whether a program's graph, or a block in it, writes into a tensor."""
    return any(
        isinstance(node.target, OpOverload) and node.target._schema.is_mutable
        for part in module.modules()
        if isinstance(part, fx.GraphModule)
        for node in part.graph.nodes
    )


class Run:
    """A program run on copies of ``values``, which it may write into.

    ``outputs`` are those of its graph; ``seen`` has a tensor without values for each node's result.

    Raises:
        InvalidRequest: PyTorch raises; the message names the node.
    """

    def __init__(self, program: ExportedProgram, values: Sequence[Any]) -> None:
        self.seen: dict[fx.Node, Tensor] = {}
        given = copy.deepcopy([_as_leaf(value) for value in values])
        with torch.random.fork_rng(), warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            self.outputs = Measured(program.graph_module, self.seen).run(*given)

    def check_backward(self, roots: Sequence[int]) -> None:
        """Go back from the outputs with these numbers, if autograd tracks them all.

        Raises:
            InvalidRequest: PyTorch raises, as what autograd saved was written into.
        """
        tensors = [self.outputs[number] for number in roots]
        if not tensors or not all(tensor.requires_grad for tensor in tensors):
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.autograd.backward(tensors, [torch.ones_like(tensor) for tensor in tensors])
        except RAISED as error:
            raise InvalidRequest(f"PyTorch raises in the backward pass: {error}") from error


def _as_leaf(value: Any) -> Any:
    if isinstance(value, Tensor) and not value.is_leaf:
        return value.detach().requires_grad_()
    return value


class Measured(fx.Interpreter):
    """Runs a graph, and notes what each node's result looks like."""

    def __init__(self, module: fx.GraphModule, seen: dict[fx.Node, Tensor]) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.seen = seen

    def run_node(self, n: fx.Node) -> Any:
        """Return a node's result."""
        try:
            result = super().run_node(n)
        except RAISED as error:
            raise InvalidRequest(f"{n.name}: PyTorch raises: {error}") from error
        if isinstance(result, Tensor) and result.layout is torch.strided:
            self.seen[n] = torch.empty_strided(
                result.shape, result.stride(), dtype=result.dtype, device="meta"
            )
        return result

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Return a call's result; blocks are run node by node."""
        if not isinstance(target, HigherOrderOperator):
            return super().call_function(target, args, kwargs)
        place = next((k for k, part in enumerate(args) if isinstance(part, fx.GraphModule)), None)
        name = str(target)
        if place is None or name not in (NO_GRAD_BLOCK, AUTOCAST_BLOCK):
            raise InvalidRequest(f"{name} is not read")
        flags, inner, given = args[:place], args[place], args[place + 1 :]
        mode = torch.set_grad_enabled if name == NO_GRAD_BLOCK else torch.autocast
        with mode(*flags):
            return Measured(inner, self.seen).run(*given)
