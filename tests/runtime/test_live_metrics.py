"""What is told while it runs: the numbers, the panels that show them, Prometheus between."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from processes import free_port
from ray._private import ray_constants
from ray.util.metrics import Counter

from lartpc_ray.runtime import live_metrics as live
from lartpc_ray.train.loop import StepStats, Worker
from lartpc_ray.train.workers import record_steps

ROOT = Path(__file__).parents[2]
BOARD = json.loads((ROOT / "dashboards" / "lartpc.json").read_text())
SCRAPE = ROOT / "dashboards" / "prometheus.yml"
PANELS = {panel["title"]: panel for panel in BOARD["panels"]}
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
MISSING = "no Prometheus here: apt-get install prometheus"


def filled(expression: str, study: str) -> str:
    """Return a panel's query as Grafana sends it."""
    return expression.replace("$study", study).replace("$__rate_interval", "8s")


def queries() -> dict[str, str]:
    return {title: panel["targets"][0]["expr"] for title, panel in PANELS.items()}


def test_panels_show_every_number_and_no_other() -> None:
    shown = set()
    for title, expression in queries().items():
        used = set(re.findall(r"ray_(lartpc_\w+)", expression))
        assert used <= set(live.METRICS), title
        tags = {tag for name in used for tag in live.METRICS[name].tags}
        named = re.findall(r"(\w+)=", expression)
        named += [tag for by in re.findall(r"by \(([^)]*)\)", expression) for tag in by.split(", ")]
        assert set(named) <= tags, title
        legend = PANELS[title]["targets"][0]["legendFormat"]
        assert set(re.findall(r"{{(\w+)}}", legend)) <= set(named), title
        shown |= used
    assert shown == set(live.METRICS)


def test_numbers_are_named_as_prometheus_wants() -> None:
    for name, number in live.METRICS.items():
        assert name.startswith("lartpc_")
        assert name.endswith("_total") == (number.kind is Counter), name


def test_panels_are_titled_explained_and_do_not_overlap() -> None:
    assert BOARD["schemaVersion"] == 42
    assert len({panel["id"] for panel in PANELS.values()}) == len(BOARD["panels"])
    cells: set[tuple[int, int]] = set()
    for title, panel in PANELS.items():
        assert len(title) < 30
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        x, y, width, height = (panel["gridPos"][key] for key in "xywh")
        own = {(x + i, y + j) for i in range(width) for j in range(height)}
        assert x + width <= 24, title
        assert not own & cells, title
        cells |= own


@pytest.mark.skipif(not PROMTOOL, reason=MISSING)
def test_every_query_parses(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel_{number}", "expr": filled(expression, "a")}
        for number, expression in enumerate(queries().values())
    ]

    def check(rules: list[dict[str, str]]) -> int:
        path = tmp_path / "rules.yml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
        return subprocess.run(
            [str(PROMTOOL), "check", "rules", path], capture_output=True
        ).returncode

    assert check(rules) == 0
    assert check([{"record": "wrong", "expr": "sum by (state (ray_lartpc_trials)"}]) != 0


def test_prometheus_looks_where_ray_keeps_its_list_of_nodes() -> None:
    (job,) = yaml.safe_load(SCRAPE.read_text())["scrape_configs"]
    (place,) = job["file_sd_configs"]
    assert place["files"] == [f"/tmp/ray/{live.NODES}"]
    assert live.NODES == ray_constants.PROMETHEUS_SERVICE_DISCOVERY_FILE


def test_outside_of_ray_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(live, "_metric", refused)
    record_steps({"study": "s", "trial": "0"}, Worker())(StepStats(0.5, 2, 100, 0.1, 0.2, 0.0))


def test_a_step_is_told_by_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    def record(name: str, value: float, *, part: str = "", **tags: str) -> None:
        assert tags == {"study": "s", "trial": "3", "rank": "1"}
        told[f"{name} {part}".strip()] = value

    monkeypatch.setattr(live, "record", record)
    record_steps({"study": "s", "trial": "3"}, Worker(1, 2))(StepStats(0.5, 2, 100, 0.1, 0.2, 0.3))
    assert told.pop("lartpc_memory_bytes") > 1e7
    assert told == {
        "lartpc_steps_total": 1,
        "lartpc_events_total": 2,
        "lartpc_voxels_total": 100,
        "lartpc_step_seconds_total data": 0.1,
        "lartpc_step_seconds_total compute": 0.2,
        "lartpc_step_seconds_total communication": 0.3,
        "lartpc_loss": 0.5,
    }


@pytest.fixture
def scraped() -> Iterator[tuple[Path, str]]:
    """Give a folder for Ray and the address of a Prometheus that scrapes it each second."""
    folder = Path(tempfile.mkdtemp(prefix="live-"))  # short: Ray has sockets in it
    own_ray = f"{folder}/lartpc-ray-{os.getuid()}/ray"
    text = SCRAPE.read_text().replace("/tmp/ray", own_ray).replace("10s", "1s")
    (folder / "prometheus.yml").write_text(text)
    port = free_port()
    places = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command = [str(PROMETHEUS), *places, f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield folder, f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)
        shutil.rmtree(folder)


def asked(address: str, path: str, **parameters: object) -> Any:
    """Return the answer of Prometheus."""
    with urlopen(f"{address}/api/v1/{path}?{urlencode(parameters)}", timeout=60) as answer:
        return json.load(answer)["data"]


@pytest.mark.slow
@pytest.mark.skipif(not PROMETHEUS, reason=MISSING)
def test_every_panel_has_data_of_a_search(
    few_events: Path, tmp_path: Path, scraped: tuple[Path, str]
) -> None:
    folder, address = scraped
    began = time.time()
    settings = (
        "optimizer.steps=150",
        "optimizer.evaluate_every=50",
        "optimizer.batchnorm_batches=2",
    )
    more = [text for one in settings for text in ("--set", one)]
    where = ["smoke", "--runs", str(tmp_path / "runs"), "--json"]
    own = {"RAY_TMPDIR": str(folder), "RAY_metrics_report_interval_ms": "1000"}

    def ran(name: str, *more: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", f"lartpc_ray.{name}", *where, *more],
            env={**os.environ, **own, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=900,
        )
        assert done.returncode == 0, done.stderr
        content: dict[str, Any] = json.loads(done.stdout)
        return content

    search = ran("tune", "--budget", "laptop", "--data", str(few_events), *more)
    run, study = search["best"]["run"], search["study"]
    work = ("--data", "sample", "--split", "train", "--method", "linked")  # of many scrapes
    ran("thresholds", "--run", run, *work)
    found = asked(address, "label/study/values", **{"match[]": "ray_lartpc_steps_total"})
    assert found == [study], "what the board's list of studies asks"
    empty = []
    for title, expression in queries().items():
        span = {"start": began, "end": time.time(), "step": 1}
        series = asked(address, "query_range", query=filled(expression, study), **span)["result"]
        if not any(value != "NaN" for one in series for _, value in one["values"]):
            empty.append(title)
    assert not empty
    states = asked(address, "query_range", query='ray_lartpc_trials{state="running"}', **span)
    assert max(float(value) for one in states["result"] for _, value in one["values"]) == 2
