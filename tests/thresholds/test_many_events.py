"""Thresholds of more events than are kept: sums of scores and of their Poisson resamples."""

from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np
import pytest

from lartpc_ray.reconstruct.grid import Choice, ThresholdGrid, choose
from lartpc_ray.reconstruct.resampling import ChoiceSettings, ScoreSums
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.thresholds import scan, tuning
from lartpc_ray.thresholds.difference import compare
from lartpc_ray.thresholds.source import ClassVoxels, VoxelSource
from lartpc_ray.thresholds.tuning import choose_thresholds, class_objectives

POINTS = np.linspace(0, 1, 5)
SETTINGS = ChoiceSettings()


def hill(rng: np.random.Generator, events: int) -> np.ndarray:
    """Return scores (event, s0, p0) of events that differ by their difficulty, and by noise."""
    mean = 1 - (POINTS[:, None] - 0.5) ** 2 - (POINTS[None, :] - 0.5) ** 2
    noise = 0.5 * rng.normal(size=(events, 5, 5))
    return np.asarray(mean + 0.3 * rng.normal(size=(events, 1, 1)) + noise)


def summed(scores: np.ndarray, size: int) -> ScoreSums:
    """Return the sums of shards of a number of events."""
    numbers = np.arange(len(scores))
    parts = [
        ScoreSums.of(numbers[start : start + size], scores[start : start + size], SETTINGS)
        for start in range(0, len(scores), size)
    ]
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def test_sums_agree_with_the_exact_resamples_within_their_error(rng: np.random.Generator) -> None:
    scores = hill(rng, 400)
    axes = {"s0": POINTS, "p0": POINTS}
    exact = choose(ThresholdGrid(axes, {"MIP": scores}), "MIP", SETTINGS)
    sums = choose(ThresholdGrid(axes, {}, {"MIP": summed(scores, 30)}), "MIP", SETTINGS)
    assert sums.thresholds == exact.thresholds
    assert sums.events == exact.events == 400
    assert sums.score == pytest.approx(exact.score, abs=1e-12)
    assert sums.error == pytest.approx(exact.error, rel=0.1), "of 1,000 resamples each"
    assert sums.held_out is not None
    assert exact.held_out is not None
    assert abs(sums.held_out - exact.held_out) < exact.error
    for axis, interval in exact.interval.items():
        assert sums.interval[axis] == pytest.approx(interval, abs=0.25), "one step"


def test_the_division_into_shards_changes_no_sum_and_its_size_no_event(
    rng: np.random.Generator,
) -> None:
    scores = hill(rng, 90)
    one, many = summed(scores, 90), summed(scores, 7)
    for field in fields(ScoreSums):
        np.testing.assert_allclose(vars(one)[field.name], vars(many)[field.name], rtol=1e-9)
    sizes = {
        sum(values.nbytes for values in vars(summed(scores[:count], 9)).values())
        for count in (10, 90)
    }
    assert len(sizes) == 1, "the driver keeps the same number of bytes for any number of events"


class Parts(VoxelSource):
    """Clusters of an embedding, of events that can be read again."""

    def __init__(self, events: int, classes: Sequence[str] = ("MIP",)) -> None:
        self.events = events
        self.about = {}
        self.classes = classes

    def __iter__(self) -> Iterator[ClassVoxels]:
        for event in range(self.events):
            rng = np.random.default_rng(event)
            truth = rng.integers(0, 3, 60)
            position = rng.normal(size=(3, 3))[truth] + 0.2 * rng.normal(size=(60, 3))
            voxels = {"position": position, "margin": np.full(60, 0.3), "truth": truth}
            seediness = rng.random(60)
            for name in self.classes:
                yield ClassVoxels(event, name, {**voxels, "seediness": seediness})


def test_a_scan_of_many_events_chooses_as_one_that_keeps_their_scores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scan, "SUM_VOXELS", 400)
    task = ClusteringTask.model_validate({"seeds": {"grid_points": 5}})
    kept: list[Choice] = []
    for most in (2000, 10):
        monkeypatch.setattr(tuning, "EXACT_EVENTS", most)
        tuned = choose_thresholds(Parts(40), task, {"MIP": "ari"}, SETTINGS)
        assert bool(tuned.scores) == (most == 2000), "no score of an event is kept"
        kept.append(tuned.choices["MIP"])
        assert tuned.means["MIP"]["ari"].max() == pytest.approx(kept[0].score, abs=0.05)
    exact, sums = kept
    assert sums.thresholds == exact.thresholds
    assert sums.score == pytest.approx(exact.score, abs=1e-12)
    assert sums.error == pytest.approx(exact.error, rel=0.1)


@pytest.mark.parametrize("most", [2000, 3])
def test_the_classes_stand_in_the_order_of_the_objectives(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "EXACT_EVENTS", most)
    task = ClusteringTask.model_validate({"seeds": {"grid_points": 3}})
    objectives = class_objectives(["MIP=purity"], ["ari", "purity"])
    found = Parts(4, ("MICHEL", "MIP", "HIP"))
    tuned = choose_thresholds(found, task, objectives, SETTINGS)
    assert [*tuned.choices] == [*tuned.content()["classes"]] == ["HIP", "MIP", "MICHEL"]
    used = {name: {"s0": 0.5, "p0": 0.5} for name in ("MICHEL", "HIP", "MIP")}
    assert [*compare(tuned.grid, tuned.choices, used)] == ["HIP", "MIP", "MICHEL"]
