"""Priors, steps, conditions and first trials of a search-space file, and every mistake in them."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from lartpc_ray.terminal.command import prepare_process
from lartpc_ray.trials.recorded import searched
from lartpc_ray.trials.space import Condition, Prior, Space, nearest_value
from lartpc_ray.trials.space_file import read_space

Write = Callable[..., Path]
"""Writes a search space with replaced texts and gives its path."""
GOOD = """\
task: clustering
search:
  network.depth: {int: [3, 6]}
  network.filters: {prior: [8, 16], int: [8, 32], step: 4}
  optimizer.learning_rate: {log: [1e-4, 1e-2], prior: {value: 2e-3, width: 2}}
  task.loss.mask: {choice: [bce, focal, lovasz_hinge]}
  task.loss.inter: {uniform: [0.5, 2.0], step: 0.5, when: {task.loss.mask: [bce, focal]}}
  data.splits.train_events: {choice: [null, 4, 8], prior: [4, 8]}
first:
  - {network.depth: 4, network.filters: 8, task.loss.mask: bce, data.splits.train_events: null}
  - {network.depth: 5, network.filters: 12}
  - {task.loss.mask: lovasz_hinge}
budgets:
  smoke: {trials: 4, steps: 10, min_steps: 5}
  laptop: {trials: 4, steps: 10, min_steps: 5, fixed: {task.loss.mask: bce}}
  overnight: {trials: 4, steps: 10, min_steps: 5, fixed: {task.loss.mask: lovasz_hinge}}
  gpu: {trials: 2, steps: 10, min_steps: 5}
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(*changes: tuple[str, str]) -> Path:
        text = GOOD
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return written


def test_an_entry_has_a_step_a_prior_a_condition_and_null(write: Write) -> None:
    space = read_space(write(), "smoke")
    assert space.search["network.filters"] == IntDistribution(8, 32, step=4)
    assert space.search["task.loss.inter"] == FloatDistribution(0.5, 2.0, step=0.5)
    assert space.search["data.splits.train_events"] == CategoricalDistribution([None, 4, 8])
    assert space.priors["network.filters"] == Prior(8, 16)
    rate = space.priors["optimizer.learning_rate"]
    assert (rate.low, rate.high) == (pytest.approx(1e-3), pytest.approx(4e-3))
    assert space.priors["data.splits.train_events"] == Prior(4, 8)
    assert space.conditions == {"task.loss.inter": Condition("task.loss.mask", ("bce", "focal"))}
    assert space.first["data.splits.train_events"] is None
    assert space.remarks == ()


@pytest.mark.parametrize(
    ("entry", "prior"),
    [
        ("{int: [3, 8], prior: {value: 4, width: 2}}", (3, 6)),
        ("{int: [2, 8], step: 3, prior: {value: 5, width: 2}}", (2, 8)),
        ("{int: [2, 8], log: true, prior: {value: 4, width: 2}}", (2, 8)),
        ("{int: [2, 8], log: true, prior: {value: 8, width: 2}}", (4, 8)),
        ("{choice: [3, 4, 8], prior: [8, 3]}", (8, 3)),
    ],
)
def test_a_value_and_a_width_are_a_pair_within_the_range(
    write: Write, entry: str, prior: tuple[int, int]
) -> None:
    second = ("{network.depth: 5, ", "{")
    first = ("network.depth: 4", f"network.depth: {5 if 'step' in entry else 4}")
    space = read_space(write(("{int: [3, 6]}", entry), second, first), "smoke")
    assert space.priors["network.depth"] == Prior(*prior)


def test_the_first_trials_take_missing_values_of_trial_0(write: Write) -> None:
    space = read_space(write(), "smoke")
    assert space.starts == (
        {**space.first, "network.depth": 5, "network.filters": 12},
        {**space.first, "task.loss.mask": "lovasz_hinge"},
    )
    assert space.first["network.filters"] == 8


def test_first_trials_that_a_budget_makes_equal_are_tried_once(write: Write) -> None:
    assert len(read_space(write(), "overnight").starts) == 1
    more = read_space(write(), "smoke", {"network.depth": 3, "network.filters": 4})
    assert [start["task.loss.mask"] for start in more.starts] == ["lovasz_hinge"]


