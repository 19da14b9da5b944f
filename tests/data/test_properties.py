"""Properties of transforms and files that hold for every valid event."""

import lzma
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.convert import difference
from lartpc_ray.data.event import PER_VOXEL, Event, voxel_keys
from lartpc_ray.data.files import open_events, read_events, write_events
from lartpc_ray.data.formats.layout import ClassMap, Layout
from lartpc_ray.data.formats.tables import Version
from lartpc_ray.data.smearing import smear
from lartpc_ray.data.transforms import PLANE_SHAPE, Plane, Wires, augment, overlay, project

ENERGY = st.floats(0, 1e4, width=32)
CLUSTER = st.integers(-1, 2**31 - 1) | st.integers(-1, 3)
FEW = settings(max_examples=40, deadline=None)


class Fields(dict[str, Any]):
    """The fields of an event: beartype draws random numbers, which strategies must not."""

    def event(self) -> Event:
        event = Event.of(**{name: value for name, value in self.items() if name != "weight"})
        return replace(event, weight=self["weight"])


@st.composite
def fields(
    draw: st.DrawFn, axes: int | None = None, shape: tuple[int, ...] | None = None
) -> Fields:
    """Any valid event of up to 12 voxels, also of unequal sides and without voxels."""
    axes = axes or draw(st.integers(2, 3))
    shape = shape or tuple(draw(st.lists(st.integers(1, 9), min_size=axes, max_size=axes)))
    limit = int(np.prod(shape)) - 1
    flat = draw(st.lists(st.integers(0, limit), max_size=12, unique=True))

    def values(kind: type, elements: st.SearchStrategy[Any]) -> np.ndarray:
        return draw(arrays(kind, len(flat), elements=elements))

    return Fields(
        coords=np.stack(np.unravel_index(np.array(flat, int), shape), axis=1),
        energy=values(np.float32, ENERGY),
        shape=shape,
        semantic=values(np.int32, st.integers(-1, len(ParticleClass) - 1)),
        cluster=values(np.int32, CLUSTER),
        weight=values(np.float32, st.floats(0, 10, width=32)),
    )


def energy(event: Event) -> float:
    return float(event.energy.sum(dtype=float))


@pytest.mark.slow
@FEW
@given(drawn=fields(), sigma=st.floats(0.3, 2.0))
def test_smear_conserves_energy_within_the_image(drawn: Fields, sigma: float) -> None:
    event = drawn.event()
    reach = int(2 * sigma) + 1
    room = replace(
        event,
        coords=event.coords + np.int32(reach),
        shape=tuple(side + 2 * reach for side in event.shape),
    )
    assert energy(smear(room, sigma)) == pytest.approx(energy(event), rel=1e-5, abs=1e-6)
    lost = smear(event, sigma)
    assert energy(lost) <= energy(event) * (1 + 1e-5) + 1e-6
    inside = smear(room, sigma)
    offset = inside.coords - reach
    kept = np.asarray(((offset >= 0) & (offset < event.shape)).all(axis=1))
    assert energy(lost) == pytest.approx(energy(inside.select(kept)), rel=1e-5, abs=1e-6)
    assert set(lost.cluster.tolist()) <= set(event.cluster.tolist())


@FEW
@given(
    drawn=fields(axes=3),
    plane=st.sampled_from(["U", "V", "Y"]),
    pitch=st.floats(0.3, 3.0),
    angle=st.floats(-90, 90),
)
def test_project_conserves_energy(drawn: Fields, plane: Plane, pitch: float, angle: float) -> None:
    event = drawn.event()
    wires = Wires.model_validate({"pitch": pitch, "adc_per_mev": 80.0, plane: angle})
    image = project(event, plane, wires)
    assert image.shape == PLANE_SHAPE
    assert energy(image) == pytest.approx(80.0 * energy(event), rel=1e-5, abs=1e-6)


@FEW
@given(data=st.data(), drawn=fields())
def test_overlay_conserves_energy_and_keeps_clusters_apart(
    data: st.DataObject, drawn: Fields
) -> None:
    shape = drawn["shape"]
    first, second = drawn.event(), data.draw(fields(len(shape), shape)).event()
    both = overlay(first, second)
    assert energy(both) == pytest.approx(energy(first) + energy(second), rel=1e-5, abs=1e-6)
    keys = [set(voxel_keys(e.coords, e.shape).tolist()) for e in (first, second, both)]
    assert keys[0] | keys[1] == keys[2]
    owners: dict[int, set[tuple[int, int]]] = {}
    position = dict(zip(voxel_keys(both.coords, shape), both.cluster.tolist(), strict=True))
    for number, source in enumerate((first, second)):
        for key, cluster in zip(voxel_keys(source.coords, shape), source.cluster, strict=True):
            if cluster >= 0 and key not in keys[1 - number]:
                owners.setdefault(position[key], set()).add((number, cluster))
    assert all(label >= 0 and len(clusters) == 1 for label, clusters in owners.items())


@FEW
@given(drawn=fields(), seed=st.integers(0, 2**32 - 1))
def test_augment_is_a_bijection(drawn: Fields, seed: int) -> None:
    """Every voxel keeps its values, and one map of the whole image gives the positions."""
    event = drawn.event()
    turned = augment(event, np.random.default_rng(seed))
    for name in set(PER_VOXEL) - {"coords"}:
        np.testing.assert_array_equal(getattr(turned, name), getattr(event, name))
    assert turned.shape == event.shape
    cells = np.stack(np.unravel_index(np.arange(np.prod(event.shape)), event.shape), axis=1)
    image = Event.of(cells, np.zeros(len(cells)), event.shape)
    mapped = augment(image, np.random.default_rng(seed)).coords
    assert len(np.unique(voxel_keys(mapped, event.shape))) == len(cells)
    np.testing.assert_array_equal(turned.coords, mapped[voxel_keys(event.coords, event.shape)])
    back = np.argsort(voxel_keys(mapped, event.shape))
    np.testing.assert_array_equal(cells[back[voxel_keys(turned.coords, event.shape)]], event.coords)


def as_kept(event: Event, version: Version) -> Event:
    """Return the event as a file keeps it: no cluster without a class, no HIP in v1."""
    cluster = np.where(event.semantic < 0, -1, event.cluster).astype(np.int32)
    semantic = np.where((event.semantic == 0) & (version == "v1"), 1, event.semantic)
    return replace(event, cluster=cluster, semantic=semantic.astype(np.int32))


@FEW
@given(
    drawn=st.lists(fields(axes=3, shape=(9, 9, 9)), max_size=4),
    version=st.sampled_from(["v1", "v2", "v3"]),
    packed=st.booleans(),
    predicted=st.booleans(),
)
def test_what_is_written_is_read_back(
    drawn: list[Fields], version: Version, packed: bool, predicted: bool
) -> None:
    stored = [each.event() for each in drawn]
    layout = Layout(side=9, classes=ClassMap(low_energy="unlabelled"))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "events.h5"
        assert write_events(path, stored, version=version, predicted=predicted) == len(stored)
        if packed:
            path.write_bytes(lzma.compress(path.read_bytes()))
        with open_events(path, layout) as file:
            assert file.predicted == predicted
            if any(len(event) for event in stored):
                assert file.kind == f"PILArNet-M {version}"
            assert [file.voxels(n) for n in range(len(file))] == [len(event) for event in stored]
        loaded = list(read_events(path, layout=layout))
    assert len(loaded) == len(stored)
    for event, back in zip(stored, loaded, strict=True):
        assert difference(as_kept(event, version), back) is None
        assert back.shape == event.shape
