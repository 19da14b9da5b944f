"""SPINE's HDF5 output (`format_version: 2`) of a SPICE network.

Each product is a group `products/NAME` with `values` and `event_offsets`. Read are `embeddings`,
`margins`, `seediness` (network), `filter_index` (rows of the voxels that the network clusters),
`clust_label` (x, y, z, value, cluster, particle), and the class from `seg_label` (last column).
SPINE has one class of tracks; it is read as MIP.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from lartpc_ray.data.classes import NO_CLASS, ParticleClass
from lartpc_ray.data.formats.outputs import OutputsFile, find_column, read_rows
from lartpc_ray.data.formats.source import locate_errors

PRODUCTS = ("embeddings", "margins", "seediness", "filter_index", "clust_label", "seg_label")
SHAPES = np.array(
    [
        ParticleClass.SHOWER,
        ParticleClass.MIP,
        ParticleClass.MICHEL,
        ParticleClass.DELTA,
        NO_CLASS,  # low energy
    ]
)
"""Class of each of SPINE's shapes; shapes from 4 on are not clustered."""
CLUSTER_COLUMN = 4
INDEX = "filter_index"
LABELS = {"clust_label": CLUSTER_COLUMN + 1, "seg_label": 1, "embeddings": 1}
"""Products of several columns, and the columns that they have at least."""
VERSION = 2
HINT = f"set io.writer.format_version: {VERSION} and keys: [{', '.join(PRODUCTS)}]"


class SpineFile(OutputsFile):
    """Network outputs in a file that SPINE wrote."""

    kind = "SPINE"

    def __init__(self, path: Path, file: h5py.File) -> None:
        super().__init__(path, file)
        with locate_errors(path):
            found = file["info"].attrs.get("format_version", 1)
            if str(found) != str(VERSION):
                raise ValueError(f"SPINE file of format_version {found}; {HINT}")
            products = file["products"]
            if missing := [name for name in PRODUCTS if name not in products]:
                raise ValueError(f"no product {', '.join(missing)} in it; {HINT}")
            self._values = {
                name: find_column(products[name], "values", "iu" if name == INDEX else "fiu")
                for name in PRODUCTS
            }
            self._offsets = {
                name: find_column(products[name], "event_offsets", "iu")[:].reshape(-1)
                for name in PRODUCTS
            }
            self._check_shapes()

    def _check_shapes(self) -> None:
        """Refuse products of other numbers of events, or without the columns that are read."""
        counts = {name: len(offsets) - 1 for name, offsets in self._offsets.items()}
        if len(set(counts.values())) > 1 or min(counts.values()) < 0:
            raise ValueError(f"products of these numbers of events: {counts}; write the file again")
        for name, columns in LABELS.items():
            shape = self._values[name].shape
            if len(shape) != 2 or shape[1] < columns:
                raise ValueError(f"{name} has shape {shape}; give (voxel, {columns} or more)")
        for name in (INDEX, "margins", "seediness"):
            shape = self._values[name].shape
            if shape[1:] not in ((), (1,)):
                raise ValueError(f"{name} has shape {shape}; give (voxel,)")

    def __len__(self) -> int:
        return len(self._offsets["embeddings"]) - 1

    def _product(self, name: str, index: int) -> np.ndarray:
        start, stop = self._offsets[name][index : index + 2]
        return read_rows(self._values[name], int(start), int(stop))

    def _arrays(self, index: int) -> dict[str, np.ndarray]:
        rows = {name: self._product(name, index) for name in PRODUCTS}
        kept, labels, shapes = (
            rows[INDEX].reshape(-1),
            rows["clust_label"],
            rows["seg_label"][:, -1],
        )
        if len(labels) != len(shapes) or ((kept < 0) | (kept >= len(labels))).any():
            raise ValueError("clust_label, seg_label and filter_index are of different voxels")
        wrong = ~((shapes >= 0) & (shapes == np.floor(shapes)))
        if wrong.any():
            voxel = int(np.argmax(wrong))
            raise ValueError(
                f"voxel {voxel}: shape {shapes[voxel]} in seg_label: give whole numbers from 0"
            )
        shape = np.minimum(shapes[kept].astype(np.int64), len(SHAPES) - 1)
        arrays = {"class": SHAPES[shape], "cluster": labels[kept, CLUSTER_COLUMN]}
        arrays |= {"position": rows["embeddings"], "margin": rows["margins"]}
        arrays |= {"seediness": rows["seediness"]}
        coords = labels[kept, :3]
        whole = (coords == np.floor(coords)).all() and (coords >= 0).all()
        return arrays | ({"coords": coords} if whole else {})


def is_spine(file: h5py.File) -> bool:
    """Return whether SPINE wrote a file."""
    info = file.get("info")
    return isinstance(info, h5py.Group) and "spine" in str(info.attrs.get("format", ""))
