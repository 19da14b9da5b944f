"""Every setting has an effect, or its change is an error, or the reason stands here."""

import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import h5py
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "data" / "formats"))
from foreign import random_segments, write_hits, write_segments

from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.data.splits import Split, sample
from lartpc_ray.predict.evaluate import measure
from lartpc_ray.predict.evaluation import Predictions
from lartpc_ray.predict.inference import predict
from lartpc_ray.tasks import TASKS
from lartpc_ray.train.loop import train
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.belongs import misplaced
from lartpc_ray.trials.paths import _leaves, make_trial
from lartpc_ray.trials.trial import Trial

FILES = Path(__file__).parents[1] / "data" / "files"
COSTS = {"seconds_a_step", "training_gib", "seconds_an_event", "inference_gib"}
SMALL: dict[str, Any] = {
    "network.depth": 2,
    "network.filters": 2,
    "network.blocks": 1,
    "data.batch_events": 2,
    "optimizer.steps": 2,
    "optimizer.evaluate_every": 2,
    "optimizer.batchnorm_batches": 1,
}
TASK: dict[str, dict[str, Any]] = {
    "clustering": {"task.seeds.grid_points": 3, "task.min_voxels": 2},
    "segmentation": {},
    "michel": {"task.semantics": "truth"},
    "infill": {"task.reconstruction.grid_points": 5},
}


class Change(NamedTuple):
    """Another value of a setting, and other settings that the change needs to show."""

    value: Any
    beside: dict[str, Any] = {}  # noqa: RUF012