def test_a_setting_without_effect_has_the_value_of_trial_0(write: Write) -> None:
    space = read_space(write(("mask: bce, data", "mask: bce, task.loss.inter: 2.0, data")), "smoke")
    point = space.active({**space.first, "task.loss.mask": "lovasz_hinge", "task.loss.inter": 0.5})
    assert "task.loss.inter" not in point
    trial: Any = space.trial(point)
    assert trial.task.loss.inter == 2.0
    assert "task.loss.inter" not in space.key_settings(trial)
    assert space.key_settings(space.first_trial())["task.loss.inter"] == 2.0


def test_a_budget_that_decides_a_condition_searches_the_setting_always_or_never(
    write: Write,
) -> None:
    always, never = (read_space(write(), budget) for budget in ("laptop", "overnight"))
    assert "task.loss.inter" in always.search
    assert always.conditions == {}
    assert always.remarks == ()
    assert "task.loss.inter" not in never.search
    assert never.remarks == (
        "task.loss.inter is not searched: no effect, as task.loss.mask is lovasz_hinge",
    )


def test_a_condition_on_a_setting_without_effect_does_not_hold(write: Write) -> None:
    further = "{int: [1, 3], when: {task.loss.inter: 1.0}}"
    inter = ("uniform: [0.5, 2.0], step: 0.5", "choice: [0.5, 1.0]")
    path = write(
        inter, ("budgets:", "budgets:"), ("first:", f"  network.blocks: {further}\nfirst:")
    )
    space = read_space(path, "smoke")
    bce = {**space.first, "task.loss.inter": 1.0}
    assert "network.blocks" in space.active(bce)
    assert "network.blocks" not in space.active({**bce, "task.loss.mask": "lovasz_hinge"})
    assert [line.split()[0] for line in read_space(path, "overnight").remarks] == [
        "task.loss.inter",
        "network.blocks",
    ]


def test_a_kept_file_gives_kinds_whatever_the_order_of_the_keys() -> None:
    assert searched(GOOD)["network.filters"] == ("int", [8, 32])
    assert searched("search: {a: {log: true, int: [1, 8]}}") == {"a": ("int", [1, 8])}


