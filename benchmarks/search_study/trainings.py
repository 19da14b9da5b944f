"""Train the planned points, score each event at five lengths, and keep the rows in one table."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lartpc_ray.atomic import replace_file
from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import open_events, write_events
from lartpc_ray.data.splits import Split
from lartpc_ray.predict.inference import predict
from lartpc_ray.reconstruct.grid import best_index
from lartpc_ray.tasks.task import Prediction, Task
from lartpc_ray.train.loop import StepStats, train
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.space import Space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.trials.trial import Trial
from search_study.points import Planned, Settings, plan

SPACE = Path(__file__).parents[1] / "search-trainings.yaml"
TABLE = Path(__file__).parents[1] / "search_trainings.npz"
EVENTS: dict[Split, int] = {"tune": 60, "test": 100}
"""Events of each split that score a training: the first ones of the file."""
VALIDATED = 2
"""Tune events of the training's own validation, whose result is not used."""


@dataclass(frozen=True, eq=False)
class Training:
    """A recorded training.

    Attributes:
        index: of the plan.
        kind: of the plan.
        settings: path to value.
        seed: of the first weights and of the order of the events.
        steps: (length,) steps at which it was scored.
        seconds: (length,) CPU seconds of the training alone up to there.
        scores: (length, event, class) ARI at the thresholds that were tuned on the tune events at
            this length; the tune events first; NaN where the event has no such cluster.
    """

    index: int
    kind: str
    settings: Settings
    seed: int
    steps: np.ndarray
    seconds: np.ndarray
    scores: np.ndarray


def record(data: Path, rows: Path, until: int) -> None:
    """Train the points of the plan that have no row yet, one after the other.

    A row is written whole after its training, so that the command may be killed and run again.

    Args:
        data: folder with train.h5, tune.h5 and test.h5.
        rows: folder of the rows.
        until: number of trainings of the plan.
    """
    rows.mkdir(parents=True, exist_ok=True)
    cut = cut_events(data, rows / "data")
    space = read_space(SPACE, "laptop", {"data.splits.path": str(cut)})
    events = [list(open_events(data / f"{split}.h5")[:count]) for split, count in EVENTS.items()]
    for index in range(until):
        file = rows / f"{index:04d}.npz"
        if not file.exists():
            began = time.perf_counter()
            planned = plan(space.search, space.first, index)
            training = run_training(space, planned, index, events)
            save([training], file)
            score = class_means(training.scores)[-1]
            passed = time.perf_counter() - began
            print(f"{index} {planned.kind}: {score:.3f}, {passed:.0f} s", flush=True)


def cut_events(data: Path, cut: Path) -> Path:
    """Make a folder with all training events and the tune events of the training's validation."""
    cut.mkdir(exist_ok=True)
    train_file = cut / "train.h5"
    if not train_file.exists():
        train_file.symlink_to((data / "train.h5").resolve())
    if not (cut / "tune.h5").exists():
        write_events(cut / "tune.h5", list(open_events(data / "tune.h5")[:VALIDATED]))
    return cut


def run_training(
    space: Space, planned: Planned, index: int, events: Sequence[Sequence[Event]]
) -> Training:
    """Train one point and score it at each validation on the tune and the test events."""
    trial = make_trial(space, planned)
    with TemporaryDirectory() as folder:
        scorer = _Scorer(trial, Path(folder), events)
        train(trial, Path(folder), scorer.report, watch=scorer.watch)
    return Training(
        index,
        planned.kind,
        planned.settings,
        planned.seed,
        np.array(scorer.steps),
        np.array(scorer.seconds),
        np.stack(scorer.scores),
    )


def make_trial(space: Space, planned: Planned) -> Trial:
    trial = space.trial(planned.settings)
    optimizer, data = trial.optimizer, trial.data.model_copy(update={"seed": planned.seed})
    steps, every = (planned.factor * n for n in (optimizer.steps, optimizer.evaluate_every))
    optimizer = optimizer.model_copy(update={"steps": steps, "evaluate_every": every})
    update = {"optimizer": optimizer, "data": data, "seed": planned.seed}
    return trial.model_copy(update=update)


@dataclass(eq=False)
class _Scorer:
    """Score all events with the newest checkpoint after each validation, and take the time."""

    trial: Trial
    folder: Path
    events: Sequence[Sequence[Event]]
    steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._spent, self._last = 0.0, time.process_time()

    def watch(self, step: StepStats) -> None:
        """Add the CPU time of a step."""
        now = time.process_time()
        self._spent, self._last = self._spent + now - self._last, now

    def report(self, numbers: dict[str, float]) -> None:
        """Add the scores at one length; the numbers of the validation are not used."""
        state = checkpoints.newest(self.folder, self.trial)
        assert state is not None
        events = [event for part in self.events for event in part]
        predictions = predict(state.restored(), self.trial.task, events)
        self.seconds.append(self._spent)
        self.steps.append(state.step)
        self.scores.append(tuned_scores(self.trial.task, predictions, len(self.events[0])))
        self._last = time.process_time()


def tuned_scores(task: Task, predictions: Iterable[Prediction], tune_events: int) -> np.ndarray:
    """Return (event, class) scores at the best thresholds of the first events."""
    predictions = list(predictions)
    scores = np.full((len(predictions), len(CLASS_NAMES)), np.nan)
    grids: dict[str, dict[int, np.ndarray]] = {}
    for number, (event, outputs) in enumerate(predictions):
        for name, voxels in task.class_voxels(event, outputs).items():
            grid = np.nan_to_num(task.scores(voxels, [task.metric])[task.metric])
            grids.setdefault(name, {})[number] = grid
    for name, of_events in grids.items():
        tune = [grid for number, grid in of_events.items() if number < tune_events]
        index = best_index(np.mean(tune or list(of_events.values()), axis=0))
        for number, grid in of_events.items():
            scores[number, CLASS_NAMES.index(name)] = grid[index]
    return scores


def class_means(scores: np.ndarray) -> np.ndarray:
    """Return (length,) the means over the classes of the means over the events."""
    return np.asarray(np.nanmean(np.nanmean(scores.astype(float), axis=1), axis=1))


def save(trainings: Sequence[Training], file: Path) -> None:
    """Write trainings whole or not at all: numbers and JSON, no pickle."""
    about = [
        {"index": one.index, "kind": one.kind, "seed": one.seed, "settings": one.settings}
        for one in trainings
    ]
    content = io.BytesIO()
    np.savez_compressed(
        content,
        about=np.array(json.dumps(about)),
        steps=np.stack([one.steps for one in trainings]).astype(np.int32),
        seconds=np.stack([one.seconds for one in trainings]).astype(np.float32),
        scores=np.stack([one.scores for one in trainings]).astype(np.float16),
    )
    with replace_file(file) as part:
        part.write_bytes(content.getvalue())


def load(file: Path = TABLE) -> list[Training]:
    """Return the trainings of a table."""
    with np.load(file) as content:
        about = json.loads(str(content["about"]))
        columns = [content[name] for name in ("steps", "seconds", "scores")]
    return [Training(**one, steps=s, seconds=t, scores=v) for one, s, t, v in _zip(about, columns)]


def _zip(about: list[dict[str, Any]], columns: list[np.ndarray]) -> list[tuple[Any, ...]]:
    return list(zip(about, *columns, strict=True))


def gather(rows: Path, file: Path = TABLE) -> int:
    """Write the table of all rows; return their number."""
    trainings = [load(row)[0] for row in sorted(rows.glob("[0-9]*.npz"))]
    save(trainings, file)
    return len(trainings)
