"""`tune --from STUDY`: begin with the best settings and the results of an earlier study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lartpc_ray.data.splits import Split
from lartpc_ray.runtime.run_folder import copy_of, load_plan
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.text import counted
from lartpc_ray.train.inputs import data_digests
from lartpc_ray.train.workers import FAILED
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.belongs import JUDGED
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.earlier import EarlierResults, EarlierTrial
from lartpc_ray.trials.paths import flatten_settings
from lartpc_ray.trials.space import Space, contains, option_text, values_text
from lartpc_ray.tune.history import History, Measurement, most_reached, together
from lartpc_ray.tune.samplers.additive import coded
from lartpc_ray.tune.study_plan import PLAN, StudyPlan
from lartpc_ray.tune.trial_scores import trial_scores
from lartpc_ray.tune.winner import choose_winner

MOST = 3
"""Largest number of trials with settings of the earlier study."""
SHARE = 4
"""Trials of a budget per trial with such settings; at least one has them."""
FEWEST = 3
"""Trials of the earlier study from which a model can begin."""
SPLITS: tuple[Split, ...] = ("train", "tune", "test")


def with_earlier(space: Space, source: str, runs: Path) -> Space:
    """Return a space whose starts end with the best settings of an earlier study.

    With the screening sampler the model begins with the results of that study.

    Args:
        space: that is searched now.
        source: folder of the earlier study, or its name in the runs folder.
        runs: folder of the runs.

    Raises:
        ValueError: if there is no study of this space and task, or no room for its settings.
    """
    folder = (Path(source) if Path(source).exists() else runs / source).resolve()
    if not any(path.is_file() for path in (folder / PLAN, copy_of(folder / PLAN))):
        raise ValueError(f"--from {source}: no study here (no {PLAN}); give the folder of a search")
    plan = load_plan(folder / PLAN, StudyPlan)
    if plan.space != space.name:
        raise ValueError(f"--from {source}: a study of {plan.space}, not of {space.name}")
    if space.points:
        raise ValueError(f"--from {source}: a grid tries all of its points; leave it out")
    room = space.trials - 1 - len(space.starts)
    if room < 1:
        raise ValueError(
            f"--from {source}: the budget has {counted(space.trials, 'trial')}, all with given "
            "settings; raise its trials"
        )
    _compare_data(space, plan, folder)
    states = _finished(folder)
    if not states:
        raise ValueError(f"--from {source}: no trial has reported an objective")
    _compare_judging(space, states, source)
    wanted = min(room, MOST, max(space.trials // SHARE, 1))
    starts = _starts(space, folder, states, wanted)
    if starts:
        first, last = len(space.starts) + 1, len(space.starts) + len(starts)
        trials = f"trials {first} to {last}" if last > first else f"trial {first}"
        log.info(f"the best settings of {folder.name} are tried as {trials}")
    else:
        log.info(f"the best settings of {folder.name} are those of the first trials already")
    return replace(space, starts=(*space.starts, *starts), earlier=_results(space, folder, states))


def _results(space: Space, folder: Path, states: dict[int, Checkpoint]) -> EarlierResults | None:
    """Return the results of a study after the step that most of its trials have reached.

    Trials with settings outside the space are left out; None for fewer than three,
    and for a sampler without this model.
    """
    if space.sampler != "screening":
        return None
    history = History()
    for number, state in sorted(states.items()):
        settings = flatten_settings(state.trial)
        point = space.active({key: settings.get(key) for key in space.search})
        if all(contains(space.search[key], value) for key, value in point.items()):
            trial = history.start(point, until=state.step)
            for row in state.history:
                step = int(row["step"])
                scores = trial_scores(folder, number, step)
                history.record(trial, step, Measurement(row["objective"], scores))
    step = most_reached(history)
    comparison = together(history.at(step))
    if len(comparison.trials) < FEWEST:
        return None
    trials = [
        EarlierTrial(settings=history.trials[trial].settings, value=value, variance=variance)
        for trial, value, variance in zip(
            comparison.trials, comparison.values, comparison.variances, strict=True
        )
    ]
    log.info(f"the model of the search begins with {len(trials)} trials of {folder.name}")
    return EarlierResults(study=folder.name, step=step, trials=trials)


def _compare_data(space: Space, plan: StudyPlan, folder: Path) -> None:
    """Log the splits that differ from those of the earlier study, if its plan has their digests."""
    now = data_digests(space.first_trial(), folder.parent)
    known = [split for split in SPLITS if split in plan.inputs]
    differ = [split for split in known if plan.inputs[split] != now.get(split)]
    if differ:
        log.info(
            f"{folder.name} used other events ({', '.join(differ)}): its best settings are tried, "
            "its objectives are compared with each other only"
        )


def _compare_judging(space: Space, states: dict[int, Checkpoint], source: str) -> None:
    """Log the settings by which the earlier study judged its trials otherwise.

    Raises:
        ValueError: for a study of another task.
    """
    now = flatten_settings(space.first_trial())
    earlier = flatten_settings(states[min(states)].trial)
    if earlier["task.name"] != now["task.name"]:
        kinds = f"the task {earlier['task.name']}, not {now['task.name']}"
        raise ValueError(f"--from {source}: a study of {kinds}; give one of the same task")
    differ = [
        f"{key} {option_text(earlier.get(key))}, now {option_text(now.get(key))}"
        for key in now
        if any(f"{key}.".startswith(f"{judged.removesuffix('.')}.") for judged in JUDGED)
        and earlier.get(key) != now[key]
    ]
    if differ:
        log.info(
            f"the earlier study has another objective ({'; '.join(differ)}): its best settings are "
            "tried, its objectives are compared with each other only"
        )


def _finished(folder: Path) -> dict[int, Checkpoint]:
    """Return the last checkpoint of each trial that has reported and not failed, by its index."""
    states = {}
    for path in sorted((folder / "trials").glob("*")):
        kept = checkpoints.files(path) if path.name.isdigit() else []
        if not kept or (path / FAILED).exists():
            continue
        try:
            state = checkpoints.load(kept[-1])
        except ValueError as error:
            log.warning(f"{error}; trial {path.name} is left out")
            continue
        if state.history:  # the weights of all trials together may not fit into the memory
            states[int(path.name)] = replace(state, network={}, optimizer={}, window=[])
    return states


def _order(space: Space, folder: Path, states: dict[int, Checkpoint]) -> list[int]:
    """Return the trials, the winner first, then those that trained longest, then by objective."""
    last = {number: int(state.history[-1]["step"]) for number, state in states.items()}
    objectives = {number: state.history[-1]["objective"] for number, state in states.items()}
    pauses = set(last.values())
    results: dict[int, dict[int, Measurement]] = {step: {} for step in pauses}
    for number, state in states.items():
        for row in state.history:
            if (step := int(row["step"])) in pauses:
                scores = trial_scores(folder, number, step)
                results[step][number] = Measurement(row["objective"], scores)
    settings = {number: flatten_settings(state.trial) for number, state in states.items()}
    points = {
        number: {
            key: point[key] for key in space.search if contains(space.search[key], point.get(key))
        }
        for number, point in settings.items()
    }
    winner = choose_winner(results, coded(space, points)).number
    return sorted(
        states, key=lambda number: (number != winner, -last[number], -objectives[number], number)
    )


def _starts(
    space: Space, folder: Path, states: dict[int, Checkpoint], wanted: int
) -> list[dict[str, Any]]:
    """Return settings of the best trials that differ from all starts and from each other."""
    known = [space.active(start) for start in (space.first, *space.starts)]
    starts: list[dict[str, Any]] = []
    for number in _order(space, folder, states):
        if len(starts) == wanted:
            break
        start = _within(space, flatten_settings(states[number].trial), f"{number} of {folder.name}")
        if space.active(start) in known:
            continue
        try:
            space.trial(start)
        except ValueError as error:
            log.info(f"trial {number} of {folder.name} is left out: {error}")
            continue
        known.append(space.active(start))
        starts.append(start)
    return starts


def _within(space: Space, settings: dict[str, Any], source: str) -> dict[str, Any]:
    """Return the searched settings of an earlier trial; of trial 0 where they are out of range."""
    start = {}
    for key, distribution in space.search.items():
        value = settings.get(key)
        start[key] = value
        if not contains(distribution, value):
            start[key] = space.first[key]
            log.info(
                f"trial {source}: {key} {option_text(value)} is left out, as it is outside "
                f"{values_text(distribution)}; {option_text(start[key])} as in trial 0"
            )
    return start
