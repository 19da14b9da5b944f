"""LArCV2 ROOT and larcv3 HDF5: three events are in both fixtures, written by the two libraries."""

import sys
from pathlib import Path
from typing import Any

import awkward
import h5py
import numpy as np
import pytest
import uproot

from lartpc_ray.data import __main__ as data
from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.convert import difference
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import open_events
from lartpc_ray.data.formats.larcv import voxel_sets
from lartpc_ray.data.formats.larcv_products import fill_groups
from lartpc_ray.data.formats.layout import ClassMap, Layout, Products
from lartpc_ray.data.splits import Splits
from lartpc_ray.terminal.command import run

FILES = Path(__file__).parents[1] / "files"
ROOT, HDF5 = FILES / "larcv2_5events.root", FILES / "larcv3_3events.h5"
EXTENT = [("first", "<u8"), ("N", "<u4"), ("ID", "<u4")]
VOXEL = [("id", "<u8"), ("value", "<f4")]


def read(path: Path, **products: object) -> list[Event]:
    with open_events(path, Layout(larcv=Products.model_validate(products))) as events:
        return list(events)


def test_what_the_fixtures_hold() -> None:
    events = read(ROOT)
    assert [len(event) for event in events] == [258, 1958, 606, 4767, 735]
    assert [event.shape for event in events] == [(512, 512, 512)] * 5
    first = events[0]
    assert np.bincount(first.semantic).tolist() == [72, 0, 186]
    assert np.bincount(first.cluster).tolist() == [72, 186]
    # id 49409817 of LArCV2 is 188 * 512² + 247 * 512 + 281, so z = 188, y = 247, x = 281
    assert [281, 247, 188] in first.coords.tolist()
    assert first.energy.sum() == pytest.approx(232.64, abs=0.01)


def test_both_formats_give_the_same_events() -> None:
    for one, other in zip(read(ROOT), read(HDF5), strict=False):
        tracks = np.where(one.semantic == ParticleClass.HIP, 1, one.semantic)
        known = Event.of(one.coords, one.energy, one.shape, semantic=tracks, cluster=one.cluster)
        assert difference(known, other) is None, "larcv3's file has no particles: no HIP in it"


def test_classes_of_particles_are_those_of_five_types() -> None:
    for one, other in zip(read(ROOT), read(ROOT, classes="pcluster_semantics"), strict=True):
        assert difference(one, other) is None


def test_events_are_read_in_any_order() -> None:
    whole = read(ROOT)
    with open_events(ROOT) as events:
        for index in (4, 0, 3, 3, 1):
            assert difference(events[index], whole[index]) is None
        with pytest.raises(IndexError, match="event 5 of 5"):
            events[5]


@pytest.mark.parametrize(("path", "voxels"), [(ROOT, 62), (HDF5, 62)])
def test_low_energy_deposits_follow_the_class_map(path: Path, voxels: int) -> None:
    for meaning in ("unlabelled", "SHOWER"):
        layout = Layout(classes=ClassMap.model_validate({"low_energy": meaning}))
        with open_events(path, layout) as events:
            event = events[0]
        assert len(event) == 258 + voxels
        mine = event.semantic == (-1 if meaning == "unlabelled" else ParticleClass.SHOWER)
        assert mine.sum() == voxels + (186 if meaning == "SHOWER" else 0)
        assert (event.cluster[event.semantic < 0] == -1).all()


def test_codes_are_a_setting() -> None:
    codes = ("MICHEL", "MICHEL", "DELTA", "drop", "drop", "unlabelled")
    event = read(ROOT, codes=codes)[0]
    assert [int((event.semantic == n).sum()) for n in (4, 3, -1)] == [72, 186, 62]
    with pytest.raises(ValueError, match=r"event 0: semantic code 5: 0 to 1 are known"):
        read(ROOT, codes=codes[:2])


@pytest.mark.parametrize(
    ("products", "message"),
    [
        ({"energy": "data"}, "larcv.energy 'data': no such product .*pcluster"),
        ({"classes": "pcluster"}, "no sparse3d product of energies"),
        ({"projection": 0}, "no sparse2d product of energies"),
    ],
)
def test_products_that_are_not_there(products: dict[str, Any], message: str) -> None:
    for path in (ROOT, HDF5):
        with pytest.raises(ValueError, match=rf"{path.name}: .*{message}") as caught:
            read(path, **products)
        assert "\n" not in str(caught.value)


