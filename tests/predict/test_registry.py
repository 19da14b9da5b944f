"""The registered model: voxels in a table in any order, clusters out, as `predict` finds them."""

import json
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import make_event

from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.predict.inference import predict
from lartpc_ray.predict.registry import promote_champion, register, table_of, version_with_alias
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import make_trial

ABOUT = {"objective": "0.5", "metric": "ari", "data": "abc"}
AT = {"MIP": {"s0": 0.0, "p0": 0.5}, "SHOWER": {"s0": 0.0, "p0": 0.3}}


@pytest.fixture
def state(tmp_path: Path, rng: np.random.Generator) -> Checkpoint:
    """Make a new network for events of 16 voxels per side that uses voxels above 0.2 MeV."""
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "tune", "test"):
        write_events(data / f"{split}.h5", [make_event(rng) for _ in range(3)])
    trial = make_trial(
        {
            "network.depth": 2,
            "network.filters": 4,
            "network.blocks": 1,
            "task.min_energy": 0.2,
            "data.splits.path": str(data),
            "data.splits.layout.side": 16,
            "data.splits.layout.classes.low_energy": "unlabelled",
        }
    )
    return Checkpoint(trial, 1, trial.make_network().state_dict(), {}, [{"objective": 0.5}])


def test_a_loaded_model_gives_what_predict_gives(tmp_path: Path, state: Checkpoint) -> None:
    tracking = Tracking(tmp_path, "study")
    run = tracking.start("trial 0", {"trial": "0"})
    version = register(tracking, "study", run, state, AT, ABOUT, "a note")
    assert register(tracking, "study", run, state, AT, ABOUT, "a note") == version, "only once"
    assert promote_champion(tracking, "study", version)
    assert promote_champion(tracking, "study", version), "also when a search ends again"
    kept = Path(tracking.fetch(run, "model", tmp_path / "fetched"))
    assert not list(kept.rglob("*.pkl"))
    use = json.loads((kept / "artifacts" / "use.json").read_text())
    assert use == {"shape": [16, 16, 16], "thresholds": AT}
    mlflow.set_tracking_uri(tracking.uri)
    model = mlflow.pyfunc.load_model("models:/study@champion")
    assert [one.name for one in model.metadata.signature.inputs] == [
        *("event", "x", "y", "z", "energy", "class")
    ]
    events = list(read_events(state.trial.data.splits.file("tune"), layout=layout(state)))
    table = pd.concat([table_of(event, 10 + at, classes=True) for at, event in enumerate(events)])
    table = table.sample(frac=1, random_state=3)
    table["cluster"] = model.predict(table)["cluster"].to_numpy()
    assert (table[table["energy"] <= 0.2]["cluster"] == -1).all()
    task = state.trial.task
    wanted = 0
    for at, (event, outputs) in enumerate(predict(state.restored(), task, events)):
        found = task.reconstruct(event, outputs, AT)
        mine = table[table["event"] == 10 + at].set_index(["x", "y", "z"])["cluster"]
        assert mine.loc[list(map(tuple, found.coords))].tolist() == found.cluster.tolist()
        wanted += int((found.cluster >= 0).sum())
    assert wanted > 0, "clusters were found"
    own = model.unwrap_python_model()
    for name in ("event", "y", "energy", "class"):
        with pytest.raises(
            ValueError, match=rf"^no column {name}: give event, x, y, z, energy, cl"
        ):
            own.predict(None, table.drop(columns=name))
    unnumbered = table.assign(event=table["event"].where(np.arange(len(table)) != 3))
    with pytest.raises(ValueError, match=r"^row 3, column event: no number; give one$"):
        own.predict(None, unnumbered)
    table["energy"] *= -1
    with pytest.raises(ValueError, match=r"event 1\d: voxel 0: energy -"):
        own.predict(None, table)


def layout(state: Checkpoint) -> Layout:
    return state.trial.data.splits.layout


def test_a_segmentation_gives_classes(tmp_path: Path, state: Checkpoint) -> None:
    values = {"task.name": "segmentation", "network.depth": 2, "network.filters": 4}
    splits = state.trial.data.splits
    trial = make_trial({**values, "data.splits.path": splits.path, "data.splits.layout.side": 16})
    state = replace(state, trial=trial, network=trial.make_network().state_dict())
    tracking = Tracking(tmp_path, "study")
    run = tracking.start("trial 0", {"trial": "0"})
    version = register(tracking, "study", run, state, {}, ABOUT, "")
    mlflow.set_tracking_uri(tracking.uri)
    model = mlflow.pyfunc.load_model(f"models:/study/{version}")
    event = trial.data.splits.events("tune")[0]
    classes = model.predict(table_of(event, 0, classes=False))["class"]
    assert len(classes) == len(event)
    assert set(classes) <= {0, 1, 2, 3, 4}


def test_a_champion_stays_until_a_better_one_on_the_same_data(tmp_path: Path) -> None:
    tracking = Tracking(tmp_path, "study")
    client = tracking.client
    client.create_registered_model("study")
    run = tracking.start("trial 0", {"trial": "0"})
    assert version_with_alias(tracking, "study", "champion") is None

    def add(**about: str) -> bool:
        version = client.create_model_version("study", "x", run, tags=ABOUT | about)
        return promote_champion(tracking, "study", str(version.version))

    wins = [
        add(),
        add(objective="0.4"),
        add(objective="0.5"),
        add(objective="0.6"),
        add(objective="0.1", data="other"),
    ]
    assert wins == [True, False, False, True, True]
    champion = version_with_alias(tracking, "study", "champion")
    assert champion is not None
    assert str(champion.version) == "5"


@pytest.mark.parametrize("better_ends", ["first", "last"])
def test_of_two_searches_that_end_at_once_the_better_model_becomes_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, better_ends: str
) -> None:
    """Both have read the earlier champion before one of them replaces it."""
    tracking = Tracking(tmp_path, "study")
    client = tracking.client
    client.create_registered_model("study")
    run = tracking.start("trial 0", {"trial": "0"})
    objectives = {"before": "0.5", "better": "0.7", "worse": "0.6"}
    versions = {
        key: str(
            client.create_model_version("study", "x", run, tags=ABOUT | {"objective": text}).version
        )
        for key, text in objectives.items()
    }
    assert promote_champion(tracking, "study", versions["before"])
    outer, inner = ("worse", "better") if better_ends == "first" else ("better", "worse")
    set_alias, promoted = client.set_registered_model_alias, dict[str, bool]()

    def set_after_the_other(name: str, alias: str, version: str) -> None:
        """End the other search between the reading and the writing of this one."""
        monkeypatch.setattr(client, "set_registered_model_alias", set_alias)
        promoted[inner] = promote_champion(tracking, name, versions[inner])
        set_alias(name, alias, version)

    monkeypatch.setattr(client, "set_registered_model_alias", set_after_the_other)
    promoted[outer] = promote_champion(tracking, "study", versions[outer])
    champion = version_with_alias(tracking, "study", "champion")
    assert champion is not None
    assert str(champion.version) == versions["better"]
    assert promoted == {"better": True, "worse": False}
