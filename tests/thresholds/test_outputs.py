"""Thresholds for the outputs of any network: file, checks, command, Python function, page."""

import json
import shlex
from collections.abc import Callable
from errno import EACCES, EAGAIN
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

import lartpc_ray
from lartpc_ray.data.outputs import open_outputs
from lartpc_ray.report import __main__ as report
from lartpc_ray.terminal.command import run as run_command
from lartpc_ray.thresholds import __main__ as thresholds
from lartpc_ray.tracking.runs import Tracking

Arrays = dict[str, np.ndarray]


def made_events(rng: np.random.Generator, events: int = 12) -> list[Arrays]:
    """Make outputs of three tracks and three showers, each a compact cluster of 20 voxels."""
    made = []
    for _ in range(events):
        cluster = np.repeat(np.arange(6), 20)
        centre = rng.uniform(-1, 1, (6, 3))
        position = centre[cluster] + 0.05 * rng.normal(size=(120, 3))
        far = ((position - centre[cluster]) ** 2).sum(axis=1)
        seediness = np.exp(-far / 0.02)
        classes = np.where(cluster < 3, 1, 2)
        arrays = {"class": classes, "cluster": cluster, "position": position}
        made.append({**arrays, "margin": np.full(120, 0.1), "seediness": seediness})
    return made


def write(path: Path, events: list[Arrays]) -> Path:
    """Write outputs as the how-to does."""
    with h5py.File(path, "w") as file:
        for name in events[0]:
            file[name] = np.concatenate([event[name] for event in events])
        file["event"] = np.repeat(np.arange(len(events)), [len(event["class"]) for event in events])
    return path


