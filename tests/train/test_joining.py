"""The networks that join pieces: learned at the end, kept in the checkpoint, used."""

from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY

from lartpc_ray.data.files import read_events
from lartpc_ray.networks import joining
from lartpc_ray.predict.evaluate import THIS, UNTRAINED, evaluate_on_test
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.inference import predict, reconstruct_events
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.tasks import joining as tasks_joining
from lartpc_ray.tasks.joining import JOINING
from lartpc_ray.train import loop
from lartpc_ray.train.joining import add_joining
from lartpc_ray.train.loop import train
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import make_trial

PIECES: dict[str, Any] = {"task.joining_events": 4, "task.method": "pieces", "task.min_voxels": 2}
VALUES = f"constants.{JOINING}"
pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train the small networks for some steps: the pieces of an untrained network are many."""
    monkeypatch.setattr(joining, "MOST_STEPS", 20)


def trained(folder: Path, **changes: Any) -> tuple[list[dict[str, float]], Checkpoint]:
    """Train the small trial; return its validations and its last checkpoint."""
    reports: list[dict[str, float]] = []
    train(make_trial({**TINY, **changes}), folder, reports.append)
    return reports, checkpoints.load(sorted(folder.glob("step-*.pt"))[-1])


@pytest.mark.slow
def test_a_resumed_run_has_the_same_joining(tmp_path: Path) -> None:
    reports, whole = trained(tmp_path / "whole", **PIECES)
    (tmp_path / "rest").mkdir()
    copy(tmp_path / "whole" / "step-000000002.pt", tmp_path / "rest")
    before = checkpoints.load(tmp_path / "whole" / "step-000000002.pt")
    resumed, rest = trained(tmp_path / "rest", **PIECES)
    assert whole.network[VALUES].any()
    assert not torch.equal(before.network[VALUES], whole.network[VALUES]), "learned anew"
    assert torch.equal(rest.network[VALUES], whole.network[VALUES])
    assert [one["objective"] for one in resumed] == [one["objective"] for one in reports]
    assert {"MIP/join_probability", "MIP/min_cluster_voxels"} <= reports[0].keys()


@pytest.mark.slow
def test_the_joining_changes_no_other_weight(tmp_path: Path) -> None:
    _, without = trained(tmp_path / "without")
    _, joined = trained(tmp_path / "joined", **{"task.joining_events": 4})
    assert joined.network.keys() - without.network.keys() == {VALUES}
    assert all(torch.equal(joined.network[name], own) for name, own in without.network.items())


@pytest.mark.slow
def test_a_network_learns_to_join_at_its_last_step(tmp_path: Path) -> None:
    _, end = trained(tmp_path, **{"task.joining_events": 4})
    early = checkpoints.load(tmp_path / "step-000000002.pt")
    assert (early.step, end.step) == (2, 4)
    assert end.network[VALUES].any()
    assert not early.network[VALUES].any()
    assert "pieces" in end.to_use().trial.task.methods
    assert "pieces" not in early.to_use().trial.task.methods
    assert VALUES not in early.to_use().network
    early.to_use().restored()


@pytest.mark.slow
def test_a_run_that_stopped_before_its_fit_fits_when_it_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"task.joining_events": 4}
    reports, whole = trained(tmp_path / "whole", **settings)

    def stop(*rest: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "fit_constants", stop)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "stopped", **settings)
    stopped = checkpoints.load(tmp_path / "stopped" / "step-000000004.pt")
    assert len(stopped.history) == 2, "the last step and its validation are saved before the fit"
    assert not stopped.network[VALUES].any()
    again, rest = trained(tmp_path / "stopped", **settings)
    assert [one["objective"] for one in again] == [one["objective"] for one in reports]
    assert torch.equal(rest.network[VALUES], whole.network[VALUES])


@pytest.mark.slow
def test_no_validation_computes_pieces_that_it_does_not_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*rest: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("lartpc_ray.tasks.clustering.joined_outputs", refuse)
    _, end = trained(tmp_path, **{"task.joining_events": 4})
    assert end.network[VALUES].any()
    assert list(reconstruct_events(end, tune_events(), {}))


@pytest.mark.slow
def test_the_untrained_network_learns_to_join_too(tmp_path: Path) -> None:
    _, end = trained(tmp_path / "run", **{"task.joining_events": 4, "task.min_voxels": 2})
    evaluation = Evaluation(end)
    result = evaluate_on_test(evaluation)
    assert {f"{UNTRAINED}, joined pieces", f"{THIS}, joined pieces"} <= result.means.keys()
    assert evaluation.untrained.network[VALUES].any()
    assert not torch.equal(evaluation.untrained.network[VALUES], end.network[VALUES])


@pytest.mark.slow
def test_without_train_events_the_untrained_network_joins_nothing(tmp_path: Path) -> None:
    _, end = trained(tmp_path / "run", **{"task.joining_events": 4, "task.min_voxels": 2})
    (tmp_path / "data").mkdir()
    for split in ("tune", "test"):
        copy(Path(TINY["data.splits.path"]) / f"{split}.h5", tmp_path / "data")
    means = evaluate_on_test(Evaluation(end, str(tmp_path / "data"))).means
    assert f"{THIS}, joined pieces" in means
    assert f"{UNTRAINED}, joined pieces" not in means


@pytest.mark.slow
def test_a_finished_network_learns_to_join(tmp_path: Path) -> None:
    _, state = trained(tmp_path / "run", **{"task.min_voxels": 2})
    added = add_joining(state, 4)
    assert not state.trial.task.fitted_events
    assert added.trial.task.fitted_events == 4
    assert added.trial.task.active_method.name == "pieces"
    assert all(torch.equal(added.network[name], own) for name, own in state.network.items())
    assert torch.equal(add_joining(state, 4).network[VALUES], added.network[VALUES])
    assert not torch.equal(add_joining(state, 2).network[VALUES], added.network[VALUES])
    checkpoints.save(tmp_path / "added", added)
    loaded = checkpoints.load(tmp_path / "added")
    assert loaded.trial == added.trial
    task, events = loaded.trial.task.with_method("pieces"), list(tune_events())
    pairs = list(predict(loaded.restored(), task, events))
    found = task.validate_on(pairs)
    assert found.thresholds["MIP"].keys() == {"join_probability", "min_cluster_voxels"}
    used = Checkpoint(**{**vars(loaded), "trial": loaded.trial.model_copy(update={"task": task})})
    again = list(reconstruct_events(used, events, found.thresholds))
    for (event, outputs), event_again in zip(pairs, again, strict=True):
        own = task.reconstruct(event, outputs, found.thresholds)
        np.testing.assert_array_equal(own.cluster, event_again.cluster)
        assert len(set(own.cluster)) > 2, "several clusters"


@pytest.mark.slow
def test_a_class_with_enough_pairs_takes_no_further_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, state = trained(tmp_path)
    counts: list[int] = []
    fit = joining.fit_joining

    def counted(features: np.ndarray, same: np.ndarray, seed: int) -> torch.Tensor:
        counts.append(len(features))
        return fit(features, same, seed)

    monkeypatch.setattr(tasks_joining, "fit_joining", counted)
    add_joining(state, 1)
    add_joining(state, 4)
    monkeypatch.setattr(tasks_joining, "MOST_PAIRS", 1)
    add_joining(state, 4)
    first, every, capped = counts[:5], counts[5:10], counts[10:]
    assert sum(capped) < sum(every)
    assert all(few == own for few, own in zip(capped, first, strict=True) if own)


def tune_events() -> Any:
    return read_events(Path(TINY["data.splits.path"]) / "tune.h5")


@pytest.mark.slow
def test_a_batch_joins_the_pieces_of_each_event_alone(tmp_path: Path) -> None:
    _, state = trained(tmp_path, **PIECES)
    network, task = state.restored(), state.trial.task
    together = list(predict(network, task, tune_events()))
    assert len(together) > 1
    for number, event in enumerate(tune_events()):
        ((_, alone),) = predict(network, task, [event])
        outputs = together[number][1]
        np.testing.assert_array_equal(alone["piece"] >= 0, event.semantic >= 0)
        same = alone["piece"] == outputs["piece"]  # last bits depend on the batch
        assert same.mean() > 0.95
        near = np.abs(alone["piece_probability"] - outputs["piece_probability"]) < 1e-3
        assert near[same].mean() > 0.95


def test_untrained_joining_joins_nothing() -> None:
    trial = make_trial({**TINY, **PIECES})
    assert isinstance(trial.task, ClusteringTask)
    event, outputs = next(iter(predict(trial.make_network(), trial.task, tune_events())))
    for voxels in trial.task.class_voxels(event, outputs).values():
        labels = trial.task.pieces.labels(voxels, join_probability=0.05, min_cluster_voxels=1)
        np.testing.assert_array_equal(labels, voxels["piece"])


@pytest.mark.slow
def test_start_weights_may_lack_the_joining(tmp_path: Path) -> None:
    _, state = trained(tmp_path / "first")
    still = {"optimizer.learning_rate": 1e-30, "optimizer.steps": 1, "seed": 3, **PIECES}
    start = str(sorted((tmp_path / "first").glob("step-*.pt"))[-1])
    _, end = trained(tmp_path / "second", **still, start_weights=start)
    learned = [name for name, _ in state.trial.make_network().named_parameters()]
    assert all(torch.equal(end.network[name], state.network[name]) for name in learned)
    assert end.network[VALUES].any()


@pytest.mark.slow
def test_start_weights_may_have_a_joining_that_the_trial_lacks(tmp_path: Path) -> None:
    _, state = trained(tmp_path / "first", **PIECES)
    start = str(sorted((tmp_path / "first").glob("step-*.pt"))[-1])
    assert VALUES in state.network
    _, end = trained(tmp_path / "second", start_weights=start, seed=3)
    assert VALUES not in end.network


@pytest.mark.slow
def test_a_trial_that_stops_early_has_no_joining_of_its_start_weights(tmp_path: Path) -> None:
    trained(tmp_path / "first", **PIECES)
    start = str(sorted((tmp_path / "first").glob("step-*.pt"))[-1])
    trained(tmp_path / "second", **{"task.joining_events": 4}, start_weights=start, seed=3)
    early = checkpoints.load(tmp_path / "second" / "step-000000002.pt").to_use()
    assert "pieces" not in early.trial.task.methods


def test_pieces_need_events_to_learn_from() -> None:
    with pytest.raises(ValueError, match="method pieces: no network joins"):
        ClusteringTask(method="pieces")
    with pytest.raises(ValueError, match="--method pieces: no network joins the pieces; train"):
        ClusteringTask().with_method("pieces")
    assert "joined pieces" not in ClusteringTask().alternatives()
    assert "joined pieces" in ClusteringTask(joining_events=1).alternatives()


def test_another_task_has_no_pieces(tmp_path: Path) -> None:
    trial = make_trial({**_small("segmentation"), "optimizer.steps": 1})
    train(trial, tmp_path, lambda numbers: None)
    state = checkpoints.load(tmp_path / "step-000000001.pt")
    with pytest.raises(ValueError, match="the task segmentation has no pieces to join"):
        add_joining(state, 4)


def _small(task: str) -> dict[str, Any]:
    common = {name: value for name, value in TINY.items() if not name.startswith("task.")}
    return {"task.name": task, **common}
