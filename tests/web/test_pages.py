from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest

from tests.web.harness import problem, running

pytestmark = pytest.mark.anyio
LINKS = re.compile(r"(?:src|href)=\"([^\"#]*)\"")


@pytest.mark.parametrize("root_path", ["", "/prefix"])
@pytest.mark.parametrize("page", ["/", "/docs"])
async def test_a_page_is_there_with_all_that_it_loads_and_asks_no_other_host(
    page: str, root_path: str
) -> None:
    async with running(root_path=root_path) as web:
        answer = await web.http.get(root_path + page)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        links = LINKS.findall(answer.text)
        assert links
        for link in links:
            assert not link.startswith(("/", "http")), link
            loaded = await web.http.get(urljoin(root_path + page, link))
            assert loaded.status_code == 200, link


async def test_a_page_has_no_script_or_style_inside() -> None:
    async with running() as web:
        for page in ("/", "/docs"):
            text = (await web.http.get(page)).text
            assert not re.search(r"<script(?![^>]*\bsrc=)", text)
            assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text)


async def test_pages_may_load_from_here_alone() -> None:
    async with running() as web:
        for page in ("/", "/docs", "/docs/docs.js"):
            policy = (await web.http.get(page)).headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self';" in policy
            assert "http" not in policy
            assert "*" not in policy


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/docs/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("/docs/swagger-ui.css", "text/css; charset=utf-8"),
        ("/docs/favicon.png", "image/png"),
        ("/playground/app.js", "text/javascript; charset=utf-8"),
    ],
)
async def test_a_file_has_its_media_type_and_is_sent_again_only_when_it_changed(
    path: str, kind: str
) -> None:
    async with running() as web:
        first = await web.http.get(path)
        assert first.headers["content-type"] == kind
        etag = first.headers["etag"]
        for known in (etag, f"W/{etag}", f'"other", {etag}'):
            again = await web.http.get(path, headers={"if-none-match": known})
            assert again.status_code == 304
            assert again.content == b""
        changed = await web.http.get(path, headers={"if-none-match": '"other"'})
        assert changed.content == first.content


@pytest.mark.parametrize(
    "path",
    [
        "/playground/../__init__.py",
        "/playground/%2e%2e/__init__.py",
        "/playground/..%2f..%2fsettings.py",
        "/playground//etc/passwd",
        "/playground/",
        "/docs/..%2fdocs.html",
        "/docs/examples.json",
    ],
)
async def test_nothing_else_on_the_disk_can_be_asked_for(path: str) -> None:
    async with running() as web:
        problem(await web.http.get(path), 404, "not_found")