DEPTH, FILTERS, RATE = "int: [3, 6]", "prior: [8, 16], int: [8, 32]", "{value: 2e-3, width: 2}"
INTER = "when: {task.loss.mask: [bce, focal]}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # keys of an entry
        (
            DEPTH,
            "int: [3, 6], pior: [3, 4]",
            r":3: .*depth: 'pior' is unknown; did you mean 'prior'",
        ),
        (DEPTH, "int: [3, 6], choice: [3, 4]", r":3: .*depth: choice and int: keep one"),
        (DEPTH, "prior: [3, 4]", r":3: .*depth: write one of choice, .* as in"),
        (DEPTH, "int: [3, 6], log: [1, 2]", r":3: .*depth.log: \[1, 2\]: takes true or false"),
        (
            f"{{{DEPTH}}}",
            f"{{{DEPTH}}}\n  data.shift: {{int: [0, 6], log: true}}",
            r":4: search.data.shift: .*low must be below high and above 0",
        ),
        (DEPTH, "log: true", r":3: .*depth: True: give at least two values"),
        # steps
        (DEPTH, "int: [3, 6], step: 2", r"\.step: 2: \[3, 6\] are no whole .*write \[3, 5\]"),
        (DEPTH, "int: [3, 6], step: 9", r"\.step: 9: .*write \[3, 12\]"),
        (DEPTH, "int: [3, 6], step: 1.5", r"\.step: 1.5: takes a whole number above 0"),
        (DEPTH, "int: [3, 6], step: 0", r"\.step: 0: takes a whole number above 0"),
        (DEPTH, "int: [3, 6], step: true", r"\.step: True: takes a whole number"),
        (DEPTH, "int: [3, 6], step: 3, log: true", r"no steps; leave out step or log"),
        (DEPTH, "choice: [3, 6], step: 3", r"\.step: a choice lists its values; leave out step"),
        (DEPTH, "choice: [3, 6], log: true", r"\.log: a choice lists its values; leave out log"),
        ("step: 0.5", "log: true", r":7: .*\.log: write \{log: \[low, high\]\}"),
        ("step: 0.5", "step: 1e-9", r"\.step: 1e-09: gives more than 1,000,000 steps"),
        ("step: 0.5", "step: x", r"\.step: 'x': takes a number above 0"),
        (RATE, "[1e-3, 2e-3], step: 1e-4", r"a logarithmic range has no steps; leave out step"),
        # priors
        (
            FILTERS,
            "prior: [8, 36], int: [8, 32]",
            r":4: .*prior: 36 is outside 8 to 32, in steps of 4",
        ),
        (
            FILTERS,
            "prior: [8, 18], int: [8, 32]",
            r":4: .*prior: 18 is outside 8 to 32, in steps of 4",
        ),
        (FILTERS, "prior: [16, 8], int: [8, 32]", r"prior: \[16, 8\]: low must be below high"),
        (FILTERS, "prior: [8, 8], int: [8, 32]", r"prior: \[8, 8\]: low must be below high"),
        (FILTERS, "prior: [8], int: [8, 32]", r"prior: \[8\]: takes \[low, high\], or \{value"),
        (FILTERS, "prior: 8, int: [8, 32]", r"prior: 8: takes \[low, high\], or \{value: v"),
        (FILTERS, "prior: [a, b], int: [8, 32]", r"prior: a is outside 8 to 32"),
        (FILTERS, "prior: [true, 12], int: [8, 32]", r"prior: true is outside 8 to 32"),
        (FILTERS, "prior: null, int: [8, 32]", r"prior: None: takes \[low, high\]"),
        (RATE, "{value: 2e-3, with: 2}", r":5: .*prior: 'with' is unknown; did you mean 'width'"),
        (RATE, "{value: 2e-3}", r"prior: .*takes \[low, high\], or"),
        (RATE, "{value: 2e-3, width: 1}", r"prior: width 1: takes a number above 1, as value / w"),
        (RATE, "{value: 2e-3, width: big}", r"prior: width 'big': takes a number above 1"),
        (RATE, "{value: 2, width: 2}", r"prior: 2 is outside 0.0001 to 0.01, log"),
        (DEPTH, "int: [3, 6], prior: {value: 4, width: 0.1}", r"width 0.1: holds 4 alone; give a"),
        ("prior: [4, 8]}", "prior: {value: 4, width: 2}}", r":8: .*takes two options"),
        ("prior: [4, 8]}", "prior: [4, 5]}", r":8: .*prior: 5 is outside null, 4, 8"),
        ("prior: [4, 8]}", "prior: [4, 4]}", r":8: .*takes two options that differ"),
        # conditions
        (
            INTER,
            "when: {task.loss.smoothing: 1}",
            r":7: .*when: task.loss.smoothing is not searched",
        ),
        (INTER, "when: {task.loss.msk: bce}", r"not searched; did you mean 'task.loss.mask'"),
        (
            INTER,
            "when: {task.loss.mask: [bce, soft_dice]}",
            r"mask is never soft_dice; it is one of b",
        ),
        (INTER, "when: {optimizer.learning_rate: 1e-3}", r"a range of fractions; name a choice or"),
        (
            INTER,
            "when: {task.loss.mask: [bce, focal, lovasz_hinge]}",
            r"holds for every value of task",
        ),
        (INTER, "when: {network.depth: [3, 4, 5, 6]}", r"holds for every value of network.depth"),
        (INTER, "when: {network.depth: 7}", r"network.depth is never 7; it is one of 3 to 6"),
        (INTER, "when: {network.depth: [true]}", r"network.depth is never true"),
        (INTER, "when: {network.depth: []}", r"when: network.depth: takes at least one value"),
        (INTER, "when: bce", r":7: .*when: 'bce': takes one setting and its values, as in"),
        (
            INTER,
            "when: {network.depth: 3, task.loss.mask: bce}",
            r"takes one setting and its values",
        ),
        (
            DEPTH,
            "int: [3, 6], when: {network.depth: 3}",
            r":3: .*depth > network.depth: depends on",
        ),
        # kinds that have none
        (DEPTH, "grid: [3, 6], prior: [3, 6]", r":3: .*prior: a grid tries all .*leave out prior"),
        (
            DEPTH,
            "grid: [3, 6], when: {task.loss.mask: bce}",
            r"when: a grid tries all .*leave out w",
        ),
        (DEPTH, "grid: [3, 6], step: 3", r"\.step: a grid lists its values; leave out step"),
        # null where the setting takes none
        (DEPTH, "choice: [3, null]", r":3: .*None: input should be a valid integer"),
        # first trials
        (
            "{network.depth: 5,",
            "{network.depth: 7,",
            r":11: first.1.network.depth: trial 1 has 7, ou",
        ),
        (
            "network.filters: 12",
            "network.filters: 13",
            r"trial 1 has 13, outside 8 to 32, in steps",
        ),
        ("{network.depth: 5,", "{network.blocks: 2,", r"first.1.network.blocks: not searched"),
        ("{network.depth: 5,", "{network.dept: 5,", r":11: first.1.network.dept: .*did you mean"),
        (
            "- {task.loss.mask: lovasz_hinge}",
            "- 5",
            r":9: first: takes a mapping, or a list of map",
        ),
        (
            "- {task.loss.mask: lovasz_hinge}",
            "- {network.depth: 5, network.filters: 12}",
            r":9: first.2: given twice; leave it out",
        ),
        (
            "network.depth: {int: [3, 6]}",
            "optimizer.weight_decay: {choice: [1, 1.0]}",
            r":3: search.optimizer.weight_decay: .*a value is given twice",
        ),
    ],
)
def test_every_mistake_in_an_entry_is_a_line(
    write: Write, old: str, new: str, message: str
) -> None:
    path = write((old, new))
    with pytest.raises(ValueError, match=message) as caught:
        read_space(path, "smoke")
    assert str(caught.value).startswith(f"{path}:")
    assert "\n" not in str(caught.value)


