"""A real service and a real Chromium for the tests of the page."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from service.cli.probe import ready
from tests.conftest import missing, require_program
from tests.processes import PATIENCE_S, own_port, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
]


@contextmanager
def serving(**settings: str) -> Iterator[str]:
    """Run the service with ``GRADTRACE_`` settings; yield its address."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GRADTRACE_WORKERS": "1",
        **{f"GRADTRACE_{name}": value for name, value in settings.items()},
    }
    with own_port() as port:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "serve", "--port", str(port)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: _is_ready(url, process), "the service is ready")
            yield f"{url}/"
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def _is_ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, f"the service ended with {process.returncode}"
    return ready(url, quiet=True) == 0


@pytest.fixture(scope="session")
def program() -> str:
    """Return the path of Chromium; nothing is started where there is none."""
    return require_program("chromium")


@pytest.fixture(scope="session")
def service(program: str) -> Iterator[str]:
    """Return the address of a service without keys."""
    with serving() as address:
        yield address


# As short-lived as can be: while it lives, its event loop is the thread's running one.
@pytest.fixture(scope="module")
def browser(program: str) -> Iterator[Browser]:
    """Return a Chromium without a window."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("the package playwright")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program, args=QUIET, timeout=PATIENCE_S * 1000
        )
        yield chromium
        chromium.close()


@dataclass
class Watch:
    """What a page said and asked for."""

    home: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def on(self, page: Page) -> None:
        """Listen to a page."""
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._console)
        page.on("request", lambda request: self._request(request.url))

    def _console(self, message: Any) -> None:
        if message.type not in {"error", "warning"}:
            return
        # Chromium itself notes every 4xx answer; those are told to the user, and to `refused`.
        kind = self.refused if "Failed to load resource" in message.text else self.errors
        kind.append(message.text)

    def _request(self, url: str) -> None:
        known = url.startswith(("data:", "blob:")) or (
            urlsplit(url).netloc == urlsplit(self.home).netloc
        )
        if not known:
            self.foreign.append(url)


OpenPage = Callable[..., "Page"]


@pytest.fixture
def open_page(browser: Browser, service: str) -> Iterator[OpenPage]:
    """Return a function that opens the page, ready to use.

    In the end no page may have had an error in its console, asked another host for anything, or,
    unless ``refusals`` says so, got a refusal from the service.
    """
    contexts: list[BrowserContext] = []
    watches: list[tuple[Watch, bool]] = []

    def open_one(
        path: str = "",
        *,
        home: str = service,
        size: tuple[int, int] = (1280, 800),
        scheme: Any = "light",
        refusals: bool = False,
        ready: bool = True,
        prepare: Callable[[Page], None] | None = None,
    ) -> Page:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        context.set_default_timeout(PATIENCE_S * 1000)
        contexts.append(context)
        page = context.new_page()
        watch = Watch(home)
        watch.on(page)
        watches.append((watch, refusals))
        if prepare is not None:
            prepare(page)
        page.goto(home + path)
        if ready:
            page.wait_for_selector("body[data-ready]")
        return page

    yield open_one
    for context in contexts:
        context.close()
    for watch, refusals in watches:
        assert watch.errors == []
        assert watch.foreign == []
        assert refusals or watch.refused == []
