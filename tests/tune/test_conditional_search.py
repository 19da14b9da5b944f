"""A search with a condition, a null and two first trials: its trials, MLflow, journal and page."""

import json
from pathlib import Path

import pytest
from optuna import load_study
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from searches import finished, mlflow_runs, tune

from lartpc_ray.tune.journal import JOURNAL

SPACE = """
task: clustering
fixed:
  network.depth: 2
  network.blocks: 1
  task.init_margin: 0.1
  task.seeds.grid_points: 3
  data.batch_events: 1
  optimizer.evaluate_every: 2
  optimizer.batchnorm_batches: 1
search:
  network.filters: {step: 2, int: [2, 4], prior: [2, 4]}
  task.loss.mask: {choice: [balanced_bce, focal]}
  task.loss.inter: {when: {task.loss.mask: focal}, uniform: [0.5, 2.0], step: 0.5}
  data.splits.train_events: {choice: [null, 2]}
first:
  - {network.filters: 2, task.loss.mask: balanced_bce, task.loss.inter: 1.5}
  - {task.loss.mask: focal, task.loss.inter: 2.0}
budgets:
  smoke: {trials: 5, steps: 2, min_steps: 2, sampler: random, concurrent: 2}
"""


@pytest.mark.slow
def test_a_trial_has_no_value_of_a_setting_without_effect(few_events: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(SPACE)
    words = ("--budget", "smoke", "--data", str(few_events))
    status, out, err = finished(tune(tmp_path, *words, study=str(tmp_path / "mine.yaml")))
    assert status == 0, err
    assert "Traceback" not in err
    (folder,) = tmp_path.glob("mine-*")
    sampled = [
        json.loads((folder / "trials" / str(n) / "sampled.json").read_text()) for n in range(5)
    ]
    masks = [point["task.loss.mask"] for point in sampled]
    assert masks[:2] == ["balanced_bce", "focal"]
    assert sampled[1]["task.loss.inter"] == 2.0
    named = mlflow_runs(tmp_path)
    journal = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    trials = load_study(study_name=folder.name, storage=journal).trials
    for number, point in enumerate(sampled):
        focal = point["task.loss.mask"] == "focal"
        assert ("task.loss.inter" in point) == focal
        (run,) = named[f"trial {number}"]
        assert ("inter" in run.data.params) == focal
        assert ("inter" in run.data.tags["mlflow.note.content"]) == focal
        assert trials[number].params == point
    trained = json.loads(next(tmp_path.rglob("trial.json")).read_text())
    assert trained["task"]["loss"]["inter"] in (0.5, 1.0, 1.5, 2.0)
    (page,) = tmp_path.rglob("report.html")
    text = page.read_text()
    assert "Settings without an effect in some trials have no axis." in text
    chosen = out.split("best of 5 trials")[1].split("every metric")[0]
    best = sampled[int(chosen.split("trial ")[1].split(",")[0])]
    assert ("task.loss.inter" in chosen) == ("task.loss.inter" in best)
