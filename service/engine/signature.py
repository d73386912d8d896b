"""What a call takes and gives.

The catalogue reads signatures from torch's own schemas (:mod:`service.engine.from_schema`) and
annotations (:mod:`service.engine.from_function`); binding fits a request's `inputs` and `attrs`
into one of them; the route that describes an op shows them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

MEMORY_FORMATS: Mapping[str, torch.memory_format] = {
    "contiguous_format": torch.contiguous_format,
    "preserve_format": torch.preserve_format,
    "channels_last": torch.channels_last,
    "channels_last_3d": torch.channels_last_3d,
}
"""By PyTorch's names, in the order of the numbers that schemas have as defaults."""

HIDDEN = frozenset(
    "out inplace generator device layout pin_memory requires_grad sparse_grad sparse options "
    "distance_function names non_blocking unsafe path _stacklevel".split()
)
"""Parameters that a request cannot set: another place to write to, no plain value, or (the `path`
of `einsum`) nothing that the public function takes."""


class NoSignature(Exception):
    """PyTorch declares nothing here that a request could call."""


@dataclass(frozen=True, slots=True)
class Kind:
    """The type of a parameter.

    ``base`` is one of the contract's words (`Tensor`, `number`, `int`, ... `any`) or `index`.
    """

    base: str
    is_list: bool = False
    optional: bool = False
    optional_items: bool = False
    """Whether null may stand in the list."""
    size: int | None = None
    """The N of a schema's `int[N]`: a single number stands for N equal ones."""
    loose: bool = False
    """From a Python annotation, which are too narrow: a number may also be a list of numbers."""
    number_too: bool = False
    """A tensor, for which PyTorch takes a number as well."""

    @property
    def text(self) -> str:
        """Return the type as the contract writes it, such as `int[]?`."""
        base = "any" if self.base == "index" else self.base
        items = ("?" if self.optional_items else "") + "[]" if self.is_list else ""
        return base + items + ("?" if self.optional else "")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter that a request can set."""

    name: str
    kind: Kind
    required: bool = True
    default: Any = None
    """As JSON; null where there is none."""
    keyword_only: bool = False
    only: bool | None = None
    """The one value with which this signature holds: `return_indices` decides about outputs."""

    @property
    def text(self) -> str:
        """Return the parameter as messages show it."""
        default = "" if self.required else f"={json.dumps(self.default)}"
        return f"{self.kind.text} {self.name}{default}"


@dataclass(frozen=True)
class Signature:
    """One way to call an op."""

    parameters: tuple[Parameter, ...]
    """Those that a request can set, in PyTorch's order."""
    outputs: tuple[str | None, ...] = (None,)
    """PyTorch's name of each output; empty where their number is known only at run time."""
    several: bool = False
    """Whether it is declared to return a tuple or a list, even of one."""
    variable: bool = False
    """Whether only the run tells how many outputs there are."""
    order: tuple[str, ...] = ()
    """Names of all positional parameters, hidden ones too: what follows a gap goes by keyword."""
    star: str | None = None
    """The list that the public function takes as ``*tensors``."""
    fixed: tuple[tuple[str, Any], ...] = ()
    """Hidden parameters without a default, and what they are given."""
    says_input: bool = False
    """Whether the public function calls `input` what the schema calls `self`."""

    @cached_property
    def by_name(self) -> Mapping[str, Parameter]:
        """Return the parameters by name.

        `input` and `self` both name the one that bears either name, else the first.
        """
        names = {parameter.name: parameter for parameter in self.parameters}
        for name, other in (("input", "self"), ("self", "input")):
            if name not in names and other in names:
                names[name] = names[other]
        names.setdefault("input", self.parameters[0])
        names.setdefault("self", self.parameters[0])
        return names

    @cached_property
    def positional_tensors(self) -> tuple[Parameter, ...]:
        """Return the parameters that a request's inputs can go to, in order."""
        return tuple(
            parameter
            for parameter in self.parameters
            if parameter.kind.base == "Tensor" and not parameter.keyword_only
        )

    def describe(self) -> dict[str, Any]:
        """Return the signature as JSON, as the contract's OpSignature has it."""
        parameters = [
            {"name": p.name, "type": p.kind.text, "required": p.required, "default": p.default}
            for p in self.parameters
        ]
        return {"parameters": parameters, "outputs": list(self.outputs)}

    @property
    def text(self) -> str:
        """Return the parameters as messages show them, in parentheses."""
        parts = []
        star_written = False
        for parameter in self.parameters:
            if parameter.keyword_only and not star_written:
                parts.append("*")
                star_written = True
            parts.append(parameter.text)
        return f"({', '.join(parts)})"


def as_json(value: Any) -> Any:
    """Return a default value as JSON has it, None where it has none."""
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value if isinstance(value, (bool, int, float, str)) else None
