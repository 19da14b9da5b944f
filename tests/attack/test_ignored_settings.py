"""Settings without an effect are refused, each with the place where it belongs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lartpc_ray.runtime.arguments import chosen_space, study_parser
from lartpc_ray.trials.space import Condition, Prior, Space
from lartpc_ray.trials.space_file import read_space

GOOD = """\
task: clustering
fixed:
  network.blocks: 1
search:
  network.depth: {int: [3, 5]}
  task.loss.mask: {choice: [bce, focal]}
first:
  network.depth: 4
  task.loss.mask: bce
budgets:
  smoke:
    trials: 3
    steps: 10
    min_steps: 5
    fixed: {network.filters: 4}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(GOOD)
    return tmp_path / "mine.yaml"


def check_refused(path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        read_space(path, "smoke")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "network.blocks: 1",
            "optimizer.steps: 5",
            r"mine\.yaml:3: fixed\.optimizer\.steps: a budget sets .* write `steps: N` in budgets",
        ),
        (
            "network.filters: 4",
            "optimizer.steps: 5",
            r"mine\.yaml:15: budgets\.smoke\.fixed\.optimizer\.steps: a budget sets the steps",
        ),
        (
            "  network.depth: {int: [3, 5]}",
            "  network.depth: {int: [3, 5]}\n  optimizer.steps: {int: [5, 9]}",
            r"mine\.yaml:6: search\.optimizer\.steps: a budget sets the steps",
        ),
        (
            "network.depth: 4",
            "optimizer.steps: 4",
            r"mine\.yaml:8: first\.optimizer\.steps: a budget sets the steps",
        ),
        (
            "network.depth: 4",
            "network.depth: 4\n  network.blocks: 2",
            r"mine\.yaml:9: first\.network\.blocks: not searched; write it under `fixed`",
        ),
        ("min_steps: 5", "min_steps: 11", r"min_steps: 11 is more than steps 10; .*scheduler"),
        (
            "budgets:",
            "series: [[network.depth], [task.loss.mask]]\nbudgets:",
            r"mine\.yaml:10: series: crosses grids; make all of search grids",
        ),
    ],
)
def test_a_setting_without_an_effect_is_refused_with_its_place(
    path: Path, old: str, new: str, message: str
) -> None:
    check_refused(path, old, new, message)


@pytest.mark.parametrize(
    ("key", "values", "reason"),
    [
        ("resources.workers", "[1, 2]", "same resources"),
        ("resources.cpus", "[1, 2]", "same resources"),
        ("resources.gpus", "[0.5, 1.0]", "same resources"),
        ("resources.min_workers", "[0, 1]", "same resources"),
        ("optimizer.evaluate_every", "[5, 10]", "after the same steps"),
        ("data.splits.path", "[a, b]", "on the same events"),
        ("data.splits.fractions", "[[0.4, 0.4, 0.2], [0.5, 0.3, 0.2]]", "on the same events"),
        ("data.splits.most_events", "[null, 8]", "on the same events; data.splits.train_events .*"),
        ("data.splits.val_events", "[100, 200]", "on the same events"),
        ("data.splits.layout.side", "[512, 768]", "on the same events"),
        ("data.splits.layout.classes.delta", "[DELTA, drop]", "on the same events"),
        ("task.metric", "[ari, purity]", "by one metric"),
        ("task.min_voxels", "[5, 10]", "on the same clusters"),
    ],
)
def test_what_all_trials_share_is_not_searched(
    path: Path, key: str, values: str, reason: str
) -> None:
    line = rf"mine\.yaml:5: search\.{key}: .*{reason}; write one value under `fixed`, or --set"
    check_refused(path, "network.depth: {int: [3, 5]}", f"{key}: {{choice: {values}}}", line)


