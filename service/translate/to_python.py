"""A TraceRequest as a stand-alone script that prints the same numbers.

    to_python(request) -> source

The engine's plan is written down: each bound call as Python, in the order of execution. The script
needs torch alone; it prints a line of JSON for every node: its id, its value and its gradient. What
it brings along besides the graph are the functions of :mod:`service.translate.exported`, so that
reading the script gives the graph back.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from service.contract.problem import GradtraceError
from service.engine.catalogue import Operation
from service.engine.plan import Plan, PlannedRoot, Step, make_plan
from service.engine.template import Template
from service.engine.values import Hole
from service.engine.writes import GIVEN_MEMORY
from service.translate.exported import (
    FROM_BASE64,
    GIVE_MEMORY,
    GRADIENT,
    HELPERS,
    NUMBERS,
    OWN,
    PLAIN,
    PREPARED,
    RETAIN,
    SHOW,
    TRACK,
)
from service.translate.literals import argument_source, index_source, json_source, leaf_source
from service.translate.names import variable_of

MAY_RETURN_INPUT = frozenset(
    "atleast_1d atleast_2d atleast_3d cartesian_prod chain_matmul conj conj_physical contiguous "
    "flatten ravel movedim moveaxis positive real resolve_conj resolve_neg sum_to_size to type_as "
    "float double half bfloat16 cfloat cdouble int long short char byte bool dropout dropout1d "
    "dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout native_dropout rrelu "
    "local_response_norm prod diff autograd.grad broadcast_tensors expand_as reshape unflatten "
    "squeeze nan_to_num block_diag multi_dot histogramdd adjoint mT H mH".split()
)
"""Ops that can return the very tensor that they were given, by the last part of their name."""
MAY_RETURN_NONE = frozenset({"multi_head_attention_forward"})
"""Ops some of whose outputs can be None, which is no output."""

INFIX: Mapping[str, str] = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "floor_divide": "//", "remainder": "%",
    "pow": "**", "matmul": "@", "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^",
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
}  # fmt: skip
PREFIX: Mapping[str, str] = {"neg": "-", "bitwise_not": "~"}
PROPERTIES = frozenset({"T", "mT", "H", "mH"})
RESERVED = frozenset(
    "torch F json math base64 show numbers plain own gradient from_base64 give_memory tensor "
    "track retain".split()
) | set(PREPARED)


@dataclass
class Script:
    """The lines of a script, and what its head has to bring along."""

    lines: list[str] = field(default_factory=list)
    helpers: set[str] = field(default_factory=set)
    variables: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=lambda: set(RESERVED))
    """Names that no other variable may have."""
    counts: dict[str, int] = field(default_factory=dict)
    """How far the variables of each stem are counted."""

    def variable(self, node_id: str) -> str:
        """Return the variable that holds a node; the first call makes it."""
        if node_id not in self.variables:
            self.variables[node_id] = variable_of(node_id, self.taken, self.counts)
            self.taken.add(self.variables[node_id])
        return self.variables[node_id]

    def output(self, name: str) -> str:
        """Return what is in a slot of a plan, ``x`` or ``t:0``, as Python."""
        node_id, colon, number = name.partition(":")
        return self.variable(node_id) + (f"[{number}]" if colon else "")


def to_python(request: Mapping[str, Any]) -> str:
    """Return a script that prints the same values and gradients as a trace of ``request``.

    Args:
        request: a TraceRequest that was checked; nothing of it is changed.

    Raises:
        GradtraceError: planning refuses it.
        BadValue: the numbers of a leaf or a gradient do not fit.
    """
    plan = make_plan(request)
    script = Script()
    shown = [*(leaf["id"] for leaf in plan.leaves), *(step.node for step in plan.ops)]
    for node in shown:
        script.variable(node)
    _write_settings(script, request)
    for index, leaf in enumerate(plan.leaves):
        try:
            source = leaf_source(leaf, request.get("dtype") or "float32")
        except GradtraceError as error:
            raise error.at(f"/leaves/{index}", leaf["id"]) from None
        script.lines.append(f"{script.variable(leaf['id'])} = {_tracked(source, leaf)}")
        if source.startswith("from_base64("):
            script.helpers.add(FROM_BASE64)
    if plan.leaves and plan.ops:
        script.lines.append("")
    for step in plan.steps:
        _write_op(script, step, [script.output(plan.slot_names[slot]) for slot in step.uses])
    _write_backward(script, plan)
    script.lines.append("")
    script.lines += [f'show("{node}", {script.variable(node)})' for node in shown]
    return _head(script) + "\n".join(script.lines) + "\n"


# --- the head -----------------------------------------------------------------------------------


def _head(script: Script) -> str:
    body = "\n".join(script.lines)
    helpers = [text for text in HELPERS if text in script.helpers or text in (SHOW, NUMBERS, PLAIN)]
    modules = ["json", "math"]
    if FROM_BASE64 in script.helpers or GRADIENT in script.helpers:
        modules.insert(0, "base64")
    lines = ['"""Prints the value and the gradient of every node, a line of JSON for each."""', ""]
    lines += [f"import {module}" for module in modules]
    lines += ["", "import torch"]
    if "F." in body:
        lines.append("import torch.nn.functional as F")
    return "\n".join(lines) + "\n\n\n" + "\n\n".join(helpers) + "\n\n"


def _write_settings(script: Script, request: Mapping[str, Any]) -> None:
    script.lines.append(f"torch.set_num_threads({torch.get_num_threads()})")
    device = request.get("device")
    if device not in (None, "cpu"):
        script.lines.append(f'torch.set_default_device("{device}")')
    script.lines += [f"torch.manual_seed({request.get('seed') or 0})", ""]


# --- ops ----------------------------------------------------------------------------------------


def _tracked(source: str, spec: Mapping[str, Any]) -> str:
    """Add ``requires_grad`` to an expression that makes a tensor."""
    if not spec.get("requires_grad"):
        return source
    if source.startswith("torch.tensor(") and ").reshape(" not in source:
        return f"{source[:-1]}, requires_grad=True)"
    return f"{source}.requires_grad_()"


def _write_op(script: Script, step: Step, tensors: Sequence[str]) -> None:
    """Write one op; ``tensors`` are the sources of the tensors that it uses."""
    template = step.template
    if step.seed is not None:
        script.lines.append(f"torch.manual_seed({step.seed})")
    uses = list(tensors)
    for use, prepare in template.prepared.items():
        uses[use] = f"{prepare.__name__}({uses[use]})"
        script.helpers.add(PREPARED[prepare.__name__])
    source = call_source(template, uses, closed=step.requires_grad)
    if template.operation.base in GIVEN_MEMORY:
        script.helpers |= {GIVE_MEMORY, PREPARED["own_memory"]}
        source = f"give_memory({source})"
    last = template.operation.name.removesuffix(".default").split(".")[-1]
    if {last, template.operation.base} & (MAY_RETURN_INPUT | MAY_RETURN_NONE):
        script.helpers.add(OWN)
        source = f"own({', '.join([source, *dict.fromkeys(tensors)])})"
    if step.requires_grad and step.several:
        script.helpers.add(TRACK)
        source = f"track({source})"
    elif step.requires_grad:
        source = f"{source}.requires_grad_()"
    script.lines.append(f"{script.variable(step.node)} = {source}")


def call_source(template: Template, tensors: Sequence[str], *, closed: bool = False) -> str:
    """Return a bound call as Python source.

    Args:
        template: the call.
        tensors: the source of the tensor of each use.
        closed: put an operator's operands in parentheses, as a method call comes behind.
    """
    operation, args, kwargs = template.operation, template.args, template.kwargs
    if operation.name == "getitem":
        return f"{tensors[0]}[{index_source(args[1], tensors)}]"
    if operation.name in PROPERTIES:
        return f"{tensors[0]}.{operation.name}"
    if operation.name == "autograd.grad":
        return _autograd_grad(template, tensors)
    sources = [argument_source(arg, tensors) for arg in args]
    operator = _operator(operation, args, kwargs, sources)
    if operator is not None:
        return f"({operator})" if closed else operator
    named = [f"{name}={argument_source(value, tensors)}" for name, value in kwargs.items()]
    if isinstance(operation.call, types.MethodDescriptorType):
        return f"{sources[0]}.{operation.name}({', '.join(sources[1:] + named)})"
    return f"{function_source(operation)}({', '.join(sources + named)})"


def function_source(operation: Operation) -> str:
    """Return the full name of what an op calls."""
    if operation.name.startswith("aten."):
        return f"torch.ops.{operation.name}"
    if operation.name == "slice":
        return "torch.ops.aten.slice"
    if operation.name.startswith("nn.functional."):
        return "F." + operation.name.removeprefix("nn.functional.")
    return f"torch.{operation.name}"


def _operator(
    operation: Operation, args: Sequence[Any], kwargs: Mapping[str, Any], sources: Sequence[str]
) -> str | None:
    """Return ``a + b``, where an op is written like that and means the same."""
    if kwargs or any(isinstance(arg, list | tuple) or arg is None for arg in args):
        return None
    if operation.name in PREFIX and len(args) == 1:
        return f"{PREFIX[operation.name]}{sources[0]}"
    sign = INFIX.get(operation.name)
    if sign is None or len(args) != 2 or not any(isinstance(arg, Hole) for arg in args):
        return None
    if not isinstance(args[0], Hole) and operation.name != "pow":
        return None
    left = f"({sources[0]})" if sources[0].startswith("-") else sources[0]
    return f"{left} {sign} {sources[1]}"


def _autograd_grad(template: Template, tensors: Sequence[str]) -> str:
    named = {name: argument_source(value, tensors) for name, value in template.named.items()}
    parts = [named["outputs"], named["inputs"]]
    if named.get("grad_outputs", "None") != "None":
        parts.append(named["grad_outputs"])
    parts += ["retain_graph=True", f"create_graph={named.get('create_graph', 'True')}"]
    if named.get("materialize_grads", "False") == "True":
        parts.append("materialize_grads=True")
    return f"torch.autograd.grad({', '.join(parts)})"


# --- backward -----------------------------------------------------------------------------------


def _write_backward(script: Script, plan: Plan) -> None:
    kept = [step for step in plan.ops if step.retain_grad]
    if kept:
        script.lines.append("")
    tensors = [script.variable(step.node) for step in kept if not step.several]
    if tensors:
        items = ", ".join(tensors) + ("," if len(tensors) == 1 else "")
        script.lines.append(f"for tensor in ({items}):")
        script.lines += ["    if tensor.requires_grad:", "        tensor.retain_grad()"]
    for step in kept:
        if step.several:
            script.helpers.add(RETAIN)
            script.lines.append(f"retain({script.variable(step.node)})")
    if not plan.roots:
        return
    script.lines.append("")
    tensors = [script.output(plan.slot_names[root.slot]) for root in plan.roots]
    starts = [
        _gradient(script, root, tensor) for root, tensor in zip(plan.roots, tensors, strict=True)
    ]
    if len(tensors) == 1:
        script.lines.append(f"{tensors[0]}.backward({starts[0] or ''})")
    elif any(starts):
        gradients = ", ".join(start or "None" for start in starts)
        script.lines.append(f"torch.autograd.backward([{', '.join(tensors)}], [{gradients}])")
    else:
        script.lines.append(f"torch.autograd.backward([{', '.join(tensors)}])")


def _gradient(script: Script, root: PlannedRoot, tensor: str) -> str:
    """Return the source of a root's gradient, empty where it is the implicit 1."""
    text, value = root.spec.get("gradient_base64"), root.spec.get("gradient")
    if text is None and value is None:
        return ""
    script.helpers.add(GRADIENT)
    try:
        return f"gradient({tensor}, {repr(text) if text is not None else json_source(value)})"
    except GradtraceError as error:
        raise error.at(root.pointer, root.node.partition(":")[0]) from None
