"""A search of two trials, and a page in headless Chromium (Debian's) with its errors."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
ROOT = Path(__file__).parents[2]


class Search(NamedTuple):
    """The output of a search, its folder and its MLflow store."""

    out: str
    runs: Path
    store: str


@pytest.fixture(scope="session")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """Search two trials on the packaged sample, by the command."""
    runs = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "lartpc_ray.tune", "clustering", "--budget", "smoke"]
    done = subprocess.run(
        [*command, "--runs", str(runs)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    return Search(done.stdout, runs, f"sqlite:///{runs / 'mlflow.db'}")


def keep(page: "Page", name: str) -> None:
    """Keep a picture of the page, if `make screenshots` asks for it."""
    if folder := os.environ.get("LARTPC_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / name)


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
