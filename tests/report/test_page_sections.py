"""The page of a study: what is on it, and what is not."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lartpc_ray.predict.evaluate import THIS, EvaluationResult
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.report import __main__ as report
from lartpc_ray.report.document import Page
from lartpc_ray.report.effects import log_effects
from lartpc_ray.report.page import MOST_CURVES, _verdict
from lartpc_ray.report.record import log_report_page, record_result
from lartpc_ray.report.search_sections import EFFECTS
from lartpc_ray.report.subject import Subject
from lartpc_ray.report.verdict import result_content
from lartpc_ray.terminal.command import run as run_command
from lartpc_ray.terminal.text import short_names
from lartpc_ray.thresholds import __main__ as thresholds
from lartpc_ray.tracking.runs import NAMES, Tracking
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.effects import Effects
from lartpc_ray.trials.paths import flatten_settings, make_trial

EVIL = "</script><script>alert(1)</script>"
SPACE = """
search:
  optimizer.learning_rate: {log: [1.0e-3, 1.0e-1]}
  task.loss.mask: {choice: [focal, bce]}
"""
NUMBERS = '<script type="application/json">'
SMALL = {"network.depth": 2, "network.filters": 4, "network.blocks": 1}


def study(
    runs: Path, trials: int, name: str = "clustering", space: str = SPACE, own: str = "a search"
) -> Tracking:
    """Log a made-up search with a failed last trial."""
    tracking = Tracking(runs, name)
    search = tracking.start(own, {"study": own, "kind": "search"})
    tracking.log_text(search, space, f"{name}.yaml")
    for number in range(trials):
        tags = {"study": own, "trial": str(number)}
        run = tracking.start(f"trial {number}", tags, search)
        rate = 10 ** (-3 + 2 * number / trials)
        settings = {"optimizer.learning_rate": rate, "task.loss.mask": ["focal", "bce"][number % 2]}
        values = {**settings, "task.name": "clustering", "odd": EVIL * (number % 2)}
        tracking.set_tags(search, {NAMES: json.dumps(short_names(values))})
        tracking.log_params(run, values)
        if number == trials - 1:
            tracking.set_tags(run, {"error": f"ValueError: {EVIL}"})
            tracking.finish(run, "FAILED")
            continue
        for step in (10, 20):
            numbers = {"objective": number / trials + step / 1e3, "seconds_an_event": 0.1}
            numbers["training_gib"] = 2.0 - number / trials
            tracking.log_metrics(run, numbers, step)
        tracking.finish(run)
    tracking.finish(search)
    return tracking


def write(runs: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    """Write the page; return its text and the numbers in it."""
    page = runs / "page.html"
    command = [*arguments, "--runs", str(runs), "--html", str(page)]
    assert run_command(report.parser(), report.main, command) == 0
    text = page.read_text()
    numbers = [json.loads(each) for each in re.findall(f"{NUMBERS}(.*?)</script>", text)]
    charts = [each for each in numbers if isinstance(each, dict)]
    return text, {"charts": charts, "scenes": [each for each in numbers if each not in charts]}


def heads(text: str) -> list[str]:
    return re.findall(r"<h2>([^<]*)</h2>", text)


def test_a_search_without_a_verdict_shows_its_trials(tmp_path: Path) -> None:
    study(tmp_path, 4)
    text, data = write(tmp_path, "clustering")
    assert heads(text) == ["The search", "What was tried", "Learning curves"]
    history, parallel, curves = data["charts"]
    assert history["data"][0]["y"] == pytest.approx([0.02, 0.27, 0.52])
    labels = parallel["layout"]["xaxis"]["ticktext"]
    assert labels == ["objective", "learning_rate", "mask"]
    assert len(curves["data"]) == 3
    assert "<dd>4, 1 failed</dd>" in text
    assert "<dd>trial 2, objective 0.5200</dd>" in text


@pytest.mark.slow
def test_the_head_has_the_trial_of_the_page_and_a_higher_one(tmp_path: Path) -> None:
    """The default is kept by a comparison of events; a trial of least cost is picked without."""
    tracking = study(tmp_path, 4)
    trials = tracking.trials("clustering")
    tracking.set_tags(trials[1].id, {"best": "true"})
    text, _ = write(tmp_path, "clustering")
    assert "<dd>trial 1, objective 0.2700 (trial 2: 0.5200, the highest)</dd>" in text
    search = tracking.run_info(trials[1].id)["mlflow.parentRunId"]
    effects = Effects(effects=[], step=0, trials=0, verdict=["It is kept; more `trials` help."])
    log_effects(tracking, search, effects)
    text, _ = write(tmp_path, "clustering")
    assert "<dd>trial 1, objective 0.2700 (trial 2: 0.5200, not surely better)</dd>" in text


def test_text_from_outside_is_no_code(tmp_path: Path) -> None:
    study(tmp_path, 3)
    text, _ = write(tmp_path, "clustering")
    own = text.split("<script>")[0].replace(NUMBERS, "")
    assert "ValueError: &lt;/script&gt;" in own
    assert "<script" not in own
    assert "alert(1)</script>" not in text


def test_nothing_is_fetched_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    study(tmp_path, 3)
    text, _ = write(tmp_path, "clustering")
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", text)
    assert "default-src 'none'" in text
    assert 1e6 < len(text.encode()) < 6e6
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.slow
def test_the_head_and_the_order_of_the_sections(tmp_path: Path, few_events: Path) -> None:
    run = judged(tmp_path, few_events, "clustering")
    text, data = write(tmp_path, "--run", run)
    head = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", text))
    files = [f"{few_events.name}/{split}.h5" for split in ("train", "tune", "test")]
    assert head["data"] == "; ".join(
        f"{split} {file} ({count} events)"
        for split, file, count in zip(("train", "tune", "test"), files, (12, 3, 3), strict=True)
    )
    assert head["network"].startswith("sparse UResNet, depth 2, 4 filters, 1 block,")
    assert {"took", "MLflow run", "task"} <= set(head)
    assert re.fullmatch(r"learning_rate [\d.e-]+, batch_events \d+, seed \d+", head["settings"])
    closed = re.findall(r"<details><summary><h2>([^<]*)</h2>", text)
    assert [title for title in heads(text) if title not in closed] == ["Verdict", "Thresholds"]
    first = text.partition("<h2>Verdict</h2>")[2].partition("</section>")[0]
    assert re.search(r"<th>ARI[^<]*\(\* best\)</th>", first)
    surfaces = text.partition("<h2>Thresholds</h2>")[2].partition("</section>")[0]
    titles = re.findall("<h3>([^<]*)</h3>", surfaces)
    assert all(re.search(r"^[A-Z]+: mean ARI .* events of the tune split$", t) for t in titles)
    kept = ["clustering", "--run", run, "--runs", str(tmp_path), "--objective", "purity", "--keep"]
    assert run_command(thresholds.parser(), thresholds.main, [*kept, "--workers", "1"]) == 0
    later, _ = write(tmp_path, "--run", run)
    again = later.partition("<h2>Thresholds</h2>")[2].partition("</section>")[0]
    assert re.findall("<h3>([^<]*)</h3>", again) == titles, "those of the verdict"
    assert "All numbers are of the thresholds that were tuned first" in later
    assert "All numbers are of the thresholds that were tuned first" not in text
    axes = [chart["layout"]["xaxis"]["title"]["text"] for chart in data["charts"][: len(titles)]]
    assert axes == ["p0 (not to scale)"] * len(titles)
    drawn = re.findall(r"<figcaption>(?:event (\d+):|.*? in event (\d+)<)", text)
    events = [worst or mistake for worst, mistake in drawn]
    assert len(events) == len(set(events)) > 1, "no event twice"


def test_a_page_that_cannot_be_made_leaves_the_one_before(tmp_path: Path) -> None:
    study(tmp_path, 3)
    write(tmp_path, "clustering")
    page = tmp_path / "page.html"
    before = page.read_text()
    command = ["--run", "nobody", "--runs", str(tmp_path), "--html", str(page)]
    assert run_command(report.parser(), report.main, command) == 2
    assert page.read_text() == before


@pytest.mark.slow
def test_the_objective_is_drawn_against_the_costs_that_the_study_minimises(tmp_path: Path) -> None:
    """Its own, also before there is a verdict; those of the task's page where it has none."""

    def drawn(name: str) -> list[str]:
        text, _ = write(tmp_path, name)
        return re.findall(r'aria-label="Objective against ([^"]*)"', text)

    study(tmp_path, 4, "cheap", f"{SPACE}costs: [training_gib]\n")
    assert drawn("cheap") == ["training GiB"]
    tracking = study(tmp_path, 4)
    assert drawn("clustering") == [], "the verdict tells the task, and its page"
    result = EvaluationResult("segmentation", {}, {}, {THIS: {}}, {"tune": 1, "test": 1})
    tracking.log_text(
        tracking.trials("clustering")[2].id, json.dumps(result_content(result)), "verdict.json"
    )
    assert drawn("clustering") == ["s per event"]