def test_a_file_gives_the_events_that_were_written(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    events = made_events(rng, 3)
    outputs = open_outputs(write(tmp_path / "outputs.h5", events))
    assert len(outputs) == 3
    for wanted, found in zip(events, outputs, strict=True):
        assert wanted.keys() == found.keys()
        for name in wanted:
            np.testing.assert_array_equal(wanted[name], found[name])


def replaced(name: str, values: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        if values is not None:
            file[name] = values

    return change


def with_nan(values: np.ndarray) -> np.ndarray:
    """Return 240 values, of two events, with one NaN in the second event."""
    values[123] = np.nan
    return values


def arrays_of(table: pd.DataFrame) -> Arrays:
    """Return a table as the outputs of one event, with its position in one axis."""
    columns = {str(name): table[name].to_numpy() for name in table}
    return columns | {"position": table[["position_0"]].to_numpy()}


def linked(file: h5py.File) -> None:
    del file["margin"]
    file["margin"] = h5py.ExternalLink("/dev/zero", "margin")


CASES = {
    "no dataset 'seediness'": replaced("seediness", None),
    "no dataset 'margin'": linked,
    "event 0 in row 1: sort the rows": replaced("event", np.array([1] + [0] * 239)),
    "columns of unequal lengths": replaced("cluster", np.zeros(3, int)),
    "event 0: voxel 0: margin 0.0: give sigma": replaced("margin", np.zeros(240, np.float32)),
    "voxel 0: seediness 1.5: give 0 to 1": replaced("seediness", np.full(240, 1.5)),
    "voxel 0: class 7: give whole numbers from -1 to 4": replaced("class", np.full(240, 7)),
    "event 0: voxel 0: position nan": replaced("position", np.full((240, 3), np.nan)),
    "event 0: position has shape": replaced("position", np.zeros(240)),
    "event 0: voxel 0: cluster 0.5": replaced("cluster", np.full(240, 0.5)),
    "margin holds |S1; give numbers": replaced("margin", np.array(["a"] * 240, "S1")),
    "event holds float32; give whole numbers": replaced("event", np.zeros(240, np.float32)),
    "event has shape (240, 2); give (voxel,)": replaced("event", np.zeros((240, 2), int)),
    "event 0: margin has shape (120, 2); give (voxel,)": replaced("margin", np.ones((240, 2))),
    "event 0: cluster has shape (120, 2)": replaced("cluster", np.ones((240, 2))),
    "event 0: position has shape (120, 0)": replaced("position", np.zeros((240, 0))),
    "event 1: voxel 3: margin nan: give finite": replaced("margin", with_nan(np.ones(240))),
    "event 1: voxel 3: cluster nan: give whole": replaced("cluster", with_nan(np.zeros(240))),
    "event 0: voxel 0: margin 1e-300: give": replaced("margin", np.full(240, 1e-300)),
    "event 0: voxel 0: position 1e+200: give": replaced("position", np.full((240, 3), 1e200)),
}


@pytest.mark.parametrize("message", CASES)
def test_a_wrong_file_is_refused_with_file_event_and_value(
    tmp_path: Path, rng: np.random.Generator, message: str
) -> None:
    path = write(tmp_path / "outputs.h5", made_events(rng, 2))
    with h5py.File(path, "a") as file:
        CASES[message](file)
    with pytest.raises(ValueError, match=r"outputs\.h5") as error:
        list(open_outputs(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("event", lambda values: values.astype(np.uint64) + np.uint64(2**63)),
        ("event", lambda values: values[:, None] * 2**60 - 7),
        ("class", lambda values: values[:, None].astype(np.float32)),
        ("cluster", lambda values: values[:, None] * 100_000 + 17),
        ("position", lambda values: values.astype(np.float16)),
        ("seediness", lambda values: values[:, None]),
    ],
)
def test_columns_of_other_types_and_with_one_column_are_read(
    tmp_path: Path, rng: np.random.Generator, name: str, change: Callable[[Any], Any]
) -> None:
    path = write(tmp_path / "outputs.h5", made_events(rng, 2))
    with h5py.File(path, "a") as file:
        values = change(file[name][:])
        replaced(name, values)(file)
    first, second = open_outputs(path)
    assert len(first["margin"]) == len(second["margin"]) == 120
    if name != "event":
        wanted = values if name == "position" else values.reshape(-1)
        np.testing.assert_array_equal(np.concatenate([first[name], second[name]]), wanted)


def test_a_file_of_no_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        open_outputs(tmp_path / "none.h5")
    with pytest.raises(ValueError, match="a folder, a pipe or a device; give an HDF5 file"):
        open_outputs(tmp_path)
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(ValueError, match="not a readable HDF5 file"):
        open_outputs(tmp_path / "text.h5")


def test_a_file_that_is_written_or_may_not_be_read_is_not_called_broken(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "outputs.h5", made_events(rng, 1))

    def locked(*_: Any) -> None:
        raise BlockingIOError(EAGAIN, "unable to lock file")

    with monkeypatch.context() as patch:
        patch.setattr("lartpc_ray.data.formats.outputs.h5py.File", locked)
        with pytest.raises(ValueError, match="locked by a program that writes it; wait"):
            open_outputs(path)

    def refused(self: Path, *_: Any) -> None:  # the superuser may read any file
        raise PermissionError(EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(PermissionError, match=r"Permission denied: .*outputs\.h5"):
        open_outputs(path)


@pytest.mark.slow
def test_the_command_tunes_a_file_and_keeps_all_that_a_run_has(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    path, runs = write(tmp_path / "net.h5", made_events(rng)), ["--runs", str(tmp_path / "runs")]
    arguments = ["clustering", "--outputs", str(path), "--workers", "1", *runs]
    command = (thresholds.parser(), thresholds.main)
    assert run_command(*command, [*arguments, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert set(content["classes"]) == {"MIP", "SHOWER"}
    assert content["data"] == str(path)
    assert content["classes"]["MIP"]["score"] > 0.95
    assert content["classes"]["MIP"]["held_out"] > 0.9
    export = [*arguments, "--cluster-rule", "argmax", "--export", "mlreco"]
    assert run_command(*command, export) == 0
    printed = capsys.readouterr()
    assert "tuning" not in printed.err, "printed from the run"
    lists = yaml.safe_load(printed.out)
    assert lists["s_thresholds"][1] == content["classes"]["MIP"]["s0"]
    tracking = Tracking(tmp_path / "runs", "clustering")
    (run,) = tracking.client.search_runs(["1"], "tags.kind = 'outputs'")
    assert content["run"] == run.info.run_id
    origin = f"thresholds of MLflow run {run.info.run_id}, clustering rule argmax\n"
    assert printed.err.endswith(origin)
    (child,) = tracking.children(run.info.run_id, kind="thresholds", in_use="true")
    names = {file.path for file in tracking.client.list_artifacts(child)}
    assert names == {"scores.npz", "table.txt", "thresholds-seeds.yaml"}
    page = tmp_path / "page.html"
    shown = (report.parser(), report.main, ["--run", run.info.run_id, *runs])
    assert run_command(*shown[:2], [*shown[2], "--html", str(page)]) == 0
    assert "12 events of net.h5, rule robust" in page.read_text()
    assert run_command(*shown) == 0
    assert "net.h5, 12 events, rule robust" in capsys.readouterr().out


def test_python_gives_the_same_thresholds_for_a_file_and_for_its_events(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    events = made_events(rng, 6)
    path = write(tmp_path / "outputs.h5", events)
    few: dict[str, Any] = {"s0": np.linspace(0, 1, 5), "p0": np.linspace(0, 1, 5)}
    table = lartpc_ray.tune_thresholds(path, **few)
    assert table.equals(lartpc_ray.tune_thresholds(events, **few))
    assert list(table["class"]) == ["MIP", "SHOWER"]
    with pytest.raises(ValueError, match="event 0: voxel 0: seediness 2"):
        lartpc_ray.tune_thresholds([{**events[0], "seediness": np.full(120, 2.0)}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="event"), "without the column event; give event, cl"),
        (lambda table: table.assign(event=table.event.where(table.index != 7)), "row 7: no event"),
        (lambda table: table.assign(cluster="a"), "event 0: cluster holds object: give whole num"),
        (lambda table: table.assign(margin=[0.1] * 239 + [None]), "event 1: voxel 119: margin nan"),
        (lambda table: [{**arrays_of(table), "margin": 0.3}], r"event 0: margin has shape \(\)"),
    ],
)
def test_a_wrong_table_is_refused_in_a_line(
    rng: np.random.Generator, change: Callable[[pd.DataFrame], Any], message: str
) -> None:
    events = made_events(rng, 2)
    columns = {name: np.concatenate([event[name] for event in events]) for name in events[0]}
    position = columns.pop("position")
    columns |= {f"position_{axis}": position[:, axis] for axis in range(3)}
    table = pd.DataFrame({"event": np.repeat([0, 1], 120), **columns})
    with pytest.raises(ValueError, match=message) as error:
        lartpc_ray.tune_thresholds(change(table), s0=[0.0, 0.5], p0=[0.0, 0.5])
    assert "\n" not in str(error.value)


def test_a_missing_file_and_unknown_rules_are_refused_in_a_line(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    with pytest.raises(ValueError, match=r"none\.h5: no such file; give an HDF5 file"):
        lartpc_ray.tune_thresholds(tmp_path / "none.h5")
    unknown: Any = "first"
    with pytest.raises(ValueError, match=r"^cluster_rule 'first': give argmax, counted"):
        lartpc_ray.tune_thresholds(made_events(rng, 1), cluster_rule=unknown)
    with pytest.raises(ValueError, match=r"^rule 'first': give best, robust$"):
        lartpc_ray.tune_thresholds(made_events(rng, 1), rule=unknown)


def test_a_method_that_needs_the_image_needs_coords(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "net.h5", made_events(rng, 1))
    arguments = ["clustering", "--outputs", str(path), "--runs", str(tmp_path / "runs")]
    both = (thresholds.parser(), thresholds.main)
    assert run_command(*both, [*arguments, "--method", "dbscan", "--workers", "1"]) == 2
    assert "net.h5: event 0: no coords, which --method dbscan needs" in capsys.readouterr().err
    write(path, [{**event, "cluster": np.full(120, -1)} for event in made_events(rng, 1)])
    assert run_command(*both, [*arguments, "--workers", "1"]) == 2
    refusal = "net.h5: no event has a cluster of 10 voxels or more in a class; give events with"
    assert refusal in capsys.readouterr().err
    assert run_command(*both, [*arguments, "--run", "abc"]) == 2
    assert "give --run ID, or --outputs FILE" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_names_the_run_and_the_rule_of_clustering(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    path, runs = write(tmp_path / "net.h5", made_events(rng, 6)), tmp_path / "my runs"
    words = ["clustering", "--outputs", str(path), "--workers", "1", "--runs", str(runs)]
    command = (thresholds.parser(), thresholds.main)
    assert run_command(*command, [*words, "--cluster-rule", "first_come"]) == 0
    *_, origin, page = capsys.readouterr().out.splitlines()
    (run,) = Tracking(runs, "clustering").client.search_runs(["1"], "tags.kind = 'outputs'")
    assert origin == f"thresholds of MLflow run {run.info.run_id}, clustering rule first_come"
    shown = shlex.split(page.removeprefix("as a page: python -m lartpc_ray.report "))
    shown[-1] = str(tmp_path / shown[-1])
    assert run_command(report.parser(), report.main, shown) == 0
    assert "6 events of net.h5" in (tmp_path / "thresholds.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "status"), [((), 0), (("--workers", "2"), 2)])
def test_few_events_are_tuned_without_ray(
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    workers: tuple[str, ...],
    status: int,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("Ray was started")

    monkeypatch.setattr("lartpc_ray.runtime.ray_session.ray_session", refuse)
    path = write(tmp_path / "net.h5", made_events(rng, 4))
    words = ["clustering", "--outputs", str(path), "--runs", str(tmp_path / "runs"), *workers]
    assert run_command(thresholds.parser(), thresholds.main, words) == status
