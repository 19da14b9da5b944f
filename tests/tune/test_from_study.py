"""`--from STUDY`: the best settings of an earlier study are tried first."""

import json
import shutil
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lartpc_ray.atomic import write_json
from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.data.splits import sample
from lartpc_ray.train.workers import FAILED
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.earlier import EarlierResults
from lartpc_ray.trials.event_scores import write_scores
from lartpc_ray.trials.space import Space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.tune import search_command
from lartpc_ray.tune.__main__ import parser
from lartpc_ray.tune.decisions import Decisions
from lartpc_ray.tune.from_study import _finished, with_earlier
from lartpc_ray.tune.history import History
from lartpc_ray.tune.sampled import SAMPLED, trial_folder
from lartpc_ray.tune.samplers.screening import fitted
from lartpc_ray.tune.search import search
from lartpc_ray.tune.study import Study
from lartpc_ray.tune.study_plan import PLAN, StudyPlan

SPACE = """\
fixed: {network.depth: 2, network.blocks: 1}
search:
  network.filters: {int: [2, 8]}
  optimizer.learning_rate: {log: [1e-4, 1e-2]}
  task.loss.mask: {choice: [bce, focal]}
  task.loss.smoothing: {uniform: [0.0, 2.0], when: {task.loss.mask: focal}}
first: {network.filters: 2, task.loss.mask: bce}
budgets:
  smoke: {trials: 16, steps: 20, min_steps: 10}
  laptop: {trials: 1, steps: 20, min_steps: 10}
  overnight: {trials: 4, steps: 20, min_steps: 10}
"""
OTHER_TASK = """\
search:
  network.filters: {int: [2, 80]}
budgets:
  smoke: {trials: 16, steps: 20, min_steps: 10}
"""
FILTERS, RATE = "network.filters", "optimizer.learning_rate"


def read(folder: Path, events: Path, budget: str = "smoke", text: str = SPACE) -> Space:
    (folder / "mine.yaml").write_text(text)
    return read_space(folder / "mine.yaml", budget, {"data.splits.path": str(events)})


def add(study: Study, number: int, settings: dict[str, Any], objective: float, step: int) -> None:
    """Write a trial as a search leaves it: settings, a checkpoint, scores by event."""
    folder = trial_folder(study.folder, number)
    folder.mkdir(parents=True)
    write_json(folder / SAMPLED, settings)
    trial = study.space.trial(settings)
    torch.manual_seed(number)
    history = [{"objective": objective, "step": float(step)}]
    checkpoints.add(folder, Checkpoint(trial, step, trial.make_network().state_dict(), {}, history))
    scores = {event: objective + 0.01 * (event % 3) for event in range(9)}
    write_scores(folder, step, {"MIP": scores})


@pytest.fixture
def earlier(tmp_path: Path, few_events: Path) -> Study:
    """Return a study of five trials: trial 2 wins, 3 stopped early, 1 is the next, 4 failed."""
    study = Study.create(tmp_path / "runs", read(tmp_path, few_events), None)
    first = study.space.active(study.space.first)
    add(study, 0, first, 0.5, 20)
    add(study, 1, {**first, FILTERS: 4}, 0.6, 20)
    add(study, 2, {**first, "task.loss.mask": "focal", "task.loss.smoothing": 0.5}, 0.7, 20)
    add(study, 3, {**first, FILTERS: 6}, 0.9, 10)
    add(study, 4, {**first, FILTERS: 7}, 0.95, 20)
    (trial_folder(study.folder, 4) / FAILED).write_text("NaN")
    return study