def test_uproot_is_optional(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uproot", None)
    with pytest.raises(ValueError, match=r"events\.root: .*pip install uproot"):
        open_events(ROOT)
    assert run(data.parser(), data.main, ["--quiet", "inspect", str(ROOT)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("events.root: reading a ROOT file needs uproot: pip install uproot")
    assert len(read(HDF5)) == 3


def test_a_folder_of_root_files_is_a_data_set(tmp_path: Path) -> None:
    for split in ("train", "tune", "test"):
        (tmp_path / f"{split}.root").write_bytes(ROOT.read_bytes())
    assert [len(Splits(path=str(tmp_path)).events(name)) for name in ("train", "test")] == [5, 5]


def memberwise(*sets: list[tuple[int, float]]) -> bytes:
    """Voxel sets as ROOT stores them, version 9 of the vector and 1 of Voxel."""
    body = bytes([64, 9, 0, 1])
    for one in sets:
        body += len(one).to_bytes(4, "big")
        body += np.array([voxel for voxel, _ in one], ">u8").tobytes()
        body += np.array([value for _, value in one], ">f4").tobytes()
    return (len(body) | 2**30).to_bytes(4, "big") + body


def test_voxel_sets_by_hand() -> None:
    raw = memberwise([(5, 1.0), (7, 0.5)], [], [(9, 2.0)])
    found = [(ids.tolist(), values.tolist()) for ids, values in voxel_sets(raw)]
    assert found == [([5, 7], [1.0, 0.5]), ([], []), ([9], [2.0])]
    assert voxel_sets(b"") == []
    with pytest.raises(ValueError, match="cluster 2 claims 1 voxels"):
        voxel_sets((len(raw) - 5 | 2**30).to_bytes(4, "big") + raw[4:-1])
    for wrong in (raw[:-4], b"\x40" + raw[1:4] + b"\0\1" + raw[6:]):
        with pytest.raises(ValueError, match="not stored as a vector of voxel sets"):
            voxel_sets(wrong)


def tensors(file: h5py.File, name: str, images: list[list[Any]], shape: tuple[int, ...]) -> None:
    """Write a product of larcv3: (id, value) pairs per event and projection."""
    group = file.create_group(f"Data/{name}_group")
    flat = [image for event in images for image in event]
    firsts = np.cumsum([0, *[len(image) for image in flat]])
    counts = np.cumsum([0, *[len(event) for event in images]])
    group["extents"] = np.array(
        [(counts[n], len(event)) for n, event in enumerate(images)], EXTENT[:2]
    )
    rows = [(n, image) for event in images for n, image in enumerate(event)]
    found = [(firsts[n], len(image), number) for n, (number, image) in enumerate(rows)]
    group["voxel_extents"] = np.array(found, EXTENT)
    group["voxels"] = np.array([pair for image in flat for pair in image], VOXEL)
    meta = np.zeros(len(flat), [("projection_id", "<u8"), ("number_of_voxels", "<u8", len(shape))])
    meta["number_of_voxels"] = shape
    group["image_meta"] = meta


def clusters(file: h5py.File, name: str, sets: list[list[Any]]) -> None:
    """Write a cluster product of one event and one projection."""
    group = file.create_group(f"Data/{name}_group")
    firsts = np.cumsum([0, *[len(one) for one in sets]])
    group["extents"] = np.array([(0, 1)], EXTENT[:2])
    group["projection_extents"] = np.array([(0, len(sets), 0)], EXTENT)
    found = [(firsts[n], len(one), n) for n, one in enumerate(sets)]
    group["cluster_extents"] = np.array(found, EXTENT)
    group["voxels"] = np.array([pair for one in sets for pair in one], VOXEL)


def test_planes_of_larcv3(tmp_path: Path) -> None:
    path = tmp_path / "planes.h5"
    with h5py.File(path, "w") as file:
        file["Events/event_id"] = np.zeros(2, [("run", "<i8")])
        # 4 wires x 8 ticks: id 10 is wire 1, tick 2; id 27 wire 3, tick 3
        tensors(file, "sparse2d_wire", [[[(10, 5.0)], [(27, 7.0)]], [[], [(0, 1.0)]]], (4, 8))
        tensors(file, "sparse2d_semantics", [[[(10, 1)], [(27, 3)]], [[], [(0, 4)]]], (4, 8))
    first, second = read(path, projection=1)
    assert first.shape == (4, 8)
    assert (first.coords.tolist(), first.energy.tolist()) == ([[3, 3]], [7.0])
    assert first.semantic.tolist() == [ParticleClass.DELTA]
    assert len(second) == 0
    assert read(path, projection=0)[0].coords.tolist() == [[1, 2]]
    layout = Layout(larcv=Products(projection=1))
    assert Splits(layout=layout).axes == 2
    with pytest.raises(ValueError, match=r"event 0: .*0 images where an image of projection 2"):
        read(path, projection=2)
    with pytest.raises(ValueError, match="no LArCV file"):
        open_events(FILES / "pilarnet_m_event7675.npz", layout)


def test_images_of_two_sizes_do_not_go_together(tmp_path: Path) -> None:
    path = tmp_path / "two.h5"
    with h5py.File(path, "w") as file:
        file["Events/event_id"] = np.zeros(1, [("run", "<i8")])
        tensors(file, "sparse3d_data", [[[(0, 1.0)]]], (2, 2, 2))
        tensors(file, "sparse3d_semantics", [[[(0, 1)]]], (2, 2, 3))
    with pytest.raises(ValueError, match=r"event 0: semantics is an image of \(2, 2, 3\) voxels"):
        read(path)


def test_particles_and_shared_voxels_of_larcv3(tmp_path: Path) -> None:
    path = tmp_path / "small.h5"
    with h5py.File(path, "w") as file:
        file["Events/event_id"] = np.zeros(1, [("run", "<i8")])
        image = [(0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0)]
        tensors(file, "sparse3d_data", [[image]], (2, 2, 2))
        tensors(file, "sparse3d_semantics", [[[(0, 1), (1, 1), (2, 1)]]], (2, 2, 2))
        sets = [[(0, 0.9), (1, 0.4)], [(1, 0.6), (2, 1.0)], [(3, 1.0)]]
        clusters(file, "cluster3d_mcst", sets)
        group = file.create_group("Data/particle_mcst_group")
        group["extents"] = np.array([(0, 2)], EXTENT[:2])
        group["particles"] = np.array(
            [(2212, 2**63 - 1), (13, 7)], [("pdg", "<i4"), ("group_id", "<u8")]
        )
    event = read(path)[0]
    assert event.coords.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]
    # voxel 1 is mostly the muon's; a proton without a group is its own; set 2 has no particle
    assert event.semantic.tolist() == [ParticleClass.HIP, ParticleClass.MIP, ParticleClass.MIP, -1]
    assert event.cluster.tolist() == [0, 7, 7, -1]


def test_planes_of_larcv2(tmp_path: Path) -> None:
    """A tree with the branches of an EventSparseTensor2D (no such file of larcv2's was at hand)."""
    path = tmp_path / "planes.root"
    raw = [memberwise([(10, 5.0)], [(27, 7.0)]), memberwise([], [(0, 1.0)])]
    sides = {f"_tensor_v._meta._{side}_count": "var * uint64" for side in ("col", "row")}
    with uproot.recreate(path) as file:
        tree = file.mktree("sparse2d_wire_tree", {"_tensor_v._voxel_v": "var * uint8", **sides})
        counts = dict(zip(sides, ([[4, 4]] * 2, [[8, 8]] * 2), strict=True))
        arrays = {"_tensor_v._voxel_v": [list(one) for one in raw], **counts}
        tree.extend({name: awkward.Array(rows) for name, rows in arrays.items()})
    first, second = read(path, projection=1)
    assert (first.shape, first.coords.tolist(), first.energy.tolist()) == ((4, 8), [[3, 3]], [7.0])
    assert second.coords.tolist() == [[0, 0]]
    with pytest.raises(ValueError, match=r"event 0: .*no projection 2, there are 2"):
        read(path, projection=2)


@pytest.mark.parametrize(
    ("none", "kind"), [(2**16 - 1, np.uint16), (2**16 - 1, np.uint64), (2**64 - 1, np.uint64)]
)
def test_particles_without_a_group_are_clusters_of_their_own(none: int, kind: type) -> None:
    """larcv3, and LArCV2 before 2.2.0, have 65535 for no group."""
    assert fill_groups(np.array([none, 0, none], kind), 3).tolist() == [0, 0, 2]