LARCV = {
    "data.splits.path": str(FILES / "larcv2_5events.root"),
    "data.splits.fractions": (0.4, 0.4, 0.2),
}
FIVE_EVENTS = {"data.splits.fractions": (0.4, 0.4, 0.2)}
SEGMENTS = {"data.splits.path": "SEGMENTS", **FIVE_EVENTS}
HITS = {"data.splits.path": "HITS", **FIVE_EVENTS}
PLANE_2 = {**HITS, "data.splits.layout.hits.plane": 2}
PLANE_U, PLANE_V, PLANE_Y = ({"data.splits.plane": plane} for plane in "UVY")
LINKED, DBSCAN = {"task.method": "linked"}, {"task.method": "dbscan"}
PIECES = {"task.method": "pieces", "task.joining_events": 2}
COMMON = {
    "task.name": Change("unknown"),
    "network.engine": Change("dense", {"data.splits.box": 128}),
    "network.cpu_kernels": Change("torch"),
    "network.gpu_kernels": Change("triton"),
    "network.depth": Change(3),
    "network.filters": Change(3),
    "network.blocks": Change(2),
    "data.splits.path": Change("/no such file"),
    "data.splits.fractions": Change((0.5, 0.25, 0.25), {"data.splits.path": "ONE_FILE"}),
    "data.splits.most_events": Change(1),
    "data.splits.train_events": Change(1),
    "data.splits.layout.side": Change(768),
    "data.splits.layout.classes.shower": Change("MIP"),
    "data.splits.layout.classes.track": Change("SHOWER"),
    "data.splits.layout.classes.proton_track": Change("SHOWER"),
    "data.splits.layout.classes.michel": Change("SHOWER"),
    "data.splits.layout.classes.delta": Change("drop"),
    "data.splits.layout.classes.low_energy": Change("SHOWER", {"data.splits.path": "sample"}),
    "data.splits.layout.classes.further": Change(("MIP",), {"data.splits.path": "FURTHER"}),
    "data.splits.val_events": Change(1, {"data.splits.path": "VAL"}),
    "data.splits.layout.duplicates": Change("merge", {"data.splits.path": "DUPLICATES"}),
    "data.splits.layout.larcv.energy": Change("absent", LARCV),
    "data.splits.layout.larcv.classes": Change("absent", LARCV),
    "data.splits.layout.larcv.codes": Change(("MIP",) * 6, LARCV),
    "data.splits.layout.larcv.cluster": Change("absent", LARCV),
    "data.splits.layout.larcv.particle": Change("absent", LARCV),
    "data.splits.layout.larcv.projection": Change(0, LARCV),
    "data.splits.layout.segments.pitch": Change(1.0, SEGMENTS),
    "data.splits.layout.segments.origin": Change((-20.0, -20.0, -20.0), SEGMENTS),
    "data.splits.layout.segments.event": Change("absent", SEGMENTS),
    "data.splits.layout.hits.plane": Change(2, HITS),
    "data.splits.layout.hits.ticks": Change(20.0, PLANE_2),
    "data.splits.layout.hits.categories": Change(("MIP",) * 9, PLANE_2),
    "data.splits.smear": Change(0.5),
    "data.splits.threshold": Change(0.5),
    "data.splits.plane": Change("Y"),
    "data.splits.wires.U": Change(30.0, PLANE_U),
    "data.splits.wires.V": Change(-30.0, PLANE_V),
    "data.splits.wires.Y": Change(10.0, PLANE_Y),
    "data.splits.wires.pitch": Change(1.5, PLANE_Y),
    "data.splits.wires.adc_per_mev": Change(40.0, PLANE_Y),
    "data.splits.box": Change(32),
    "data.batch_events": Change(3),
    "data.batch_voxels": Change(50),
    "data.augment": Change(False),
    "data.shift": Change(5),
    "data.energy_spread": Change(0.2),
    "data.overlay": Change(1.0),
    "data.crop": Change(16),
    "data.seed": Change(1),
    "optimizer.steps": Change(1),
    "optimizer.learning_rate": Change(1e-2),
    "optimizer.weight_decay": Change(0.1),
    "optimizer.warmup": Change(2),
    "optimizer.schedule": Change("cosine"),
    "optimizer.clip": Change(1e-6),
    "optimizer.batchnorm_batches": Change(2),
    "optimizer.evaluate_every": Change(1),
    "optimizer.accumulate": Change(2),
    "optimizer.precision": Change("bfloat16"),
    "resources.workers": Change(3),
    "resources.min_workers": Change(2),
    "resources.gpus": Change(1.5),
    "seed": Change(1),
    "start_weights": Change("no such checkpoint"),
}
CHANGES: dict[str, dict[str, Change]] = {
    "clustering": {
        "task.loss.mask": Change("bce"),
        "task.loss.gamma_seediness": Change(2.0),
        "task.loss.gamma_embedding": Change(2.0),
        "task.loss.smoothing": Change(2.0),
        "task.loss.inter": Change(2.0),
        "task.loss.inter_distance": Change(2.0),
        "task.init_margin": Change(0.2),
        "task.max_margin": Change(1.5),
        "task.span": Change(300),
        "task.init_offset_scale": Change(0.1),
        "task.seediness_from": Change(1),
        "task.coordinates": Change(True),
        "task.classes": Change(True),
        "task.class_heads": Change(True),
        "task.min_train_voxels": Change(10),
        "task.poster_classes": Change(True),
        "task.min_energy": Change(0.5),
        "task.method": Change("dbscan"),
        "task.metric": Change("purity"),
        "task.seeds.name": Change("unknown"),
        "task.seeds.rule": Change("first_come"),
        "task.seeds.grid_points": Change(4),
        "task.seeds.extra_p0": Change((0.3,)),
        "task.min_voxels": Change(100),
        "task.linked.name": Change("unknown"),
        "task.linked.s0": Change((0.0, 0.5), LINKED),
        "task.linked.p0": Change((0.0, 0.5), LINKED),
        "task.linked.kernel_overlap": Change((0.5, 1.0), LINKED),
        "task.linked.max_voxel_distance": Change((3.0,), LINKED),
        "task.linked.max_embedding_distance": Change((0.4,), LINKED),
        "task.linked.min_cluster_voxels": Change((1, 9), LINKED),
        "task.joining_events": Change(2),
        "task.pieces.name": Change("unknown"),
        "task.pieces.join_probability": Change((0.0,), PIECES),
        "task.pieces.min_cluster_voxels": Change((1, 9), PIECES),
        "task.dbscan.name": Change("unknown"),
        "task.dbscan.eps": Change((2.0, 4.0), DBSCAN),
        "task.dbscan.min_points": Change((1, 7), DBSCAN),
    },
    "segmentation": {
        "task.reduction": Change("sum"),
        "task.weights": Change("class"),
        "task.relabel": Change(True),
        "task.coordinates": Change(True),
        "task.min_energy": Change(0.5),
        "task.max_energy": Change(0.5),
        "task.scale": Change(0.1),
        "task.metric": Change("iou"),
    },
    "michel": {
        "task.segmentation.name": Change("unknown"),
        "task.segmentation.reduction": Change("sum"),
        "task.segmentation.weights": Change("class"),
        "task.segmentation.relabel": Change(True),
        "task.segmentation.coordinates": Change(True),
        "task.segmentation.min_energy": Change(0.5),
        "task.segmentation.max_energy": Change(0.5),
        "task.segmentation.scale": Change(0.1),
        "task.semantics": Change("predicted"),
        "task.metric": Change("unknown"),
        "task.reconstruction.name": Change("unknown"),
        "task.reconstruction.eps": Change((1.5,)),
        "task.reconstruction.min_points_mip": Change((3,)),
        "task.reconstruction.min_points": Change((3,)),
        "task.reconstruction.attached": Change((9.0,)),
        "task.reconstruction.edge_radius": Change((9.0,)),
        "task.min_voxels": Change(40),
    },
    "infill": {
        "task.regions.kind": Change("box"),
        "task.regions.width": Change((4, 5)),
        "task.regions.number": Change(3),
        "task.regions.on_track_fraction": Change(0.0),
        "task.regions.pitch": Change(0.5),
        "task.dead": Change({"slabs": [{"axis": 0, "position": 7.0, "width": 1.5}]}),
        "task.candidates": Change("dense"),
        "task.margin": Change(4),
        "task.max_candidates": Change(5),
        "task.start_value": Change("minus_one"),
        "task.form": Change("bce"),
        "task.min_energy": Change(0.5),
        "task.metric": Change("iou"),
        "task.reconstruction.name": Change("unknown"),
        "task.reconstruction.grid_points": Change(7),
    },
}
WITHOUT_EFFECT = {
    "network.chunk": "memory on a GPU only",
    "data.prefetch": "the same batches, prepared earlier by a thread",
    "resources.cpus": "cores and threads of a worker",
    "optimizer.norm": "of several workers: tests/train compares them",
    "task.segmentation.metric": "the metric of a michel search is `matched`",
}
"""Settings that change no number of a run with one worker, with the reason."""
LEAVES = [(task, leaf) for task in TASKS for leaf in _leaves(Trial, task)]


