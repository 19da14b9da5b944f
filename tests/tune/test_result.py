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
from lartpc_ray.thresholds import scan
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.space import find_space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.trials.trial import Trial
from lartpc_ray.tune import result
from lartpc_ray.tune.sampler import SAMPLED, TRIAL_INDEX, trial_folder
from lartpc_ray.tune.study import Study


def scored_here(shards: Any, task: Any, metrics: Any) -> dict[int, Any]:
    """Score shards without Ray."""
    done = [[task.scores(part.voxels, metrics) for part in shard] for shard in shards]
    return dict(enumerate(done))


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


def finished_study(trial: Trial, settings: dict[str, Any], study: Study) -> Any:
    """Write the checkpoint of a trial whose network is not a new one; return its results."""
    network = trial.make_network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01)
    folder = trial_folder(study.folder, 0)
    folder.mkdir(parents=True)
    write_json(folder / SAMPLED, settings)
    history = [{"objective": 0.5, "loss": 1.0, "step": 1.0}]
    checkpoints.add(folder, Checkpoint(trial, 1, network.state_dict(), {}, history))
    config = {**settings, TRIAL_INDEX: 0}
    return [SimpleNamespace(config=config, metrics={"objective": 0.5}, error=None)]


def test_an_event_passes_a_network_once_at_the_end_of_a_search(
    tmp_path: Path,
    few_events: Path,
    monkeypatch: pytest.MonkeyPatch,
    passes: Counter[tuple[float, bytes]],
) -> None:
    """Thresholds, table, displays, page and mistakes read the same outputs."""
    monkeypatch.setattr(scan, "_in_parallel", scored_here)
    space = read_space(find_space("smoke"), "smoke", {"data.splits.path": str(few_events)})
    study = Study.create(tmp_path, space, None)
    settings = {"network.filters": 4, "optimizer.learning_rate": 1e-3}
    trial = space.trial(settings)
    results = finished_study(trial, settings, study)
    search = study.tracking.start(study.folder.name, {"study": study.folder.name, "kind": "search"})
    study.tracking.log_text(search, space.text, "smoke.yaml")
    run = study.tracking.start("trial 0", {"study": study.folder.name, "trial": "0"}, search)
    progress: Any = SimpleNamespace(runs={0: run})
    text, content = result.finish(study, results, progress, tmp_path)
    assert content["best"]["run"] == run
    assert "thresholds, tuned on 3 other events" in text
    page = study.tracking.fetch(search, "report.html", tmp_path).read_text()
    assert "Mistakes" in page
    assert "Worst and best events" in page
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
