"""A page in headless Chromium (Debian's), and what it complains of."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZE: "ViewportSize" = {"width": 1440, "height": 900}


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Chromium; the test is skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install 'lartpc-ray[dev]'")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def page(browser: "Browser") -> "Iterator[Page]":
    """Open an empty page of `SIZE` that remembers nothing from another test."""
    context = browser.new_context(viewport=SIZE)
    yield context.new_page()
    context.close()


@pytest.fixture
def errors(page: "Page") -> list[str]:
    """Collect the errors of the page's console and of its code as they come."""
    found: list[str] = []
    page.on("console", lambda text: found.append(text.text) if text.type == "error" else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found