@pytest.mark.slow
def test_a_search_keeps_the_page_of_its_own_trials_or_says_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of an earlier one that was resumed; then on a disk that is full."""
    study(tmp_path, 4, own="earlier")
    tracking = study(tmp_path, 3, own="newest")
    search = tracking.start("earlier", {"study": "earlier", "kind": "search"})
    result = EvaluationResult("segmentation", {}, {}, {THIS: {}}, {"tune": 1, "test": 1})
    best = tracking.trials("clustering", search)[2].id

    def kept() -> list[str]:
        log_report_page(tracking, search, Subject("clustering", tracking, best, [], result))
        return [file.path for file in tracking.client.list_artifacts(search)]

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: 1 / 0)
        assert kept() == ["clustering.yaml"]
    assert caplog.messages[-1] == "the search has no report.html in MLflow: division by zero"
    assert kept() == ["clustering.yaml", "report.html"]
    text = tracking.fetch(search, "report.html", tmp_path).read_text()
    assert "<dd>4, 1 failed</dd>" in text, "not the newest search"
    sentence = "Trial 2 is better than the default"
    log_effects(tracking, search, Effects(effects=[], step=0, trials=0, verdict=[sentence]))
    kept()
    text = tracking.fetch(search, "report.html", tmp_path).read_text()
    verdict = text[text.index("<h2>Verdict") : text.index("<h2>The search")]
    assert sentence in verdict
    assert EFFECTS not in heads(text), "the model had too few trials"
    page = Page()
    other = Subject("clustering", tracking, best, [], result, data="other.h5")
    _verdict(page, other, [sentence])
    assert f"On the events of the search: {sentence}" in str(page.sections)


@pytest.mark.slow
def test_many_trials_are_not_asked_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study(tmp_path, MOST_CURVES + 10)
    asked = []
    logged = Tracking.logged

    def counted(self: Tracking, run: str, name: str) -> dict[int, float]:
        asked.append(run)
        return logged(self, run, name)

    monkeypatch.setattr(Tracking, "logged", counted)
    text, data = write(tmp_path, "clustering")
    assert len(asked) == MOST_CURVES
    assert f"the {MOST_CURVES} best trials" in text
    assert "Which settings matter" in heads(text)
    assert len(data["charts"][0]["data"][0]["y"]) == MOST_CURVES + 9


def judged(runs: Path, events: Path, task: str, **settings: Any) -> str:
    """Log a run with an evaluated untrained network."""
    trial = make_trial({"task.name": task, "data.splits.path": str(events), **SMALL, **settings})
    network = trial.make_network()
    state = Checkpoint(trial, 0, network.state_dict(), {}, [])
    tracking = Tracking(runs, task)
    run = tracking.start("one", {"trial": "0"})
    tracking.log_params(run, flatten_settings(trial))
    record_result(tracking, run, Evaluation(state))
    tracking.finish(run)
    return run


CLUSTERS = ["Many clusters", "Clusters counted", "Margin and extent", "Mistakes"]
TASKS = {
    "clustering": (
        ["Verdict", "Thresholds", "Every metric", *CLUSTERS, "Worst and best events"],
        3,
    ),
    "segmentation": (["Verdict", "Every metric", "Confusion", "Worst and best events"], 3),
    "infill": (["Verdict", "Thresholds", "Every metric", "Worst and best events"], 2),
    "michel": (["Verdict", "Every metric"], 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_run_of_each_task_shows_what_it_has(tmp_path: Path, few_events: Path, task: str) -> None:
    run = judged(tmp_path, few_events, task)
    text, data = write(tmp_path, "--run", run)
    sections, panels = TASKS[task]
    assert [head for head in heads(text) if head in sections] == sections
    assert "It could not be drawn" not in text
    linked = text.partition("the same of linked voxels")[2]
    assert bool(linked) == (task == "clustering"), "the second way to read the same network"
    assert ("max_embedding_distance" in linked) == bool(linked), "with its own thresholds"
    assert ("± 68 %, linked voxels" in text) == bool(linked), "and its own errors"
    each = [len(scene) for scene in data["scenes"]]
    assert text.count("<canvas") == sum(each)
    mistakes = text.partition("<h2>Mistakes</h2>")[2].partition("</section>")[0]
    beside = mistakes.count("<figure")
    assert each[:beside] == [2] * beside, "a mistake is drawn as true and as found"
    if "Worst and best events" in sections:
        assert each[beside:] == [panels] * 2, "of three events the worst and the best"


@pytest.mark.slow
def test_a_network_that_cannot_be_read_is_said_to_be_missing(
    tmp_path: Path, few_events: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = judged(tmp_path, few_events, "segmentation")
    for file in tmp_path.rglob("checkpoint.pt"):
        file.unlink()
    text, data = write(tmp_path, "--run", run)
    assert f"It could not be drawn: run {run}: no checkpoint.pt" in text
    assert not data["scenes"]
    assert "no checkpoint.pt" in capsys.readouterr().err
