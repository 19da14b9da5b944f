"""The page on PILArNet-M, followed from its first command to its last with a small folder."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from published import PublishedReader
from test_docs import ROOT, commands, done, fenced

from lartpc_ray.data import __main__ as data
from lartpc_ray.data.files import open_events
from lartpc_ray.terminal.command import run

PAGE = ROOT / "docs" / "how-to" / "pilarnet-m.md"
EVENTS = {"train": 12, "val": 6, "test": 4}
SAMPLES = {"train": "train", "val": "tune", "test": "test"}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Write a folder in the published layout: events of Geant4 in two shards a split."""
    for (split, count), shard in product(EVENTS.items(), (0, 1)):
        (tmp_path / "PM" / split).mkdir(parents=True, exist_ok=True)
        path = tmp_path / "PM" / split / f"generic_v2_{shard}_v2.h5"
        half = f"{shard * count // 2}:{(shard + 1) * count // 2}"
        source = [f"sample/{SAMPLES[split]}", str(path), "--layout", "v2", "--events", half]
        assert run(data.parser(), data.main, ["convert", *source]) == 0
    return tmp_path


@pytest.mark.slow
def test_the_page_from_the_published_folder_to_its_predictions(published: Path) -> None:
    found, outputs = "", {}
    for program, given in commands(PAGE):
        words = [found if word == "ID" else word for word in given]
        outputs[words[0]] = done(published, program, *words)
        found = next(iter(re.findall(r"report --run (\w+)", outputs[words[0]])), found)
    made = {path.name for path in published.iterdir()}
    assert made == {
        *("PM", "runs", "predicted", "clusters.parquet", "test-event-1.html", "test-event-1.png"),
        *("test-v1.h5", "test-v1_points.npy"),
    }
    assert "2 files of PILArNet-M v2" in outputs["inspect"]
    inputs = PublishedReader(published / "PM", "test", "v2")
    results = PublishedReader(published / "predicted", "test", "v2")
    assert len(inputs) == len(results) == EVENTS["test"]
    for number in range(EVENTS["test"]):
        for name in ("coord", "pid", "semantic", "interaction"):
            known, result = (getattr(reader[number], name) for reader in (inputs, results))
            np.testing.assert_array_equal(np.sort(known, axis=0), np.sort(result, axis=0))
    (code,) = fenced(PAGE, "python")
    printed = done_python(published, code)
    assert printed.count("events-000000000-000000004.h5") >= 1
    with open_events(published / "test-v1.h5") as events:
        assert events.kind == "PILArNet-M v1"


def done_python(folder: Path, code: str) -> str:
    """Run a snippet in a folder and return its output."""
    (folder / "snippet.py").write_text(code)
    return done(folder, "snippet")
