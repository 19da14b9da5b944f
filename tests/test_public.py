"""The public names of the package, and what a notebook does with them."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lartpc_ray
from lartpc_ray.data.splits import sample
from lartpc_ray.predict.inference import predict
from lartpc_ray.predict.registry import table_of
from lartpc_ray.reconstruct.names import ClusterRule

SIGNATURES = {
    "Event": [
        "coords",
        "energy",
        "truth",
        "semantic",
        "cluster",
        "weight",
        "dead",
        "shape",
        "regions",
    ],
    "Space": [
        *("name", "fixed", "search", "first", "budget", "budget_name", "overrides"),
        *("points", "costs", "starts", "priors", "conditions", "earlier", "remarks", "text"),
        "kept",
    ],
    "Trial": ["task", "network", "data", "optimizer", "resources", "seed", "start_weights"],
    "ari": ["truth", "predicted"],
    "cluster": ["position", "margin", "seediness", "s0", "p0"],
    "compare": [
        *("first", "other", "method", "other_method", "data", "runs", "tracking_uri"),
    ],
    "draw": ["event", "predicted", "title", "voxel_cm"],
    "efficiency": ["truth", "predicted"],
    "load_model": ["source", "method", "runs", "tracking_uri"],
    "open_events": ["path", "layout", "from_voxels"],
    "purity": ["truth", "predicted"],
    "read_events": ["path", "indices", "layout"],
    "sbd": ["truth", "predicted"],
    "scores": ["truth", "predicted", "min_voxels", "metrics"],
    "search": [
        *("space", "budget", "data", "settings", "concurrent", "minutes", "earlier", "runs"),
        "tracking_uri",
    ],
    "sweep": ["position", "margin", "seediness", "truth", "s0", "p0", "min_voxels", "metrics"],
    "train_trial": ["trial", "name", "runs", "tracking_uri"],
    "tune_thresholds": [
        *("outputs", "objective", "s0", "p0", "min_voxels", "rule", "cluster_rule")
    ],
    "write_events": ["path", "events", "version", "predicted", "sidecar"],
}
ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "clustering"
PAGE = (ROOT / "docs" / "python.md").read_text()
EXAMPLES = dict(re.findall(r"^### (\w+)\n(?:(?!##).*\n)*?```python\n((?s:.*?))```$", PAGE, re.M))
"""Public name to its example in docs/python.md."""
LONG = ("compare", "search", "train_trial")
"""Names with an example that takes more than some seconds."""


def test_the_public_names_are_these() -> None:
    assert sorted(lartpc_ray.__all__) == sorted(SIGNATURES)
    assert set(SIGNATURES) <= set(dir(lartpc_ray))
    folders = {path.parent.name for path in Path(lartpc_ray.__path__[0]).glob("*/__init__.py")}
    assert not folders & set(SIGNATURES)


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_public_name_keeps_its_signature_and_is_described(name: str) -> None:
    value = getattr(lartpc_ray, name)
    assert list(inspect.signature(value).parameters) == SIGNATURES[name]
    assert len(inspect.getdoc(value) or "") > 40
    assert value is getattr(lartpc_ray, name)


def test_the_page_has_an_example_of_each_public_name() -> None:
    assert sorted(EXAMPLES) == sorted(SIGNATURES)
    for name, code in EXAMPLES.items():
        imported = re.findall(r"^from lartpc_ray import (.*)$", code, re.M)
        assert name in ", ".join(imported).split(", ")
        compile(code, name, "exec")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in SIGNATURES],
)
def test_an_example_of_the_page_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the example alone; a number in a comment on its last line is the value of this line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    names: dict[str, Any] = {}
    exec(EXAMPLES[name], names)
    last = EXAMPLES[name].splitlines()[-1]
    if shown := re.search(r"  # ([\d.]+)$", last):
        assert eval(last, names) == pytest.approx(float(shown[1]), abs=5e-4)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'clusters'"):
        lartpc_ray.clusters  # noqa: B018


def test_importing_the_package_imports_no_library() -> None:
    script = "import lartpc_ray, sys; print(*sys.modules)"
    run = [sys.executable, "-c", script]
    modules = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "torch", "ray", "mlflow", "pandas", "pydantic"} & set(modules)


def outputs_of_the_sample(events: int) -> list[dict[str, np.ndarray]]:
    """Return the outputs of the kept network on events of the tune split."""
    state = lartpc_ray.load_model(MODEL).state
    chosen = lartpc_ray.read_events(sample("tune"), indices=range(events))
    return [
        {"class": event.semantic, "cluster": event.cluster, **outputs}
        for event, outputs in predict(state.restored(), state.trial.task, chosen)
    ]


def test_a_model_predicts_events_and_tables_alike() -> None:
    model = lartpc_ray.load_model(MODEL)
    assert set(model.thresholds["MIP"]) == set(model.state.trial.task.active_method.axes())
    event = next(iter(lartpc_ray.read_events(sample("test"))))
    predicted = next(model.predict([event]))
    table = model.predict(table_of(event, 7, classes=True))
    assert list(table.columns) == ["event", "cluster"]
    assert set(table["event"]) == {7}
    known = event.semantic >= 0
    assert lartpc_ray.ari(table["cluster"].to_numpy()[known], predicted.cluster[known]) == 1
    assert (predicted.cluster >= 0).any()
    seeds = lartpc_ray.load_model(MODEL, method="seeds")
    assert set(seeds.thresholds["MIP"]) == {"s0", "p0"}


def test_a_source_without_a_model_is_named() -> None:
    with pytest.raises(ValueError, match="models:/NAME@ALIAS or models:/NAME/VERSION"):
        lartpc_ray.load_model("models:/clustering")
    with pytest.raises(ValueError, match=r"no checkpoint\.pt"):
        lartpc_ray.load_model(MODEL.parent)


def test_tuned_thresholds_are_the_best_point_of_the_sweep() -> None:
    outputs = outputs_of_the_sample(6)
    points = np.array([0.1, 0.5, 0.9])
    tuned = lartpc_ray.tune_thresholds(outputs, s0=points, p0=points, rule="best")
    surfaces = []
    for event in outputs:
        mask = event["class"] == 1
        if np.bincount(np.maximum(event["cluster"][mask], 0)).max(initial=0) >= 10:
            names = ("position", "margin", "seediness", "cluster")
            position, margin, seediness, truth = (event[name][mask] for name in names)
            scores = lartpc_ray.sweep(
                position, margin, seediness, truth, points, points, min_voxels=10
            )
            surfaces.append(scores["ari"])
    mean = np.mean(surfaces, axis=0)
    row = tuned.set_index("class").loc["MIP"]
    assert row["score"] == pytest.approx(mean.max())
    assert row["events"] == len(surfaces)
    index = np.searchsorted(points, [row["s0"], row["p0"]])
    assert mean[tuple(index)] == pytest.approx(mean.max())


def test_thresholds_are_the_same_from_a_table() -> None:
    outputs = outputs_of_the_sample(3)
    points = [0.0, 0.5, 1.0]
    tables = [
        pd.DataFrame(
            {"event": number, **{name: event[name] for name in event if event[name].ndim == 1}}
            | {f"position_{axis}": column for axis, column in enumerate(event["position"].T)}
        )
        for number, event in enumerate(outputs)
    ]
    expected = lartpc_ray.tune_thresholds(outputs, s0=points, p0=points)
    pd.testing.assert_frame_equal(
        lartpc_ray.tune_thresholds(pd.concat(tables), s0=points, p0=points), expected
    )


@pytest.mark.slow
@pytest.mark.parametrize("own", ["counted", "first_come"])
def test_thresholds_are_tuned_for_the_rule_of_the_program_that_reads_them(
    own: ClusterRule,
) -> None:
    """Its own best point is at least as good, under that rule, as that of the paper's rule."""
    outputs, points = outputs_of_the_sample(6), np.linspace(0, 0.95, 20)
    rules: tuple[ClusterRule, ...] = ("argmax", own)
    tables = {
        rule: lartpc_ray.tune_thresholds(
            outputs, s0=points, p0=points, rule="best", cluster_rule=rule
        ).set_index("class")
        for rule in rules
    }
    better = []
    for name, row in tables[own].iterrows():
        other = tables["argmax"].loc[name, ["s0", "p0"]]
        at_other = lartpc_ray.tune_thresholds(
            outputs, s0=[other["s0"]], p0=[other["p0"]], cluster_rule=own
        ).set_index("class")
        assert row["score"] >= at_other.loc[name, "score"]
        better.append(row["score"] > at_other.loc[name, "score"])
    assert any(better)


