"""Pictures for the site: under each graph of a page, what the service draws of it.

A hook of mkdocs. A block fenced as ``json trace`` is a request; while the site is built a service
runs, and the picture that it answers is put below the block, so no picture is ever out of date.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from service.cli.demo import running
from service.client import Client
from service.client.calls import post

GRAPH = re.compile(r"^```json trace\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class _Service:
    """The service while the site is built, and what is to be closed after."""

    stack = ExitStack()
    client: Client


def on_pre_build(config: Any) -> None:
    """Start the service."""
    url = _Service.stack.enter_context(running())
    _Service.client = _Service.stack.enter_context(Client(url))


def on_post_build(config: Any) -> None:
    """Stop the service."""
    _Service.stack.close()


def on_build_error(error: Exception) -> None:
    """Stop the service when the site cannot be built."""
    _Service.stack.close()


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Return the page with a picture below each graph."""
    folder = Path(config["site_dir"]) / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    up = "../" * page.url.count("/")
    count = 0

    def drawn(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        name = f"{Path(page.file.src_uri).stem}-{count}.svg"
        svg = _Service.client.send(post("/v1/trace", match[1].encode(), wanted="image/svg+xml"))
        (folder / name).write_bytes(svg)
        shown = f'<img src="{up}pictures/{name}" alt="The graph above, drawn with its gradients">'
        return f"```json\n{match[1]}```\n\n{shown}"

    return GRAPH.sub(drawn, markdown)
