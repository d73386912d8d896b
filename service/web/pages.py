"""Files for browsers: the playground and what the API's documentation is drawn with.

They are read once from the installed packages, and asked for again by ETag. No page may load
anything from another host.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response

from service.contract.problem import NotFound, quote

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}


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

    @cached_property
    def media_type(self) -> str:
        """The Content-Type, by the name's ending."""
        guessed, _ = mimetypes.guess_type(self.path.name)
        return MEDIA_TYPES.get(self.path.suffix) or guessed or "application/octet-stream"

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
        return Response(self.content, headers=headers, media_type=self.media_type)


class Folder:
    """Files that may be asked for by name; a name that is not one of them is not found."""

    def __init__(self, assets: Mapping[str, Asset]) -> None:
        self.assets = assets

    @classmethod
    def of(cls, root: Path) -> Folder:
        """Return all files below ``root``, by their paths from there; none where it is missing."""
        files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".py")
        return cls({path.relative_to(root).as_posix(): Asset(path) for path in files})

    @classmethod
    def some(cls, root: Path, names: Iterable[str]) -> Folder:
        """Return the files ``names`` of ``root``."""
        return cls({name: Asset(root / name) for name in names})

    def __or__(self, other: Folder) -> Folder:
        return Folder({**self.assets, **other.assets})

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


def add_playground(app: FastAPI) -> None:
    """Add ``/``, the playground, and the files it is made of."""
    files = Folder.of(package_folder("service.playground") / "static")

    @app.get("/", include_in_schema=False)
    async def playground(request: Request) -> Response:
        return files.response("index.html", request)

    @app.get("/playground/{name:path}", include_in_schema=False)
    async def playground_file(name: str, request: Request) -> Response:
        return files.response(name, request)
