"""A program of ``torch.export`` as a TraceRequest: exact overloads, nothing written in place.

    from_export(program) -> TraceRequest as JSON

Parameters become leaves under their module's names, tied weights one leaf; buffers, constants and
inputs become leaves too. In-place ops become ops that make a new node (:mod:`cells`), asserts are
dropped, blocks under ``torch.no_grad()`` are detached where they end. What needs the values of
tensors while it runs, and shapes that are known only then, are refused.

A program that writes in place is run once, and refused where PyTorch refuses it
(:mod:`exported_run`). One whose writes ``run_decompositions`` took out no longer has them: what
PyTorch computes for it, from there on, is what its graph says.

Only for the command line: loading a ``.pt2`` file may unpickle what is in it, so load files that
you trust, and never one that came over the network.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch._ops import HigherOrderOperator, OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from service.contract.problem import InvalidRequest
from service.engine.write_tensor import base64_text
from service.translate.cells import VIEWS, Cell, View, read, root_of, write
from service.translate.exported_arguments import (
    UNKNOWN_SHAPES,
    any_tracked,
    by_name,
    can_be_tracked,
    may_share_memory,
    overload_of,
    shares_memory,
)
from service.translate.exported_graph import RENAMED, ExportedGraph
from service.translate.exported_leaves import Inputs, overlap, placeholders, tie_again
from service.translate.exported_run import AUTOCAST_BLOCK, NO_GRAD_BLOCK, Run, writes_in_place

DROPPED = frozenset(
    "_assert_async _assert_scalar _assert_tensor_metadata sym_constrain_range "
    "sym_constrain_range_for_size _functional_assert_async _print".split()
)
"""Checks without a result."""

OTHER_BACKWARD = frozenset({"elu_", "selu_", "celu_"})
"""Ops in place whose backward starts from the result, where that of the others does from the input:
equal up to rounding."""
IN_PLACE_OF: Mapping[str, str] = {
    "aten.pow.Scalar": "aten.pow.Tensor_Scalar",
    "aten.pow.Tensor": "aten.pow.Tensor_Tensor",
}
"""Overloads that have another name than the one in place."""
STATISTICS: Mapping[str, str] = {
    "aten.batch_norm.default": "training",
    "aten.native_batch_norm.default": "training",
    "aten.instance_norm.default": "use_input_stats",
}
"""Ops that write into their ``running_mean`` and ``running_var``, which their schemas do not say,
and the flag that makes them do so. What they return does not depend on those two then."""


def from_export_file(path: Path | str) -> dict[str, Any]:
    """Return the TraceRequest of a ``.pt2`` file, with its example inputs.

    A file does not tell tied weights from parameters that lie in the same memory. Where the program
    uses the last of them alone, they are taken for tied ones.

    Loading may unpickle: only for files that you trust.

    Raises:
        InvalidRequest: the file cannot be loaded, or its program cannot be said as a graph.
    """
    try:
        program = torch.export.load(str(path))
    except Exception as error:
        kind = type(error).__name__
        raise InvalidRequest(f"{path} cannot be loaded: {kind}: {error}") from error
    tie_again(program)
    return from_export(program)


def from_export(
    program: ExportedProgram,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    roots: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return the TraceRequest of an exported program, as a JSON-able dict.

    Args:
        program: what ``torch.export.export`` returned.
        args: the inputs to run on; without them the example inputs of the program.
        kwargs: the keyword inputs, beside ``args``.
        roots: which of the program's outputs backward starts from, by number. Without it the first
            tracked output of one element (a loss); if there is none, all tracked outputs. An
            output of several elements starts with a gradient of ones, as ``out.sum()`` would.

    Raises:
        InvalidRequest: the program cannot be said as a graph; the message names the node.
        UnknownOp, BadArguments: an overload is not in the catalogue, or does not bind.
    """
    inputs: Inputs | None = None
    if args is not None or kwargs is not None:
        inputs = tuple(args or ()), dict(kwargs or {})
    given = list(placeholders(program, inputs))
    writes = writes_in_place(program.graph_module)
    run = Run(program, [value for _, _, value in given]) if writes or inputs is not None else None
    reader = Reader({} if run is None else run.seen)
    reader.read_inputs(program.graph, given)
    outputs = zip(
        program.graph_signature.output_specs,
        reader.read_block(program.graph_module, program.graph),
        _output_nodes(program.graph),
        strict=True,
    )
    returned = [
        Returned(number, cell, reader.seen(node))
        for number, (spec, cell, node) in enumerate(outputs)
        if spec.kind in (OutputKind.USER_OUTPUT, OutputKind.LOSS_OUTPUT) and isinstance(cell, Cell)
    ]
    chosen = _roots(returned, roots)
    backward = [_root(reader.graph.look(root.cell), root.value) for root in chosen]
    if run is not None and writes:
        run.check_backward([root.number for root in chosen])
    reader.graph.drop_unread([root["node"] for root in backward])
    if not reader.graph.ops:
        raise InvalidRequest("the program has no ops")
    return {"leaves": reader.graph.leaves, "ops": reader.graph.ops, "backward": backward}


