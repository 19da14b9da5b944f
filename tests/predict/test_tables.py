"""The tables beside predictions: complete, the same for any workers, and read back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import make_event

from lartpc_ray import compare
from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.metrics.table import Row
from lartpc_ray.predict import __main__ as predict
from lartpc_ray.predict import write_predictions
from lartpc_ray.predict.cluster_columns import join
from lartpc_ray.predict.tables import (
    has_tables,
    read_clusters,
    read_metrics,
    table_files,
    write_tables,
)
from lartpc_ray.report import __main__ as report
from lartpc_ray.report.comparison_page import write_comparison
from lartpc_ray.terminal.command import run as run_command
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import make_trial

EVENTS = 150
CLASSES = ("HIP", "MIP", "SHOWER", "DELTA", "MICHEL")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write events, a run and its thresholds into a folder."""
    folder, rng = tmp_path_factory.mktemp("inputs"), np.random.default_rng(3)
    write_events(folder / "events.h5", (make_event(rng, voxels=30) for _ in range(EVENTS)))
    settings = {"network.depth": 2, "network.filters": 4, "data.splits.layout.side": 16}
    trial = make_trial({**settings, "task.min_voxels": 0})
    state = Checkpoint(trial, 0, trial.make_network().state_dict(), {}, [])
    checkpoints.save(folder / "run", state)
    points = ", ".join(f"{name}: {{s0: 0.0, p0: 0.5}}" for name in CLASSES)
    (folder / "run" / "thresholds-seeds.yaml").write_text(f"classes: {{{points}}}")
    return folder


def run(inputs: Path, output: Path, *more: str) -> int:
    paths = [str(inputs / "events.h5"), "-o", str(output), "--run", str(inputs / "run")]
    common = ["--runs", str(output.parent), "--shard-events", "128", *more]
    return run_command(predict.parser(), predict.main, [*paths, *common])


