"""What a person sees of a search in MLflow's own pages.

`make screenshots` keeps the runs and the comparison of two trials in docs/.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from browser.conftest import Search, keep

if TYPE_CHECKING:
    from playwright.sync_api import Page

PATIENCE = 120_000
"""Milliseconds that a page may take on a busy machine."""
NO_ASSISTANT = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(search: Search) -> str:
    """Give the MLflow store of the search."""
    return search.store


@pytest.fixture(scope="module")
def site(store: str) -> Iterator[str]:
    """Serve MLflow's pages over the store until the tests end, and give the address."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    server = subprocess.Popen(
        [*command, "--port", str(port), "--backend-store-uri", store],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 300
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/#"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def ui(page: "Page") -> "Page":
    """Open a page that waits longer and has no assistant of MLflow on top."""
    page.set_default_timeout(PATIENCE)
    page.add_init_script(NO_ASSISTANT)
    return page


def runs(store: str) -> dict[str, Run]:
    return {
        run.info.run_name.split(" · ")[0]: run for run in MlflowClient(store).search_runs(["1"])
    }


def answer(page: "Page") -> str:
    """Return the first line of the description above the runs, as far as it is on the screen."""
    box = page.get_by_text(re.compile(r"^Trial [01] is the best of")).first
    box.wait_for()
    place, size = box.bounding_box(), page.viewport_size
    assert place is not None
    assert size is not None
    assert 0 <= place["y"] < size["height"] / 4
    return box.inner_text()


def test_the_printed_address_shows_the_runs_and_the_answer_in_a_new_browser(
    search: Search, site: str, page: "Page"
) -> None:
    """The first click of a browser that never saw MLflow."""
    page.set_default_timeout(PATIENCE)
    printed = re.findall(r"http://127\.0\.0\.1:5000/#(/experiments/\S+)", search.out)
    assert len(printed) == 1, search.out
    page.goto(site + printed[0])
    best = page.get_by_role("link", name=re.compile(r"^trial [01] · 0\.\d+ · best$"))
    best.wait_for()
    page.get_by_role("link", name=re.compile(r"^trial [01] · ")).nth(1).wait_for()
    for column in ("objective", "objective_error", "gamma_seediness", "learning_rate"):
        page.locator(".ag-header").get_by_text(column, exact=True).wait_for()
    assert "DBSCAN" in answer(page)
    keep(page, "mlflow-runs.png")


def test_the_runs_are_one_click_away_from_the_experiment(site: str, page: "Page") -> None:
    """MLflow opens an experiment on a page about traces; the description links to the runs."""
    page.set_default_timeout(PATIENCE)
    page.goto(f"{site}/")
    page.get_by_role("link", name="clustering", exact=True).first.click()
    assert "DBSCAN" in answer(page)
    page.add_locator_handler(page.get_by_role("button", name="Got it"), lambda seen: seen.click())
    with page.context.expect_page(timeout=PATIENCE) as opened:
        page.get_by_role("link", name="2 trials").first.click()
    runs_page = opened.value
    runs_page.set_default_timeout(PATIENCE)
    runs_page.get_by_role("link", name=re.compile(r"^trial [01] · 0\.\d+ · best$")).wait_for()


def test_nested_runs_are_shown_and_two_trials_are_compared(
    store: str, site: str, ui: "Page"
) -> None:
    ui.goto(f"{site}/experiments/1/runs")
    name = ui.locator("[col-id='attributes.`Run Name`'].ag-cell")
    name.get_by_role("link", name=re.compile(r"^\d\d:\d\d smoke")).wait_for()
    assert ui.get_by_text("trial 1", exact=True).count() <= 1, "only in the description so far"
    name.first.get_by_role("button").first.click()
    for trial in ("trial 0", "trial 1"):
        row = ui.locator(".ag-row").filter(
            has=ui.get_by_role("link", name=re.compile(rf"^{trial} · "))
        )
        row.locator(".ag-checkbox-input").first.check()
    ui.get_by_role("button", name="Compare").first.click()
    ui.get_by_text("Comparing 2 Runs").wait_for()
    parameters = ui.locator("table").filter(has_text="learning_rate").first
    parameters.wait_for()
    found = runs(store)
    for trial in ("trial 0", "trial 1"):
        for key in ("mask", "learning_rate"):
            value = found[trial].data.params[key]
            assert parameters.get_by_text(value, exact=True).count() >= 1, (trial, key, value)
    ui.locator(".main-svg").first.wait_for()
    keep(ui, "mlflow-compare.png")


def test_a_surface_and_an_event_are_drawn(store: str, site: str, ui: "Page") -> None:
    found = runs(store)
    surface = next(run for name, run in found.items() if name in ("HIP", "MIP", "SHOWER"))
    label, best = surface.info.run_name, next(run for run in found.values() if is_best(run))
    ui.goto(f"{site}/experiments/1/runs/{surface.info.run_id}/artifacts/{label}.png")
    image = ui.locator("img[src^='blob:'], img[src*='get-artifact']").first
    image.wait_for()
    wide = ui.wait_for_function("i => i.naturalWidth", arg=image.element_handle())
    assert wide.json_value() > 500
    client = MlflowClient(store)
    pictures = [file.path for file in client.list_artifacts(best.info.run_id, "pictures")]
    (event,) = [path for path in pictures if path.startswith("pictures/worst")][:1]
    event = event.replace(".png", ".html")
    ui.goto(f"{site}/experiments/1/runs/{best.info.run_id}/artifacts/{event}")
    scene = ui.frame_locator("iframe")
    scene.get_by_text("predicted cluster").first.wait_for()
    scene.locator("canvas").first.wait_for()


def is_best(run: Run) -> bool:
    return "best" in run.data.tags
