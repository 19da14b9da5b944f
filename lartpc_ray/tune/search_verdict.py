"""The verdict on a search: what it found against its own default, and which settings matter."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lartpc_ray.metrics.paired import PairedDifference, events_needed, paired_differences
from lartpc_ray.metrics.table import MEAN, Metrics
from lartpc_ray.predict.evaluate import measure, validations
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.report.verdict import wrapped
from lartpc_ray.tasks import AnyTask
from lartpc_ray.tasks.task import Thresholds
from lartpc_ray.terminal.text import align_columns, counted, format_value, short_names
from lartpc_ray.trials.effects import Effect, Effects
from lartpc_ray.trials.space import Space
from lartpc_ray.tune.history import DEFAULT, History, most_reached
from lartpc_ray.tune.samplers.screening import fitted
from lartpc_ray.tune.winner import KEPT_BELOW, Winner

MOST_EVENTS = 100_000
"""Tune events that a person may have; a difference that needs more is told as none."""
SHOWN = 8
"""Effects in the table, the largest in units of their errors."""


UNCONFIRMED = "The test events, which had no part in the choice, do not confirm it."
"""Added where the winner is better on the test split with a probability below `KEPT_BELOW`."""
NOTHING = f"The search found nothing better than the default (trial {DEFAULT}), which is kept:"
"""Begins the verdict on a search that returns the default."""
MORE = "other ranges, more trials or more steps (`trials`, `steps` of the budget)"
"""May help such a search."""


@dataclass(frozen=True)
class SearchVerdict:
    """What a search found.

    Attributes:
        winner: the trial that it returns, compared with the default on the tune split.
        test: difference of the winner to the default on the test split; None where the default wins
            or nothing varies.
        effects: of the settings, from the additive model of the trials.
        step: that most trials have reached; the effects are of the results after it.
        trials: with a result after this step.
        stopped: number of trials that were stopped early, where no other than the default reached
            the last step.
        reached: the last step of these trials.
    """

    winner: Winner
    test: PairedDifference | None = None
    effects: list[Effect] = field(default_factory=list)
    step: int = 0
    trials: int = 0
    stopped: int = 0
    reached: int = 0

    def sentences(self) -> list[str]:
        """Return the verdict in words; none for a search without a comparison."""
        found, rival = self.winner.gain, self.winner.rival
        if rival is None:
            return self._alone() if self.stopped else []
        if found is None:
            return [f"Trial {DEFAULT}, the default, failed: trial {rival} is not compared with it."]
        if self.winner.number != DEFAULT:
            text = f"Trial {rival} is better than the default (trial {DEFAULT}) by {_words(found)}"
            text += self._how()
            if self.test:
                text += f"; on the {self.test.events} test events by {_words(self.test)}"
            weak = self.test is not None and self.test.p_better < KEPT_BELOW
            return [f"{text}.", *([UNCONFIRMED] if weak else [])]
        return [
            f"{NOTHING} trial {rival}, the best of the others, differs by "
            f"{_words(found)}{self._how()}; P(better) {KEPT_BELOW} is needed.",
            _help(found, self.winner.difference or found),
        ]

    def _alone(self) -> list[str]:
        """State that the search stopped all others early: none is compared at the last step."""
        others = counted(self.stopped, "other trial")
        return [
            f"{NOTHING} it stopped {others} early, after at most {self.reached} steps.",
            f"What would help: {MORE}.",
        ]

    def remark(self) -> str:
        """Return a remark on a trial of higher objective than the winner; empty without one.

        Example:
            >>> SearchVerdict(Winner(0, 3, difference=PairedDifference.of(0.01, 0.02, 9))).remark()
            ' Trial 3 is not surely better.'
        """
        found, rival = self.winner.difference, self.winner.rival
        if self.winner.number != DEFAULT or found is None or found.difference <= 0:
            return ""
        return f" Trial {rival} is not surely better."

    def _how(self) -> str:
        """State from which events the gain is estimated, and the difference as measured."""
        found, measured = self.winner.gain, self.winner.difference
        if found is None or measured is None or not found.events:
            return " in the objective"
        return (
            f", estimated from the {found.events} tune events with the choice among "
            f"{self.winner.trials} trials counted (measured {measured.difference:+.4f} ± "
            f"{measured.error:.4f})"
        )

    def effect_table(self) -> list[str]:
        """Return the table of the effects; none without a model."""
        if not self.effects:
            return []
        names = {
            key: name for name, key in short_names(one.setting for one in self.effects).items()
        }
        rows = [["setting", "from", "to", "effect", "error"]]
        for one in self.effects[:SHOWN]:
            numbers = [f"{one.change:+.4f}", f"{one.error:.4f}"]
            cells = [format_value(one.low), format_value(one.high)]
            rows.append([names.get(one.setting, one.setting), *cells, *numbers])
        head = f"effects of the settings on the objective, {self.trials} trials after {self.step} "
        return [f"{head}steps", "(additive model, 68 % errors):", *align_columns(rows)]

    def lines(self) -> list[str]:
        """Return the verdict and the effects as lines of text, each part after an empty line."""
        sentences, table = self.sentences(), self.effect_table()
        return [*(["", wrapped(sentences)] if sentences else []), *(["", *table] if table else [])]

    def measured(self) -> Effects:
        """Return the effects with the trials that they follow from, and the verdict."""
        return Effects(
            effects=self.effects, step=self.step, trials=self.trials, verdict=self.sentences()
        )

    def content(self) -> dict[str, Any]:
        """Return the verdict for JSON."""
        return {
            "kept_below": KEPT_BELOW,
            "winner": asdict(self.winner),
            "test": asdict(self.test) if self.test else None,
            **self.measured().model_dump(),
        }


def _words(found: PairedDifference) -> str:
    return f"{found.difference:+.4f} ± {found.error:.4f} (P(better) {found.p_better:.2f})"


def _help(found: PairedDifference, measured: PairedDifference) -> str:
    """State what would help a search that found nothing.

    Args:
        found: the estimated gain.
        measured: the difference on the tune split, with the error of one pair.
    """
    if found.difference <= 0 or measured.error == 0:
        return f"What would help: {MORE}."
    factor = (measured.error / found.difference) ** 2
    events = None if found.events * factor > MOST_EVENTS else events_needed(found.events, factor)
    if events is None:
        return f"What would help: {MORE}."
    return (
        f"What would help: if this difference is true, about {events:,} tune events instead of "
        f"{found.events} would show it; else {MORE}."
    )


def judge(
    winner: Winner, space: Space, history: History, test: PairedDifference | None
) -> SearchVerdict:
    """Return the verdict on a search with the effects of its settings."""
    model = None if space.costs else fitted(replace(space, earlier=None), history)
    step = most_reached(history)
    effects = model.effects() if model else []
    found = SearchVerdict(winner, test, effects, step, len(history.at(step)))
    if winner.number != DEFAULT or winner.rival is not None or space.costs or space.points:
        return found
    others = [one for one in history.trials[DEFAULT + 1 :] if one.results and not one.failed]
    reached = max((one.step for one in others), default=0)
    return replace(found, stopped=len(others), reached=reached)


def difference_on_test(
    best: Evaluation, thresholds: Thresholds, default: Evaluation
) -> PairedDifference | None:
    """Compare two networks on the test split, each at thresholds from the tune split.

    Args:
        best: the winner, with the reconstruction in use.
        thresholds: of the winner.
        default: trial 0; it is judged by the same reconstruction.

    Returns:
        the difference of the metric of the task: of the mean over the classes that vary, or of the
        class that sums up a network; None if no event has both, or the default lacks the
        reconstruction.
    """
    task = best.task
    ways = {default.task.method_label: default.task, **default.task.alternatives()}
    if task.method_label not in ways:
        return None
    default.use(ways[task.method_label])
    tuned = validations({"": default.task}, default.predictions("tune"))[""].thresholds
    found = paired_differences(
        _scored(task, best, thresholds), _scored(default.task, default, tuned), task.metric
    )
    return found.get(MEAN)


def _scored(task: AnyTask, evaluation: Evaluation, thresholds: Thresholds) -> Metrics:
    """Return the metrics of the classes that sum up a network, on the test split."""
    names = task.scored_classes if task.headline == MEAN else (task.headline,)
    rows = measure(task, evaluation.predictions("test"), thresholds).rows
    return Metrics(row for row in rows if row.name in names)