def files(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".h5", ".parquet"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def shards(inputs: Path) -> Path:
    """Write shards with tables."""
    assert run(inputs, inputs / "shards", "--tables", "--pitch", "0.5") == 0
    return inputs / "shards"


@pytest.mark.slow
def test_the_tables_are_those_of_the_predicted_file(inputs: Path, shards: Path) -> None:
    clusters, layout = pd.DataFrame(read_clusters(shards)), Layout(side=16)
    task, metrics = read_metrics(shards)
    assert task == "clustering"
    truth = read_events(inputs / "events.h5", layout=layout, indices=range(20))
    found = read_events(min(shards.glob("*.h5")), layout=layout)
    for number, (event, predicted) in enumerate(zip(truth, found, strict=False)):
        rows = clusters[clusters["event"] == number]
        true, made = rows[~rows["predicted"]], rows[rows["predicted"]]
        assert made["voxels"].sum() == (predicted.cluster >= 0).sum()
        known = event.semantic >= 0
        assert true["energy"].sum() == pytest.approx(event.energy[known].sum(), rel=1e-5)
        np.testing.assert_allclose(rows["extent_cm"], rows["extent_voxels"] * 0.5)
        for index, name in enumerate(CLASSES):
            own = {row.metric: row.value for row in metrics.rows if row[:2] == (number, name)}
            if own:
                of_class = true[true["class"] == index]
                assert own["efficiency"] == pytest.approx(of_class["efficiency"].mean(), abs=1e-6)
        with_partner = true[true["partner"] >= 0]
        assert set(with_partner["partner"]) <= set(made["cluster"])
    assert clusters["event"].nunique() == EVENTS


@pytest.mark.slow
def test_a_file_has_the_tables_of_the_shards(inputs: Path, shards: Path, tmp_path: Path) -> None:
    assert run(inputs, tmp_path / "one.h5", "--tables", "--pitch", "0.5") == 0
    assert (tmp_path / "one.clusters.parquet").is_file()
    one, many = read_clusters(tmp_path / "one.h5"), read_clusters(shards)
    for name in one:
        np.testing.assert_array_equal(one[name], many[name])
    assert read_metrics(tmp_path / "one.h5")[1].rows == read_metrics(shards)[1].rows
    frame = pd.read_parquet(tmp_path / "one.clusters.parquet")
    assert set(frame["class"].dropna()) <= set(CLASSES)


@pytest.mark.slow
def test_a_shard_that_exists_has_its_tables(inputs: Path, shards: Path, tmp_path: Path) -> None:
    whole = files(shards)
    assert len(whole) == 6
    assert run(inputs, tmp_path / "ended", "--tables", "--pitch", "0.5") == 0
    assert files(tmp_path / "ended") == whole
    first = min((tmp_path / "ended").glob("events-*.h5"))
    first.unlink()
    (tmp_path / "ended" / "tables" / f"clusters-{first.stem[7:]}.parquet").unlink()
    assert run(inputs, tmp_path / "ended", "--tables", "--pitch", "0.5") == 0
    assert files(tmp_path / "ended") == whole


@pytest.mark.parametrize("more", [[], ["--tables"]])
@pytest.mark.parametrize("kind", [0, 1])
def test_a_table_without_its_events_stays(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: int, more: list[str]
) -> None:
    output = tmp_path / "out.h5"
    table = table_files(output)[kind]
    table.write_bytes(b"mine")
    assert run(inputs, output, "--events", ":2", *more) == 2
    assert f"{table}: is there already; --force writes over it" in capsys.readouterr().err
    assert list(tmp_path.glob("out*")) == [table]
    assert table.read_bytes() == b"mine"


def test_other_shards_have_their_own_tables_alone(inputs: Path, tmp_path: Path) -> None:
    output, few = tmp_path / "out", ("--tables", "--workers", "1")
    assert run(inputs, output, *few, "--events", ":8") == 0
    assert run(inputs, output, *few, "--events", "8:16", "--force") == 0
    assert sorted(set(read_clusters(output)["event"].tolist())) == list(range(8, 16))


@pytest.mark.parametrize("name", ["out.h5", "out"])
def test_another_prediction_without_tables_has_none(
    inputs: Path, tmp_path: Path, name: str
) -> None:
    output, few = tmp_path / name, ("--workers", "1", "--events", ":2")
    assert run(inputs, output, "--tables", *few) == 0
    assert has_tables(output)
    assert run(inputs, output, "--force", *few) == 0
    assert not has_tables(output)
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("more", [[], ["--tables"]])
@pytest.mark.parametrize("moment", ["load_networks", "reconstruct"])
def test_a_file_that_another_process_writes_meanwhile_stays_with_its_tables(
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    moment: str,
    more: list[str],
) -> None:
    output, work = tmp_path / "out.h5", getattr(write_predictions, moment)
    others = [output, *table_files(output)]

    def while_another_writes(*arguments: Any) -> Any:
        for path in others:
            path.write_bytes(b"another")
        return work(*arguments)

    monkeypatch.setattr(write_predictions, moment, while_another_writes)
    assert run(inputs, output, *more, "--workers", "1", "--events", ":2") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{output}: another process has written this file meanwhile; it stays" in error
    assert sorted(tmp_path.glob("out*")) == sorted(others)
    assert {path.read_bytes() for path in others} == {b"another"}


def test_shards_without_tables_are_another_prediction(
    inputs: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--tables"]):
        assert run(inputs, shards, *more) == 2
        assert "(tables differ)" in capsys.readouterr().err
    assert run(inputs, shards, "--tables", "--pitch", "0") == 2
    assert "--pitch 0: give the side of a voxel in cm, above 0" in capsys.readouterr().err


@pytest.mark.slow
def test_the_bytes_are_the_same_by_two_workers(inputs: Path, shards: Path, tmp_path: Path) -> None:
    more = ["--tables", "--pitch", "0.5", "--workers", "2"]
    assert run(inputs, tmp_path / "two", *more) == 0
    assert files(tmp_path / "two") == files(shards)


@pytest.mark.slow
def test_a_prediction_is_reported_by_size(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(*more: str) -> str:
        capsys.readouterr()
        assert run_command(report.parser(), report.main, [str(shards), *more]) == 0
        return capsys.readouterr().out

    text = shown("--by", "length")
    assert f"shards: {EVENTS} events, by length [cm]" in text
    assert "share of true clusters found" in text
    clusters = read_clusters(shards)
    own = ~clusters["predicted"] & (clusters["class"] == 1)
    curve = json.loads(shown("--by", "energy", "--json"))["curves"]["efficiency"]["MIP"]
    mean = np.average(curve["value"], weights=curve["count"])
    assert mean == pytest.approx(clusters["efficiency"][own].mean(), rel=1e-5)
    assert sum(curve["count"]) == own.sum()
    shown("--by", "voxels", "--html", str(tmp_path / "page.html"))
    assert "Purity, mean over predicted clusters" in (tmp_path / "page.html").read_text()
    shown("--by", "voxels", "--html", str(tmp_path / "page.png"))
    assert (tmp_path / "page.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.slow
def test_two_predictions_are_compared(inputs: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(
        (inputs / "run" / "thresholds-seeds.yaml").read_text().replace("0.5", "0.01")
    )
    other = tmp_path / "other.h5"
    assert run(inputs, other, "--tables", "--thresholds", str(tmp_path / "other.yaml")) == 0
    found = compare(shards, other)
    assert found.labels == ("shards", "other.h5")
    assert found.metrics[1].rows == read_metrics(other)[1].rows
    assert found.events == EVENTS
    assert set(found.differences["ari"]) > {"mean", "MIP"}


def prediction(path: Path, scores: dict[int, float]) -> Path:
    """Write the tables of a prediction: the ARI of MIP by the number of the event."""
    path.touch()
    rows = [Row(event, "MIP", "ari", score) for event, score in scores.items()]
    write_tables(path, "clustering", [(join([]), rows)])
    return path


def test_predictions_are_compared_on_the_events_that_both_have(tmp_path: Path) -> None:
    first = prediction(tmp_path / "a.h5", {number: number / 100 for number in range(20)})
    other = prediction(tmp_path / "b.h5", dict.fromkeys(range(8, 20), 0.0) | {90: 1.0})
    found = compare(first, other)
    assert found.events == found.differences["ari"]["MIP"].events == 12
    assert found.means[0]["MIP"]["ari"] == pytest.approx(0.135), "of events 8 to 19"
    assert found.means[1]["MIP"]["ari"] == 0
    text = found.text()
    assert "Compared are the 12 events with a score in both: A has 20, B 13." in text
    assert "No setting differs" not in text, "a prediction does not hold them"
    write_comparison(tmp_path / "page.html", found)
    assert "12 of both predictions" in (tmp_path / "page.html").read_text()
    away = prediction(tmp_path / "away.h5", {90: 0.5})
    with pytest.raises(ValueError, match=r"away.h5: no event has a score here and in .*a.h5; pre"):
        compare(first, away)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--against-method", "linked"],
            "a.h5: a prediction, no network runs; leave out --against-",
        ),
        (["--against", "b.h5", "--method", "seeds"], "no network runs; leave out --method"),
        (["--against", "b.h5", "--data", "x"], "no network runs; leave out --data"),
        (["--against", "b.h5", "--workers", "2"], "no network runs; leave out --workers"),
        (["--by", "energy", "--method", "seeds"], "no network runs; leave out --method"),
        (["--by", "energy", "--against", "b.h5"], "--by: give it without --against"),
        (["--against", "study"], "a.h5: a prediction, and study is none with tables; compare two"),
    ],
)
def test_an_option_without_an_effect_on_predictions_is_refused(
    tmp_path: Path,
    more: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.h5", "b.h5"):
        prediction(tmp_path / name, {number: number / 100 for number in range(20)})
    assert run_command(report.parser(), report.main, ["a.h5", *more]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_and_a_damaged_table_are_one_line(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no clusters table beside it; write it with predict"):
        read_clusters(tmp_path)
    (tmp_path / "one.h5").touch()
    (tmp_path / "one.clusters.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"one.clusters.parquet: not a clusters table"):
        read_clusters(tmp_path / "one.h5")