@pytest.mark.parametrize(
    ("key", "values", "what"),
    [
        ("data.splits.smear", "[0.0, 0.5]", "voxels"),
        ("data.splits.threshold", "[0.0, 0.5]", "voxels"),
        ("data.splits.plane", "[null, Y]", "voxels"),
        ("data.splits.box", "[null, 128]", "voxels"),
        ("task.min_energy", "[0.0, 0.5]", "voxels"),
        ("task.poster_classes", "[false, true]", "classes"),
    ],
)
def test_what_is_scored_is_varied_by_a_grid_only(
    path: Path, key: str, values: str, what: str
) -> None:
    """A trial that drops the voxels of little energy would win on easier events."""
    line = rf"mine\.yaml:5: search\.{key}: .*the same {what}; write one value .* grids$"
    check_refused(path, "network.depth: {int: [3, 5]}", f"{key}: {{choice: {values}}}", line)
    budgets = "budgets: {smoke: {trials: 2, steps: 4, min_steps: 4}}"
    path.write_text(f"task: clustering\nsearch:\n  {key}: {{grid: {values}}}\n{budgets}\n")
    assert len(read_space(path, "smoke").points) == 2


def test_the_truth_of_a_segmentation_is_varied_by_a_grid_only(path: Path) -> None:
    budgets = "budgets: {smoke: {trials: 2, steps: 4, min_steps: 4}}"
    for kind in ("grid", "choice"):
        entry = f"task.relabel: {{{kind}: [false, true]}}"
        path.write_text(f"task: segmentation\nsearch:\n  {entry}\n{budgets}\n")
        if kind == "grid":
            assert len(read_space(path, "smoke").points) == 2
            continue
        with pytest.raises(ValueError, match=r"search\.task\.relabel: .* on the same classes"):
            read_space(path, "smoke")


@pytest.mark.parametrize("value", ["[]", "{}", "[a]", "3", "[null]", "[[1]]"])
def test_a_series_is_a_list_of_lists_of_grids(path: Path, value: str) -> None:
    grid = GOOD.replace("int:", "grid:").replace("choice:", "grid:").replace("[3, 5]", "[4, 5]")
    path.write_text(f"{grid}series: {value}\n")
    with pytest.raises(ValueError, match=r":16: series: write a list of lists, as in \[\["):
        read_space(path, "smoke")
    for other in (
        GOOD,
        "task: clustering\nbudgets: {smoke: {trials: 2, steps: 4, min_steps: 2}}\n",
    ):
        path.write_text(f"{other}series: {value}\n")
        with pytest.raises(ValueError, match=r"series: crosses grids; make all of search grids"):
            read_space(path, "smoke")


@pytest.mark.parametrize("value", ["[a]", "{}", "3", "{a: b}"])
def test_about_is_text(path: Path, value: str) -> None:
    path.write_text(f"{GOOD}about: {value}\n")
    with pytest.raises(ValueError, match=r":16: about: .*: write one line of text"):
        read_space(path, "smoke")


def test_a_grid_of_more_points_than_anybody_tries_is_refused_at_once(path: Path) -> None:
    """Each point is a trial; a file of 1 kB can name 10^12 of them."""
    values = ", ".join(map(str, range(1, 101)))
    axes = ("network.filters", "data.shift", "data.crop", "data.seed", "data.batch_events")
    grids = "".join(f"  {axis}: {{grid: [{values}]}}\n" for axis in axes)
    text = (
        GOOD.split("search:")[0]
        + f"search:\n{grids}first: {{{', '.join(f'{a}: 1' for a in axes)}}}\n"
    )
    path.write_text(text + "budgets:\n  smoke: {trials: 3, steps: 10, min_steps: 5}\n")
    with pytest.raises(
        ValueError, match=r"search: a grid of 10,000,000,000 points, .* at most 10,0"
    ):
        read_space(path, "smoke")
    path.write_text(path.read_text() + "series: [" + ", ".join(f"[{a}]" for a in axes) + "]\n")
    assert len(read_space(path, "smoke").points) == 496, "each once"


def test_a_value_of_trial_0_is_checked_also_where_the_budget_fixes_the_setting(path: Path) -> None:
    text = GOOD.replace("network.filters: 4", "network.depth: 3")
    path.write_text(text)
    assert read_space(path, "smoke").first_trial().network.depth == 3
    path.write_text(text.replace("network.depth: 4", "network.depth: 7"))
    with pytest.raises(ValueError, match=r":8: first\.network\.depth: trial 0 has 7, outside"):
        read_space(path, "smoke")


