"""Predictions as tables: nothing of the input is lost, and other programs read the result."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from published import PublishedReader, Revision, write_published

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.convert import difference
from lartpc_ray.data.event import DeadRegions, Event
from lartpc_ray.data.files import open_events, read_events
from lartpc_ray.data.formats import prediction_table
from lartpc_ray.data.formats.layout import ClassMap, Layout
from lartpc_ray.data.formats.predicted import predicted_tables
from lartpc_ray.data.formats.source import Tables
from lartpc_ray.data.formats.tables import Version
from lartpc_ray.predict import __main__ as predict
from lartpc_ray.predict import reconstruction, write_predictions
from lartpc_ray.predict.input_tables import InputTables
from lartpc_ray.predict.sources import FileEvents
from lartpc_ray.predict.write_predictions import with_image_side
from lartpc_ray.tasks.michel import MichelTask
from lartpc_ray.tasks.segmentation import SegmentationTask
from lartpc_ray.terminal.command import run as run_command
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import make_trial

FILES = Path(__file__).parents[1] / "data" / "files"
SIZES = [80, 0, 5, 31]
LAYOUT = Layout(side=64)
TWO = np.array([2])


def read(path: Path, number: int = 0) -> tuple[Event, Tables]:
    """Read an event as a network gets it, and all that the file holds of it."""
    with open_events(path, LAYOUT) as events:
        tables = events.tables(number)
        assert tables is not None
        return events[number], tables


def predicted(event: Event, tables: Tables) -> Tables:
    return predicted_tables(event, tables, np.arange(len(tables["point"])))


def per_voxel(tables: Tables, name: str) -> np.ndarray:
    """Return a table with a row per cluster as one with a row per voxel, in the input's order."""
    rows: np.ndarray = np.repeat(tables[name], tables["cluster"][:, 0], axis=0)
    if "truth" in tables:
        rows = rows[np.argsort(tables["truth"][:, 0])]
    return rows


