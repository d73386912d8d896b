"""An op of the catalogue: its name, what is called for it, and the ways to call it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.engine.signature import Signature

if TYPE_CHECKING:
    from service.engine.template import Template


@dataclass(eq=False, slots=True)
class Operation:
    """One op; it is made once, and remembers how it was called."""

    name: str
    call: Callable[..., Any]
    """What a script would call; the overload itself for an exact overload."""
    signatures: tuple[Signature, ...]
    summary: str
    documentation: str
    """The address of PyTorch's page."""
    base: str
    """The kernel's name without namespace and overload, or the function's; guards go by it."""
    exact: bool = False
    """Whether it is an exact overload, which does not expand a number to a list."""
    takes_originals: bool = False
    """Whether it must be given the nodes themselves, not copies for the edges' sake."""
    outputs_as_many_as: str | None = None
    """The list of tensors that has as many entries as there are outputs."""
    templates: dict[Any, tuple[Template, tuple[int, ...]]] = field(default_factory=dict, repr=False)
    """Bindings met before; see :func:`service.engine.bind.bind`."""

    def describe(self) -> dict[str, Any]:
        """Return the op as JSON, as the contract's OpDescription has it."""
        return {
            "name": self.name,
            "summary": self.summary,
            "documentation": self.documentation,
            "signatures": [signature.describe() for signature in self.signatures],
        }

    def signatures_text(self) -> str:
        """Return all signatures on one line, for a message."""
        return "; ".join(self.name + signature.text for signature in self.signatures)
