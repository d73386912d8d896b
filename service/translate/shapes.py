"""Shapes of results, as far as a script shows them: ``k.shape[-1]`` is a number in a script.

Only what everyday scripts ask for; the shape of any other result is known when the graph runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from service.translate.shape_rules import (
    RULES,
    SEVERAL_RULES,
    Shape,
    are_numbers,
    broadcast,
    reduced,
)
from service.translate.values import Node, Ref, references

ELEMENTWISE = frozenset(
    "add sub rsub mul div pow floor_divide remainder eq ne lt le gt ge maximum minimum where "
    "masked_fill neg positive abs exp log sqrt rsqrt sin cos tan tanh sigmoid relu gelu silu "
    "softplus square reciprocal sign floor ceil round clamp softmax log_softmax dropout detach "
    "clone contiguous to float double half long bool logical_not bitwise_and bitwise_or "
    "bitwise_not cumsum cumprod tril triu zeros_like ones_like full_like rand_like randn_like "
    "leaky_relu elu layer_norm rms_norm isnan isfinite relu6 selu celu mish hardtanh hardswish "
    "hardsigmoid logsigmoid softsign softmin dropout2d erf erfc erfinv exp2 expm1 log1p log2 log10 "
    "lgamma digamma sinh cosh asin acos atan asinh acosh atanh arcsin arccos arctan atan2 arctan2 "
    "trunc frac sgn sinc logit nan_to_num xlogy lerp addcmul addcdiv fmod hypot logaddexp "
    "float_power true_divide divide multiply subtract clip clamp_min clamp_max logical_and "
    "logical_or logical_xor bitwise_xor isinf isclose copysign heaviside flip fliplr flipud roll "
    "renorm normalize gumbel_softmax hardshrink softshrink tanhshrink threshold logcumsumexp "
    "deg2rad rad2deg absolute negative".split()
)
"""Ops whose result has the shape of their tensors, broadcast against each other."""

REDUCTIONS = frozenset(
    "sum mean prod amax amin logsumexp all any norm var std argmax argmin nansum nanmean "
    "count_nonzero".split()
)


def shape_of_result(node: Node) -> Shape | None:
    """Return the shape of an op's result, or of each of several, None where it is not known."""
    last = (node.op or "").rpartition(".")[2]
    refs: list[Ref] = references(node.inputs, node.attrs)
    shapes = [ref.shape for ref in refs]
    if node.op == "autograd.grad":
        each = {ref.shape for ref in node.inputs[1:]}
        return each.pop() if len(each) == 1 else None
    if any(shape is None for shape in shapes):
        return None
    known = [shape for shape in shapes if shape is not None]
    try:
        if not refs:
            return _made(last, node.attrs)
        if node.several:
            found = SEVERAL_RULES.get(last)
            return None if found is None else found(known[0], node.attrs)
        if last == "to":
            return known[0]
        if last in ELEMENTWISE:
            return broadcast(known)
        if last in REDUCTIONS:
            return reduced(known[0], node.attrs)
        rule = RULES.get(last)
        return None if rule is None else rule(known, node.attrs)
    except (ArithmeticError, IndexError, TypeError, ValueError):
        return None  # PyTorch will say what is wrong


def _made(name: str, attrs: Mapping[str, Any]) -> Shape | None:
    """Return the shape of what an op makes without tensors."""
    size: Any = attrs.get("size")
    if name in ("linspace", "logspace"):
        size = [attrs.get("steps")]
    elif name == "eye":
        size = [attrs.get("n"), attrs.get("m", attrs.get("n"))]
    elif name == "randperm":
        size = [attrs.get("n")]
    elif name == "arange":
        start, end, step = attrs.get("start", 0), attrs.get("end"), attrs.get("step", 1)
        whole = are_numbers([start, end, step])
        if whole or "float" in attrs.get("dtype", "float"):
            size = [max(math.ceil((end - start) / step), 0)]  # in float64, as PyTorch
    return tuple(size) if are_numbers(size) else None
