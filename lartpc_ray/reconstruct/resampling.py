"""Resampled means of the scores of events: by all scores, or by sums over many events.

The bootstrap (Efron 1979) repeats a measurement with resampled events. With few events, each
resample draws as many events as there are. With many events, each resample draws each event a
Poisson(1) number of times, from the event's number and the seed. So sums over the events suffice,
in any order of the events, and memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Integer
from pydantic import Field

from lartpc_ray.reconstruct.names import Rule
from lartpc_ray.settings import Settings

FOLD_RESAMPLES = 100
"""Resamples of the events outside a fold."""


class ChoiceSettings(Settings):
    """The rule that chooses a point, and the estimates of its uncertainty."""

    rule: Rule = Field(
        default="robust",
        description="best: highest mean; robust: middle of the resamples' best points",
    )
    resamples: int = Field(default=1000, ge=10, description="bootstrap resamples of the events")
    sigmas: float = Field(
        default=2.0, gt=0, description="a point on the plateau is not worse than the best by more"
    )
    folds: int = Field(default=5, ge=2, description="of the held-out score")
    precision: float = Field(
        default=0.02, gt=0, description="wanted standard error of the score: fewer events warn"
    )
    seed: int = Field(default=0, description="of the resamples and the folds")


@dataclass(frozen=True, eq=False)
class Fold:
    """A part of the events, held out of a choice that the other events make.

    Attributes:
        events: its events.
        held: mean score of its events at each point.
        mean: mean score of the other events at each point.
        replicates: the same of resamples of the other events.
    """

    events: int
    held: Float[np.ndarray, " ..."]
    mean: Float[np.ndarray, " ..."]
    replicates: Float[np.ndarray, "resample ..."]


@dataclass(frozen=True, eq=False)
class Resamples:
    """The mean score at each point, of the events and of resampled events.

    Attributes:
        events: events that have the class.
        mean: (point...) mean over the events.
        replicates: (resample, point...) means of the resamples; all points see the same events.
        folds: parts for the held-out score; none for fewer events than folds.
    """

    events: int
    mean: Float[np.ndarray, " ..."]
    replicates: Float[np.ndarray, "resample ..."]
    folds: Sequence[Fold]

    def at(self, index: tuple[int, ...]) -> Float[np.ndarray, " resample"]:
        """Return the resampled means at a point."""
        column = np.ravel_multi_index(index, self.mean.shape)
        return self.replicates.reshape(len(self.replicates), -1)[:, column]


def resample(scores: Float[np.ndarray, "event ..."], settings: ChoiceSettings) -> Resamples:
    """Resample the scores of events, as many events as there are each time."""
    count, rng = len(scores), np.random.default_rng(settings.seed)
    replicates = _redrawn(scores, settings.resamples, rng)
    folds = []
    if count >= settings.folds:
        fold = rng.permutation(count) % settings.folds
        for number in range(settings.folds):
            rest, held = scores[fold != number], scores[fold == number]
            redrawn = _redrawn(rest, FOLD_RESAMPLES, rng)
            folds.append(Fold(len(held), held.mean(axis=0), rest.mean(axis=0), redrawn))
    return Resamples(count, scores.mean(axis=0), replicates, folds)


def _redrawn(scores: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return the means (resample, point...) of scores drawn with replacement."""
    count = len(scores)
    weights = rng.multinomial(count, np.full(count, 1 / count), resamples) / count
    means: np.ndarray = weights @ scores.reshape(count, -1)
    return means.reshape(-1, *scores.shape[1:])


def poisson_weights(
    events: Integer[np.ndarray, " event"], settings: ChoiceSettings
) -> Float[np.ndarray, "resample event"]:
    """Return how often each resample draws each event, from the event's number and the seed."""
    drawn = [
        np.random.default_rng((settings.seed, int(event))).poisson(1.0, settings.resamples)
        for event in events
    ]
    return np.array(drawn, np.float64).reshape(len(events), settings.resamples).T


@dataclass(frozen=True, eq=False)
class ScoreSums:
    """Sums over events of their scores, and of their scores times Poisson weights.

    Attributes:
        events: (fold,) events of each fold; an event's fold is its number modulo the folds.
        scores: (fold, point...) sum of the scores.
        weights: (resample,) sum of the weights over all events.
        weighted: (resample, point...) sum of weight times score over all events.
        fold_weights, fold_weighted: the same of each fold, (fold, ...), fewer resamples.
    """

    events: Integer[np.ndarray, " fold"]
    scores: Float[np.ndarray, "fold ..."]
    weights: Float[np.ndarray, " resample"]
    weighted: Float[np.ndarray, "resample ..."]
    fold_weights: Float[np.ndarray, "fold few"]
    fold_weighted: Float[np.ndarray, "fold few ..."]

    @staticmethod
    def of(
        events: Integer[np.ndarray, " event"],
        scores: Float[np.ndarray, "event ..."],
        settings: ChoiceSettings,
    ) -> ScoreSums:
        """Sum the scores of events with these numbers."""
        weights, flat = poisson_weights(events, settings), scores.reshape(len(scores), -1)
        fold = events % settings.folds
        member = (fold == np.arange(settings.folds)[:, None]).astype(np.float64)
        few = weights[:FOLD_RESAMPLES]
        by_fold = [(few * own) @ flat for own in member]
        shape = scores.shape[1:]
        return ScoreSums(
            member.sum(axis=1).astype(np.int64),
            (member @ flat).reshape(-1, *shape),
            weights.sum(axis=1),
            (weights @ flat).reshape(-1, *shape),
            member @ few.T,
            np.reshape(by_fold, (len(member), -1, *shape)),
        )

    @staticmethod
    def read(arrays: Mapping[str, np.ndarray], prefix: str) -> ScoreSums:
        """Return the sums that stand in a file of arrays as `prefix/NAME`."""
        return ScoreSums(
            **{field.name: arrays[f"{prefix}/{field.name}"] for field in fields(ScoreSums)}
        )

    def __add__(self, other: ScoreSums) -> ScoreSums:
        return ScoreSums(**{name: mine + vars(other)[name] for name, mine in vars(self).items()})

    def resamples(self) -> Resamples:
        """Return the resampled means; a resample without any event is left out."""
        folds = [self._fold(int(number)) for number in np.flatnonzero(self.events)]
        enough = np.count_nonzero(self.events) > 1
        total = int(self.events.sum())
        mean = self.scores.sum(axis=0) / total
        replicates = _ratios(self.weighted, self.weights)
        return Resamples(total, mean, replicates, folds if enough else [])

    def _fold(self, number: int) -> Fold:
        """Return a fold and the resamples of all other events."""
        own, others = int(self.events[number]), int(self.events.sum() - self.events[number])
        weights = self.fold_weights.sum(axis=0) - self.fold_weights[number]
        weighted = self.fold_weighted.sum(axis=0) - self.fold_weighted[number]
        held = self.scores[number] / own
        rest = (self.scores.sum(axis=0) - self.scores[number]) / max(1, others)
        return Fold(own, held, rest, _ratios(weighted, weights))


def _ratios(weighted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    drawn = weights > 0
    ratios: np.ndarray = weighted[drawn] / weights[drawn].reshape(-1, *[1] * (weighted.ndim - 1))
    return ratios
