"""Compare schedules of the learning rate: how far the order of trainings at a rung lasts.

The points are the first ones of the plan, with its seeds. `cosine` falls to 0 at the end, as in the
recorded trainings. `constant` and `averaged` are one training: its weights, and their mean over the
last `WINDOW` steps. `restarts` falls to 0 at the rung and begins anew (SGDR, Loshchilov & Hutter
2017).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan, sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import open_events
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.predict.inference import predict
from lartpc_ray.train.loop import train
from lartpc_ray.train.validation import recalibrate_batchnorm
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.trials.trial import OptimizerSettings, Trial
from search_study.points import plan
from search_study.trainings import (
    EVENTS,
    SPACE,
    Training,
    class_means,
    cut_events,
    load,
    make_trial,
    save,
    tuned_scores,
)

RUNG = 0.4
"""The rung, as a share of the steps."""
SPACING, WINDOW = 0.05, 0.2
"""Shares of the steps between the weights that are averaged, and over which they are."""
FEWEST = 3
"""Points that a correlation needs."""
FORMS: Mapping[str, tuple[str, ...]] = {
    "cosine": ("cosine",),
    "constant": ("constant", "averaged"),
    "restarts": ("restarts",),
}
"""A training to the forms that it gives."""


def record_schedules(
    data: Path, rows: Path, points: int, factor: int, kinds: Sequence[str]
) -> None:
    """Train the first points of the plan with several schedules; go on after a stop.

    Args:
        data: folder with train.h5, tune.h5 and test.h5.
        rows: folder of the rows.
        points: number of points.
        factor: on the steps of the plan.
        kinds: of `FORMS`.
    """
    rows.mkdir(parents=True, exist_ok=True)
    space = read_space(SPACE, "laptop", {"data.splits.path": str(cut_events(data, rows / "data"))})
    parts = [list(open_events(data / f"{split}.h5")[:count]) for split, count in EVENTS.items()]
    for index in range(points):
        planned = plan(space.search, space.first, index)
        trial = make_trial(space, replace(planned, factor=factor))
        for kind in kinds:
            forms = FORMS[kind]
            if all((rows / f"{form}-{index:04d}.npz").exists() for form in forms):
                continue
            scorer = _Scorer(trained_by(trial, kind), forms, parts)
            schedule = restarts if kind == "restarts" else OptimizerSettings.factor
            with patch.object(OptimizerSettings, "factor", schedule):
                scorer.train()
            for form, scores in scorer.scores.items():
                training = Training(
                    index,
                    planned.kind,
                    planned.settings,
                    planned.seed,
                    np.array(list(scores)),
                    np.zeros(len(scores)),
                    np.stack(list(scores.values())),
                )
                save([training], rows / f"{form}-{index:04d}.npz")
                print(f"{index} {form}: {np.round(class_means(training.scores), 3)}", flush=True)


def trained_by(trial: Trial, kind: str) -> Trial:
    """Return a trial of another schedule, validated where its weights are needed."""
    every = round((SPACING if kind == "constant" else RUNG) * trial.optimizer.steps)
    update = {"schedule": "constant" if kind == "constant" else "cosine", "evaluate_every": every}
    return trial.model_copy(update={"optimizer": trial.optimizer.model_copy(update=update)})


def restarts(settings: OptimizerSettings, step: int) -> float:
    """Return the factor of a cosine that falls to 0 at the rung, begins anew and falls again."""
    rise = min(1.0, (step + 1) / (settings.warmup + 1))
    rung = round(RUNG * settings.steps)
    low, high = (0, rung) if step < rung else (rung, settings.steps)
    return rise * float(0.5 + 0.5 * np.cos(np.pi * (step - low) / (high - low)))


@dataclass(eq=False)
class _Scorer:
    """Train, and score each form at the rung and at the end."""

    trial: Trial
    forms: Sequence[str]
    parts: Sequence[Sequence[Event]]
    scores: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)

    def train(self) -> None:
        """Train to the end."""
        self._weights: deque[dict[str, torch.Tensor]] = deque(maxlen=round(WINDOW / SPACING))
        with TemporaryDirectory() as folder:
            self._folder = Path(folder)
            train(self.trial, self._folder, self._report)

    def _report(self, numbers: dict[str, float]) -> None:
        state = checkpoints.newest(self._folder, self.trial)
        assert state is not None
        self._weights.append(state.network)
        last = self.trial.optimizer.steps
        if state.step not in (round(RUNG * last), last):
            return
        network = state.restored()
        self._add(self.forms[0], state.step, network)
        if "averaged" in self.forms:
            network.load_state_dict(averaged(self._weights))
            events = self.trial.data.splits.events("train")
            recalibrate_batchnorm(network, self.trial, events, state.step, "cpu")
            self._add("averaged", state.step, network)

    def _add(self, form: str, step: int, network: UResNet) -> None:
        events = [event for part in self.parts for event in part]
        predictions = predict(network, self.trial.task, events)
        scores = tuned_scores(self.trial.task, predictions, len(self.parts[0]))
        self.scores.setdefault(form, {})[step] = scores


def averaged(weights: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the mean of each weight; of whole numbers the last."""
    last = weights[-1]
    return {
        name: torch.stack([one[name] for one in weights]).mean(dim=0)
        if value.is_floating_point()
        else value
        for name, value in last.items()
    }


