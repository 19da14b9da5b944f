"""Tuning the thresholds of a run, and using them on other events."""

import json
import os
import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from processes import descendants

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import open_events, read_events, write_events
from lartpc_ray.metrics.clustering import SCORES
from lartpc_ray.predict import __main__ as predict
from lartpc_ray.predict.thresholds_file import read_thresholds
from lartpc_ray.reconstruct.grid import Choice, objective_scores
from lartpc_ray.reconstruct.reconstructions import DbscanClustering, SeedClustering
from lartpc_ray.reconstruct.sweep import sweep
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.terminal.command import run as run_command
from lartpc_ray.terminal.screen import ProgressBar
from lartpc_ray.thresholds import __main__ as thresholds
from lartpc_ray.thresholds import scan
from lartpc_ray.thresholds.export import exported
from lartpc_ray.thresholds.in_use import used_thresholds
from lartpc_ray.thresholds.retune import _warn_of_few
from lartpc_ray.thresholds.source import ClassVoxels
from lartpc_ray.thresholds.tuning import class_objectives, exact_s0
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import FILE, Checkpoint
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.tune import __main__ as search

CLASSES = (1, 2)


def blobs(rng: np.random.Generator, count: int) -> list[Event]:
    """Events with two classes, each of two compact clusters of a dozen voxels."""
    events = []
    for _ in range(count):
        corners = rng.permutation(64)[:4]
        coords, cluster, semantic = [], [], []
        for number, corner in enumerate(corners):
            origin = np.array(np.unravel_index(corner, (4, 4, 4))) * 8
            cells = rng.permutation(27)[:12]
            coords.append(origin + np.array(np.unravel_index(cells, (3, 3, 3))).T)
            cluster += [number] * 12
            semantic += [CLASSES[number % 2]] * 12
        energy = rng.random(48) + 0.1
        events.append(
            Event.of(
                np.concatenate(coords),
                energy,
                (32,) * 3,
                semantic=np.array(semantic),
                cluster=np.array(cluster),
            )
        )
    return events


@pytest.fixture
def trained(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, str]:
    """Make a runs folder, and a run in it with the checkpoint of a new network."""
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "tune", "test"):
        write_events(data / f"{split}.h5", blobs(rng, 8))
    trial = make_trial(
        {
            "network.depth": 2,
            "network.filters": 4,
            "network.blocks": 1,
            "task.init_margin": 0.1,
            "task.init_offset_scale": 0.01,
            "task.seeds.grid_points": 5,
            "data.splits.path": str(data),
            "data.splits.layout.side": 32,
        }
    )
    saved = Checkpoint(trial, 0, trial.make_network().state_dict(), {}, [])
    tracking = Tracking(tmp_path / "runs", "clustering")
    run = tracking.start("trial 0", {"trial": "0"})
    tracking.log_artifact(run, checkpoints.save(tmp_path / "saved", saved))
    return tmp_path / "runs", run


