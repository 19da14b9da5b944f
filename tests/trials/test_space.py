import json
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.trials.shipped import find_space
from lartpc_ray.trials.space_file import budgets, parse_setting, read_space
from lartpc_ray.trials.trial import Trial

Write = Callable[[str], Path]
"""Writes a search space and gives its path."""
GOOD = """\
task: clustering
fixed:
  network.blocks: 1
search:
  network.depth: {int: [3, 5]}
  optimizer.learning_rate: {log: [1e-4, 1e-2]}
  task.loss.mask: {choice: [bce, focal]}
first:
  network.depth: 4
  task.loss.mask: bce
budgets:
  smoke: {trials: 3, steps: 10, min_steps: 5, fixed: {network.filters: 4}}
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return written


def test_a_space_gives_distributions_and_trials(write: Write) -> None:
    space = read_space(write(GOOD), "smoke")
    assert space.search == {
        "network.depth": IntDistribution(3, 5),
        "optimizer.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "task.loss.mask": CategoricalDistribution(["bce", "focal"]),
    }
    first = space.first_trial()
    assert (first.network.depth, first.network.blocks, first.network.filters) == (4, 1, 4)
    assert first.optimizer.learning_rate == Trial().optimizer.learning_rate
    assert first.optimizer.steps == 10
    task = space.trial({**space.first, "task.loss.mask": "focal"}).task
    assert isinstance(task, ClusteringTask)
    assert task.loss.mask == "focal"


def test_what_the_command_line_fixes_is_not_searched(write: Write) -> None:
    space = read_space(write(GOOD), "smoke", {"network.depth": 3, "optimizer.steps": 7})
    assert "network.depth" not in space.search
    assert space.first_trial().network.depth == 3
    assert space.first_trial().optimizer.steps == 7


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "network.blocks",
            "network.block",
            r"mine.yaml:3: fixed.network.block: .*did you mean 'network.blocks'",
        ),
        (
            "network.depth: {int",
            "network.dept: {int",
            r"mine.yaml:5: .*did you mean 'network.depth'",
        ),
        (
            "[3, 5]",
            "[3, 9]",
            r"mine.yaml:5: search.network.depth: .*9: input should be less than or equal to 8",
        ),
        ("[3, 5]", "[5, 3]", r"mine.yaml:5: .*low must be below high"),
        ("[3, 5]", "[3]", r"mine.yaml:5: .*at least two values"),
        ("[3, 5]", "[3, 4.5]", r"mine.yaml:5: .*4.5"),
        ("{int: [3, 5]}", "{integer: [3, 5]}", r"'integer' is unknown; did you mean 'int'"),
        ("{int: [3, 5]}", "4", r"write one of choice, uniform, log, int, grid"),
        ("[bce, focal]", "[bce]", r"mine.yaml:7: .*at least two values"),
        ("[bce, focal]", "[bce, bce]", r"a value is given twice"),
        ("[bce, focal]", "[bce, focall]", r"mine.yaml:7: .*'focall'"),
        ("{log: [1e-4, 1e-2]}", "{log: [0, 1e-2]}", r"mine.yaml:6: .*0"),
        ("depth: 4", "depth: 6", r"mine.yaml:9: first.network.depth: trial 0 has 6, outside"),
        ("trials: 3", "trial: 3", r"mine.yaml:12: budgets.smoke.trial"),
        (
            "trials: 3",
            "trials: many",
            r"budgets.smoke.trials: 'many': input should be a valid integer",
        ),
        ("smoke:", "smok:", r"unknown budget; did you mean 'smoke'"),
        ("search:", "serach:", r"mine.yaml:4: serach: unknown key; did you mean 'search'"),
        ("task: clustering", "task: clustring", r"mine.yaml:1: task: .*'clustring'"),
        (
            "  network.blocks: 1\n",
            "  network.blocks: 1\n  network.blocks: 2\n",
            r"mine.yaml:4: fixed.network.blocks: given twice",
        ),
        ("  network.blocks: 1\n", "  network.depth: 4\n", r"searched and fixed at once"),
        (
            "  network.blocks: 1\n",
            "  network: 4\n",
            r"a group of settings; give one of engine, depth",
        ),
        (
            "  network.blocks: 1\n",
            "  network.blocks: true\n",
            r"True: input should be a valid integer",
        ),
        ("  network.blocks: 1\n", "  network.blocks: [\n", r"not YAML"),
        ("{int: [3, 5]}", "{grid: [3, 4, 5]}", r"make all of search grids, or none"),
        (
            "budgets:",
            "costs: [objective]\nbudgets:",
            r"'objective' is no cost; known are seconds_a_step",
        ),
        ("budgets:", "costs: [training_gb]\nbudgets:", r"did you mean 'training_gib'"),
        (
            "budgets:",
            "costs: seconds_an_event\nbudgets:",
            r"write a list, as in \[seconds_an_event\]",
        ),
    ],
)
def test_every_mistake_is_named_with_its_line(
    write: Write, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    with pytest.raises(ValueError, match=message) as caught:
        read_space(write(GOOD.replace(old, new, 1)), "smoke")
    assert "\n" not in str(caught.value)


def test_an_unknown_budget_lists_those_there_are(write: Write) -> None:
    with pytest.raises(ValueError, match="no budget 'gpu'; there are smoke"):
        read_space(write(GOOD), "gpu")


def test_settings_that_only_fit_together_may_be_given_one_by_one() -> None:
    narrow = {"task.max_margin": 0.2, "task.init_margin": 0.05}
    task = read_space(find_space("clustering"), "laptop", narrow).first_trial().task
    assert isinstance(task, ClusteringTask)
    assert (task.max_margin, task.init_margin) == (0.2, 0.05)
    with pytest.raises(ValueError, match="init_margin: must be below"):
        read_space(find_space("clustering"), "laptop", {"task.max_margin": 0.1})


def test_a_grid_is_searched_whole(write: Write) -> None:
    text = GOOD.replace("{int: [3, 5]}", "{grid: [3, 4]}")
    text = text.replace("{log: [1e-4, 1e-2]}", "{grid: [1e-3, 1e-2, 2e-2]}")
    space = read_space(write(text.replace("{choice", "{grid")), "smoke")
    assert space.trials == 12


def test_a_grid_has_no_point_that_a_trial_refuses(write: Write) -> None:
    """A search ended at such a point."""
    text = GOOD.replace("{int: [3, 5]}", "{grid: [3, 4]}").replace("{choice", "{grid")
    rates = "optimizer.learning_rate: {log: [1e-4, 1e-2]}"
    parts = "optimizer.accumulate: {grid: [1, 2]}\n  data.batch_events: {grid: [1, 6]}"
    path = write(text.replace(rates, parts))
    with pytest.raises(ValueError, match=r"search: a grid .* refuses one: data.batch_events: 1: "):
        read_space(path, "smoke")
    assert read_space(path, "smoke", kept=True).trials == 16, "a study that has begun goes on"
    assert read_space(write(text.replace(rates, parts.replace("[1, 6]", "[2, 6]"))), "smoke")


def test_series_cross_only_the_axes_they_name(write: Write) -> None:
    text = GOOD.replace("{int: [3, 5]}", "{grid: [3, 4, 5]}")
    text = text.replace("{log: [1e-4, 1e-2]}", "{grid: [1e-3, 1e-2]}").replace("{choice", "{grid")
    axes = ["network.depth", "optimizer.learning_rate", "task.loss.mask"]
    lines = "series: [[network.depth, optimizer.learning_rate], [task.loss.mask]]\n"
    space = read_space(write(text.replace("budgets:", lines + "budgets:")), "smoke")
    points = [tuple(point[axis] for axis in axes) for point in space.points]
    first = tuple(space.first[axis] for axis in axes)
    crossed = [(depth, rate, first[2]) for depth in (3, 4, 5) for rate in (1e-3, 1e-2)]
    assert points[:6] == crossed
    assert [point[:2] for point in points[6:]] == [first[:2]]
    assert space.trials == 7, "a point is tried once"
    for wrong, reason in (
        ("[[network.depth, optimizer.learning_rate]]", "task.loss.mask is not in a series"),
        ("[[network.dept]]", "network.dept is not under search; did you mean"),
    ):
        with pytest.raises(ValueError, match=reason):
            read_space(write(text.replace("budgets:", f"series: {wrong}\nbudgets:")), "smoke")


def test_costs_are_minimised_beside_the_objective(write: Write) -> None:
    text = GOOD.replace("budgets:", "costs: [seconds_an_event, inference_gib]\nbudgets:")
    assert read_space(write(text), "smoke").costs == ("seconds_an_event", "inference_gib")


def test_a_trial_survives_json() -> None:
    trial = make_trial({"task.loss.mask": "focal", "data.splits.path": "x"})
    assert Trial.model_validate_json(trial.model_dump_json()) == trial


def test_settings_of_the_command_line() -> None:
    assert parse_setting("optimizer.learning_rate=1e-3") == ("optimizer.learning_rate", 1e-3)
    assert parse_setting("task.loss.mask=bce") == ("task.loss.mask", "bce")
    with pytest.raises(ValueError, match="write it as path=value"):
        parse_setting("optimizer.steps")


def test_every_shipped_space_reads_with_every_budget() -> None:
    folder = Path(__file__).parents[2] / "search_spaces"
    for path in folder.glob("*.yaml"):
        for budget in budgets(path):
            space = read_space(path, budget)
            assert json.loads(space.first_trial().model_dump_json())
            assert space.budget.about, f"{path}: {budget} does not say what it is for"


def test_an_unknown_study_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'clustering'"):
        find_space("clusterin")
    with pytest.raises(ValueError, match="no such search-space file"):
        find_space("none.yaml")


@pytest.mark.parametrize("name", ["my study", "stüdy", "st's", "a$b", "100%", "-x", ".x", "x" * 90])
def test_a_name_that_not_all_programs_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(GOOD)
    with pytest.raises(ValueError, match="rename the search-space file"):
        read_space(path, "smoke")
    assert list(tmp_path.iterdir()) == [path]
