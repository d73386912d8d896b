"""Files for browsers: the playground and what the API's documentation is drawn with.

They are read once from the installed packages, and asked for again by ETag. No page may load
anything from another host.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response

from service.contract.problem import NotFound, quote

OURS = Path(__file__).parent / "static"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
"""By the file's ending; the standard library's answers depend on what the machine has installed."""


@dataclass
class Asset:
    """A file and what a browser has to know of it."""

    path: Path

    @cached_property
    def content(self) -> bytes:
        """The bytes of the file."""
        return self.path.read_bytes()

    @cached_property
    def etag(self) -> str:
        """What changes when the bytes change."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'

    def response(self, request: Request) -> Response:
        """Answer with the file, or with 304 where the client has it already."""
        headers = {
            "etag": self.etag,
            "cache-control": "no-cache",
            "content-security-policy": PAGE_POLICY,
        }
        known = request.headers.get("if-none-match", "")
        if self.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers, media_type=MEDIA_TYPES[self.path.suffix])


class Folder:
    """Files that may be asked for by name; a name that is not one of them is not found."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.assets = {name: Asset(path) for name, path in paths.items()}

    def response(self, name: str, request: Request) -> Response:
        """Answer with the file ``name``.

        Raises:
            NotFound: there is none.
        """
        asset = self.assets.get(name)
        if asset is None:
            raise NotFound(f"There is no page or file {quote(name)}.")
        return asset.response(request)


def package_folder(package: str) -> Path:
    """Return where an installed package lies, without importing it.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the package {package} is not installed", name=package)
    return Path(spec.submodule_search_locations[0])


def add_docs(app: FastAPI) -> None:
    """Add ``/docs``, the API's documentation, and the files that it draws with: Swagger UI's."""
    swagger_ui = package_folder("fastapi_offline") / "static"
    files = Folder(
        {
            "docs.html": OURS / "docs.html",
            "docs.js": OURS / "docs.js",
            "swagger-ui-bundle.js": swagger_ui / "swagger-ui-bundle.js",
            "swagger-ui.css": swagger_ui / "swagger-ui.css",
            "favicon.png": swagger_ui / "favicon.png",
        }
    )

    _add_page(app, "/docs", "docs.html", "/docs/{name}", files)


def add_playground(app: FastAPI) -> None:
    """Add ``/``, the playground, and the files it is made of."""
    static = package_folder("service.playground") / "static"
    files = Folder({path.name: path for path in static.iterdir() if path.suffix in MEDIA_TYPES})

    _add_page(app, "/", "index.html", "/playground/{name:path}", files)


def _add_page(app: FastAPI, path: str, first: str, others: str, files: Folder) -> None:
    """Answer with the file ``first`` at ``path``, and with each by its name at ``others``."""

    @app.get(path, include_in_schema=False)
    async def page(request: Request) -> Response:
        return files.response(first, request)

    @app.get(others, include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        return files.response(name, request)