def change_of(task: str, leaf: str) -> Change | None:
    return CHANGES[task].get(leaf) or COMMON.get(leaf)


CASES = [
    (task, leaf)
    for task, leaf in LEAVES
    if change_of(task, leaf) and (task == "clustering" or leaf.startswith("task."))
]


@pytest.fixture(scope="module", autouse=True)
def files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give the changes their events: folders, one file, and files with a voxel twice or code 5."""
    folder = tmp_path_factory.mktemp("files")
    for split, indices in SMALL_EVENTS.items():
        write_events(folder / f"{split}.h5", read_events(sample(split), indices=indices))
    one, twice = folder / "one.h5", folder / "twice.h5"
    write_events(one, read_events(sample("train"), indices=20 * SMALL_EVENTS["train"][:1]))
    copyfile(one, twice)
    with h5py.File(twice, "r+") as file:
        for event in range(20):
            row = file["point"][event]
            row[8:11] = row[:3]
            file["point"][event] = row
    further, val = folder / "further.h5", folder / "val"
    copyfile(one, further)
    with h5py.File(further, "r+") as file:
        for event in range(20):
            row = file["cluster"][event].reshape(-1, 6)
            row[-1, 4] = 5
            file["cluster"][event] = row.ravel()
    steps = {event: random_segments(20, event) for event in range(5)}
    write_segments(folder / "segments.h5", steps)
    ids = [(1, 1, event) for event in range(5)]
    hits = {event: [(2, n, 31.5 * n, 10.0 + n) for n in range(60)] for event in ids}
    write_hits(
        folder / "hits.h5", hits, {event: [(n, n // 7, 1.0) for n in range(60)] for event in ids}
    )
    PATHS.update(SEGMENTS=str(folder / "segments.h5"), HITS=str(folder / "hits.h5"))
    val.mkdir()
    for split, name in (("train", "train"), ("tune", "val"), ("test", "test")):
        copyfile(folder / f"{split}.h5", val / f"{name}.h5")
    PATHS.update(FEW=str(folder), ONE_FILE=str(one), DUPLICATES=str(twice))
    PATHS.update(FURTHER=str(further), VAL=str(val))


SMALL_EVENTS: dict[Split, list[int]] = {"train": [0, 59, 7, 11], "tune": [5, 9], "test": [5]}
"""Indices of small events of the sample with all classes."""
PATHS: dict[str, str] = {}


@lru_cache(maxsize=64)
def outcome(settings: tuple[tuple[str, Any], ...]) -> Any:
    """Train two steps and validate: all numbers, or the error."""
    values = dict(settings)
    path = values.setdefault("data.splits.path", "FEW")
    values["data.splits.path"] = PATHS.get(path, path)
    try:
        trial = make_trial(values)
        with TemporaryDirectory() as folder:
            reports: list[Mapping[str, float]] = []
            train(trial, Path(folder), reports.append)
            state = checkpoints.load(sorted(Path(folder).glob("step-*.pt"))[-1])
        return numbers(trial, state, reports)
    except ValueError as error:
        return str(error)


def numbers(
    trial: Trial, state: checkpoints.Checkpoint, reports: list[Mapping[str, float]]
) -> tuple[Any, ...]:
    weights = torch.cat([values.double().flatten() for values in state.network.values()])
    curve = [sorted((key, one[key]) for key in one.keys() - COSTS) for one in reports]
    axes, rows = "", ""
    if trial.task.methods:
        axes = repr({name: list(axis) for name, axis in trial.task.active_method.axes().items()})
        events, thresholds = trial.data.splits.events("tune"), trial.task.untuned()
        if thresholds:
            pairs = predict(state.restored(), trial.task, events)
            predictions = Predictions(pairs, len(events))
            rows = repr(measure(trial.task, predictions, thresholds).rows)
    return weights.numpy().tobytes(), repr(curve), axes, rows


def test_every_setting_stands_here_once() -> None:
    known = {leaf for changes in CHANGES.values() for leaf in changes} | COMMON.keys()
    assert {leaf for _, leaf in LEAVES} == known | WITHOUT_EFFECT.keys()
    assert not known & WITHOUT_EFFECT.keys()
    for task, changes in CHANGES.items():
        own = {leaf for leaf in _leaves(Trial, task) if leaf.startswith("task.")}
        assert own - WITHOUT_EFFECT.keys() == changes.keys() | {"task.name"}


@pytest.mark.slow
@pytest.mark.parametrize(("task", "leaf"), CASES, ids=[f"{task}-{leaf}" for task, leaf in CASES])
def test_a_setting_has_an_effect_or_its_change_is_an_error(task: str, leaf: str) -> None:
    change = change_of(task, leaf)
    assert change is not None
    before = {**SMALL, "task.name": task, **TASK[task], **change.beside}
    after = {**before, leaf: change.value}
    assert outcome(tuple(freeze(before))) != outcome(tuple(freeze(after)))


def truth(task: str, values: Mapping[str, Any]) -> list[bytes] | None:
    """Return what the tune split is scored by; None for settings that cannot be."""
    settings = {"data.splits.path": "FEW", **SMALL, "task.name": task, **TASK[task], **values}
    settings["data.splits.path"] = PATHS.get(path := settings["data.splits.path"], path)
    try:
        trial = make_trial(settings)
        events = [trial.task.prepare(event) for event in trial.data.splits.events("tune")]
    except ValueError:
        return None
    arrays = []
    for event in events:
        arrays += [getattr(event, name)[~event.dead] for name in ("coords", "semantic", "cluster")]
        if event.regions:
            hidden = event.regions.truth
            arrays += [event.regions.corners, hidden.coords, hidden.cluster]
    return [array.tobytes() for array in arrays]


@pytest.mark.slow
def test_what_changes_the_scored_truth_is_not_searched() -> None:
    changing = set()
    for task, leaf in LEAVES:
        change = change_of(task, leaf)
        before = truth(task, change.beside) if change else None
        after = truth(task, {**change.beside, leaf: change.value}) if change else None
        if before is not None and after is not None and before != after:
            changing.add(leaf)
    assert {leaf for leaf in changing if not misplaced("search", leaf)} == set()
    known = {"wires.Y", "wires.pitch", "plane", "smear", "threshold", "box", "most_events"}
    known |= {"layout.side", "layout.classes.michel"}
    assert changing >= {f"data.splits.{leaf}" for leaf in known}
    assert changing >= {"task.relabel", "task.min_energy", "task.poster_classes", "task.dead"}
    assert misplaced("search", "task.semantics"), "true classes score higher than predicted ones"


def freeze(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        yield key, value if not isinstance(value, dict) else Frozen(value)


class Frozen(dict[str, Any]):
    """A mapping that can be an argument of a cached function."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(self))
