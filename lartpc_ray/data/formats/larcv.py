"""Read LArCV files: LArCV2 ROOT with uproot, larcv3 HDF5 with h5py.

Voxel ids count with z outermost in LArCV2, with x outermost in larcv3 and in all 2D images.
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lartpc_ray.data.formats.larcv_products import LArCVFile, Voxels, fill_groups
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.data.formats.source import (
    MAX_ARRAY_BYTES,
    MAX_EVENT_VOXELS,
    list_names,
    locate_errors,
)
from lartpc_ray.data.formats.vlen import FileBytes, check_room
from lartpc_ray.data.limits import MAX_SIDE

NO_UPROOT = "reading a ROOT file needs uproot: pip install uproot"


class HDF5File(LArCVFile):
    """Random access to the events of a larcv3 file.

    Args:
        path: the file, for errors.
        layout: how to read the file.
        opened: the file and its bytes, which this object closes.
    """

    def __init__(self, path: Path, layout: Layout, opened: tuple[h5py.File, FileBytes]) -> None:
        self.path, self.layout = path, layout
        self._file, self._content = opened
        self._tables: dict[tuple[str, str], Any] = {}
        with locate_errors(path):
            self._choose("larcv3 HDF5")
            self._count = len(self._table("Events", "event_id", {}))
            for kind, producer in self._used:
                count = len(self._table(_group(kind, producer), "extents", EXTENTS))
                if count != self._count:
                    raise ValueError(f"{self._count} events, but {count} of {kind} {producer}")

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        self._file.close()
        self._content.close()

    def _producers(self, kind: str) -> list[str]:
        start, end = f"{kind}_", "_group"
        names = [name for name in self._file["Data"] if name.startswith(start)]
        return [name[len(start) : -len(end)] for name in names if name.endswith(end)]

    def _tensor(self, producer: str, index: int) -> tuple[Voxels, tuple[int, ...]]:
        group = _group(f"sparse{self._axes}", producer)
        image = self._image_row(group, "voxel_extents", index)
        meta = self._read(group, "image_meta", META, image, 1)[0]
        shape = tuple(int(side) for side in np.atleast_1d(meta["number_of_voxels"]))
        if len(shape) != int(self._axes[0]) or not all(0 < side <= MAX_SIDE for side in shape):
            raise ValueError(f"{producer}: an image of {shape} voxels")
        row = self._read(group, "voxel_extents", EXTENTS, image, 1)[0]
        return self._voxels(group, row), shape

    def _sets(self, producer: str, index: int) -> list[Voxels]:
        group = _group(f"cluster{self._axes}", producer)
        image = self._image_row(group, "projection_extents", index)
        row = self._read(group, "projection_extents", EXTENTS, image, 1)[0]
        rows = self._read(group, "cluster_extents", EXTENTS, int(row["first"]), int(row["N"]))
        if rows["N"].sum() > MAX_EVENT_VOXELS:
            raise ValueError(f"{producer}: clusters of {rows['N'].sum()} voxels")
        return [self._voxels(group, row) for row in rows]

    def _particles(self, producer: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        group = _group("particle", producer)
        row = self._read(group, "extents", EXTENTS, index, 1)[0]
        rows = self._read(group, "particles", {"pdg": "i"}, int(row["first"]), int(row["N"]))
        pdg = rows["pdg"].astype(np.int64)
        given = rows["group_id"] if "group_id" in (rows.dtype.names or ()) else None
        return pdg, fill_groups(given, len(pdg))

    def _coords(self, ids: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return np.stack(np.unravel_index(ids, shape), axis=1)

    def _image_row(self, group: str, name: str, index: int) -> int:
        """Return the row of an event's only image, or of its image of the chosen projection."""
        row = self._read(group, "extents", EXTENTS, index, 1)[0]
        first, count = int(row["first"]), int(row["N"])
        if count > 1000:
            raise ValueError(f"{group}: {count} projections")
        wanted = self.layout.larcv.projection
        rows = self._read(group, name, EXTENTS, first, count)
        fits = [n for n in range(count) if wanted is None or rows["ID"][n] == wanted]
        if len(fits) != 1:
            which = "one image" if wanted is None else f"an image of projection {wanted}"
            raise ValueError(f"{group}: {len(fits)} images where {which} should be")
        return first + fits[0]

    def _voxels(self, group: str, row: np.void) -> Voxels:
        rows = self._read(group, "voxels", VOXEL, int(row["first"]), int(row["N"]))
        return rows["id"].astype(np.uint64), rows["value"].astype(np.float32)

    def _read(
        self, group: str, name: str, fields: dict[str, str], first: int, count: int
    ) -> np.ndarray:
        """Read rows of a table after a check that they exist and fit into memory."""
        table = self._table(group, name, fields)
        if first + count > len(table) or count * table.dtype.itemsize > MAX_ARRAY_BYTES:
            raise ValueError(f"{group}/{name}: rows {first} to {first + count} of {len(table)}")
        return np.asarray(table[first : first + count])

    def _table(self, group: str, name: str, fields: dict[str, str]) -> Any:
        key = (group, name)
        if key not in self._tables:
            tables = self._file[group]
            if name not in tables or not isinstance(tables[name], h5py.Dataset):
                raise ValueError(f"no table {group}/{name} (found: {list_names(tables)})")
            _check_table(tables[name], f"{group}/{name}", fields, self._content)
            self._tables[key] = tables[name]
        return self._tables[key]


