"""The catalogue of ops on the command line."""

from __future__ import annotations

from service.cli.source import source
from service.cli.table import show_op, show_ops
from service.client import calls
from service.contract.response import OpDescription, OpList


async def list_ops(query: str, url: str | None, key: str | None) -> None:
    """Print the ops that ``query`` finds, all of them where it is empty."""
    async with source(url, key) as ask:
        show_ops(calls.model_of(OpList, await ask(calls.search(query))))


async def describe_op(name: str, url: str | None, key: str | None) -> None:
    """Print what the op ``name`` does and how it is called."""
    async with source(url, key) as ask:
        show_op(calls.model_of(OpDescription, await ask(calls.describe(name))))
