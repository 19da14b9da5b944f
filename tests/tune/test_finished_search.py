"""A finished search: its table, its runs in MLflow, its report; one search serves all tests."""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from searches import best_of, finished, mlflow_runs, registered, tune

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


class Search(NamedTuple):
    """The folder of runs of a finished search, its output, and its runs in MLflow by name."""

    runs: Path
    out: str
    err: str
    named: dict[str, list[Run]]

    @property
    def table(self) -> str:
        return self.out.split("every metric")[0]

    @property
    def parent(self) -> Run:
        """Give the run of the search itself."""
        (run,) = [runs[0] for name, runs in self.named.items() if name.startswith("smoke-")]
        return run

    @property
    def thresholds(self) -> list[Run]:
        """Return the runs of the thresholds: of one reconstruction after a search."""
        return [runs[0] for name, runs in self.named.items() if name.startswith("thresholds ")]

    @property
    def clock(self) -> str:
        """Return the hour and minute in the name of the study's folder."""
        clock = self.parent.data.tags["study"].split("-")[2]
        return f"{clock[:2]}:{clock[2:4]}"

    @property
    def objective(self) -> float:
        return float(self.parent.data.metrics["objective"])

    @property
    def trials(self) -> list[Run]:
        runs = [self.named[f"trial {number}"] for number in (0, 1)]
        assert [len(found) for found in runs] == [1, 1]
        return [found[0] for found in runs]

    def report(self, *words: str) -> str:
        """Give the output of the report command on the runs."""
        command = [sys.executable, "-m", "lartpc_ray.report", *words, "--runs", str(self.runs)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout


def searched(runs: Path) -> Search:
    status, out, err = finished(tune(runs, "--budget", "laptop"))
    assert status == 0, err
    return Search(runs, out, err, mlflow_runs(runs))


@pytest.fixture(scope="session")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    return searched(tmp_path_factory.mktemp("search"))


def test_the_same_seed_gives_the_same_table(search: Search, tmp_path: Path) -> None:
    assert searched(tmp_path).table == search.table


def test_no_traceback_is_printed(search: Search) -> None:
    assert "Traceback" not in search.err


@pytest.mark.parametrize("name", ["this network", "untrained network", "DBSCAN"])
def test_the_table_compares(search: Search, name: str) -> None:
    assert name in search.table


def test_the_run_of_the_search_is_the_parent_of_finished_trials(search: Search) -> None:
    for trial in search.trials:
        assert trial.data.tags["mlflow.parentRunId"] == search.parent.info.run_id
        assert trial.info.status == "FINISHED"


def test_a_trial_has_its_objective_loss_and_thresholds_as_metrics(search: Search) -> None:
    for trial in search.trials:
        assert {"training/loss", "objective", "objective/MIP", "thresholds/MIP/s0"} <= set(
            trial.data.metrics
        )


def test_a_trial_has_few_enough_parameters_to_compare(search: Search) -> None:
    for trial in search.trials:
        assert trial.data.params["depth"] == "3"
        assert {"filters", "learning_rate"} <= set(trial.data.params)
        assert len(trial.data.params) < 10


def test_a_trial_has_its_provenance_as_tags(search: Search) -> None:
    for trial in search.trials:
        assert {"task", "engine", "data", "versions", "host"} <= set(trial.data.tags)


def test_a_trial_has_the_three_splits_as_datasets(search: Search) -> None:
    for trial in search.trials:
        assert trial.inputs is not None
        assert len(trial.inputs.dataset_inputs) == 3


def test_a_trial_has_metrics_of_the_machine(search: Search) -> None:
    for trial in search.trials:
        assert "system/disk_usage_percentage" in trial.data.metrics


def test_the_run_of_the_search_is_described_by_its_verdict(search: Search) -> None:
    note = search.parent.data.tags["mlflow.note.content"]
    trials = r"\[2 trials\]\(#/experiments/1/runs\?\S+\)"
    said = re.match(
        rf"(Trial [01] is the best of {trials}\. .*DBSCAN by .* \(P\(better\).*?\)\.)"
        r"( Trial 1 is not surely better\.)?\n",
        note,
    )
    assert said, "the first line is all that MLflow shows at first"
    assert len(re.sub(r"\(#\S+\)", "", said[1])) < 100, "as wide as on a small screen"
    assert "ARI, all events" in note
    assert search.parent.info.run_name == f"{search.clock} laptop {search.objective:.3f}"


def test_the_verdict_stands_first(search: Search) -> None:
    assert search.out.startswith("Best on 60 test events: ")


def test_no_empty_experiment_is_listed(search: Search) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{search.runs / 'mlflow.db'}")
    assert [each.name for each in client.search_experiments()] == ["smoke"]


def test_the_thresholds_stand_under_the_best_trial_and_the_classes_under_the_thresholds(
    search: Search,
) -> None:
    (thresholds,) = search.thresholds
    best = best_of(search.named).info.run_id
    assert thresholds.data.tags["mlflow.parentRunId"] == best
    (mip,) = search.named["MIP"]
    assert mip.data.tags["mlflow.parentRunId"] == thresholds.info.run_id


def test_the_best_trial_is_the_champion_and_the_first_one_is_the_papers(search: Search) -> None:
    versions = registered(search.runs)
    best, first = best_of(search.named), search.trials[0]
    wanted = {"champion": best.info.run_id, "paper": first.info.run_id}
    assert {alias: version.run_id for alias, version in versions.items()} == wanted


def test_the_report_of_the_best_run_is_part_of_the_table(search: Search) -> None:
    best = search.out.split("--run ")[1].split()[0]
    assert search.report("--run", best).strip() in search.table


def test_the_report_of_the_study_lists_its_trials_and_the_best_one(search: Search) -> None:
    text = search.report("smoke")
    best = search.out.split("--run ")[1].split()[0]
    assert text.startswith("Best on 60 test events")
    assert "smoke: 2 trials, best first\n  trial" in text
    assert "learning_rate" in text.split("best first\n")[1].splitlines()[0]
    assert search.report("--run", best).strip() in text


def test_the_page_shows_the_worst_and_best_events(search: Search) -> None:
    folder = search.runs / "mlartifacts" / "smoke" / search.parent.info.run_id
    page = (folder / "artifacts" / "report.html").read_text()
    assert "<h2>Worst and best events</h2>" in page
    assert "could not be drawn" not in page


@pytest.mark.parametrize(
    "name",
    ["checkpoint.pt", "trial.json", "verdict.json", "table.txt", "smoke.yaml", "report.html"],
)
def test_an_artifact_is_kept(search: Search, name: str) -> None:
    assert any(path.is_file() for path in (search.runs / "mlartifacts").rglob(name))