def tune(runs: Path, run: str, *more: str, name: str = "clustering") -> int:
    arguments = [name, "--run", run, "--runs", str(runs), "--workers", "1", *more]
    return run_command(thresholds.parser(), thresholds.main, arguments)


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["in MLflow", "in a folder"])
def test_tuned_thresholds_find_the_clusters_of_new_events(
    trained: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: str
) -> None:
    runs, run = trained
    if kept == "in a folder":
        runs, run = tmp_path / "others", str(tmp_path / "saved")
    assert tune(runs, run, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert set(content["classes"]) == {"MIP", "SHOWER"}
    assert content["untuned"] == ["HIP", "DELTA", "MICHEL"]
    assert content["classes"]["MIP"]["score"] > 0.9
    assert content["classes"]["MIP"]["events"] == 8
    out = tmp_path / "out.h5"
    source = tmp_path / "data" / "test.h5"
    arguments = ["--run", run, "--runs", str(runs), str(source), "-o", str(out)]
    assert run_command(predict.parser(), predict.main, arguments) == 0
    assert "no thresholds for HIP, DELTA, MICHEL" in capsys.readouterr().err
    layout = checkpoints.load(tmp_path / "saved").trial.data.splits.layout
    for before, after in zip(
        read_events(source, layout=layout), read_events(out, layout=layout), strict=True
    ):
        assert len(before) == len(after)
        assert len(np.unique(after.cluster)) == 4
    with open_events(out, layout) as found:
        assert found.predicted
    assert run_command(predict.parser(), predict.main, arguments) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.fixture
def segmented(trained: tuple[Path, str], tmp_path: Path) -> str:
    """Log a segmentation run in the same folder; its network predicts MIP for every voxel."""
    small = {"network.depth": 2, "network.filters": 4, "task.name": "segmentation"}
    layout = {"data.splits.layout.side": 32}
    trial = make_trial({**small, **layout})
    network = trial.make_network()
    with torch.no_grad():
        network.get_parameter("decoders.classes.out.weight").zero_()
        network.get_parameter("decoders.classes.out.bias").copy_(torch.eye(5)[ParticleClass.MIP])
    saved = Checkpoint(trial, 0, network.state_dict(), {}, [])
    tracking = Tracking(trained[0], "segmentation_3d")
    run = tracking.start("trial 0", {"trial": "0"})
    tracking.log_artifact(run, checkpoints.save(tmp_path / "segmentation", saved))
    return run


@pytest.mark.slow
def test_a_segmentation_run_gives_the_classes_to_cluster_in(
    trained: tuple[Path, str],
    segmented: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs, run = trained
    layout = checkpoints.load(tmp_path / "saved").trial.data.splits.layout
    assert tune(runs, run) == 0
    out_file, source = tmp_path / "out.h5", str(tmp_path / "data" / "test.h5")
    arguments = ["--run", run, "--runs", str(runs), source, "-o", str(out_file)]
    chain = ["--semantics", "predicted", "--segmentation-run", segmented]
    assert run_command(predict.parser(), predict.main, [*arguments, *chain]) == 0
    for event in read_events(out_file, layout=layout):
        assert (event.semantic == ParticleClass.MIP).all()
        assert event.cluster.max() >= 1
    classes = ["--run", segmented, "--runs", str(runs), source, "-o", str(out_file), "--force"]
    assert run_command(predict.parser(), predict.main, classes) == 0
    assert run_command(predict.parser(), predict.main, [*classes, *chain[:2]]) == 2
    assert "go together" in capsys.readouterr().err
    assert tune(runs, segmented) == 2
    assert "the task segmentation has no thresholds to tune" in capsys.readouterr().err


def stopped_muon() -> Event:
    """Make a track 3 x 3 thick and a Michel electron of 8 voxels at its end."""
    muon = [[x, 15 + a, 15 + b] for x in range(20) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    michel = [[20, 17 + step, 15] for step in range(8)]
    return Event.of(
        np.array(muon + michel),
        np.ones(188),
        (32, 32, 32),
        semantic=np.array([ParticleClass.MIP] * 180 + [ParticleClass.MICHEL] * 8),
        cluster=np.array([0] * 180 + [1] * 8),
    )


@pytest.mark.slow
def test_michels_on_top_of_a_segmentation_run(
    trained: tuple[Path, str],
    segmented: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs, run = trained
    folder = tmp_path / "stopped"
    folder.mkdir()
    for split in ("train", "tune", "test"):
        write_events(folder / f"{split}.h5", [stopped_muon()] * 2)
    arguments = ["michel", "--runs", str(runs), "--data", str(folder)]
    for setting in (
        "data.splits.layout.side=32",
        "task.reconstruction.min_voxels=5",
        "task.semantics=truth",
    ):
        arguments += ["--set", setting]
    assert run_command(search.parser(), search.main, [*arguments, "--run", segmented]) == 0
    assert capsys.readouterr().out.startswith("Best on 2 test events: this network")
    (kept,) = MlflowClient(Tracking(runs, None).uri).search_runs(["3"])
    out = Tracking(runs, None).fetch(kept.info.run_id, "table.txt", tmp_path).read_text()
    assert re.search(r"this network, tuned thresholds +1\.000 +1\.000", out)
    assert re.search(r"true Michel electrons .*\n  this network, tuned thresholds +2\.000", out)
    again = [*arguments, "--run", segmented]
    assert run_command(search.parser(), search.main, again) == 0
    other = [word.replace("min_voxels=5", "min_voxels=4") for word in again]
    assert run_command(search.parser(), search.main, other) == 0
    found = MlflowClient(Tracking(runs, None).uri).search_runs(["3"])
    assert len(found) == 2, "the same command has the same run, other settings another"
    first, second = ({*one.data.params.items()} for one in found)
    assert {value for _, value in first ^ second} == {"4", "5"}
    capsys.readouterr()
    assert run_command(search.parser(), search.main, [*arguments, "--run", run]) == 2
    assert "its task is clustering, not segmentation" in capsys.readouterr().err
    names = MlflowClient(Tracking(runs, None).uri).list_artifacts(kept.info.run_id)
    assert "michels.png" in {file.path for file in names}


@pytest.mark.slow
def test_the_run_keeps_thresholds_scores_and_a_picture_a_class(
    trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    runs, run = trained
    told = {"task": "clustering", "engine": "native", "data": "0123456789ab"}
    Tracking(runs, None).set_tags(run, {**told, "host": "here"})
    ended = Tracking(runs, None).client.get_run(run).info
    objectives = ("--objective", "MIP=sbd", "--objective", "purity*efficiency")
    assert tune(runs, run, *objectives, "--rule", "best", "--refine", "2", name="other") == 0
    out = capsys.readouterr().out
    assert "tune split, 8 events, rule best" in out
    assert re.search(r"MIP .* sbd\n", out)
    assert re.search(r"SHOWER .* purity\*efficiency\n", out)
    client = MlflowClient(Tracking(runs, None).uri)
    assert len(client.search_experiments()) == 1, "the name that was given makes none"
    now = client.get_run(run).info
    assert (now.status, now.end_time) == (ended.status, ended.end_time), "the time of the training"
    (parent,) = client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{run}'")
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert names == {"scores.npz", "table.txt", "thresholds-seeds.yaml"}
    children = client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {child.info.run_name for child in children} == {"MIP", "SHOWER"}
    for child in children:
        (picture,) = client.list_artifacts(child.info.run_id)
        assert picture.path == f"{child.info.run_name}.png"
        assert {"s0", "p0", "score", "error"} <= set(child.data.metrics)
    note = f"predict uses these thresholds for seeds\n```\n{out.strip()}\n```"
    assert parent.data.tags["mlflow.note.content"] == note
    lines = {child.info.run_name: child.data.tags["mlflow.note.content"] for child in children}
    assert re.fullmatch(r"`sbd` .* ± .* at s0 = .*, p0 = .* \(8 events\)", lines["MIP"])
    assert lines["SHOWER"].startswith("`purity*efficiency` ")
    for one in (parent, *children):
        assert told.items() <= one.data.tags.items()
        assert "host" not in one.data.tags, "that of the run is another's"
    saved = client.download_artifacts(parent.info.run_id, "scores.npz", str(runs))
    with np.load(saved) as arrays:
        assert arrays["MIP/ari"].shape == (8, 5, len(arrays["p0"]))
        assert len(arrays["p0"]) > len(SeedClustering(grid_points=5).axes()["p0"]), "refined"


@pytest.mark.slow
def test_an_export_to_spine_is_tuned_for_its_rule_and_leaves_the_run_as_it_was(
    trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    runs, run = trained
    assert tune(runs, run, "--export", "spine") == 0
    printed = capsys.readouterr()
    assert set(yaml.safe_load(printed.out)["clusterer"]["seed_threshold"]) == {
        *("shower", "track", "michel", "delta")
    }
    assert "tuning for the rule of spine, first_come" in printed.err
    origin = f"thresholds of MLflow run {run}, clustering rule first_come"
    state = "logged; not in use: predict clusters this run by another rule"
    assert printed.err.splitlines()[-2:] == [origin, state]
    (logged,) = Tracking(runs, None).children(run, kind="thresholds")
    assert Tracking(runs, None).run_info(logged)["in_use"] == "false"
    assert used_thresholds(Tracking(runs, None), run, "seeds") is None
    assert tune(runs, run, "--export", "spine") == 0
    again = capsys.readouterr()
    assert again.out == printed.out
    assert "tuning" not in again.err, "printed from the run"
    assert again.err.splitlines()[-1] == origin
    assert tune(runs, run, "--cluster-rule", "first_come", "--keep") == 2
    assert "predict clusters this run by another rule" in capsys.readouterr().err


@pytest.mark.slow
def test_a_look_with_another_objective_leaves_the_thresholds_in_use(
    trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    runs, run = trained
    tracking = Tracking(runs, None)
    assert tune(runs, run) == 0
    first = used_thresholds(tracking, run, "seeds")
    assert "now in use for seeds" in capsys.readouterr().err
    assert tune(runs, run) == 0, "the same once more"
    assert "now in use for seeds" in capsys.readouterr().err
    assert len(tracking.children(run, kind="thresholds", in_use="true")) == 1
    assert tune(runs, run, "--objective", "purity", "--rule", "best", "--json") == 0
    printed = capsys.readouterr()
    look = json.loads(printed.out)
    assert not look["kept"]
    assert set(look["compared"]["MIP"]["used"]) == {"s0", "p0"}
    assert look["compared"]["MIP"]["difference"] >= 0, "the best point of the objective"
    assert used_thresholds(tracking, run, "seeds") == first
    found = [tracking.run_info(child) for child in tracking.children(run)]
    states = {about["name"]: about["mlflow.note.content"].split("\n")[0] for about in found}
    assert states == {
        "thresholds seeds ari robust · in use": "predict uses these thresholds for seeds",
        "thresholds seeds purity best": "predict uses other thresholds for seeds",
    }
    assert tune(runs, run, "--objective", "purity", "--rule", "best", "--keep") == 0
    assert re.search(r"MIP +[+-]0\.\d+ ± 0\.\d+ +[01]", capsys.readouterr().out)
    kept = used_thresholds(tracking, run, "seeds")
    assert kept is not None
    assert kept["classes"]["MIP"]["objective"] == "purity"
    (used,) = tracking.children(run, kind="thresholds", in_use="true")
    assert tracking.run_info(used)["name"] == "thresholds seeds purity best · in use"
    found = [tracking.run_info(child) for child in tracking.children(run)]
    heads = {about["name"]: about["mlflow.note.content"].split("\n")[:2] for about in found}
    assert heads == {
        "thresholds seeds ari robust": ["predict uses other thresholds for seeds", "```"],
        "thresholds seeds purity best · in use": [
            "predict uses these thresholds for seeds",
            "```",
        ],
    }


@pytest.mark.slow
def test_a_folder_changes_with_keep_only(
    trained: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As models/clustering of a checkout."""
    runs, folder = trained[0], tmp_path / "saved"

    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    assert tune(runs, str(folder), "--keep") == 0
    before = content()
    assert set(before) >= {FILE, "thresholds-seeds.yaml"}
    assert tune(runs, str(folder), "--objective", "purity", "--rule", "best") == 0
    assert "logged; not in use, see --keep" in capsys.readouterr().err
    assert content() == before
    assert tune(runs, str(folder), "--objective", "purity", "--rule", "best", "--keep") == 0
    assert content()["thresholds-seeds.yaml"] != before["thresholds-seeds.yaml"]


@pytest.mark.slow
def test_thresholds_tuned_on_other_events_name_them_and_not_the_data_of_the_run(
    trained: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, run = trained
    Tracking(runs, None).set_tags(run, {"data": "0123456789ab"})
    other = tmp_path / "other"
    other.mkdir()
    (other / "tune.h5").symlink_to(tmp_path / "data" / "tune.h5")
    assert tune(runs, run, "--data", str(other), "--json") == 0
    assert json.loads(capsys.readouterr().out)["data"] == str(other)
    (kept,) = Tracking(runs, None).children(run, kind="thresholds")
    assert Tracking(runs, None).run_info(kept)["data"] == str(other)


@pytest.mark.slow
def test_density_is_tuned_by_the_same_engine(
    trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    runs, run = trained
    assert tune(runs, run, "--method", "dbscan", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["classes"]["MIP"]["score"] == pytest.approx(1)
    assert set(content["classes"]["MIP"]["interval"]) == {"eps", "min_points"}


def made_parts(rng: np.random.Generator, count: int, voxels: int) -> list[ClassVoxels]:
    parts = []
    for number in range(count):
        truth = rng.integers(0, 3, voxels)
        position = rng.normal(size=(3, 3))[truth] + 0.2 * rng.normal(size=(voxels, 3))
        outputs = {"position": position, "margin": np.full(voxels, 0.3)}
        seediness = rng.random(voxels)
        parts.append(
            ClassVoxels(number, "MIP", {**outputs, "seediness": seediness, "truth": truth})
        )
    return parts


def killed_once() -> threading.Thread:
    """Kill the first process of this test's Ray that is seen at work on a shard."""

    def kill() -> None:
        for _ in range(2000):
            for process, title in descendants(os.getpid()).items():
                if title.startswith("ray::score_shard"):
                    os.kill(process, signal.SIGKILL)
                    return
            time.sleep(0.005)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_the_same_scores_bit_for_bit_for_any_workers_and_when_one_is_killed(
    rng: np.random.Generator,
) -> None:
    parts = made_parts(rng, 12, 6000)
    task = ClusteringTask()
    wanted = np.stack([task.scores(part.voxels, ["ari"])["ari"] for part in parts])
    for workers, kill in ((1, False), (2, True)):
        with ray_session(workers, dashboard=False):
            killer = killed_once() if kill else None
            found = scan.score_grid(parts, task, ["ari"])
        np.testing.assert_array_equal(found["MIP"]["ari"], wanted)
        if killer:
            assert not killer.is_alive(), "no worker was killed"


def test_the_exact_s0_is_never_worse_than_the_mesh(rng: np.random.Generator) -> None:
    parts, cut = made_parts(rng, 5, 200), SeedClustering()
    scores = np.mean(
        [cut.scores(part.voxels, ["ari"], min_voxels=10)["ari"] for part in parts], axis=0
    )
    column = int(np.argwhere(cut.axes()["p0"] == 0.5)[0, 0])
    low, high, score = exact_s0(parts, "MIP", 10, 0.5, "ari")
    assert score >= scores[:, column].max()
    point: dict[str, Any] = {"s0": np.array([(low + high) / 2]), "p0": np.array([0.5])}
    inside = [sweep(**{**part.voxels, **point}, min_voxels=10) for part in parts]
    assert np.mean([found["ari"] for found in inside]) == pytest.approx(score)


def test_a_objective_is_a_metric_or_a_product() -> None:
    scores = {"purity": np.array([0.5, np.nan]), "efficiency": np.array([0.5, 1.0])}
    assert objective_scores(scores, "purity*efficiency").tolist() == [0.25, 0]
    for objective in ("purty", "n_clusters", "purity*"):
        with pytest.raises(ValueError, match="is unknown; give ari"):
            class_objectives([objective], SCORES)
    with pytest.raises(ValueError, match="'MUON' is no class; give one of HIP, MIP"):
        class_objectives(["MUON=ari"], SCORES)
    objectives = class_objectives(["MIP=sbd", "ami"], SCORES)
    assert (objectives["MIP"], objectives["HIP"]) == ("sbd", "ami")


def test_classes_with_too_few_events_are_named_unless_hardly_more_are_needed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """39 events of ±0.0205 need 41 for ±0.02: no advice."""
    choice = Choice({}, {}, 0.5, 0.099, None, np.zeros(1, bool), 13, 319)
    choices = {"HIP": choice, "MIP": replace(choice, error=0.0205, events=39, enough=41)}
    choices["SHOWER"] = replace(choice, error=0.01, enough=None)
    with caplog.at_level("INFO"):
        _warn_of_few(choices)
    assert caplog.messages == [
        "HIP: the score of 13 events has an error of ±0.099; about 320 events would give ±0.02"
    ]


def test_other_programs_read_the_thresholds_by_their_class_numbers() -> None:
    row = {"s0": 0.1, "p0": 0.2}
    content = {"classes": {"SHOWER": row, "MIP": {"s0": 0.3, "p0": 0.4}, "HIP": {}}}
    lists = yaml.safe_load(exported(content, "mlreco"))
    assert lists == {"s_thresholds": [0.1, 0.3, 0.0, 0.0], "p_thresholds": [0.2, 0.4, 0.5, 0.5]}
    named = yaml.safe_load(exported(content, "spine"))["clusterer"]
    assert named == {
        "seed_threshold": {"shower": 0.1, "track": 0.3, "michel": 0.0, "delta": 0.0},
        "probability_threshold": {"shower": 0.2, "track": 0.4, "michel": 0.5, "delta": 0.5},
    }


def test_a_density_grid_by_hand() -> None:
    coords = np.array([[0, 0, 0], [0, 0, 2], [0, 0, 4], [0, 0, 9], [0, 0, 11]])
    voxels = {"coords": coords, "truth": np.array([0, 0, 0, 1, 1])}
    cut = DbscanClustering(eps=(1.5, 2.5, 6.0), min_points=(1, 4))
    found = cut.scores(voxels, ["ari", "n_clusters"], min_voxels=1)
    assert found["n_clusters"].tolist() == [[5, 0], [2, 0], [1, 1]]
    assert found["ari"][:, 0].tolist() == [0, 1, 0]


def test_a_file_that_holds_no_thresholds_is_refused(tmp_path: Path) -> None:
    for text in ("[1, 2]", "classes: {MIP: {s0: 1}}", "a: [", "classes: 3"):
        path = tmp_path / "thresholds.yaml"
        path.write_text(text)
        with pytest.raises(
            ValueError, match=r"thresholds.yaml:.* (no thresholds|must be a mapping|not YAML)"
        ):
            read_thresholds(path, SeedClustering())


def test_the_progress_ends_at_the_last_event_though_it_has_nothing_to_score(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts, left = list[int](), list[float]()

    def record(name: str, value: float, **_: str) -> None:
        if name == "lartpc_threshold_points_left":
            left.append(value)

    monkeypatch.setattr(ProgressBar, "advance", lambda self, count: counts.append(count))
    monkeypatch.setattr(scan, "cluster_resources", lambda: {"CPU": 1.0})
    monkeypatch.setattr("ray.put", lambda arrays: arrays)
    monkeypatch.setattr(
        "lartpc_ray.runtime.ray_tasks.run_in_order", lambda work, calls: (None for _ in calls)
    )
    monkeypatch.setattr("lartpc_ray.runtime.live_metrics.record", record)
    shards = iter([[ClassVoxels(number, "HIP", {})] for number in (0, 2)])
    assert len(list(scan.run_shards(shards, ClusteringTask(), 5, scan.score_shard))) == 2
    assert np.cumsum(counts).tolist() == [1, 3, 5]
    assert left[-1] == 0