@dataclass(frozen=True)
class Lasting:
    """How well a rung tells the end, for one schedule.

    Attributes:
        points: number of points beside the default.
        correlation: of the differences to the default at the rung with those at the end; with fewer
            than `FEWEST` points it is no number, and `change` is none.
        change: standard deviation of the change of a difference.
        level: mean score of all points at the rung and at the end.
        ahead: mean difference at the end to the cosine of the same point, and its standard error
            over the points.
    """

    points: int
    correlation: float
    change: float
    level: tuple[float, float]
    ahead: tuple[float, float]

    @property
    def error(self) -> float:
        """Return the standard error of the correlation, of normal differences."""
        return (1 - self.correlation**2) / sqrt(max(self.points - 1, 1))


def lasting(rows: Path) -> dict[str, Lasting]:
    """Return form to how well the rung tells the end, on the points that all forms have."""
    forms = [form for several in FORMS.values() for form in several]
    of_form = {form: {one.index: one for one in _rows(rows, form)} for form in forms}
    of_form = {form: of for form, of in of_form.items() if of}
    shared = sorted(set.intersection(*(set(of) for of in of_form.values())))
    cosine = [_at_rung_and_end(of_form["cosine"][index])[1] for index in shared]
    return {form: _lasting([of[i] for i in shared], cosine) for form, of in of_form.items()}


def _rows(rows: Path, form: str) -> list[Training]:
    return [load(file)[0] for file in sorted(rows.glob(f"{form}-*.npz"))]


def _lasting(trainings: Sequence[Training], cosine: Sequence[float]) -> Lasting:
    values = np.array([_at_rung_and_end(one) for one in trainings])
    default = np.array([one.kind == "default" for one in trainings])
    rung, end = (values[~default] - values[default].mean(axis=0)).T
    ahead = values[:, 1] - np.array(cosine)
    enough = len(rung) >= FEWEST
    return Lasting(
        len(rung),
        float(np.corrcoef(rung, end)[0, 1]) if enough else nan,
        float((end - rung).std(ddof=1)) if enough else nan,
        (float(values[:, 0].mean()), float(values[:, 1].mean())),
        (float(ahead.mean()), float(ahead.std(ddof=1) / len(ahead) ** 0.5)),
    )


def _at_rung_and_end(training: Training) -> tuple[float, float]:
    """Return the mean over the classes but Michel, which has no information, at both steps."""
    steps = training.steps.tolist()
    scores = np.delete(training.scores.astype(float), ParticleClass.MICHEL, axis=-1)
    means = np.nanmean(np.nanmean(scores, axis=1), axis=1)
    return float(means[steps.index(round(RUNG * steps[-1]))]), float(means[-1])