def test_the_winner_and_the_best_that_differ_are_tried_after_trial_0(
    earlier: Study, tmp_path: Path, few_events: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lartpc_ray")
    today = read(tmp_path, few_events)
    space = with_earlier(today, str(earlier.folder), tmp_path / "runs")
    found = [(start["task.loss.mask"], start[FILTERS]) for start in space.starts]
    assert found == [("focal", 2), ("bce", 4), ("bce", 6)]
    assert space.starts[0]["task.loss.smoothing"] == 0.5
    assert caplog.messages == [
        f"the best settings of {earlier.folder.name} are tried as trials 1 to 3",
        f"the model of the search begins with 3 trials of {earlier.folder.name}",
    ]
    assert with_earlier(today, earlier.folder.name, tmp_path / "runs") == space
    points = [trial.settings for trial in _begun(space)]
    assert points[1] == space.active(space.starts[0])


def test_a_search_in_python_takes_an_earlier_study(
    earlier: Study, tmp_path: Path, few_events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Space] = []

    def create(runs: Path, space: Space, *rest: Any) -> Study:
        begun.append(space)
        raise KeyboardInterrupt

    today = read(tmp_path, few_events)
    wanted = with_earlier(today, str(earlier.folder), tmp_path)
    monkeypatch.setattr(Study, "create", create)
    for name in (earlier.folder, earlier.folder.name):
        with pytest.raises(KeyboardInterrupt):
            search(today, earlier=name, runs=tmp_path / "runs")
    assert begun == [wanted, wanted]


def _begun(space: Space) -> list[Any]:
    decisions = Decisions.of(space)
    decisions.next(4)
    return decisions.history.trials


def test_a_second_study_passes_its_best_on(
    earlier: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its trial 1 is the winner of the first; equal settings are tried once."""
    runs = tmp_path / "runs"
    caplog.set_level("INFO", "lartpc_ray")
    second = Study.create(runs, with_earlier(earlier.space, str(earlier.folder), runs), None)
    add(second, 0, second.space.active(second.space.first), 0.5, 20)
    add(second, 1, second.space.active(second.space.starts[0]), 0.8, 20)
    third = with_earlier(earlier.space, str(second.folder), runs)
    assert third.starts == second.space.starts[:1]
    again = with_earlier(third, str(second.folder), runs)
    assert again.starts == third.starts
    message = f"the best settings of {second.folder.name} are those of the first trials already"
    assert caplog.messages[-1] == message


def test_the_model_of_a_search_begins_with_the_results_of_the_earlier_one(
    earlier: Study, tmp_path: Path, few_events: Path
) -> None:
    """After 20 steps, as most trials; without those that failed or lie outside the space."""
    today = read(tmp_path, few_events)
    found = with_earlier(today, str(earlier.folder), tmp_path).earlier
    assert found is not None
    assert (found.study, found.step) == (earlier.folder.name, 20)
    first = today.active(today.first)
    other = {**first, "task.loss.mask": "focal", "task.loss.smoothing": 0.5}
    assert [trial.settings for trial in found.trials] == [first, {**first, FILTERS: 4}, other]
    values = [trial.value for trial in found.trials]
    assert values == pytest.approx([-0.1, 0.0, 0.1], abs=1e-6)
    model = fitted(replace(today, earlier=found), History())
    assert model is not None
    assert model.gain(other)[0] > 0
    narrow = read(tmp_path, few_events, text=SPACE.replace("[2, 8]", "[2, 3]"))
    assert with_earlier(narrow, str(earlier.folder), tmp_path).earlier is None, "two are left"


def test_a_default_that_was_kept_is_tried_before_a_trial_that_was_not_surely_better(
    earlier: Study, tmp_path: Path, few_events: Path
) -> None:
    shutil.rmtree(earlier.folder / "trials")
    first = earlier.space.active(earlier.space.first)
    add(earlier, 0, first, 0.5, 20)
    add(earlier, 1, {**first, FILTERS: 4}, 0.501, 20)
    scores = {event: 0.501 + 0.2 * (-1) ** event for event in range(9)}
    write_scores(trial_folder(earlier.folder, 1), 20, {"MIP": scores})
    today = read(tmp_path, few_events, text=SPACE.replace("filters: 2,", "filters: 3,"))
    space = with_earlier(today, str(earlier.folder), tmp_path)
    assert [start[FILTERS] for start in space.starts] == [2, 4]


def test_a_small_budget_takes_one_and_a_full_one_none(
    earlier: Study, tmp_path: Path, few_events: Path
) -> None:
    overnight = read(tmp_path, few_events, "overnight")
    assert len(with_earlier(overnight, str(earlier.folder), tmp_path).starts) == 1
    with pytest.raises(ValueError, match=r"the budget has 1 trial, all with given settings; raise"):
        with_earlier(read(tmp_path, few_events, "laptop"), str(earlier.folder), tmp_path)


def test_a_setting_outside_todays_range_is_left_out_with_a_line(
    earlier: Study, tmp_path: Path, few_events: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lartpc_ray")
    today = read(tmp_path, few_events, text=SPACE.replace("[2, 8]", "[2, 3]"))
    space = with_earlier(today, str(earlier.folder), tmp_path)
    assert [start["task.loss.mask"] for start in space.starts] == ["focal"], (
        "the others are trial 0"
    )
    line = "network.filters 4 is left out, as it is outside 2 to 3; 2 as in trial 0"
    assert caplog.messages[0] == f"trial 1 of {earlier.folder.name}: {line}"


def test_other_events_are_said(
    earlier: Study, tmp_path: Path, few_events: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lartpc_ray")
    other = Path(shutil.copytree(few_events, tmp_path / "other"))
    write_events(other / "tune.h5", read_events(sample("train"), indices=range(20, 23)))
    with_earlier(read(tmp_path, other), str(earlier.folder), tmp_path)
    assert caplog.messages[0].startswith(
        f"{earlier.folder.name} used other events (tune): its best"
    )
    caplog.clear()
    plan = json.loads((earlier.folder / PLAN).read_text())
    write_json(earlier.folder / PLAN, plan | {"inputs": {}})
    with_earlier(read(tmp_path, other), str(earlier.folder), tmp_path)
    assert "other events" not in caplog.text, "a plan of an earlier version has no digests"


def test_another_objective_is_said(
    earlier: Study, tmp_path: Path, few_events: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lartpc_ray")
    text = SPACE.replace("fixed: {", "fixed: {task.metric: ami, task.method: dbscan, ")
    space = with_earlier(read(tmp_path, few_events, text=text), str(earlier.folder), tmp_path)
    (line,) = (one for one in caplog.messages if "another objective" in one)
    assert "task.metric ari, now ami" in line
    assert "task.method seeds, now dbscan" in line
    assert len(space.starts) == 3, "its best settings are tried all the same"


def test_a_study_of_another_task_is_refused(
    earlier: Study, tmp_path: Path, few_events: Path
) -> None:
    today = read(tmp_path, few_events, text=f"task: infill\n{OTHER_TASK}")
    with pytest.raises(ValueError, match="a study of the task clustering, not infill"):
        with_earlier(today, str(earlier.folder), tmp_path)


def test_the_weights_of_an_earlier_study_are_not_all_in_memory(earlier: Study) -> None:
    states = _finished(earlier.folder)
    assert sorted(states) == [0, 1, 2, 3]
    assert not any(state.network or state.optimizer or state.window for state in states.values())


def test_a_resumed_study_keeps_the_starts(earlier: Study, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    space = with_earlier(earlier.space, str(earlier.folder), runs)
    options = {"from": str(earlier.folder)}
    study = Study.create(runs, space, None, options)
    plan = json.loads((study.folder / PLAN).read_text())
    assert plan["starts"] == list(space.starts)
    assert EarlierResults.model_validate(plan["earlier"]) == space.earlier
    earlier_name = {"task.cut.grid_points": 3}  # of an earlier version
    assert StudyPlan(**{**plan, "starts": [earlier_name]}).present_starts("clustering") == (
        {"task.seeds.grid_points": 3},
    )
    shutil.rmtree(earlier.folder)
    words = ["mine", "--runs", str(runs), "--resume", str(study.folder)]
    for more in ([], ["--from", str(earlier.folder)]):
        again = Study.reopen(parser().parse_args([*words, *more]))
        assert again.space.starts == space.starts
    with pytest.raises(ValueError, match="--from other: a resumed run keeps its settings"):
        Study.reopen(parser().parse_args([*words, "--from", "other"]))
    for path in study.folder.glob("plan*.json"):
        path.write_text("{")
    begun = ["--from", str(earlier.folder), "--budget", "smoke"]
    with pytest.raises(ValueError, match=r"it alone has the settings that --from .* has chosen"):
        Study.reopen(parser().parse_args([*words, *begun]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: [path.unlink() for path in folder.glob("plan*.json")],
            "no study here .no plan.json.; give the folder",
        ),
        (
            lambda folder: write_json(
                folder / PLAN, {**json.loads((folder / PLAN).read_text()), "space": "infill"}
            ),
            "a study of infill, not of mine",
        ),
        (lambda folder: shutil.rmtree(folder / "trials"), "no trial has reported an objective"),
    ],
)
def test_a_folder_that_holds_no_results_is_refused(
    earlier: Study, damage: Any, message: str
) -> None:
    damage(earlier.folder)
    with pytest.raises(ValueError, match=message) as caught:
        with_earlier(earlier.space, str(earlier.folder), earlier.folder.parent)
    assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_leaves_its_trial_out(
    earlier: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (file,) = trial_folder(earlier.folder, 2).glob("step-*.pt")
    file.write_bytes(file.read_bytes()[:-9])
    space = with_earlier(earlier.space, str(earlier.folder), tmp_path)
    assert [start[FILTERS] for start in space.starts] == [4, 6]
    assert "trial 2 is left out" in caplog.text


def test_the_command_shows_them_and_refuses_a_grid_and_a_run(
    earlier: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Space] = []
    monkeypatch.setattr(search_command, "dry_run", lambda space, **_: seen.append(space))
    words = ["mine", "--runs", str(tmp_path / "runs"), "--from", earlier.folder.name, "--dry-run"]
    options: Namespace = parser().parse_args(words)
    assert search_command.run_search(options, earlier.space) == 0
    assert len(seen[0].starts) == 3
    grid = replace(earlier.space, points=(earlier.space.first,))
    with pytest.raises(ValueError, match="a grid tries all of its points; leave it out"):
        search_command.run_search(options, grid)
    options.run = "1234"
    with pytest.raises(ValueError, match="--run trains nothing; leave it out"):
        search_command.run_search(options, earlier.space)
