"""Batches without voxels: every task, engine, accumulation, and a worker with an empty share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_loop import close, in_two_processes

from lartpc_ray.data.event import Event
from lartpc_ray.data.files import write_events
from lartpc_ray.networks.batchnorm import Norm
from lartpc_ray.sparse import available
from lartpc_ray.train.loop import train
from lartpc_ray.train.validation import recalibrate_batchnorm
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.trials.trial import Trial

SIDE = 16
SMALL: dict[str, Any] = {
    "network.depth": 2,
    "network.filters": 4,
    "network.blocks": 1,
    "data.splits.layout.side": SIDE,
    "data.batch_events": 2,
    "optimizer.steps": 2,
    "optimizer.evaluate_every": 2,
    "optimizer.batchnorm_batches": 2,
}
CLUSTERING = SMALL | {"task.seeds.grid_points": 3, "task.init_margin": 0.1}
HEADS = CLUSTERING | {"task.class_heads": True, "task.coordinates": True, "task.classes": True}
SEGMENTATION = SMALL | {"task.name": "segmentation"}
NARROW = {"task.regions.width": [0.9, 0.9], "task.regions.on_track_fraction": 1.0}
INFILL = SMALL | NARROW | {"task.name": "infill"}
TASKS = {
    "clustering": CLUSTERING,
    "class heads": HEADS | {"task.min_train_voxels": 10},
    "two phases": HEADS | {"task.seediness_from": 1, "optimizer.precision": "bfloat16"},
    "Lovász hinge": HEADS | {"task.loss.mask": "lovasz_hinge", "optimizer.clip": 1.0},
    "linked": HEADS | {"task.method": "linked", "task.loss.mask": "balanced_bce"},
    "segmentation": SEGMENTATION,
    "SparseSSNet": SEGMENTATION | {"task.reduction": "sum", "task.weights": "cluster_vertex"},
    "infill": INFILL,
    "infill, occupancy": INFILL | {"task.form": "bce", "task.start_value": "line"},
}


def event(voxels: int, known: bool = True) -> Event:
    """Return a straight track along the diagonal."""
    places = np.repeat(np.arange(voxels)[:, None], 3, axis=1)
    label = np.full(voxels, 1 if known else -1)
    cluster = np.zeros(voxels, int) if known else label
    return Event.of(places, np.ones(voxels), (SIDE,) * 3, semantic=label, cluster=cluster)


def splits(folder: Path, train_events: Sequence[Event]) -> str:
    """Write train events, and tune and test events of which some are empty."""
    for name, events in {"train": train_events, "tune": [event(14), event(0)]}.items():
        write_events(folder / f"{name}.h5", events)
    write_events(folder / "test.h5", [event(0), event(14)])
    return str(folder)


def of(settings: dict[str, Any], path: str, **more: Any) -> Trial:
    return make_trial({**settings, "data.splits.path": path, **more})


EMPTY, LOW = event(0), event(3, known=False)


def trains(trial: Trial, folder: Path) -> None:
    reports: list[dict[str, float]] = []
    train(trial, folder, reports.append)
    assert np.isfinite(reports[-1]["loss"])
    assert np.isfinite(reports[-1]["objective"])


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_without_voxels_trains(tmp_path: Path, task: str) -> None:
    trains(of(TASKS[task], splits(tmp_path, [EMPTY] * 3)), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_batches_without_voxels_train_on_every_engine(tmp_path: Path, task: str) -> None:
    """Empty events, low-energy deposits without a class, both with a track; whole and in parts."""
    for index, events in enumerate(([EMPTY] * 3, [LOW] * 3, [EMPTY, event(14), LOW])):
        (tmp_path / str(index)).mkdir()
        path = splits(tmp_path / str(index), events)
        engines = [name for name in available() if name == "native" or task != "two phases"]
        for engine in engines:  # others than native lack bfloat16
            for parts in (1, 2):
                more = {"network.engine": engine, "optimizer.accumulate": parts}
                trains(of(TASKS[task], path, **more), tmp_path / f"{index} {engine} {parts}")


def test_a_worker_with_an_empty_share_takes_the_step_of_the_others(tmp_path: Path) -> None:
    """One of two workers has the track, the other one an empty event; then one with both parts."""
    path = splits(tmp_path, [event(14), EMPTY])
    in_two_processes(of(HEADS, path, **{"resources.workers": 2}), tmp_path / "two")
    train(of(HEADS, path, **{"optimizer.accumulate": 2}), tmp_path / "one", lambda _: None)
    close(tmp_path / "two", tmp_path / "one", 1e-3)


@pytest.mark.slow
def test_synchronised_workers_with_an_empty_share_train(tmp_path: Path) -> None:
    path = splits(tmp_path, [event(14), EMPTY, EMPTY, EMPTY])
    settings = {"resources.workers": 2, "optimizer.norm": "synchronised"}
    in_two_processes(of(HEADS, path, **settings), tmp_path / "two")
    (state,) = (tmp_path / "two").glob("step-*.pt")
    assert all(bool(value.isfinite().all()) for value in checkpoints.load(state).network.values())


def test_empty_batches_leave_the_running_averages_of_batchnorm(tmp_path: Path) -> None:
    """Averages over no voxel are 0 and 1, which no layer was trained with."""
    trial = of(HEADS, splits(tmp_path, [event(0)] * 3))
    network = trial.make_network()
    norms = [module for module in network.modules() if isinstance(module, Norm)]
    for norm in norms:
        assert norm.running_mean is not None
        torch.nn.init.constant_(norm.running_mean, 0.5)
    recalibrate_batchnorm(network, trial, trial.data.splits.events("train"), 0, "cpu")
    assert {float(norm.running_mean.mean()) for norm in norms} == {0.5}  # type: ignore[union-attr]


def test_as_many_events_as_the_voxels_allow(tmp_path: Path) -> None:
    """With `data.batch_events: 0`, as the loader always could."""
    path = splits(tmp_path, [event(14), event(0), event(5)])
    trial = of(HEADS, path, **{"data.batch_events": 0, "data.batch_voxels": 20})
    reports: list[dict[str, float]] = []
    train(trial, tmp_path / "run", reports.append)
    assert np.isfinite(reports[-1]["loss"])
