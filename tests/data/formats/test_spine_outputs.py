"""Network outputs in files of SPINE, written here as its version 2 lays them out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lartpc_ray.data.outputs import open_outputs
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.thresholds.source import FileVoxels

Products = dict[str, tuple[np.ndarray, np.ndarray]]
VOXELS = np.array([0, 5, 9])
"""Offsets of the voxels of two events."""
KEPT = np.array([0, 3, 5])
"""Offsets of those that the network clusters."""
INDEX = np.array([0, 1, 3, 1, 2])


def products(rng: np.random.Generator) -> Products:
    labels = np.zeros((9, 7), np.float32)
    labels[:, :3] = rng.integers(0, 99, (9, 3))
    labels[:, 4] = [0, 0, 1, 1, 2, 0, 7, 7, -1]
    shapes = np.zeros((9, 4), np.float32)
    shapes[:, -1] = [1, 0, 4, 3, 2, 1, 2, 4, 0]
    column = np.full((5, 1), 0.3, np.float32)
    return {
        "embeddings": (rng.normal(size=(5, 3)).astype(np.float32), KEPT),
        "margins": (column, KEPT),
        "seediness": (rng.random((5, 1)).astype(np.float32), KEPT),
        "filter_index": (INDEX, KEPT),
        "clust_label": (labels, VOXELS),
        "seg_label": (shapes, VOXELS),
    }


def write(path: Path, made: Products, version: Any = 2) -> Path:
    with h5py.File(path, "w") as file:
        file.create_group("info").attrs.update({"format": "spine_hdf5", "format_version": version})
        for name, (values, offsets) in made.items():
            file[f"products/{name}/values"] = values
            file[f"products/{name}/event_offsets"] = offsets
    return path


def test_an_event_has_the_voxels_that_the_network_clusters(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    made = products(rng)
    outputs = open_outputs(write(tmp_path / "spine.h5", made))
    assert outputs.kind == "SPINE"
    first, second = outputs
    assert first["class"].tolist() == [1, 2, 3], "track, shower, delta"
    assert first["cluster"].tolist() == [0, 0, 1]
    assert second["class"].tolist() == [4, -1], "Michel, low energy"
    assert second["cluster"].tolist() == [7, 7]
    np.testing.assert_array_equal(first["position"], made["embeddings"][0][:3])
    np.testing.assert_array_equal(second["seediness"], made["seediness"][0][3:, 0])
    np.testing.assert_array_equal(second["coords"], made["clust_label"][0][[6, 7], :3])


def test_positions_that_are_no_voxels_are_left_out(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    made = products(rng)
    made["clust_label"][0][:, :3] += 0.5
    assert "coords" not in open_outputs(write(tmp_path / "spine.h5", made))[0]


def test_an_event_without_clustered_voxels_has_coords(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Else linked voxels refuse the whole file."""
    made = {
        name: (values, np.array([0, *offsets])) for name, (values, offsets) in products(rng).items()
    }
    first = open_outputs(write(tmp_path / "spine.h5", made))[0]
    assert first["coords"].shape == (0, 3)


def test_linked_voxels_name_the_event_without_coords(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    made = products(rng)
    made["clust_label"][0][VOXELS[1] :, :3] += 0.5
    outputs = open_outputs(write(tmp_path / "spine.h5", made))
    task = ClusteringTask(min_voxels=0).with_method("linked")
    with pytest.raises(ValueError, match=r"spine\.h5: event 1: no coords, which --method linked"):
        list(FileVoxels(outputs, task))


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Products], None]:
    def apply(made: Products) -> None:
        values, offsets = made[name]
        made[name] = change(values), offsets

    return apply


def offsets(name: str, values: Any) -> Callable[[Products], None]:
    def apply(made: Products) -> None:
        made[name] = made[name][0], np.array(values, np.int64)

    return apply


def as_floats(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)


CASES: dict[str, Callable[[Products], Any]] = {
    "no product margins in it; set io.writer": lambda made: made.pop("margins"),
    "event 0: clust_label, seg_label and filter_index are of": changed("filter_index", np.negative),
    "filter_index/values holds float32; give whole": changed("filter_index", as_floats),
    "margins has shape (5, 2); give (voxel,)": changed("margins", lambda v: np.hstack([v, v])),
    "clust_label has shape (9, 4); give (voxel, 5 or": changed("clust_label", lambda v: v[:, :4]),
    "seg_label has shape (9,)": changed("seg_label", lambda v: v[:, -1]),
    "event 0: voxel 0: shape 0.5 in seg_label: give": changed("seg_label", lambda v: v / 2),
    "event 0: voxel 0: shape nan in seg_label: give": changed("seg_label", lambda v: v * np.nan),
    "event 0: voxel 0: cluster nan: give": changed("clust_label", lambda v: v * np.nan),
    "event 0: voxel 0: margin nan: give": changed("margins", lambda v: v * np.nan),
    "these numbers of events: {'embeddings': 1, ": offsets("embeddings", [0, 5]),
    "'margins': -1, ": offsets("margins", []),
    "event 0: rows 5 to 3 of 5: no event has these": offsets("margins", [5, 3, 0]),
}


@pytest.mark.parametrize("message", CASES)
def test_a_wrong_product_is_named_in_one_line(
    tmp_path: Path, rng: np.random.Generator, message: str
) -> None:
    made = products(rng)
    CASES[message](made)
    with pytest.raises(ValueError, match=r"spine\.h5: ") as error:
        list(open_outputs(write(tmp_path / "spine.h5", made)))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("version", [1, "two"])
def test_another_version_says_what_to_set(
    tmp_path: Path, rng: np.random.Generator, version: Any
) -> None:
    path = write(tmp_path / "spine.h5", products(rng), version)
    with pytest.raises(ValueError, match=f"format_version {version}; set io.writer.format_ver"):
        open_outputs(path)


def test_no_event_at_all_is_a_file_of_none(tmp_path: Path, rng: np.random.Generator) -> None:
    made = {name: (values[:0], np.zeros(1, int)) for name, (values, _) in products(rng).items()}
    assert len(open_outputs(write(tmp_path / "spine.h5", made))) == 0
