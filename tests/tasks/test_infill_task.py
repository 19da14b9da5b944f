"""Infill as a task: what the network sees, what is scored, what is filled."""

from typing import Literal

import numpy as np
import pytest
import torch

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.dead_regions import Box, DeadMap, Slab
from lartpc_ray.data.event import Event
from lartpc_ray.tasks import InfillTask
from lartpc_ray.tasks.infill import TRACK
from lartpc_ray.trials.trial import Trial

StartValue = Literal["zero", "minus_one", "random", "line"]
MAP = DeadMap(slabs=(Slab(axis=0, position=4.5, width=3.0), Slab(axis=1, position=9.0, width=3.0)))
SMALL = {"depth": 2, "filters": 4, "blocks": 1}
AT = {TRACK: {"threshold": 0.5}}


def muon() -> Event:
    """Straight along x, 0.6 MeV a voxel; the second slab is empty."""
    coords = np.stack([np.arange(40), np.full(40, 10), np.full(40, 20)], axis=1)
    semantic = np.full(40, ParticleClass.MIP)
    return Event.of(
        coords, np.full(40, 0.6), (40, 40, 40), semantic=semantic, cluster=np.full(40, 3)
    )


@pytest.mark.parametrize(("start", "low", "high"), [("zero", 0, 0), ("minus_one", -1, -1)])
def test_the_start_value_is_at_candidates_only(start: StartValue, low: float, high: float) -> None:
    task = InfillTask(dead=MAP, start_value=start)
    batch = VoxelBatch.of([task.prepare(muon())])
    seen = task.features(batch)[:, 0]
    assert seen[batch.dead].min() == low
    assert seen[batch.dead].max() == high
    torch.testing.assert_close(seen[~batch.dead], torch.log1p(torch.full((30,), 0.6)))


@pytest.mark.parametrize("start", ["zero", "minus_one", "random", "line"])
def test_dense_candidates_take_every_start_value(start: StartValue) -> None:
    box = DeadMap(boxes=(Box(low=(4.5, 2.7, 5.7), high=(5.4, 3.6, 6.6)),))
    task = InfillTask(dead=box, start_value=start, candidates="dense")
    event = task.prepare(muon())
    assert event.dead.sum() == 27
    seen = task.features(VoxelBatch.of([event]))[event.dead, 0]
    drawn = np.log1p(0.6) * (event.truth[event.dead] > 0)
    wanted = {"zero": 0 * drawn, "minus_one": 0 * drawn - 1, "line": drawn}
    if start == "random":
        assert len(set(seen.tolist())) == 27
    else:
        np.testing.assert_allclose(seen, wanted[start], rtol=1e-6)


def test_a_random_start_is_fixed_by_the_event_or_the_generator() -> None:
    task = InfillTask(dead=MAP, start_value="random")
    once, again = task.prepare(muon()), task.prepare(muon())
    np.testing.assert_array_equal(once.energy, again.energy)
    other = task.prepare(muon(), np.random.default_rng(1))
    assert (other.energy[other.dead] != once.energy[once.dead]).all()
    assert 0.3 < once.energy[once.dead].mean() < 0.7


def test_the_weights_of_the_source_are_learnt_with_the_network() -> None:
    task = InfillTask(dead=MAP, form="squared")
    trial = Trial.model_validate({"task": task, "network": SMALL})
    network = trial.make_network()
    batch = VoxelBatch.of([task.prepare(muon())])
    raw = network(batch.coords, task.features(batch), batch.shape, batch.event)
    loss = task.criterion(raw, batch, 0)
    loss.total.backward()
    balance = dict(network.named_parameters())["constants.balance"]
    assert balance.grad is not None
    assert balance.grad.abs().sum() > 0
    assert "constants.balance" in network.state_dict()
    assert Trial.model_validate_json(trial.model_dump_json()) == trial
    assert not dict(InfillTask(form="bce").global_parameters())


def test_a_fill_by_hand() -> None:
    """Eight of ten voxels found and two more: F1 0.8; the empty slab is reported apart."""
    task = InfillTask(dead=MAP)
    event = task.prepare(muon())
    found = event.dead & (event.truth > 0) & (event.coords[:, 0] < 23)
    wrong = event.dead & (event.truth == 0) & (event.coords[:, 1] == 11)
    wrong &= (event.coords[:, 2] == 20) & (event.coords[:, 0] < 17)
    outputs = {"score": (found | wrong) * 0.9, "energy": np.where(found | wrong, 0.6, 0.0)}
    means = task.summary(task.evaluate(0, event, outputs, AT))
    assert means[TRACK]["f1"] == pytest.approx(0.8)
    assert means["MIP"]["iou"] == pytest.approx(8 / 12)
    assert means[TRACK]["ceiling"] == 1
    assert means[TRACK]["bias"] == pytest.approx(0)
    assert means[TRACK]["distance"] == pytest.approx(2 / 10)
    assert means["REGION"]["f1"] == pytest.approx(0.8)
    assert means["EMPTY"]["wrong"] == 0
    grid = task.grid([(event, outputs)])
    assert grid.scores[TRACK][0, 10] == pytest.approx(0.8)
    filled = task.reconstruct(event, outputs, AT)
    assert filled.dead.sum() == 10
    assert (filled.cluster == 3).all()
    assert (filled.semantic == ParticleClass.MIP).all()
    assert filled.energy[filled.dead] == pytest.approx(np.full(10, 0.6))


def test_the_line_fills_a_straight_track() -> None:
    means = InfillTask(dead=MAP).baseline(0, InfillTask(dead=MAP).prepare(muon())).means()
    assert means[TRACK]["f1"] == 1
    assert means[TRACK]["bias"] == pytest.approx(0, abs=1e-6)
    assert means["EMPTY"]["wrong"] == 0
