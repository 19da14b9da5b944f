"""One conformance suite for all tasks."""

import numpy as np
import pytest
import torch
from conftest import make_event

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.predict import predict
from lartpc_ray.reconstruct.cuts import SeedCut
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.tasks.clustering import SEVERAL
from lartpc_ray.trial import Trial

SMALL = {"depth": 2, "filters": 4, "blocks": 1}
TASKS = [
    ClusteringTask(cut=SeedCut(min_voxels=1, grid_points=3)),
    ClusteringTask(coordinates=True, cut=SeedCut(min_voxels=1)),
]


@pytest.mark.parametrize("task", TASKS)
def test_from_events_to_metrics(task: ClusteringTask, rng: np.random.Generator) -> None:
    trial = Trial.model_validate({"task": task, "network": SMALL})
    network = trial.make_network()
    events = [make_event(rng), make_event(rng, 0), make_event(rng, 1), make_event(rng)]
    batch = VoxelBatch.of([task.prepare(event) for event in events])
    raw = network(batch.coords, task.features(batch), batch.shape, batch.event)
    loss = task.criterion(raw, batch, 0)
    loss.total.backward()
    assert all(torch.isfinite(value) for value in loss.terms.values())
    pairs = list(predict(network, task, events))
    assert [len(event) for event, _ in pairs] == [60, 0, 1, 60]
    found = task.validate_on(pairs)
    rows = [
        row
        for number, (event, out) in enumerate(pairs)
        for row in task.evaluate(number, event, out, found.thresholds).rows
    ]
    for name, score in found.scores.items():
        mean = np.mean([row.value for row in rows if row.name == name and row.metric == "ari"])
        assert score == pytest.approx(mean), "tuned score = measured score"
    assert found.goal == pytest.approx(np.mean(list(found.scores.values())))


def test_predictions_do_not_depend_on_the_company(rng: np.random.Generator) -> None:
    task = ClusteringTask()
    network = Trial.model_validate({"task": task, "network": SMALL}).make_network()
    events = [make_event(rng), make_event(rng)]
    together = [outputs for _, outputs in predict(network, task, events)]
    alone = [next(predict(network, task, [event]))[1] for event in events]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a["position"], b["position"], atol=1e-6)
    assert network.training


def test_phase_one_freezes_the_seediness(rng: np.random.Generator) -> None:
    task = ClusteringTask(seediness_from=5)
    assert task.frozen(4) == ("seediness",)
    assert task.frozen(5) == ()
    trial = Trial.model_validate({"task": task, "network": SMALL})
    network = trial.make_network()
    batch = VoxelBatch.of([make_event(rng)])
    raw = network(batch.coords, task.features(batch), batch.shape, batch.event, task.frozen(0))
    task.criterion(raw, batch, 0).total.backward()
    for name, parameter in network.named_parameters():
        learns = parameter.grad is not None and bool(parameter.grad.abs().sum())
        assert learns or "seediness" in name or "embedding" not in name
        assert parameter.grad is None or "seediness" not in name


def lines(sizes: list[int]) -> Event:
    """Straight clusters of one class, far apart."""
    coords, cluster = [], []
    for number, size in enumerate(sizes):
        coords += [[20 * number, 0, step] for step in range(size)]
        cluster += [number] * size
    count = len(coords)
    semantic = np.full(count, ParticleClass.MIP)
    return Event.of(
        np.array(coords), np.ones(count), (64, 64, 64), semantic=semantic, cluster=np.array(cluster)
    )


def test_the_baseline_and_the_cut() -> None:
    task = ClusteringTask()
    both = task.baseline(0, lines([12, 15])).means()
    assert both["MIP"]["ari"] == 1
    assert both["MIP"][SEVERAL] == 1
    one = task.baseline(0, lines([12, 9])).means()
    assert one["MIP"]["n_clusters"] == 1
    assert SEVERAL not in one["MIP"]
    assert task.baseline(0, lines([9])).means() == {}


def test_a_class_with_no_cluster_in_the_split_is_left_out_not_given_a_number() -> None:
    task = ClusteringTask()
    outputs = {
        "position": np.zeros((12, 3)),
        "margin": np.ones(12),
        "seediness": np.ones(12),
    }
    found = task.validate_on([(lines([12]), outputs)])
    assert list(found.scores) == ["MIP"]
    assert list(found.thresholds) == ["MIP"]
    with pytest.raises(ValueError, match="no event of the split has a cluster to score"):
        task.validate_on([])
