"""Two networks on the same events: their differences, as text, page and picture."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY

from lartpc_ray import compare
from lartpc_ray.metrics.paired import paired_differences
from lartpc_ray.metrics.table import Metrics, Row
from lartpc_ray.predict.evaluate import measure
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.report import __main__ as report
from lartpc_ray.report.compare import log_comparison
from lartpc_ray.report.comparison import Comparison
from lartpc_ray.terminal.command import run as run_command
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint, last_thresholds
from lartpc_ray.trials.paths import make_trial

CLASSES = ("HIP", "MIP", "SHOWER", "DELTA", "MICHEL")


def rows(ari: float, split: float, spread: float = 0.1) -> Iterator[Row]:
    """Return rows of twenty events; DELTA has one value in all of them."""
    noise = np.random.default_rng(3).normal(0, spread, 20)
    for event, off in enumerate(noise):
        yield Row(event, "DELTA", "ari", 1.0)  # first in the events, and fourth in the tables
        yield Row(event, "HIP", "ari", ari + off)
        yield Row(event, "MIP", "ari", ari + off * (-1) ** event)
        yield Row(event, "HIP", "split", split + off / 10 * (-1) ** event)


@pytest.fixture
def comparison() -> Comparison:
    metrics = Metrics(rows(0.8, 0.1)), Metrics(rows(0.7, 0.3, 0.05))
    differ = {"network.depth": (5, 4), "optimizer.learning_rate": (0.001, None)}
    curves = {1: 0.2, 2: 0.8}, {1: 0.3, 2: 0.7}
    return Comparison("clustering", "ari", ("first", "other"), 20, metrics, differ, curves)


def test_the_differences_are_paired_and_their_mean_leaves_out_equal_classes(
    comparison: Comparison,
) -> None:
    found = comparison.differences["ari"]
    assert list(found) == ["mean", "HIP", "MIP", "DELTA"]
    expected = paired_differences(*comparison.metrics, "ari")
    assert found == {name: expected[name] for name in found}
    means = [comparison.mean(side, "ari", "mean") for side in (0, 1)]
    assert None not in means
    assert means[0] - means[1] == pytest.approx(found["mean"].difference)  # type: ignore[operator]
    assert "Means leave out DELTA: one value in all events." in comparison.text()
    assert found["mean"].p_better > 0.99


def test_classes_stand_in_their_order_not_in_that_of_the_events(comparison: Comparison) -> None:
    """Events have, for example, a Michel electron before the first delta electron."""
    ours, others = (Metrics(reversed(list(metrics.rows))) for metrics in comparison.metrics)
    found = Comparison("clustering", "ari", ("first", "other"), 20, (ours, others), {})
    assert list(found.differences["ari"]) == ["mean", "HIP", "MIP", "DELTA"]


def test_a_lower_share_of_split_clusters_is_better(comparison: Comparison) -> None:
    split = comparison.differences["split"]["HIP"]
    assert split.difference < 0
    assert split.p_better > 0.99


def test_the_text_names_both_and_fits_a_terminal(comparison: Comparison) -> None:
    text = comparison.text()
    assert text.startswith("ARI, first: better than other by 0.099")
    assert ["  HIP" in line for line in text.splitlines()].count(True) == 1
    assert "network.depth" in text
    every = comparison.text(every=True)
    assert ["  HIP" in line for line in every.splitlines()].count(True) == 2
    assert max(map(len, every.splitlines())) <= 80


def test_the_content_is_json(comparison: Comparison) -> None:
    content = json.loads(json.dumps(comparison.content()))
    assert (content["a"], content["b"], content["events"]) == ("first", "other", 20)
    assert content["differences"]["ari"]["HIP"]["difference"] == pytest.approx(
        comparison.differences["ari"]["HIP"].difference
    )
    assert content["settings"]["network.depth"] == [5, 4]
    assert content["objectives"]["b"] == {"1": 0.3, "2": 0.7}


def test_scores_that_are_equal_everywhere_are_no_difference() -> None:
    metrics = Metrics(Row(event, "HIP", "ari", 1.0) for event in range(3))
    same = Comparison("clustering", "ari", ("a", "b"), 3, (metrics, metrics), {})
    assert same.sentences()[0] == "No difference on 3 events: all scores are equal."
    assert Comparison("clustering", "ari", ("a", "b"), 3, (Metrics([]),) * 2, {}).text()
    assert Comparison("segmentation", "f1", ("a", "b"), 3, (Metrics([]),) * 2, {}).text()


def make_state(events: Path, seed: int, **settings: object) -> Checkpoint:
    """Return an untrained network with thresholds from a validation."""
    values = {**TINY, "data.splits.path": str(events), "seed": seed, **settings}
    trial = make_trial(values)
    last = {f"{name}/{axis}": 0.5 for name in CLASSES for axis in ("s0", "p0")}
    last |= {f"{name}/ari": 0.5 for name in CLASSES} | {"step": 4.0, "objective": 0.5 + seed / 10}
    first = {**last, "step": 2.0, "objective": 0.1}
    return Checkpoint(trial, 4, trial.make_network().state_dict(), {}, [first, last])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, few_events: Path) -> tuple[Path, Path]:
    """Write two untrained networks."""
    folder = tmp_path_factory.mktemp("networks")
    checkpoints.save(folder / "a", make_state(few_events, 0))
    checkpoints.save(folder / "b", make_state(few_events, 1))
    return folder / "a", folder / "b"


def test_two_networks_are_measured_on_the_same_events(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    found = compare(*folders, runs=tmp_path / "none")
    assert found.labels == ("a with seeds", "b with seeds")
    assert found.settings == {"seed": (0, 1)}
    assert found.objectives == ({2: 0.1, 4: 0.5}, {2: 0.1, 4: 0.6})
    for folder, metrics in zip(folders, found.metrics, strict=True):
        state = checkpoints.load(folder)
        thresholds = last_thresholds(state)
        assert set(thresholds) == set(CLASSES)
        expected = measure(state.trial.task, Evaluation(state).predictions("test"), thresholds)
        assert metrics.rows == expected.rows
    assert not (tmp_path / "none").exists()


def test_the_other_network_is_measured_on_the_events_of_the_first(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    checkpoints.save(tmp_path / "away", make_state(tmp_path / "no-such-events", 1))
    found, expected = compare(folders[0], tmp_path / "away"), compare(*folders)
    assert found.metrics[1].rows == expected.metrics[1].rows


def test_a_network_is_compared_with_itself_by_two_reconstructions(
    folders: tuple[Path, Path], few_events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    state = make_state(few_events, 0, **{"task.dbscan.eps": [2.0], "task.dbscan.min_points": [1]})
    checkpoints.save(tmp_path / "one", state)
    arguments = [str(tmp_path / "one"), "--against-method", "dbscan"]
    for more in (["--html", str(page)], ["--json"]):
        assert run_command(report.parser(), report.main, [*arguments, *more]) == 0
    text = page.read_text()
    assert "Marked: a difference of more than 2 errors, of either sign." in text
    assert "one with DBSCAN, tuned" in text
    assert "The same events side by side" in text
    assert "A: predicted cluster" in text
    assert "B: predicted cluster" in text
    assert "Learning curves" in text
    content = json.loads(capsys.readouterr().out)
    assert content["settings"] == {"task.method": ["seeds", "dbscan"]}


def test_networks_of_two_tasks_are_refused(
    folders: tuple[Path, Path], few_events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"task.name": "segmentation", "network.depth": 2, "network.filters": 2}
    trial = make_trial({**settings, "data.splits.path": str(few_events)})
    state = Checkpoint(trial, 1, trial.make_network().state_dict(), {}, [])
    checkpoints.save(tmp_path / "other", state)
    arguments = [str(folders[0]), "--against", str(tmp_path / "other")]
    assert run_command(report.parser(), report.main, arguments) == 2
    error = capsys.readouterr().err
    assert f"--against {tmp_path / 'other'}: its task is segmentation, that of a" in error
    assert run_command(report.parser(), report.main, [str(folders[0]), "--method", "seeds"]) == 2
    assert "--method: give it with --against" in capsys.readouterr().err


def test_thresholds_of_another_reconstruction_are_not_taken(few_events: Path) -> None:
    state = make_state(few_events, 0)
    assert last_thresholds(state)["MIP"] == {"s0": 0.5, "p0": 0.5}
    linked = make_state(few_events, 0, **{"task.method": "linked"})
    assert last_thresholds(linked) == {}


def test_a_search_logs_its_best_trial_against_another(few_events: Path, tmp_path: Path) -> None:
    states = {3: make_state(few_events, 1), 0: make_state(few_events, 0)}
    tracking = Tracking(tmp_path, "search")
    run = tracking.start("search", {"kind": "search"})
    evaluation = Evaluation(states[3])
    evaluation.use(evaluation.task.with_method("dbscan"))
    log_comparison(tracking, run, evaluation, states.__getitem__, (3, 0))
    assert evaluation.task.active_method.name == "dbscan"
    for name in ("comparison.html", "comparison.png", "comparison.txt"):
        assert tracking.fetch(run, name, tmp_path / "fetched").stat().st_size > 500
    assert tracking.fetch(run, "comparison.png", tmp_path / "fetched").read_bytes()[1:4] == b"PNG"
    file = tracking.fetch(run, "comparison.json", tmp_path / "fetched")
    content = json.loads(file.read_text())
    assert (content["a"], content["b"]) == ("trial 3 with seeds", "trial 0 with seeds")
    assert content["settings"] == {"seed": [1, 0]}
