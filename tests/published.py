"""Small files as PILArNet-M is published, and the rules by which its published readers open them.

PoLAr-MAE reads v1, Panda v2, pimm v3 and v3_extra. All of them select events by the sidecar file,
open the shards for shared reading, and take row 0 for the low-energy deposits. They check little:
a file of another layout fails on reshaping, or gives wrong labels.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from lartpc_ray.data.formats.tables import LAYOUTS, Version

Revision = Literal["v1", "v2", "v3", "v3_extra"]
EXTRA_WIDTHS = {"v2": (5,), "v3": (6, 9, 11), "v3_extra": (6, 9, 11)}


@dataclass
class Cloud:
    """The voxels of an event, with the labels of their clusters."""

    coord: np.ndarray
    energy: np.ndarray
    semantic: np.ndarray
    pid: np.ndarray
    particle: np.ndarray
    interaction: np.ndarray
    more: dict[str, np.ndarray] = field(default_factory=dict)


class PublishedReader:
    """Events of the shards of a split with at least `min_points` voxels."""

    def __init__(
        self, root: Path, split: str, revision: Revision, *, min_points: int = 0, led: bool = True
    ) -> None:
        self.revision, self.led = revision, led
        self.index: list[tuple[h5py.File, int]] = []
        for path in sorted(root.glob(f"*{split}/*.h5")):
            sizes = np.load(str(path).replace(".h5", "_points.npy"))
            file = h5py.File(path, "r", libver="latest", swmr=True)
            assert sizes.shape == file["point"].shape, "one number of voxels per event"
            self.index += [(file, int(n)) for n in np.flatnonzero(sizes >= min_points)]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> Cloud:
        file, row = self.index[number]
        data = file["point"][row].reshape(-1, 8)[:, [0, 1, 2, 3]]
        table = file["cluster"][row].reshape(-1, 5 if self.revision == "v1" else 6)
        size, fragment, group, interaction, semantic = table[:, :5].T
        pid = np.full_like(semantic, -1) if self.revision == "v1" else table[:, 5]
        pid[pid == -1] = 5  # in place: the row is the reader's own
        more = {} if self.revision == "v1" else self._more(file, row, len(table))
        if more and self.revision != "v2":
            leading = _leading_rows(fragment, group, size)
            own = ("vertex", "is_primary")
            more = {
                name: values if name in own else values[leading] for name, values in more.items()
            }
        if not self.led:
            data = data[size[0] :]
            size, group, interaction, semantic, pid = (
                values[1:] for values in (size, group, interaction, semantic, pid)
            )
            more = {name: values[1:] for name, values in more.items()}
        assert len(data) == size.sum(), "the clusters hold the voxels"
        return Cloud(
            data[:, :3].astype(np.float32),
            data[:, 3].astype(np.float32),
            np.repeat(semantic, size),
            np.repeat(pid, size),
            np.repeat(group, size),
            np.repeat(interaction, size),
            {name: np.repeat(values, size, axis=0) for name, values in more.items()},
        )

    def _more(self, file: h5py.File, row: int, clusters: int) -> dict[str, np.ndarray]:
        extra = file["cluster_extra"][row].reshape(clusters, -1)
        width = extra.shape[1]
        assert width in EXTRA_WIDTHS[self.revision], f"cluster_extra has {width} columns"
        more = {"mass": extra[:, 0], "momentum": extra[:, 1], "vertex": extra[:, 2:5]}
        if self.revision == "v2":
            return more
        more["is_primary"] = extra[:, 5]
        if self.revision == "v3_extra":
            lineage = extra[:, 6:]
            if "cluster_extra_2" in file:
                lineage = file["cluster_extra_2"][row].reshape(clusters, 5)
            more["momentum_vector"] = lineage[:, :3]
            assert file["interaction_extra"][row].reshape(-1, 4).shape[1] == 4
        return more


def _leading_rows(fragment: np.ndarray, group: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the row that speaks for the group of each row: its primary cluster, or its largest."""
    order = np.lexsort((-size, fragment != group, group))
    first = order[np.append(True, np.diff(group[order]) != 0)]
    leading: np.ndarray = first[np.searchsorted(group[first], group)]
    return leading


def write_published(
    path: Path,
    rng: np.random.Generator,
    sizes: list[int],
    version: Version = "v3",
    *,
    packed: int | None = None,
    further: bool = False,
    side: int = 64,
) -> Path:
    """Write a shard of events of so many voxels, every column with values of its own.

    Args:
        path: the shard; its folder is made.
        rng: of the values.
        sizes: voxels of each event, of which a sixth are low-energy deposits.
        version: the layout.
        packed: columns of `cluster_extra`, for the packed variants of v3.
        further: add the tables of v3_extra, and a dataset that belongs to no layout.
        side: of the image.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [_event(rng, count, side) for count in sizes]
    columns = dict(LAYOUTS[version])
    if packed:
        columns["cluster_extra"] = packed
    if further:
        columns |= {"cluster_extra_2": 5, "interaction_extra": 4, "run": 1}
    with h5py.File(path, "w") as file:
        for name, width in columns.items():
            kind = np.int64 if name in ("cluster", "run") else np.float32
            dataset = file.create_dataset(name, (len(rows),), h5py.vlen_dtype(kind))
            for number, tables in enumerate(rows):
                dataset[number] = tables[name][:, :width].ravel()
    np.save(str(path).replace(".h5", "_points.npy"), np.array(sizes))
    return path


def _event(rng: np.random.Generator, count: int, side: int) -> dict[str, np.ndarray]:
    """Draw the tables of an event, with all columns: balls of voxels around random points."""
    particles = min(4, count // 6)
    bounds = np.sort(rng.choice(np.arange(1, max(count, 2)), particles, replace=False))
    size = np.diff([0, *bounds, count])  # row 0: low-energy deposits
    flat = rng.choice(side**3, count, replace=False)
    point = rng.random((count, 8))
    point[:, :3] = np.stack(np.unravel_index(flat, (side,) * 3), axis=1)
    cluster = np.full((len(size), 6), -1)
    cluster[:, 0], cluster[:, 4] = size, [4, *rng.integers(0, 4, particles)]
    cluster[1:, 2] = cluster[1:, 1] = 10 + np.arange(particles) * 3
    if particles > 1:
        cluster[-1, 2:5:2] = cluster[-2, 2:5:2]  # a second fragment of one particle
    cluster[1:, 3], cluster[1:, 5] = rng.integers(0, 2, particles), rng.integers(0, 5, particles)
    lineage = rng.random((len(size), 11))
    lineage[0] = -1
    return {
        "point": point,
        "cluster": cluster,
        "cluster_extra": lineage,
        "cluster_extra_2": lineage[:, 6:],
        "interaction_extra": np.array([[0, 1, 2, 3], [1, 4, 5, 6]]) + rng.random((2, 1)),
        "run": np.array([[7], [int(rng.integers(100))]]),
    }
