"""One conformance suite for all tasks."""

import numpy as np
import pytest
import torch
from conftest import make_event

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.dead_regions import RandomRegions
from lartpc_ray.data.event import Event
from lartpc_ray.metrics.clustering import SEVERAL
from lartpc_ray.metrics.table import Metrics
from lartpc_ray.predict.inference import predict
from lartpc_ray.reconstruct.grid import choose
from lartpc_ray.reconstruct.reconstructions import DbscanClustering, SeedClustering
from lartpc_ray.reconstruct.resampling import ChoiceSettings
from lartpc_ray.tasks import AnyTask, ClusteringTask, InfillTask, MichelTask, SegmentationTask
from lartpc_ray.trials.trial import Trial

NARROW = RandomRegions(number=6, width=(0.3, 0.6))
SMALL = {"depth": 2, "filters": 4, "blocks": 1}
TASKS = [
    ClusteringTask(min_voxels=1, seeds=SeedClustering(grid_points=3)),
    ClusteringTask(coordinates=True, min_voxels=1),
    ClusteringTask(classes=True, class_heads=True, poster_classes=True, min_voxels=1),
    ClusteringTask(method="linked", min_voxels=1),
    ClusteringTask(
        method="dbscan", dbscan=DbscanClustering(eps=(1.8, 2.8), min_points=(1, 3)), min_voxels=1
    ),
    ClusteringTask(method="pieces", joining_events=4, min_voxels=1),
    SegmentationTask(),
    SegmentationTask(
        coordinates=True, weights="cluster_vertex", relabel=True, reduction="sum", metric="iou"
    ),
    MichelTask(min_voxels=1),
    InfillTask(regions=NARROW),
    InfillTask(regions=NARROW, form="focal", start_value="line", metric="iou"),
    InfillTask(regions=NARROW, form="squared_mean", start_value="random"),
    InfillTask(regions=NARROW, candidates="dense", start_value="minus_one"),
    InfillTask(regions=NARROW, candidates="dense", form="bce", start_value="line"),
]
PLANES = [None, "U"]


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("task", TASKS)
def test_from_events_to_metrics(task: AnyTask, plane: str | None, rng: np.random.Generator) -> None:
    data = {"splits": {"plane": plane}}
    trial = Trial.model_validate({"task": task, "network": SMALL, "data": data})
    network = trial.make_network()
    events = [make_event(rng), make_event(rng, 0), make_event(rng, 1), make_event(rng)]
    events = [trial.data.splits.seen(event) for event in events]
    batch = VoxelBatch.of([task.prepare(event) for event in events])
    raw = network(batch.coords, task.features(batch), batch.shape, batch.event)
    loss = task.criterion(raw, batch, 0)
    loss.total.backward()
    assert all(torch.isfinite(value) for value in loss.terms.values())
    pairs = list(predict(network, task, events))
    assert [len(event) for event, _ in pairs] == [len(task.prepare(event)) for event in events]
    found = task.validate_on(pairs)
    rows = [
        row
        for number, (event, out) in enumerate(pairs)
        for row in task.evaluate(number, event, out, found.thresholds).rows
    ]
    means = task.summary(Metrics(rows))
    for name, score in found.scores.items():
        chosen = score
        if task.methods:
            choice = choose(task.grid(pairs), name, ChoiceSettings())
            assert choice.thresholds == found.thresholds[name], (
                "as the command of thresholds chooses"
            )
            assert choice.score <= score, "no point is better than the best"
            chosen = choice.score
        assert chosen == pytest.approx(means[name][task.metric]), "tuned score = measured score"
    assert np.isfinite(found.objective)
    shown = task.reconstruct(*pairs[0], found.thresholds)
    assert set(map(tuple, shown.coords)) <= set(map(tuple, pairs[0][0].coords))
    assert len(shown) >= (~pairs[0][0].dead).sum()


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


def drawn() -> Event:
    """Make a muon along x with a delta beside it, and a Michel electron in two pieces."""
    muon = [[x, 20, 20] for x in range(20)]
    michel = [[20 + x, 21 + x, 20] for x in range(4)] + [[30, 30, 20], [31, 31, 20]]
    semantic = [ParticleClass.MIP] * 20 + [ParticleClass.MICHEL] * 6
    return Event.of(
        np.array(muon + michel),
        np.ones(26),
        (64, 64, 64),
        semantic=np.array(semantic),
        cluster=np.array([0] * 20 + [1] * 6),
    )


def test_the_segmentation_table_adds_up_voxels_and_averages_events() -> None:
    task = SegmentationTask(metric="f1")
    event = drawn()
    all_mip = {"probability": np.eye(5)[np.full(26, ParticleClass.MIP)]}
    right = {"probability": np.eye(5)[event.semantic]}
    found = task.validate_on([(event, all_mip), (event, right)])
    rows = [*task.evaluate(0, event, all_mip, {}).rows, *task.evaluate(1, event, right, {}).rows]
    means = task.summary(Metrics(rows))
    assert means["ALL"]["accuracy"] == pytest.approx((20 / 26 + 1) / 2)
    assert means["ALL"]["spread"] == pytest.approx((1 - 20 / 26) / 2)
    assert means["MICHEL"]["accuracy"] == pytest.approx(0.5)
    assert means["MICHEL"]["as_MIP"] == pytest.approx(0.5)
    assert means["MIP"]["f1"] == pytest.approx(2 * 40 / (2 * 40 + 6))
    assert means["MICHEL"]["iou"] == pytest.approx(6 / 12)
    assert found.objective == pytest.approx((means["MIP"]["f1"] + means["MICHEL"]["f1"]) / 2)
    assert means["TRACK"]["accuracy"] == 1
    assert means["EM"]["accuracy"] == pytest.approx(0.5)
    assert means["from_0"]["accuracy"] == 1, "the first voxels of the muon, at x < 5"
    assert task.reconstruct(event, right, {}).semantic.tolist() == event.semantic.tolist()
    with pytest.raises(ValueError, match="no voxel of the split has a class"):
        task.validate_on([])


def test_relabelling_keeps_the_primary_ionisation() -> None:
    prepared = SegmentationTask(relabel=True).prepare(drawn())
    assert np.bincount(prepared.semantic, minlength=5).tolist() == [0, 20, 2, 0, 4]


def test_with_class_heads_a_voxel_is_embedded_by_the_outputs_of_its_class() -> None:
    task = ClusteringTask(class_heads=True)
    coords = np.array([[4, 4, 4], [4, 4, 4 + 1]])
    event = Event.of(coords, np.ones(2), (8, 8, 8), semantic=np.array([1, 4]))
    raw = {"embedding": torch.zeros(2, 20), "seediness": torch.zeros(2, 5)}
    raw["embedding"][:, 4] = 1.0  # the first axis of class 1
    raw["seediness"][:, 4] = 50.0  # class 4
    found = task.outputs(raw, VoxelBatch.of([event]))
    assert found["position"][:, 0].tolist() == pytest.approx([np.tanh(1.0), 0.0])
    assert found["seediness"].tolist() == pytest.approx([0.5, 1.0])


def test_the_poster_asks_for_its_classes() -> None:
    event = Event.of(np.array([[1, 1, 1]]), np.ones(1), (8, 8, 8), semantic=np.array([0]))
    assert ClusteringTask().prepare(event).semantic.tolist() == [ParticleClass.HIP]
    assert ClusteringTask(poster_classes=True).prepare(event).semantic.tolist() == [
        ParticleClass.MIP
    ]
