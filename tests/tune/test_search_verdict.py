"""The verdict on a search: the winner against the default, what would help, the effects."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from lartpc_ray.metrics.paired import PairedDifference
from lartpc_ray.report.effects import effects_chart
from lartpc_ray.trials.budget import Budget
from lartpc_ray.trials.space import Space
from lartpc_ray.tune.history import History, Measurement
from lartpc_ray.tune.samplers.screening import fitted
from lartpc_ray.tune.search_verdict import SearchVerdict, judge
from lartpc_ray.tune.winner import Winner, choose_winner

RATE, FILTERS = "optimizer.learning_rate", "network.filters"


def space(**changes: Any) -> Space:
    return Space(
        name="made-up",
        fixed={"task.name": "clustering", "optimizer.steps": 90, "optimizer.evaluate_every": 10},
        search={RATE: FloatDistribution(1e-4, 1e-2, log=True), FILTERS: IntDistribution(4, 12)},
        first={RATE: 1e-3, FILTERS: 8},
        budget=Budget(trials=8, steps=90, min_steps=10),
        budget_name="laptop",
        overrides={},
        **changes,
    )


def history() -> History:
    """Return eight trials whose objective rises by 0.05 per decade of the learning rate."""
    made, random = History(), np.random.default_rng(0)
    points = [(1e-3, 8)] + [(rate, width) for rate in (4e-4, 3e-3) for width in (6, 8, 10)]
    for number, (rate, width) in enumerate(points):
        made.start({RATE: rate, FILTERS: width}, until=10)
        values = 0.6 + 0.05 * np.log10(rate / 1e-3) + random.normal(0, 0.002, 40)
        scores = {"MIP": dict(enumerate(map(float, values)))}
        made.record(number, 10, Measurement(float(values.mean()), scores))
    return made


def test_a_winner_is_compared_with_the_default_on_both_splits() -> None:
    gain, measured = PairedDifference.of(0.02, 0.01, 60), PairedDifference.of(0.03, 0.015, 60)
    winner = Winner(3, 3, gain, measured, 12)
    verdict = SearchVerdict(winner, PairedDifference.of(0.01, 0.01, 200))
    (text,) = verdict.sentences()
    assert text == (
        "Trial 3 is better than the default (trial 0) by +0.0200 ± 0.0100 (P(better) 0.98), "
        "estimated from the 60 tune events with the choice among 12 trials counted (measured "
        "+0.0300 ± 0.0150); on the 200 test events by +0.0100 ± 0.0100 (P(better) 0.84)."
    )
    content = verdict.content()["winner"]
    assert content["gain"]["difference"] == 0.02
    assert content["difference"]["difference"] == 0.03
    assert content["trials"] == 12


def test_trials_without_scores_by_event_have_the_difference_of_their_objectives() -> None:
    found = PairedDifference.of(0.02, 0.0, 0)
    (text,) = SearchVerdict(Winner(3, 3, found, found, 12)).sentences()
    assert text == (
        "Trial 3 is better than the default (trial 0) by +0.0200 ± 0.0000 (P(better) 1.00) in the "
        "objective."
    )


def test_a_winner_that_the_test_events_do_not_confirm_is_told() -> None:
    winner = Winner(3, 3, PairedDifference.of(0.02, 0.01, 60))
    first, second = SearchVerdict(winner, PairedDifference.of(0.009, 0.01, 200)).sentences()
    assert first.endswith("on the 200 test events by +0.0090 ± 0.0100 (P(better) 0.82).")
    assert second.startswith("The test events, which had no part in the choice, do not confirm it.")


def test_a_search_that_found_nothing_says_so_and_what_would_help() -> None:
    """A difference of half its error needs four times the events."""
    found = PairedDifference.of(0.005, 0.006, 40)
    winner = Winner(0, 5, found, PairedDifference.of(0.02, 0.01, 40), 12)
    text, more = SearchVerdict(winner).sentences()
    assert text.startswith(
        "The search found nothing better than the default (trial 0), which is kept: trial 5, the "
        "best of the others, differs by +0.0050 ± 0.0060 (P(better) 0.80), estimated from the 40 "
        "tune events with the choice among 12 trials counted (measured +0.0200 ± 0.0100)"
    )
    assert "about 160 tune events instead of 40 would show it" in more
    assert SearchVerdict(winner).remark() == " Trial 5 is not surely better."
    worse = Winner(0, 5, PairedDifference.of(-0.005, 0.01, 40))
    _, more = SearchVerdict(worse).sentences()
    assert "events" not in more
    assert SearchVerdict(worse).remark() == ""
    assert "more trials or more steps" in more


def test_more_events_than_anybody_has_are_no_advice() -> None:
    """A difference of 7e-6 needs 190,000,000 events."""
    measured = PairedDifference.of(0.0019, 0.0161, 40)
    winner = Winner(0, 1, PairedDifference.of(7.4e-6, 0.0012, 40), measured, 2)
    _, more = SearchVerdict(winner).sentences()
    assert more.startswith("What would help: other ranges, more trials or more steps")
    some = Winner(0, 1, PairedDifference.of(7.4e-4, 0.0012, 40), measured, 2)
    assert "about 19,000 tune events instead of 40" in SearchVerdict(some).sentences()[1]


def test_hardly_more_events_than_there_are_are_no_advice() -> None:
    """An estimated gain of the size of its measured error needs no more events, and is not sure."""
    winner = Winner(
        0, 5, PairedDifference.of(0.02, 0.03, 40), PairedDifference.of(0.03, 0.021, 40), 12
    )
    _, more = SearchVerdict(winner).sentences()
    assert more.startswith("What would help: other ranges, more trials or more steps")


def test_without_a_comparison_there_are_no_or_few_words() -> None:
    assert SearchVerdict(Winner(0)).sentences() == []
    (text,) = SearchVerdict(Winner(2, 2)).sentences()
    assert text == "Trial 0, the default, failed: trial 2 is not compared with it."
    assert SearchVerdict(Winner(0)).lines() == []


def test_a_search_that_stopped_all_others_early_says_so() -> None:
    """The default alone reached the last step, so no pair is compared there."""
    made = history()
    made.record(1, 30, made.trials[1].last)
    made.fail(2)
    for step in (30, 90):
        made.record(0, step, made.trials[0].last)
    winner = choose_winner({step: made.at(step) for step in (10, 30, 90)})
    assert winner == Winner(0, trials=6)
    assert judge(winner, space(), made, None).sentences() == [
        "The search found nothing better than the default (trial 0), which is kept: it stopped 5 "
        "other trials early, after at most 30 steps.",
        "What would help: other ranges, more trials or more steps (`trials`, `steps` of the "
        "budget).",
    ]
    one = History(made.trials[:2])
    assert "it stopped 1 other trial early" in judge(winner, space(), one, None).sentences()[0]
    assert judge(winner, space(), History(made.trials[:1]), None).sentences() == []
    assert judge(winner, space(costs=("training_gib",)), made, None).sentences() == [], "a pick"
    grid = replace(space(), points=(space().first,))
    assert judge(winner, grid, made, None).sentences() == [], "the highest objective"


def test_the_effects_of_the_settings_have_errors() -> None:
    verdict = judge(Winner(0, 4, PairedDifference.of(0.0, 0.01, 40)), space(), history(), None)
    assert (verdict.trials, verdict.step) == (7, 10)
    first, second = verdict.effects
    assert first.setting == RATE, "the largest in units of its error first"
    assert first.change == pytest.approx(0.05, abs=3 * first.error)
    assert abs(second.change) < 3 * second.error
    head, model, names, *rows = verdict.effect_table()
    assert head == "effects of the settings on the objective, 7 trials after 10 steps"
    assert model == "(additive model, 68 % errors):"
    assert max(map(len, [head, model, names, *rows])) <= 80, "a line of a terminal"
    assert names.split() == ["setting", "from", "to", "effect", "error"]
    assert [row.split()[0] for row in rows] == ["learning_rate", "filters"]
    content = verdict.content()
    assert content["effects"][0]["setting"] == RATE
    assert (content["step"], content["trials"]) == (10, 7)


def test_the_figure_of_the_effects_has_the_numbers_of_the_model() -> None:
    model = fitted(space(), history())
    assert model is not None
    golden = {effect.setting: (effect.change, effect.error) for effect in model.effects()}
    verdict = judge(Winner(0, 4, PairedDifference.of(0.0, 0.01, 40)), space(), history(), None)
    drawn = effects_chart(verdict.measured().effects)
    points = {
        text: (x, error)
        for trace in drawn["data"]
        for text, x, error in zip(trace["text"], trace["x"], trace["error_x"]["array"], strict=True)
    }
    assert points == {
        "learning_rate: 0.0003162 → 0.003162": golden[RATE],
        "filters: 6 → 10": golden[FILTERS],
    }
    assert drawn["layout"]["yaxis"]["ticktext"][0].startswith("learning_rate: ")
    symbols = [trace["marker"]["symbol"] for trace in drawn["data"]]
    assert symbols == ["circle", "circle-open"], "the objective follows the learning rate alone"


def test_a_search_with_costs_or_few_trials_has_no_effects() -> None:
    assert judge(Winner(0), space(costs=("training_gib",)), history(), None).effects == []
    assert judge(Winner(0), space(), History(), None).effects == []


def test_a_verdict_without_effects_has_the_number_of_trials() -> None:
    costly = judge(Winner(0), space(costs=("training_gib",)), history(), None).content()
    assert (costly["effects"], costly["step"], costly["trials"]) == ([], 10, 7)
    few = judge(Winner(0), space(), History(history().trials[:2]), None).content()
    assert (few["effects"], few["step"], few["trials"]) == ([], 10, 2)