def test_a_choice_of_lists_prints_no_warning_of_optuna() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepare_process()
        CategoricalDistribution([[0.1], [0.2]])  # type: ignore[list-item]
    assert not caught


def test_conditions_in_a_circle_are_refused(write: Write) -> None:
    mask = ("lovasz_hinge]}", "lovasz_hinge], when: {network.depth: 3}}")
    depth = ("[3, 6]", "[3, 6], when: {task.loss.mask: bce}")
    with pytest.raises(ValueError, match=r"task.loss.mask > network.depth: depends on itself"):
        read_space(write(mask, depth), "smoke")


def test_more_first_trials_than_the_budget_has_are_refused(write: Write) -> None:
    message = r":9: first: 3 trials to begin with, and budget gpu has 2; raise its trials"
    with pytest.raises(ValueError, match=message):
        read_space(write(), "gpu")


def test_a_grid_has_one_first_trial(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(
        "search: {network.depth: {grid: [3, 4]}}\nfirst: [{network.depth: 3}, {network.depth: 4}]\n"
        "budgets: {smoke: {trials: 2, steps: 4, min_steps: 2}}\n"
    )
    with pytest.raises(ValueError, match=r":2: first: a grid tries all .*keep one mapping"):
        read_space(path, "smoke")


def test_first_trials_whose_settings_do_not_fit_together_are_refused(write: Write) -> None:
    margins = "  task.max_margin: {choice: [0.5, 2.0]}\n  task.init_margin: {choice: [0.4, 1.0]}\n"
    start = ("- {task.loss.mask: lovasz_hinge}", "- {task.max_margin: 0.5}")
    with pytest.raises(ValueError, match=r"first.2: .*init_margin: must be below max_margin 0.5"):
        read_space(write(("first:", f"{margins}first:"), start), "smoke")


POINTS = "task.seeds.grid_points: {int: [6, 40]"
METHOD = "task.method: {choice: [seeds, linked]}"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            f"{POINTS}}}\nfixed: {{task.method: linked}}\n",
            r"only where task.method is seeds, and it is linked; fix task.method, or leave",
        ),
        (
            f"{POINTS}}}\n  {METHOD}",
            r"only where task.method is seeds; add when: \{task.method: VALUE\} to the entry",
        ),
        (
            f"{POINTS}, when: {{task.method: linked}}}}\n  {METHOD}",
            r"only where task.method is seeds; add when",
        ),
        ("data.prefetch: {int: [0, 2]}", r":3: .*it changes no result: a thread .*under `fixed`"),
        ("network.chunk: {int: [1, 100000000]}", r"only memory on a GPU; write one value"),
        (
            "optimizer.norm: {choice: [local, synchronised]}",
            r"resources.workers is above 1, and it",
        ),
        ("data.splits.wires.U: {uniform: [-90.0, 90.0]}", r"on the same voxels; write one"),
    ],
)
def test_a_searched_setting_without_effect_is_refused(
    write: Write, entry: str, message: str
) -> None:
    entry, _, fixed = entry.partition("\nfixed")
    fixed = f"fixed{fixed}" if fixed else ""
    path = write(("search:\n", f"{fixed}search:\n  {entry}\n"))
    with pytest.raises(ValueError, match=message):
        read_space(path, "smoke")
    assert isinstance(read_space(path, "smoke", kept=True), Space), "a study that has begun goes on"