def test_outputs_that_miss_an_array_are_refused() -> None:
    with pytest.raises(ValueError, match="outputs without margin, seediness"):
        lartpc_ray.tune_thresholds([{"class": [1], "cluster": [0], "position": [[0.0]]}])


@pytest.mark.slow
def test_a_search_in_python_gives_trials_the_best_network_and_a_page(
    tmp_path: Path, few_events: Path
) -> None:
    study = lartpc_ray.search("smoke", budget="smoke", data=few_events, runs=tmp_path)
    assert {"trial", "objective", "run", "status"} <= set(study.trials)
    assert study.best_run in set(study.trials["run"])
    event = next(iter(lartpc_ray.read_events(few_events / "test.h5")))
    assert len(next(study.best.predict([event]))) <= len(event)
    study.report(tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 10_000


@pytest.mark.slow
def test_a_trial_trained_in_python_predicts(tmp_path: Path, few_events: Path) -> None:
    values = {"network": {"depth": 2, "filters": 4}, "optimizer": {"steps": 2}}
    trial = lartpc_ray.Trial.model_validate(values).with_events(str(few_events))
    model = lartpc_ray.train_trial(trial, runs=tmp_path)
    event = next(iter(lartpc_ray.read_events(few_events / "test.h5")))
    assert next(model.predict([event])).cluster.max() >= -1
    assert (tmp_path / "mlflow.db").is_file()
