"""Files of an earlier version still serve: a search space, a checkpoint, a study and a model.

The version before the folders of the commands made tests/files/earlier: `killed` is a search of
`smoke` after a SIGKILL, with its MLflow database as SQL; `model` is a model in MLflow's format,
registered by a finished search.
"""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from shutil import copytree

import mlflow
import pandas as pd
import pytest
import torch
from searches import checked, finished, tune

from lartpc_ray.data.files import read_events
from lartpc_ray.data.splits import sample
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.shipped import find_space
from lartpc_ray.trials.space_file import read_space

EARLIER = Path(__file__).parent / "files" / "earlier"
STUDY = "smoke-20261129-001801-0a70"
"""The name of the killed search, in its database and its journal."""


def test_an_earlier_search_space_is_that_of_today() -> None:
    earlier = read_space(EARLIER / "killed" / "study" / "smoke.yaml", "laptop")
    today = read_space(find_space("smoke"), "laptop", {"data.splits.most_events": None})
    assert earlier.first_trial() == today.first_trial()
    assert earlier.search == today.search


def test_an_earlier_checkpoint_has_the_names_of_today() -> None:
    state = checkpoints.load(EARLIER / "model" / "artifacts" / "checkpoint.pt")
    assert isinstance(state.trial.task, ClusteringTask)
    assert state.trial.task.init_margin == 0.2
    assert state.trial.task.seeds.grid_points == 4
    assert [report["step"] for report in state.history] == [5, 10, 15, 20]
    assert all(0 < report["objective"] < 1 for report in state.history)
    assert not any("goal" in report for report in state.history)


def test_an_earlier_checkpoint_gives_its_network() -> None:
    state = checkpoints.load(EARLIER / "model" / "artifacts" / "checkpoint.pt")
    weights = state.restored().state_dict()
    assert weights.keys() == state.network.keys()
    assert all(torch.equal(weights[name], values) for name, values in state.network.items())


def killed_search(runs: Path) -> Path:
    """Restore the killed search and its database in a folder of runs."""
    copytree(EARLIER / "killed" / "study", runs / STUDY)
    text = (EARLIER / "killed" / "mlflow.sql").read_text().replace("{runs}", str(runs))
    with closing(sqlite3.connect(runs / "mlflow.db")) as database:
        database.executescript(text)
    return runs / STUDY


@pytest.mark.slow
def test_an_earlier_search_goes_on_with_its_recorded_trials(tmp_path: Path) -> None:
    """Its table is that of the same trials trained anew: its checkpoints still serve.

    The objectives may differ: the recorded ones are of the 40 tune events that the sample had.
    """
    anew, earlier = tmp_path / "anew", tmp_path / "earlier"
    anew.mkdir()
    earlier.mkdir()
    tables = []
    for runs in (anew, earlier):
        folder = killed_search(runs)
        if runs == anew:
            for file in folder.glob("trials/*/step-*.pt"):
                file.unlink()
        status, out, err = finished(tune(runs, "--resume", str(folder)))
        assert status == 0, err
        assert "begun by an earlier version; its recorded trials are kept" in err
        tables.append(re.sub(r"objective [0-9.]+", "objective", out.split("every metric")[0]))
        checked(runs, STUDY, 2)
    assert tables[0] == tables[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred")
def test_a_model_that_an_earlier_version_registered_finds_clusters(tmp_path: Path) -> None:
    (event,) = read_events(sample("test"), indices=[0])
    columns = dict(zip("xyz", event.coords.T, strict=True))
    table = pd.DataFrame({"event": 0, **columns, "energy": event.energy, "class": event.semantic})
    kinds = {"event": "int64", "class": "int64", "energy": "float64"} | dict.fromkeys(
        "xyz", "int64"
    )
    model = mlflow.pyfunc.load_model(str(copytree(EARLIER / "model", tmp_path / "model")))
    found = model.predict(table.astype(kinds))
    assert list(found.columns) == ["event", "cluster"]
    assert len(found) == len(event)
    assert found["cluster"].max() > 0