def test_a_condition_makes_a_setting_acceptable_that_depends_on_a_searched_one(
    write: Write,
) -> None:
    entry = f"{POINTS}, when: {{task.method: seeds}}}}\n  {METHOD}"
    path = write(("search:\n", f"search:\n  {entry}\n"))
    space = read_space(path, "smoke")
    assert "task.seeds.grid_points" in space.active(space.first)
    assert "task.seeds.grid_points" not in space.active({"task.method": "linked"})
    fixed = read_space(path, "smoke", {"task.method": "linked"})
    assert "task.seeds.grid_points" not in fixed.search
    assert fixed.remarks == (
        "task.seeds.grid_points is not searched: no effect, as task.method is linked",
    )


def test_costs_give_an_effect_to_settings_of_memory_and_speed(write: Write) -> None:
    entry = ("search:\n", "costs: [seconds_a_step]\nsearch:\n  data.prefetch: {int: [0, 2]}\n")
    assert "data.prefetch" in read_space(write(entry), "smoke").search


def test_a_setting_that_the_command_line_leaves_without_effect_is_said(write: Write) -> None:
    entry = ("search:\n", "search:\n  task.loss.inter_distance: {uniform: [0.1, 0.5]}\n")
    space = read_space(write(entry), "smoke", {"task.loss.inter": 0.0})
    assert "task.loss.inter_distance" not in space.search
    assert space.remarks == (
        "task.loss.inter_distance is not searched: no effect, as task.loss.inter is 0",
    )


def test_two_weights_of_which_only_the_ratio_acts_are_said(write: Write) -> None:
    gammas = "  task.loss.gamma_seediness: {log: [0.3, 3.0]}\n"
    gammas += "  task.loss.gamma_embedding: {log: [0.3, 3.0]}\n"
    (remark,) = read_space(write(("first:", f"{gammas}first:")), "smoke").remarks
    assert "only the ratio acts" in remark


def test_the_nearest_value_is_on_a_step_and_in_the_range() -> None:
    assert nearest_value(IntDistribution(8, 32, step=4), 13.9) == 12
    assert nearest_value(IntDistribution(8, 32, step=4), 99) == 32
    assert nearest_value(FloatDistribution(0.5, 2.0, step=0.5), 1.2) == 1.0
    assert nearest_value(FloatDistribution(0.5, 2.0), 1.2) == 1.2


def test_a_search_of_fewer_points_than_trials_says_so(tmp_path: Path) -> None:
    path = tmp_path / "few.yaml"
    path.write_text(
        "task: clustering\nsearch: {network.depth: {int: [4, 5]}}\n"
        "first: {network.depth: 4}\nbudgets: {smoke: {trials: 5, steps: 10, min_steps: 5}}\n"
    )
    space = read_space(path, "smoke")
    assert space.trials == 2
    (remark,) = space.remarks
    assert remark == "the search has 2 different points: 2 trials, not the 5 of the budget"
    assert read_space(path, "smoke", kept=True).trials == 2, "resumed to as many trials"