EXTENTS = {"first": "u", "N": "u"}
META = {"number_of_voxels": "u"}
VOXEL = {"id": "u", "value": "f"}
"""Fields of the tables of larcv3, and the kinds of their numbers."""


def _check_table(table: Any, name: str, fields: dict[str, str], content: FileBytes) -> None:
    """Refuse a table without these fields, or without room for its rows."""
    kind = table.dtype
    if table.ndim != 1 or (fields and kind.names is None):
        raise ValueError(f"{name} is no table with the fields {list_names(fields)}")
    for field, letters in fields.items():
        if field not in kind.names or kind[field].base.kind not in letters:
            raise ValueError(f"{name} is {kind}, without {field} as it should be"[:200])
    check_room(table, name, kind.itemsize, content)


class RootFile(LArCVFile):
    """Random access to the events of a LArCV2 file, with one basket per branch in memory.

    Raises:
        ValueError: also if uproot is not installed.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        try:
            import uproot
        except ImportError:
            raise ValueError(f"{path}: {NO_UPROOT}") from None
        self.path, self.layout = path, layout
        self._bytes = uproot.AsJagged(uproot.AsDtype("u1"))
        self._branches: dict[str, dict[str, Any]] = {}
        self._baskets: dict[tuple[str, str], tuple[int, int, Any]] = {}
        with locate_errors(path):
            self._file = uproot.open({str(path): None}, handler=uproot.MemmapSource)
            self._check_streamers()
            keys = self._file.keys(recursive=False, cycle=False, filter_classname="TTree")
            self._trees = [key for key in keys if key.endswith("_tree")]
            self._choose("LArCV2 ROOT")
            self._count = self._entries()

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        self._file.close()

    def _entries(self) -> int:
        used = [f"{kind}_{producer}_tree" for kind, producer in self._used]
        counts = {name: int(self._tree(name).num_entries) for name in used}
        if len(set(counts.values())) > 1 or min(counts.values()) < 0:
            raise ValueError(f"the products hold different numbers of events: {counts}")
        return counts[used[0]]

    def _check_streamers(self) -> None:
        """Check the size of the class descriptions before uproot allocates it."""
        with self.path.open("rb") as file:
            file.seek(self._file.file.fSeekInfo)
            size = int.from_bytes(file.read(10)[6:], "big")
        if size > MAX_ARRAY_BYTES:
            raise ValueError(f"class descriptions of {size} bytes; the file is broken")

    def _producers(self, kind: str) -> list[str]:
        if kind == "cluster2d":
            return []
        start, end = f"{kind}_", "_tree"
        return [key[len(start) : -len(end)] for key in self._trees if key.startswith(start)]

    def _tensor(self, producer: str, index: int) -> tuple[Voxels, tuple[int, ...]]:
        tree = f"sparse{self._axes}_{producer}_tree"
        if self._axes == "2d":
            return self._plane(tree, index)
        sides = (self._leaf(tree, f"_meta._{axis}num", index) for axis in "xyz")
        ids, values = (self._leaf(tree, f"_voxel_v.{name}", index) for name in ("_id", "_value"))
        return _voxels(ids, values), _shape(sides)

    def _plane(self, tree: str, index: int) -> tuple[Voxels, tuple[int, ...]]:
        """Read the image of a projection: wires and ticks."""
        sets = voxel_sets(self._leaf(tree, "_tensor_v._voxel_v", index, whole=True).tobytes())
        number = self.layout.larcv.projection or 0
        names = [f"_tensor_v._meta._{side}_count" for side in ("col", "row")]
        sides = [self._leaf(tree, name, index) for name in names]
        if not all(number < len(values) for values in (sets, *sides)):
            raise ValueError(f"{tree}: no projection {number}, there are {len(sets)}")
        return sets[number], _shape(side[number] for side in sides)

    def _sets(self, producer: str, index: int) -> list[Voxels]:
        tree = f"cluster3d_{producer}_tree"
        return voxel_sets(self._leaf(tree, "_voxel_vv._voxel_v", index, whole=True).tobytes())

    def _particles(self, producer: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        tree = f"particle_{producer}_tree"
        pdg, group = (self._leaf(tree, f"_part_v.{name}", index) for name in ("_pdg", "_group_id"))
        if len(pdg) != len(group):
            raise ValueError(f"{producer}: {len(pdg)} types and {len(group)} groups of particles")
        return pdg.astype(np.int64), fill_groups(group, len(pdg))

    def _coords(self, ids: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 2:
            return np.stack(np.unravel_index(ids, shape), axis=1)
        return np.stack(np.unravel_index(ids, shape[::-1])[::-1], axis=1)

    def _leaf(self, tree: str, name: str, index: int, *, whole: bool = False) -> Any:
        """Read the values of a branch for one event, or with `whole` its stored bytes."""
        start, stop, rows = self._baskets.get((tree, name), (0, 0, None))
        if not start <= index < stop:
            branch = self._branch(tree, name)
            edges = [int(edge) for edge in branch.entry_offsets]
            basket = bisect_right(edges, index) - 1
            if not 0 <= basket < len(edges) - 1:
                raise ValueError(f"{tree}: {name} ends at event {edges[-1]}; cut short")
            start, stop = edges[basket : basket + 2]
            size = branch.basket_uncompressed_bytes(basket)
            if size > MAX_ARRAY_BYTES or not 0 < stop - start <= size:
                raise ValueError(f"{tree}: {name} has {stop - start} events in {size} bytes")
            kind = self._bytes if whole else branch.interpretation
            rows = branch.array(kind, entry_start=start, entry_stop=stop, library="np")
            self._baskets[tree, name] = (start, stop, rows)
        return rows[index - start]

    def _branch(self, tree: str, name: str) -> Any:
        if tree not in self._branches:
            branches = self._tree(tree).itervalues(recursive=True)
            self._branches[tree] = {branch.name: branch for branch in branches}
        if name not in self._branches[tree]:
            raise ValueError(f"{tree} has no branch {name}")
        return self._branches[tree][name]

    def _tree(self, name: str) -> Any:
        size = self._file.key(name).data_uncompressed_bytes
        if not 0 <= size <= MAX_ARRAY_BYTES:
            raise ValueError(f"{name} claims {size} bytes; the file is broken")
        return self._file[name]


def voxel_sets(raw: bytes) -> list[Voxels]:
    """Decode the voxel sets of one event, which ROOT stores memberwise.

    Big-endian: u4 number of bytes that follow (and bit 30), u2 version (bit 14: memberwise), u2
    version of the class Voxel and, if that is 0, u4 checksum; per set i4 n, n ids u8, n values f4.

    Raises:
        ValueError: if the sets do not end with the bytes.

    Example:
        >>> raw = bytes([64, 0, 0, 20, 64, 9, 0, 1, 0, 0, 0, 1, *[0] * 7, 5, 63, 128, 0, 0])
        >>> [(ids.tolist(), values.tolist()) for ids, values in voxel_sets(raw)]
        [([5], [1.0])]
    """
    if not raw:
        return []
    follow, version, inner = (int.from_bytes(raw[a:b], "big") for a, b in ((0, 4), (4, 6), (6, 8)))
    if follow != len(raw) - 4 | 2**30 or not version & 2**14:
        raise ValueError("the clusters are not stored as a vector of voxel sets, memberwise")
    sets: list[Voxels] = []
    offset = 8 if inner else 12
    while offset < len(raw):
        count = int.from_bytes(raw[offset : offset + 4], "big")
        ids, values = offset + 4, offset + 4 + 8 * count
        offset = values + 4 * count
        if offset > len(raw):
            raise ValueError(f"cluster {len(sets)} claims {count} voxels; the file is broken")
        sets.append(
            _voxels(np.frombuffer(raw, ">u8", count, ids), np.frombuffer(raw, ">f4", count, values))
        )
    return sets


def _voxels(ids: np.ndarray, values: np.ndarray) -> Voxels:
    if len(ids) != len(values) or ids.dtype.kind != "u" or values.dtype.kind != "f":
        raise ValueError(f"{len(ids)} voxel ids ({ids.dtype}), {len(values)} values")
    return ids.astype(np.uint64), values.astype(np.float32)


def _shape(sides: Any) -> tuple[int, ...]:
    shape = tuple(int(side) for side in sides)
    if not all(0 < side <= MAX_SIDE for side in shape):
        raise ValueError(f"an image of {shape} voxels")
    return shape


def _group(kind: str, producer: str) -> str:
    return f"Data/{kind}_{producer}_group"
