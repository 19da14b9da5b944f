"""The end of a search: each network reads each event of a split once."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lartpc_ray.atomic import write_json
from lartpc_ray.data.splits import Split
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.shipped import find_space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.trials.trial import Trial
from lartpc_ray.tune import result
from lartpc_ray.tune.history import History, Measurement
from lartpc_ray.tune.journal import TRIAL_INDEX
from lartpc_ray.tune.sampled import SAMPLED, trial_folder
from lartpc_ray.tune.study import Study


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[float, bytes]]:
    """Count the passes of an event through a network, by its weights and the event's voxels."""
    counted: Counter[tuple[float, bytes]] = Counter()
    forward = UResNet.forward

    def counting(self: UResNet, coords: torch.Tensor, *inputs: Any) -> Any:
        weights = sum(float(one.double().sum()) for one in self.parameters())
        events = inputs[2]
        for event in events.unique():
            counted[weights, coords[events == event].int().numpy().tobytes()] += 1
        return forward(self, coords, *inputs)

    monkeypatch.setattr(UResNet, "forward", counting)
    return counted


def finished_study(
    trial: Trial, settings: dict[str, Any], study: Study, number: int = 0, objective: float = 0.5
) -> Any:
    """Write the checkpoint of a trial whose network is not a new one; return its results."""
    network = trial.make_network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * (number + 1))
    folder = trial_folder(study.folder, number)
    folder.mkdir(parents=True)
    write_json(folder / SAMPLED, settings)
    history = [{"objective": objective, "loss": 1.0, "step": 1.0}]
    checkpoints.add(folder, Checkpoint(trial, 1, network.state_dict(), {}, history))
    config = {**settings, TRIAL_INDEX: number}
    return [SimpleNamespace(config=config, metrics={"objective": objective}, error=None)]


def varied_filters() -> History:
    """Return three trials whose objective rises with the filters."""
    history = History()
    for number, filters in enumerate((4, 5, 6)):
        history.start({"network.filters": filters, "optimizer.learning_rate": 1e-3}, until=5)
        scores = {"MIP": {event: 0.1 * filters + 0.01 * event for event in range(20)}}
        history.record(number, 5, Measurement(0.1 * filters, scores))
    return history


@pytest.mark.slow
def test_an_event_passes_a_network_once_at_the_end_of_a_search(
    tmp_path: Path,
    few_events: Path,
    monkeypatch: pytest.MonkeyPatch,
    passes: Counter[tuple[float, bytes]],
) -> None:
    """Thresholds, table, displays, page and mistakes read the same outputs."""
    space = read_space(find_space("smoke"), "smoke", {"data.splits.path": str(few_events)})
    study = Study.create(tmp_path, space, None)
    settings = {"network.filters": 4, "optimizer.learning_rate": 1e-3}
    trial = space.trial(settings)
    results = finished_study(trial, settings, study)
    search = study.tracking.start(study.folder.name, {"study": study.folder.name, "kind": "search"})
    study.tracking.log_text(search, space.text, "smoke.yaml")
    run = study.tracking.start("trial 0", {"study": study.folder.name, "trial": "0"}, search)
    progress: Any = SimpleNamespace(runs={0: run})
    study.history = varied_filters()
    text, content = result.finish(study, results, progress)
    assert content["best"]["run"] == run
    assert text.startswith("Best on 3 test events: ")
    assert study.tracking.run_info(search)["mlflow.note.content"].startswith(
        "Trial 0 is [the only trial](#/experiments/1/runs?workflowType="
    )
    page = study.tracking.fetch(search, "report.html", tmp_path).read_text()
    assert "Mistakes" in page
    assert "Worst and best events" in page
    assert "<h2>Effects of the settings</h2>" in page
    (effects,) = (line for line in page.splitlines() if "filters: 4 " in line)
    assert "circle" in effects
    assert content["search"]["effects"][0]["setting"] == "network.filters"
    artefacts = [file.path for file in study.tracking.client.list_artifacts(search)]
    assert {"effects.json", "effects.png"} <= set(artefacts)
    splits: tuple[Split, ...] = ("tune", "test")
    events = {
        trial.task.prepare(event).coords.astype(np.int32).tobytes()
        for split in splits
        for event in trial.data.splits.events(split)
    }
    networks = {weights for weights, event in passes if event in events}
    assert len(networks) == 2, "the trained and an untrained network"
    counts = {key: count for key, count in passes.items() if key[1] in events}
    assert len(counts) == 2 * len(events)
    assert set(counts.values()) == {1}


@pytest.mark.slow
def test_a_winner_is_compared_with_the_default_on_the_test_split(
    tmp_path: Path, few_events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result, "log_report_page", lambda *_: None)
    space = read_space(find_space("smoke"), "smoke", {"data.splits.path": str(few_events)})
    study = Study.create(tmp_path, space, None)
    results: Any = []
    runs = {}
    parent = study.tracking.start("search", {"study": study.folder.name, "kind": "search"})
    for number, objective in enumerate((0.4, 0.5)):
        settings = {"network.filters": 4 + number, "optimizer.learning_rate": 1e-3}
        results += finished_study(space.trial(settings), settings, study, number, objective)
        tags = {"study": study.folder.name, "trial": str(number)}
        runs[number] = study.tracking.start(f"trial {number}", tags, parent)
    progress: Any = SimpleNamespace(runs=runs)
    text, content = result.finish(study, results, progress)
    assert content["best"]["trial"] == 1
    assert content["search"]["winner"]["difference"]["difference"] == pytest.approx(0.1)
    assert content["search"]["test"]["events"] == 3
    said = " ".join(text.split())
    assert "Trial 1 is better than the default (trial 0) by +0.1000" in said
    assert "on the 3 test events by" in said
    note = study.tracking.run_info(parent)["mlflow.note.content"]
    assert note.startswith("Trial 1 is the best of [2 trials](#/experiments/1/runs?workflowType=")
    assert "Trial 1 is better than the default" in note
    assert f"/runs/{parent}/artifacts/report.html?" in note
    names = {number: study.tracking.run_info(run)["name"] for number, run in runs.items()}
    assert names == {0: "trial 0", 1: "trial 1 · best"}
    result.mark_best(study.tracking, parent, runs[0])
    names = {number: study.tracking.run_info(run)["name"] for number, run in runs.items()}
    assert names == {0: "trial 0 · best", 1: "trial 1"}, "as after a resume"
    assert study.tracking.children(parent, best="true") == [runs[0]]