def test_every_voxel_and_column_of_the_input_is_there(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    event, source = read(write_published(tmp_path / "a.h5", rng, [90], further=True))
    found = replace(event, cluster=rng.integers(-1, 3, len(event)).astype(np.int32))
    tables = predicted(found, source)
    truth = tables["truth"]
    order = np.argsort(truth[:, 0])
    assert truth[order, 0].tolist() == list(range(90))
    np.testing.assert_array_equal(tables["point"][order], source["point"])
    np.testing.assert_array_equal(truth[order, 1:], per_voxel(source, "cluster")[:, 1:])
    new, old = per_voxel(tables, "cluster"), per_voxel(source, "cluster")
    np.testing.assert_array_equal(new[:, 3:], old[:, 3:])
    deposits = old[:, 4] == 4
    assert (new[deposits, 2] == -1).all()
    assert new[~deposits, 2].tolist() == found.cluster.tolist()
    for name in ("cluster_extra", "cluster_extra_2"):
        assert tables[name].dtype == np.float32
        np.testing.assert_array_equal(per_voxel(tables, name), per_voxel(source, name))
    for name in ("interaction_extra", "run"):
        np.testing.assert_array_equal(tables[name], source[name])
    assert tables["cluster"][0].tolist() == [deposits.sum(), -1, -1, -1, 4, -1]
    assert truth[: deposits.sum(), 0].tolist() == np.flatnonzero(deposits).tolist()
    within = np.concatenate([np.diff(rows) for rows in _rows_of(tables)])
    assert (within > 0).all(), "the voxels of a row keep their order"


def _rows_of(tables: Tables) -> list[np.ndarray]:
    bounds = np.cumsum(tables["cluster"][:, 0])
    return np.split(tables["truth"][:, 0], bounds)


def test_the_largest_part_of_a_cluster_speaks_for_it(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    event, source = read(write_published(tmp_path / "a.h5", rng, [90]))
    tables = predicted(replace(event, cluster=np.full(len(event), 5, np.int32)), source)
    size, fragment, group = tables["cluster"][1:, :3].T
    assert set(group) == {5}
    assert len(set(fragment)) == len(fragment) > 2
    assert fragment[np.argmax(size)] == 5


def one_row(code: int, pid: int, semantic: int) -> list[int]:
    """Return code and particle code of a voxel of an input after a prediction of its class."""
    point = np.zeros((1, 8), np.float32)
    cluster = np.array([[1, 3, 3, 0, code, pid]])
    event = Event.of(np.zeros((1, 3), int), np.ones(1), (8, 8, 8), semantic=np.array([semantic]))
    tables = predicted(event, {"point": point, "cluster": cluster})
    assert tables["truth"].tolist() == [[0, 3, 3, 0, code, pid]]
    row: list[int] = tables["cluster"][-1, 4:].tolist()
    return row


@pytest.mark.parametrize(
    ("code", "pid", "semantic", "wanted"),
    [
        (1, 2, ParticleClass.MIP, [1, 2]),
        (1, 5, ParticleClass.HIP, [1, 5]),
        (1, 2, ParticleClass.HIP, [1, 4]),
        (1, 4, ParticleClass.MIP, [1, -1]),
        (0, 4, ParticleClass.MIP, [1, -1]),
        (1, 4, ParticleClass.SHOWER, [0, 4]),
        (4, -1, ParticleClass.SHOWER, [0, -1]),
        (1, 4, -1, [4, -1]),
    ],
)
def test_a_particle_code_is_kept_unless_it_contradicts_the_class(
    code: int, pid: int, semantic: int, wanted: list[int]
) -> None:
    assert one_row(code, pid, semantic) == wanted


def test_voxels_that_were_not_read_are_in_row_0_and_added_ones_have_no_particle(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    event, source = read(write_published(tmp_path / "a.h5", rng, [90]))
    some = event.select(event.energy > 0.5)
    tables = predicted(some, source)
    assert tables["cluster"][0, 0] == 90 - len(some)
    corners = np.array([[[0, 0, 0], [32, 64, 64]]], np.int32)
    hidden = source["point"][:, 0] < 32
    position = source["point"][hidden][:1, :3].astype(np.int32)  # as the infill sees it: empty
    seen = event.select(event.coords[:, 0] >= 32)
    dead = Event.of(position, np.array([7.0]), (64,) * 3, semantic=np.array([1]), cluster=TWO)
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(seen, name), getattr(dead, name)])
        for name in ("coords", "energy", "truth", "semantic", "cluster", "weight")
    }
    flags = np.arange(len(seen) + 1) == len(seen)
    filled = replace(seen, **joined, dead=flags, regions=DeadRegions(corners, seen))
    tables = predicted(filled, source)
    assert sorted(tables["truth"][:, 0]) == [-1, *np.flatnonzero(~hidden)]
    (place,) = tables["filled"]
    assert tables["point"][place].tolist() == [*position[0], 7, 0, 0, 0, 0]
    assert tables["truth"][place].tolist() == [-1] * 6
    row = np.searchsorted(np.cumsum(tables["cluster"][:, 0]), place, side="right")
    assert tables["cluster"][row, [0, 2, 3, 5]].tolist() == [1, 2, -1, -1]
    again = predicted(replace(filled, dead=np.zeros(len(filled), bool), regions=None), tables)
    assert len(again["filled"]) == 1, "a prediction of a prediction knows the voxel"
    known = np.argsort(again["truth"][:, 0])
    np.testing.assert_array_equal(again["truth"][known, 1:], tables["truth"][:, 1:])


