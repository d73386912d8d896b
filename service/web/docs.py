"""The API's documentation in the browser: Swagger UI from an installed package, served by us."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response

from service.web.pages import Folder, package_folder

OURS = Path(__file__).parent / "static"
SWAGGER_UI_PACKAGE = "fastapi_offline"


def add_docs(app: FastAPI) -> None:
    """Add ``/docs`` and the files that it draws with."""
    swagger_ui = package_folder(SWAGGER_UI_PACKAGE) / "static"
    files = Folder(
        {
            "docs.html": OURS / "docs.html",
            "docs.js": OURS / "docs.js",
            "swagger-ui-bundle.js": swagger_ui / "swagger-ui-bundle.js",
            "swagger-ui.css": swagger_ui / "swagger-ui.css",
            "favicon.png": swagger_ui / "favicon.png",
        }
    )

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return files.response("docs.html", request)

    @app.get("/docs/{name}", include_in_schema=False)
    async def docs_file(name: str, request: Request) -> Response:
        return files.response(name, request)