def test_a_grid_has_no_sampler(path: Path) -> None:
    text = GOOD.replace("int:", "grid:").replace("choice:", "grid:")
    path.write_text(text.replace("trials: 3", "trials: 3\n    sampler: gp"))
    with pytest.raises(ValueError, match=r":13: budgets\.smoke\.sampler: a grid tries all"):
        read_space(path, "smoke")


@pytest.mark.parametrize("kind", ["log", "uniform"])
def test_a_range_of_fractions_on_a_whole_number_names_the_kinds_to_use(
    path: Path, kind: str
) -> None:
    message = (
        rf":5: .*\[3, 5\]: {kind} gives fractions, and network\.depth does not take them .*int"
    )
    check_refused(path, "{int: [3, 5]}", f"{{{kind}: [3, 5]}}", message)


def test_a_steps_option_and_a_fixed_resource_are_taken(path: Path) -> None:
    path.write_text(GOOD.replace("network.blocks: 1", "resources.workers: 2"))
    trial = read_space(path, "smoke", {"optimizer.steps": 7}).first_trial()
    assert (trial.optimizer.steps, trial.resources.workers) == (7, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"priors": {"network.blocks": Prior(1, 2)}}, "prior of network.blocks: not searched"),
        ({"priors": {"network.depth": Prior(2, 4)}}, "prior of network.depth: 2 is outside"),
        ({"starts": ({"network.blocks": 1},)}, "start of network.blocks: not searched"),
        ({"starts": ({"network.depth": 6},)}, "start of network.depth: 6 is outside"),
        (
            {"conditions": {"network.blocks": Condition("task.loss.mask", ("bce",))}},
            "when of network.blocks: not searched",
        ),
        (
            {"conditions": {"network.depth": Condition("optimizer.clip", (1.0,))}},
            "optimizer.clip is neither searched nor fixed",
        ),
        (
            {"conditions": {"network.depth": Condition("network.depth", (4,))}},
            "name another setting",
        ),
        (
            {"conditions": {"network.depth": Condition("task.loss.mask", ("lovasz_hinge",))}},
            "when of task.loss.mask: 'lovasz_hinge' is outside",
        ),
    ],
)
def test_a_space_of_a_program_has_no_prior_condition_or_start_without_an_effect(
    path: Path, change: dict[str, Any], message: str
) -> None:
    space = read_space(path, "smoke")
    fits = Condition("task.loss.mask", ("bce",))
    replace(space, conditions={"network.depth": fits}, priors={"network.depth": Prior(3, 4)})
    with pytest.raises(ValueError, match=message):
        replace(space, **change)


def test_a_space_of_a_program_shares_its_resources(path: Path) -> None:
    space: Space = read_space(path, "smoke")
    with pytest.raises(ValueError, match="all trials of a search have the same resources"):
        replace(space, search={"resources.cpus": space.search["network.depth"]})


@pytest.mark.parametrize(
    "words",
    [
        ("--set", "network.blocks=2", "--set", "network.blocks=3"),
        ("--workers", "2", "--set", "resources.workers=1"),
        ("--seed", "2", "--set", "seed=1"),
        ("--data", "here", "--set", "data.splits.path=there"),
    ],
)
def test_an_option_given_twice_is_refused(path: Path, words: tuple[str, ...]) -> None:
    options = study_parser("tune", "", "").parse_args([str(path), "--budget", "smoke", *words])
    with pytest.raises(ValueError, match=r"--set .*: also given with --.*; keep one"):
        chosen_space(options)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("task.regions.number", "{int: [1, 3]}"),
        ("task.regions.width", "{choice: [[1, 2], [3, 4]]}"),
        ("task.dead", "{choice: [null, {slabs: [{axis: 0, position: 9, width: 3}]}]}"),
    ],
)
def test_the_dead_regions_of_the_tune_split_are_not_searched(
    path: Path, key: str, values: str
) -> None:
    path.write_text(
        f"task: infill\nsearch:\n  {key}: {values}\n"
        "budgets:\n  smoke: {trials: 3, steps: 10, min_steps: 5}\n"
    )
    with pytest.raises(ValueError, match=rf"search\.{key}: .*on the same dead regions; write one"):
        read_space(path, "smoke")
