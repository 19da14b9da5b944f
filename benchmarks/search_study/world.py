"""A simulated machine: it trains the points of a search with the surrogate instead of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from search_study.points import Settings, encode
from search_study.surrogate import Surrogate

CLASSES = ("HIP", "MIP", "SHOWER", "DELTA")
"""Classes with information: all networks score Michel electrons alike."""
BUNDLES = 25
"""More tune events are simulated as so many bundles: their means have the same spread."""


@dataclass(frozen=True, eq=False)
class Run:
    """A simulated training.

    Attributes:
        settings: path to value.
        true: (length,) score of its network on infinitely many events.
        scores: (length, class, event) measured on the tune events.
        cost: of all its lengths, in trainings of the default.
    """

    settings: Settings
    true: np.ndarray
    scores: np.ndarray
    cost: float

    @property
    def objectives(self) -> np.ndarray:
        """Return (length,) the measured objective."""
        return np.asarray(self.scores.mean(axis=(1, 2)))


@dataclass(eq=False)
class World:
    """One of the landscapes that the recorded trainings allow, and a machine that trains on it.

    Args:
        surrogate: fitted to the trainings.
        seed: of the landscape and of the noise.
        events: tune events of each class.
        shrink: factor on all differences to the default: below 1 as in longer trainings.
    """

    surrogate: Surrogate
    seed: int
    events: int
    shrink: float = 1.0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng((5, self.seed))
        self._effects = self.surrogate.draw(self.rng)
        self._effects[1:] *= self.shrink
        noise = self.surrogate.noise
        self._of_seed = _root(noise.seed)
        count = min(self.events, BUNDLES)
        spread = noise.event * (count / self.events) ** 0.5
        self._of_event = spread * _root(noise.event_correlation)
        self._difficulty = self.rng.normal(size=(len(CLASSES), count))
        self.default = self.train(self.first)

    @property
    def first(self) -> Settings:
        """Return the settings of the default."""
        return dict(self.surrogate.first)

    @property
    def lengths(self) -> int:
        """Return the number of lengths at which a training is scored."""
        return len(self.surrogate.steps)

    def mean(self, settings: Settings) -> np.ndarray:
        """Return (length,) the true score without the effect of a seed."""
        cube = encode(self.surrogate.basis.search, settings)
        return np.asarray(self.surrogate.basis.features(cube) @ self._effects)

    def train(self, settings: Settings) -> Run:
        """Return a training of the settings with a seed of its own."""
        true = self.mean(settings) + self._of_seed @ self.rng.normal(size=self.lengths)
        normal = self.rng.normal(size=(self.lengths, *self._difficulty.shape))
        noise = np.tensordot(self._of_event, normal, axes=1)
        scores = true[:, None, None] + self._difficulty + noise
        cube = encode(self.surrogate.basis.search, settings)
        return Run(settings, true, scores, self.surrogate.relative_cost(cube))

    def gain(self, run: Run, length: int) -> float:
        """Return the true gain of a network over the default's at its full length."""
        return float(run.true[length - 1] - self.default.true[-1])


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))


Chosen = tuple[Run, int]
"""A network: its training, and the number of lengths that it has."""
Piece = tuple[float, Chosen]
"""The cost of a piece of training, and the network that the search would return after it."""
Searcher = Callable[[World, float], Iterator[Piece]]
"""A search on a world with a budget, in trainings of the default."""


def gains(searcher: Searcher, world: World, costs: Sequence[float]) -> list[float]:
    """Return the true gain of the network that a search returns after each cost.

    A piece of training counts when it ends. Before the first end the default is returned.
    """
    found: list[float] = []
    spent, chosen = 0.0, 0.0
    for cost, (run, length) in searcher(world, costs[-1]):
        spent += cost
        while len(found) < len(costs) and spent > costs[len(found)] + 1e-9:
            found.append(chosen)
        if len(found) == len(costs):
            return found
        chosen = world.gain(run, length)
    return found + [chosen] * (len(costs) - len(found))