def test_all_voxels_are_read_whatever_the_layout_drops(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    write_published(tmp_path / "a.h5", rng, [30])
    drops = ClassMap(shower="drop", further=("drop",))
    files = (tmp_path / "a.h5", FILES / "larcv2_5events.root")
    inputs = InputTables(FileEvents(files=files, layout=Layout(classes=drops)))
    tables, row = inputs.read(0)
    assert len(tables["point"]) == 30
    assert row.tolist() == list(range(30))
    tables, row = inputs.read(1)
    with open_events(files[1], Layout(classes=ClassMap(low_energy="unlabelled"))) as events:
        event = events[0]
    assert len(row) == len(event)
    np.testing.assert_array_equal(tables["point"][:, :3], event.coords[row])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a run of an untrained network."""
    folder = tmp_path_factory.mktemp("model") / "run"
    settings = {"network.depth": 2, "network.filters": 4, "data.splits.layout.side": 64}
    trial = make_trial(settings)
    checkpoints.save(folder, Checkpoint(trial, 0, trial.make_network().state_dict(), {}, []))
    rows = ", ".join(f"{particle.name}: {{s0: 0.0, p0: 0.5}}" for particle in ParticleClass)
    (folder / "thresholds-seeds.yaml").write_text(f"classes: {{{rows}}}")
    return folder


def apply(model: Path, source: Path, output: Path, *more: str) -> None:
    paths = [str(source), "-o", str(output), "--run", str(model), "--runs", str(model.parent)]
    assert run_command(predict.parser(), predict.main, [*paths, *more]) == 0


@pytest.mark.parametrize("revision", ["v1", "v2", "v3", "v3_extra"])
def test_the_published_readers_open_a_prediction(
    model: Path, tmp_path: Path, rng: np.random.Generator, revision: Revision
) -> None:
    source = write_published(tmp_path / "in" / "a.h5", rng, SIZES, further=True)
    version: Version = "v3" if revision == "v3_extra" else revision
    apply(model, source, tmp_path / "test", "--layout", version)
    with h5py.File(next((tmp_path / "test").glob("*.h5"))) as file:
        kinds = [h5py.check_vlen_dtype(file[name].dtype) for name in ("point", "cluster", "truth")]
        assert kinds == [np.float32, np.int64, np.int64]
        rows = [np.argsort(file["truth"][n].reshape(-1, 6)[:, 0]) for n in range(len(SIZES))]
    for led in (True, False):
        inputs = PublishedReader(tmp_path, "in", "v3_extra", led=led)
        results = PublishedReader(tmp_path, "test", revision, led=led)
        assert len(inputs) == len(results) == len(SIZES)
        for number, order in enumerate(rows):
            known, found = inputs[number], results[number]
            if led:
                np.testing.assert_array_equal(known.coord, found.coord[order])
                np.testing.assert_array_equal(known.semantic, found.semantic[order])
                np.testing.assert_array_equal(known.interaction, found.interaction[order])
                if revision != "v1":
                    np.testing.assert_array_equal(known.pid, found.pid[order])
                    vertex, carried = known.more["vertex"], found.more["vertex"]
                    np.testing.assert_array_equal(vertex, carried[order])
            else:
                assert 4 not in found.semantic
                assert len(found.coord) == len(known.coord), "no voxel of a particle is removed"


def test_images_of_another_side_keep_the_unit_of_the_embedding(
    model: Path, tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_published(tmp_path / "a.h5", rng, SIZES)
    apply(model, source, tmp_path / "near.h5")
    apply(model, source, tmp_path / "side.h5", "--side", "100")
    assert "100 voxels per side; the network was trained with 64" in capsys.readouterr().err
    with h5py.File(tmp_path / "near.h5") as near, h5py.File(tmp_path / "side.h5") as wide:
        for name in ("point", "cluster", "truth"):
            for known, found in zip(near[name], wide[name], strict=True):
                np.testing.assert_array_equal(known, found)
    with h5py.File(source, "a") as file:
        point = file["point"][0].reshape(-1, 8)
        point[-1, 0] = 90
        file["point"][0] = point.reshape(-1)
    arguments = [str(source), "-o", str(tmp_path / "far.h5"), "--run", str(model)]
    assert run_command(predict.parser(), predict.main, arguments) == 2
    assert "give the side (--side" in capsys.readouterr().err
    assert run_command(predict.parser(), predict.main, [*arguments, "--side", "0"]) == 2
    assert "argument --side: 0: give a whole number from 1" in capsys.readouterr().err
    apply(model, source, tmp_path / "far.h5", "--side", "91")


def test_a_segmentation_that_sees_positions_reads_one_side_only() -> None:
    settings = {"task.name": "segmentation", "data.splits.layout.side": 64}
    for coordinates, message in ((False, None), (True, "positions in images of 64 voxels")):
        trial = make_trial(settings | {"task.coordinates": coordinates})
        state = Checkpoint(trial, 0, {}, {}, [])
        if message is None:
            (wider,) = with_image_side([state], 96)
            assert wider.trial.data.splits.layout.side == 96
            continue
        with pytest.raises(ValueError, match=message):
            with_image_side([state], 96)
        with pytest.raises(ValueError, match=message):
            MichelTask(segmentation=SegmentationTask(coordinates=True)).with_span(64)


def test_a_prediction_reads_back_as_it_is_and_names_its_layout(
    model: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    source = write_published(tmp_path / "a.h5", rng, SIZES)
    apply(model, source, tmp_path / "out.h5", "--events", "2:4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "a_points.npy", "out.h5"]
    with open_events(tmp_path / "out.h5", LAYOUT) as events:
        assert (events.kind, events.predicted, len(events)) == ("PILArNet-M v3", True, 2)
        inputs = read_events(source, indices=[2, 3], layout=LAYOUT)
        for event, known in zip(events, inputs, strict=True):
            none = np.zeros(len(known), np.int32)
            pair = (replace(event, cluster=none), replace(known, cluster=none))
            assert difference(*pair) is None
    apply(model, FILES / "larcv2_5events.root", tmp_path / "larcv.h5", "--events", "0:1")
    with h5py.File(tmp_path / "larcv.h5") as file:
        truth = file["truth"][0].reshape(-1, 6)
    assert sorted(truth[:, 0]) == list(range(len(truth)))


def test_voxels_other_than_those_of_the_input_are_written_alone(
    model: Path, tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    state = checkpoints.load(model)
    source = FileEvents(files=(), layout=LAYOUT)
    assert write_predictions.input_tables([state], source) is not None
    changed = state.trial.model_copy(
        update={
            "data": state.trial.data.model_copy(
                update={"splits": state.trial.data.splits.model_copy(update={"smear": 0.5})}
            )
        }
    )
    with caplog.at_level("INFO", "lartpc_ray"):
        states = [state, replace(state, trial=changed)]
        assert write_predictions.input_tables(states, source) is None
    assert "data.splits.smear changes the voxels" in caplog.text
    event, _ = read(write_published(tmp_path / "a.h5", rng, [31]))
    settings = SegmentationTask().model_dump_json()
    outputs = {"probability": np.eye(5)[np.full(len(event), ParticleClass.HIP)]}
    tables = reconstruction.reconstruct(settings, "{}", None, "v2", 0, event, outputs)
    assert tables.keys() == {"point", "cluster", "cluster_extra"}
    assert set(tables["cluster"][1:, 5]) == {4}


def test_a_table_for_pandas_has_all_voxels_in_their_order(
    model: Path, tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_published(tmp_path / "a.h5", rng, SIZES)
    apply(model, source, tmp_path / "out.parquet", "--events", "1:4")
    apply(model, source, tmp_path / "out.h5", "--events", "1:4")
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert [*table] == ["event", "voxel", *"xyz", "energy", "class", "cluster", "seed_score"]
    assert table.event.tolist() == [2] * 5 + [3] * 31
    one = table[table.event == 3]
    assert one.voxel.tolist() == list(range(31))
    event, tables = read(source, 3)
    np.testing.assert_array_equal(one[[*"xyz", "energy"]], tables["point"][:, :4])
    unread = one["class"].isna()
    np.testing.assert_array_equal(unread, per_voxel(tables, "cluster")[:, 4] == 4)
    names = [ParticleClass(code).name for code in event.semantic]
    assert one["class"][~unread].tolist() == names
    assert ((one.seed_score >= 0) & (one.seed_score <= 1)).tolist() == (~unread).tolist()
    _, written = read(tmp_path / "out.h5", 2)
    np.testing.assert_array_equal(one.cluster, per_voxel(written, "cluster")[:, 2])
    paths = [str(source), "-o", str(tmp_path / "b.parquet"), "--run", str(model)]
    assert run_command(predict.parser(), predict.main, [*paths, "--layout", "v2"]) == 2
    assert "a table in Parquet has no --layout" in capsys.readouterr().err


def test_rows_are_written_in_groups_and_a_failed_table_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_table, "GROUP_ROWS", 3)
    event = Event.of(np.array([[1, 2], [3, 4]]), np.ones(2), (8, 8))
    rows = prediction_table.voxel_columns(4, event, None, None)
    assert prediction_table.write_voxel_table(tmp_path / "a.parquet", [rows] * 3) == 3
    table = pd.read_parquet(tmp_path / "a.parquet")
    assert {"x", "y", "z"}.isdisjoint(table)
    assert table.voxel.tolist() == [-1] * 6
    assert table.wire.tolist() == [1, 3] * 3
    assert table.tick.tolist() == [2, 4] * 3
    assert table.seed_score.isna().all()

    def broken() -> Iterator[prediction_table.Columns]:
        yield rows
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        prediction_table.write_voxel_table(tmp_path / "b.parquet", broken())
    with pytest.raises(ValueError, match="no event to write"):
        prediction_table.write_voxel_table(tmp_path / "b.parquet", [])
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_a_table_of_2d_predictions_is_read_again(tmp_path: Path) -> None:
    pixels, classes, clusters = np.array([[1, 2], [3, 4]]), np.array([2, 0]), np.array([0, 1])
    event = Event.of(pixels, np.ones(2), (8, 8), semantic=classes, cluster=clusters)
    rows = [prediction_table.voxel_columns(number, event, None, None) for number in (4, 5)]
    prediction_table.write_voxel_table(tmp_path / "a.parquet", rows)
    layout = Layout.model_validate({"side": 8, "hits": {"plane": 0}})
    found = list(read_events(tmp_path / "a.parquet", layout=layout))
    assert [one.coords.tolist() for one in found] == [pixels.tolist()] * 2
    assert [one.semantic.tolist() for one in found] == [[2, 0]] * 2
    assert [one.cluster.tolist() for one in found] == [[0, 1]] * 2


def test_tables_without_their_rows_are_one_line(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write_published(tmp_path / "a.h5", rng, [90], further=True)
    with h5py.File(path, "a") as file:
        file["cluster_extra_2"][0] = file["cluster_extra_2"][0][:-5]
    with pytest.raises(
        ValueError, match=r"a\.h5: event 0: cluster_extra_2 has \d rows, cluster \d"
    ):
        read(path)


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_bytes(
    model: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    source = write_published(tmp_path / "in" / "a.h5", rng, [40] * 40, further=True)
    for workers in ("1", "2"):
        apply(model, source.parent, tmp_path / f"{workers}.h5", "--workers", workers)
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_a_shard_without_its_sidecar_is_written_again(
    model: Path, tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_published(tmp_path / "in" / "a.h5", rng, [20] * 3)
    out = tmp_path / "out"
    apply(model, source, out, "--layout", "v2")
    (sidecar,) = out.glob("*_points.npy")
    assert np.load(sidecar).tolist() == [20] * 3
    sidecar.unlink()
    apply(model, source, out, "--layout", "v2")
    assert sidecar.exists()
    command = [str(source), "-o", str(out), "--run", str(model), "--runs", str(model.parent)]
    assert run_command(predict.parser(), predict.main, [*command, "--layout", "v3"]) == 2
    assert "another prediction (layout differ)" in capsys.readouterr().err
