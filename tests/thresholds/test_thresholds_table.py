"""Thresholds for readers and for other programs: the table, and the reconstruction of an export."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from lartpc_ray.predict.placement import DEFAULT_PLACEMENT, LazyRay
from lartpc_ray.reconstruct.reconstructions import LinkedClustering
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.thresholds.difference import Difference
from lartpc_ray.thresholds.record import ThresholdsRecord, difference_table, table
from lartpc_ray.thresholds.retune import _Tuning
from lartpc_ray.tracking.runs import Tracking


def content(*axes: str) -> dict[str, Any]:
    row: dict[str, Any] = {"interval": dict.fromkeys(axes, (0.5, 1000.0))}
    row |= dict.fromkeys(axes, 0.65)
    row |= {"score": 0.7, "error": 0.08, "held_out": None, "events": 13, "objective": "ari"}
    of_split = {"split": "tune", "events": 15, "rule": "robust"}
    return {"classes": {"HIP": row}, "untuned": ["MICHEL"], **of_split}


@pytest.mark.parametrize("axes", [("s0", "p0"), ("join_probability", "min_cluster_voxels")])
def test_the_columns_stand_below_their_heads(axes: tuple[str, ...]) -> None:
    title, heads, row, untuned = table(content(*axes)).splitlines()
    assert title == "tune split, 15 events, rule robust, objective ari; 68 % intervals"
    for axis in axes:
        assert f"  {axis}" in heads, "two spaces before each head"
    ends = [heads.index(axis) + len(axis) for axis in axes]
    assert all(row[:end].endswith("0.65 (0.5 - 1e+03)") for end in ends)
    assert row.split()[-5:] == ["0.700", "±", "0.080", "-", "13"]
    assert untuned == "MICHEL  untuned: no event has a cluster of it"
    assert max(len(heads), len(row)) <= 80


def test_many_thresholds_are_continued_below() -> None:
    axes = list(LinkedClustering().axes())
    lines = table(content(*axes)).splitlines()
    assert max(map(len, lines)) <= 80
    heads = [line for line in lines[1:] if not line[0].strip()]
    assert " ".join(heads).split() == [*axes, "score", "held", "out", "events"]
    assert sum(line.startswith("HIP") for line in lines) == len(heads) > 1


def test_objectives_that_differ_have_a_column() -> None:
    several = content("s0", "p0")
    several["classes"]["MIP"] = {**several["classes"]["HIP"], "objective": "purity*efficiency"}
    text = table(several)
    assert text.startswith("tune split, 15 events, rule robust; 68 % intervals")
    heads, *rows = text.splitlines()[-4:-1]
    assert heads.split()[-1] == "objective"
    assert [row.split()[-1] for row in rows] == ["ari", "purity*efficiency"]


class OfTask(_Tuning):
    """The reconstruction that a tuning takes; it tunes nothing."""

    run = "run"

    def tune(self) -> ThresholdsRecord:
        raise NotImplementedError


@pytest.mark.parametrize(("export", "method"), [("spine", "seeds"), (None, "linked")])
def test_an_export_of_a_run_with_linked_voxels_is_of_seeds(
    tmp_path: Path, export: str | None, method: str
) -> None:
    """A search chooses linked voxels more often than seeds; other programs know seeds only."""
    options = argparse.Namespace(export=export, method=None, cluster_rule=None, objective=[])
    tuning = OfTask(options, Tracking(tmp_path, None), LazyRay(DEFAULT_PLACEMENT))
    tuning._set_task(ClusteringTask().with_method("linked"))
    assert tuning.task.active_method.name == method


def test_the_difference_of_many_thresholds_fits_a_terminal() -> None:
    axes = ("s0", "p0", "kernel_overlap", "max_voxel_distance", "max_embedding_distance")
    used = dict.fromkeys(axes, 0.65)
    rows = {
        "HIP": Difference(used, used, 0.006, 0.005),
        "SHOWER": Difference(used, {**used, "s0": 0.7}, -0.1, 0.011),
    }
    lines = difference_table(rows).splitlines()
    assert max(map(len, lines)) <= 80
    assert next(line.split()[1:4] for line in lines if line.startswith("HIP ")) == [
        "+0.006", "±", "0.005",
    ]  # fmt: skip
    heads = " ".join(line for line in lines if line.startswith(" ")).split()
    assert heads == ["difference", *axes], "each threshold once"
    assert lines[-1] == "SHOWER: compared with the nearest point of the grid"
