"""A study that an earlier version began, with settings that a new study refuses, is resumed."""

import argparse
from pathlib import Path

import pytest
from searches import finished, tune

from lartpc_ray.runtime.arguments import chosen_space, study_parser
from lartpc_ray.runtime.run_folder import copy_of, planned_options
from lartpc_ray.trials import belongs, space, space_entry
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.tune.study import Study
from lartpc_ray.tune.study_plan import PLAN

FILE = """\
task: clustering
fixed: {network.blocks: 1, network.filters: 2, network.depth: 2}
search:
  SEARCHED
budgets:
  smoke:
    trials: 2
    steps: 2
    min_steps: 2
    fixed: {optimizer.evaluate_every: 2, optimizer.batchnorm_batches: 1, data.batch_events: 2}
"""
SEARCHED = {
    "data.splits.threshold": "{choice: [0.0, 0.2]}",
    "data.splits.wires.pitch": "{uniform: [1.0, 2.0]}",
    "task.poster_classes": "{choice: [false, true]}",
    "task.min_voxels": "{int: [5, 10]}",
    "task.metric": "{choice: [ari, purity]}",
    "optimizer.steps": "{int: [1, 2]}",
    "optimizer.evaluate_every": "{choice: [1, 1000]}",
}


def options(runs: Path, name: Path | str, *words: str) -> argparse.Namespace:
    parser = study_parser("tune", "", "")
    parser.add_argument("--run")
    return parser.parse_args([str(name), "--runs", str(runs), "--budget", "smoke", *words])


def begun(folder: Path, text: str, patch: pytest.MonkeyPatch, *words: str) -> Study:
    """Begin a study as a version did that refused nothing, then refuse again."""
    path = folder / "mine.yaml"
    path.write_text(text)
    with patch.context() as before:
        for module in (space, space_entry):
            before.setattr(module, "misplaced", lambda *_, **__: "")
        given = options(folder / "runs", path, *words)
        chosen = chosen_space(given, kept=True)
        return Study.create(folder / "runs", chosen, None, planned_options(given))


def resumed(study: Study, *words: str) -> Study:
    runs = study.folder.parent
    return Study.reopen(options(runs, "mine", "--resume", str(study.folder), *words))


@pytest.mark.parametrize("key", SEARCHED)
def test_a_begun_study_goes_on_with_a_setting_that_is_refused_now(
    key: str, few_events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = FILE.replace("SEARCHED", f"{key}: {SEARCHED[key]}")
    study = begun(tmp_path, text, monkeypatch, "--data", str(few_events))
    with pytest.raises(ValueError, match=rf"mine\.yaml:4: search\.{key}: "):
        read_space(tmp_path / "mine.yaml", "smoke")
    again = resumed(study)
    assert again.space.search == study.space.search
    assert again.space.first == study.space.first
    for path in (study.folder / PLAN, copy_of(study.folder / PLAN)):
        path.write_text("{")
    words = ("mine", "--data", str(few_events), "--resume", str(study.folder))
    restored = Study.reopen(options(study.folder.parent, *words))
    assert restored.space.search == study.space.search


def test_the_new_study_of_accepted_data_refuses_the_setting(
    few_events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = FILE.replace("SEARCHED", "task.min_voxels: {int: [5, 10]}")
    study = begun(tmp_path, text, monkeypatch, "--data", str(few_events))
    with pytest.raises(ValueError, match=r"search\.task\.min_voxels: .*under `fixed`"):
        resumed(study, "--accept-data")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("network.blocks: 1,", "network.blocks: 1, optimizer.steps: 9,", "optimizer.steps"),
        ("min_steps: 2", "min_steps: 9", "min_steps: 9 is more than steps"),
        ("budgets:", "first: {network.blocks: 1}\nbudgets:", "first.network.blocks: not searched"),
        ("budgets:", "series: [[seed]]\nbudgets:", "series: crosses grids"),
        ("budgets:", "about: [a]\nbudgets:", "about: .*write one line"),
    ],
)
def test_a_begun_study_goes_on_with_what_had_no_effect(
    old: str, new: str, message: str, few_events: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    text = FILE.replace("SEARCHED", "data.shift: {int: [0, 4]}").replace(old, new)
    with monkeypatch.context() as patch:
        study = begun(tmp_path, text, patch, "--data", str(few_events))
    with pytest.raises(ValueError, match=message):
        read_space(tmp_path / "mine.yaml", "smoke")
    assert resumed(study).space.first_trial() == study.space.first_trial()


def test_a_begun_study_of_a_name_that_is_refused_now_is_read(tmp_path: Path) -> None:
    path = tmp_path / "my study.yaml"
    path.write_text(FILE.replace("SEARCHED", "data.shift: {int: [0, 4]}"))
    with pytest.raises(ValueError, match="rename the search-space file"):
        read_space(path, "smoke")
    assert read_space(path, "smoke", kept=True).name == "my study"


def test_a_begun_study_that_searches_its_resources_stops_with_the_way_to_go_on(
    few_events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trials all have the place of trial 0: a larger one would wait for ever."""
    text = FILE.replace("SEARCHED", "resources.workers: {choice: [1, 2]}")
    study = begun(tmp_path, text, monkeypatch, "--data", str(few_events))
    with pytest.raises(ValueError, match=r"begin a new search with it and with --from") as stopped:
        resumed(study)
    assert "\n" not in str(stopped.value)
    assert belongs.BEGIN_ANEW in str(stopped.value)


@pytest.mark.slow
def test_a_begun_search_of_a_refused_setting_is_searched_to_its_end(
    few_events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = FILE.replace("SEARCHED", "task.min_voxels: {int: [5, 10]}")
    study = begun(tmp_path, text, monkeypatch, "--data", str(few_events))
    runs = study.folder.parent
    status, out, err = finished(tune(runs, "--resume", str(study.folder), study="mine"))
    assert status == 0, err
    assert "min_voxels" in out