class Returned(NamedTuple):
    """An output of the program: its number, and a tensor like it, without values."""

    number: int
    cell: Cell
    value: Tensor


def _output_nodes(graph: fx.Graph) -> list[Any]:
    return list(graph.output_node().args[0])  # type: ignore[arg-type]


def _roots(returned: Sequence[Returned], roots: Sequence[int] | None) -> list[Returned]:
    if roots is not None:
        return [returned[number] for number in roots]
    tracked = [one for one in returned if one.cell.tracked and one.value.is_floating_point()]
    losses = [one for one in tracked if one.value.numel() == 1]
    return losses[:1] or tracked


def _root(reference: str, value: Tensor) -> dict[str, Any]:
    if value.numel() == 1:
        return {"node": reference}
    ones = torch.ones([int(size) for size in value.shape], dtype=value.dtype)
    return {"node": reference, "gradient_base64": base64_text(ones)}


def value_of(node: fx.Node) -> Any:
    """Return what the export knows of a node's result: a tensor without values."""
    return node.meta.get("val")


class Reader:
    """Goes over a program's graph; ``graph`` is what it has become so far.

    Args:
        measured: what nodes' results look like, where the export need not know.
    """

    def __init__(self, measured: Mapping[fx.Node, Tensor]) -> None:
        self.graph = ExportedGraph()
        self._measured = measured
        self._values: dict[fx.Node, Any] = {}
        self._modules: dict[fx.Node, fx.GraphModule] = {}
        self._inputs: dict[str, Any] = {}
        self._kept: set[int] = set()
        """Ids of the cells from outside of the no_grad blocks that are read."""
        self._used: dict[Cell, tuple[str, Tensor]] = {}
        """Leaves that the program does something with, and their tensors."""

    def read_inputs(self, graph: fx.Graph, given: Sequence[tuple[str, str, Any]]) -> None:
        """Make leaves of all that the program's graph starts from, one of each tensor."""
        cells: dict[int, Cell] = {}
        used = {node.name for node in graph.find_nodes(op="placeholder") if node.users}
        for placeholder, name, value in given:
            if not isinstance(value, Tensor):
                self._inputs[placeholder] = value
                continue
            if id(value) not in cells:
                node_id = self.graph.add_leaf(name, value)
                cells[id(value)] = Cell(node_id, tracked=value.requires_grad)
            self._inputs[placeholder] = cells[id(value)]
            if placeholder in used:
                self._used[cells[id(value)]] = cells[id(value)].reference, value

    def read_block(self, module: fx.GraphModule, graph: fx.Graph) -> list[Any]:
        """Read a graph's nodes, its placeholders being known; return its outputs."""
        for node in graph.nodes:
            if node.op == "placeholder":
                self._values.setdefault(node, self._inputs.get(node.name))
            elif node.op == "get_attr":
                self._modules[node] = getattr(module, str(node.target))
            elif node.op == "call_function":
                self._values[node] = self._call(node)
        return [self._argument(part) for part in _output_nodes(graph)]

    def _argument(self, value: Any) -> Any:
        """Return an argument with cells for nodes."""
        if isinstance(value, fx.Node):
            found = self._values.get(value)
            if found is None and isinstance(value_of(value), torch.SymInt | torch.SymFloat):
                raise InvalidRequest(f"{value.name}: {UNKNOWN_SHAPES}")
            return found
        if isinstance(value, list | tuple):
            return [self._argument(item) for item in value]
        return value

    def _call(self, node: fx.Node) -> Any:
        target = node.target
        if target is operator.getitem:
            return self._output(node)
        if isinstance(target, HigherOrderOperator):
            return self._block(node, target)
        if not isinstance(target, OpOverload):
            raise InvalidRequest(f"{node.name}: {UNKNOWN_SHAPES}")
        packet, _, _ = target._schema.name.removeprefix("aten::").partition(".")
        if packet in DROPPED:
            return None
        if isinstance(value_of(node), torch.SymInt | torch.SymFloat | torch.SymBool) or packet in (
            "_local_scalar_dense",
            "item",
        ):
            raise InvalidRequest(f"{node.name}: {UNKNOWN_SHAPES}")
        arguments = by_name(
            target,
            self._argument(node.args),
            {name: self._argument(value) for name, value in node.kwargs.items()},
        )
        if target._schema.is_mutable:
            return self._in_place(node, target, packet, arguments)
        return self._op(node, target, arguments)

    def seen(self, node: fx.Node) -> Any:
        """Return what a node's result looks like on the inputs that are read."""
        return self._measured.get(node, value_of(node))

    # --- calls ----------------------------------------------------------------------------------

    def _op(self, node: fx.Node, target: OpOverload, arguments: Mapping[str, Any]) -> Any:
        name = f"aten.{target._schema.name.removeprefix('aten::')}.{target._overloadname}"
        arguments = self._statistics(node, name, arguments)
        reference = self.graph.append(node.name, target, name, arguments)
        tracked = any_tracked(arguments) and not _cuts(name)
        value = value_of(node)
        first: Any = next(iter(arguments.values()), None)
        if isinstance(value, list | tuple):
            many = isinstance(first, list) and len(first) == len(value)
            views = [_opaque(node, target, first[k] if many else first) for k in range(len(value))]
            return [
                Cell(f"{reference}:{k}", tracked and can_be_tracked(one), view=views[k])
                for k, one in enumerate(value)
            ]
        known = name in VIEWS
        view = self._view(node, name, arguments) if known else _opaque(node, target, first)
        return Cell(reference, tracked and can_be_tracked(value), view=view)

    def _statistics(
        self, node: fx.Node, name: str, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Note which running statistics an op writes into; it takes what they were before."""
        if not arguments.get(STATISTICS.get(name, "")):
            return arguments
        before = dict(arguments)
        for key in ("running_mean", "running_var"):
            cell = arguments.get(key)
            if isinstance(cell, Cell):
                self._check_alone(node, name, cell)
                before[key] = Cell(read(cell, self.graph.add))
                self.graph.updated[root_of(cell)] = node.name
        return before

    def _check_alone(self, node: fx.Node, op: str, cell: Cell) -> None:
        """Refuse a write into an input that shares memory with another one."""
        if (root := root_of(cell)) not in self._used:
            return
        name, written = self._used[root]
        for other, tensor in self._used.values():
            if tensor is not written and overlap(tensor, written):
                raise InvalidRequest(
                    f"{node.name}: {op} writes into memory that {name} and {other} share"
                )

    def _view(self, node: fx.Node, name: str, arguments: Mapping[str, Any]) -> View | None:
        base, *rest = arguments.values()
        if not isinstance(base, Cell) or not isinstance(node.args[0], fx.Node):
            return None
        before, after = self.seen(node.args[0]), self.seen(node)
        if not shares_memory(name, before, after, arguments):
            return None
        return View(base, name, rest, [int(n) for n in before.shape], node.name, base.version)

    def _in_place(
        self, node: fx.Node, target: OpOverload, packet: str, arguments: dict[str, Any]
    ) -> Cell:
        """Read ``add_`` as ``add``, whose result the written tensor is from here on."""
        cell = next(iter(arguments.values()), None)
        if not packet.endswith("_") or packet.startswith("_") or not isinstance(cell, Cell):
            raise InvalidRequest(f"{node.name}: {packet} writes into its arguments")
        assert isinstance(node.args[0], fx.Node)
        self._check_alone(node, packet, cell)
        if id(root_of(cell)) in self._kept and root_of(cell).tracked:
            raise InvalidRequest(
                f"{node.name}: {packet} writes under no_grad into a tensor that autograd tracks"
            )
        if packet in OTHER_BACKWARD and any_tracked(arguments):
            raise InvalidRequest(
                f"{node.name}: the gradient of {packet} has other bits than that of "
                f"{packet[:-1]}; export the model with inplace=False"
            )
        if packet == "copy_":
            reference, tracked = self._copied(node, arguments["src"])
        elif packet == "zero_" and cell.tracked:  # its gradient is zeros, and not none
            reference, tracked = self.graph.add(node.name, "aten.fill.Scalar", [cell, 0]), True
        else:
            name = f"aten.{packet[:-1]}.{target._overloadname}"
            name = IN_PLACE_OF.get(name, name)
            reference = self.graph.append(node.name, target, name, arguments)
            reference = self._as_written(node, name, reference)
            tracked = any_tracked(arguments) and packet not in ("detach_", "zero_")
            if torch.Tag.nondeterministic_seeded not in target.tags:
                self.graph.written.add(reference)
        write(cell, reference, tracked, self.graph.add)
        return cell

    def _as_written(self, node: fx.Node, name: str, reference: str) -> str:
        """Return the result of ``name`` in the dtype of the tensor that it is written into."""
        made = overload_of(RENAMED.get(name, name))
        given = fx.map_arg((node.args, dict(node.kwargs)), value_of)
        try:
            result = made(*given[0], **given[1])
        except (RuntimeError, TypeError):  # of other arguments, such as dtypes, or of no fake kind
            return reference
        dtype = value_of(node).dtype
        if not isinstance(result, Tensor) or result.dtype == dtype:
            return reference
        return self.graph.add(f"{node.name}.to", "aten.to.dtype", [reference, dtype])

    def _copied(self, node: fx.Node, source: Any) -> tuple[str, bool]:
        """Return what ``copy_(source)`` leaves in the tensor that is written."""
        if not isinstance(source, Cell):
            raise InvalidRequest(f"{node.name}: copy_ of something that is no tensor")
        reference = self.graph.look(source)
        to, given = self.seen(node), self.seen(node.args[1])  # type: ignore[arg-type]
        if given.dtype != to.dtype:
            reference = self.graph.add(f"{node.name}.to", "aten.to.dtype", [reference, to.dtype])
        if given.shape != to.shape:
            shape = [int(size) for size in to.shape]
            reference = self.graph.add(node.name, "aten.expand.default", [reference, shape])
        return reference, source.tracked

    def _output(self, node: fx.Node) -> Any:
        several, number = node.args
        parts = self._argument(several)
        if not isinstance(parts, list) or not isinstance(number, int):
            raise InvalidRequest(f"{node.name}: {UNKNOWN_SHAPES}")
        return parts[number]

    def _block(self, node: fx.Node, target: HigherOrderOperator) -> list[Any]:
        """Read a block of the program in place: under no_grad its results are detached."""
        name = str(target)
        flags, inner = _split_block(node)
        if name not in (NO_GRAD_BLOCK, AUTOCAST_BLOCK) or inner not in self._modules:
            raise InvalidRequest(f"{node.name}: {name} is not read")
        if name == AUTOCAST_BLOCK and flags[2] is not False:
            raise InvalidRequest(f"{node.name}: under autocast dtypes differ from what is written")
        module = self._modules[inner]
        given = node.args[len(flags) + 1 :]
        holders = [part for part in module.graph.nodes if part.op == "placeholder"]
        for holder, value in zip(holders, given, strict=True):
            self._values[holder] = self._argument(value)
        no_grad = name == NO_GRAD_BLOCK and flags[0] is False
        outside, self._kept = self._kept, set(self._kept)
        if no_grad:
            values = [self._values[holder] for holder in holders]
            self._kept.update(id(root_of(value)) for value in values if isinstance(value, Cell))
        results = self.read_block(module, module.graph)
        self._kept = outside
        if no_grad:
            return [self._cut(node, result) for result in results]
        return results

    def _cut(self, node: fx.Node, result: Any) -> Any:
        if not isinstance(result, Cell) or not result.tracked:
            return result
        reference = self.graph.look(result)
        return Cell(self.graph.add(f"{node.name}.detach", "aten.detach.default", [reference]))


def _opaque(node: fx.Node, target: OpOverload, base: Any) -> View | None:
    """Return the view of a result that may share memory with ``base``."""
    if not isinstance(base, Cell) or not node.args:
        return None
    if not may_share_memory(target, fx.map_arg(node.args[0], value_of), value_of(node)):
        return None
    name = target._schema.name.removeprefix("aten::")
    return View(base, name, [], [], node.name, base.version, opaque=True)


def _cuts(name: str) -> bool:
    """Whether the result of an op does not depend on its inputs' values, to autograd."""
    packet = name.split(".")[1]
    return packet == "detach" or packet.startswith("new_") or packet.endswith("_like")


def _split_block(node: fx.Node) -> tuple[list[Any], Any]:
    """Return the flags before a block's graph, and the node that names the graph."""
    place = next(k for k, part in enumerate(node.args) if isinstance(part, fx.Node))
    return list(node.args[:place]), node.args[place]
