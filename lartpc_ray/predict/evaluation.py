"""A finished network on its splits: each event passes the network once."""

from __future__ import annotations

import pickle
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import Any, TypeVar, overload

from lartpc_ray.data.splits import Split, Splits
from lartpc_ray.predict.job import Work, apply, keep_prediction
from lartpc_ray.predict.placement import DEFAULT_PLACEMENT, LazyRay
from lartpc_ray.predict.service import InferenceService, SharedWorkers
from lartpc_ray.predict.sources import SplitEvents
from lartpc_ray.runtime.cluster import cluster_resources
from lartpc_ray.tasks import AnyTask
from lartpc_ray.tasks.task import Prediction
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.system_errors import shortage
from lartpc_ray.trials.checkpoint import Checkpoint

Result = TypeVar("Result")
MEMORY = 2**27
"""Bytes that the predictions of a network on a split take in memory; larger ones go to a file.

An `Evaluation` has at most four: of the trained and of an untrained network, on two splits.
"""

TASK_EVENTS = 8
"""Events of a Ray task."""
SOON = 5.0
"""Seconds of work that are not worth the start of Ray's processes, which import torch."""


def _applied(work: Work[Result], numbers: range, predictions: list[Prediction]) -> list[Result]:
    """Apply a function in a Ray task."""
    return list(apply(work, numbers, predictions))


class Predictions(Sequence[Prediction]):
    """The prepared events of a split with the outputs of a network, computed when first read.

    Where Ray runs, the first reading computes all of them: the workers then leave their cores to
    other work.

    Args:
        source: of the predictions, in the order of the events.
        count: number of events.
    """

    def __init__(self, source: Iterator[Prediction], count: int) -> None:
        self._count = count
        self._source = source
        self._file = SpooledTemporaryFile(MEMORY)  # noqa: SIM115  # closed with the object
        self._starts: list[int] = []

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | list[Prediction]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._count))]
        number = range(self._count)[index]
        if number >= len(self._starts):
            self._read(number + 1)
        self._file.seek(self._starts[number])
        prediction: Prediction = pickle.load(self._file)  # noqa: S301  # written below
        return prediction

    def results(self, work: Work[Result]) -> list[Result]:
        """Return what a function makes of each prediction.

        Where Ray runs, its tasks do what would take this process more than some seconds.
        """
        self.compute()
        began, every = time.monotonic(), list[Result]()
        while len(every) < len(self):
            spent = time.monotonic() - began
            left = spent / max(1, len(every)) * (len(self) - len(every))
            if left > SOON and cluster_resources() is not None:
                return every + self._by_tasks(work, len(every))
            chunk = range(len(every), min(len(every) + TASK_EVENTS, len(self)))
            every += apply(work, chunk, self[chunk.start : chunk.stop])
        return every

    def _by_tasks(self, work: Work[Result], start: int) -> list[Result]:
        """Apply a function to the predictions from a number on, by Ray tasks."""
        from lartpc_ray.runtime.ray_tasks import run_in_order  # Ray, which runs

        def calls() -> Iterator[tuple[Any, ...]]:
            for first in range(start, len(self), TASK_EVENTS):
                chunk = range(first, min(first + TASK_EVENTS, len(self)))
                yield work, chunk, self[chunk.start : chunk.stop]

        return [result for of_task in run_in_order(_applied, calls()) for result in of_task]

    def compute(self) -> None:
        """Compute all of them where Ray runs; elsewhere each is computed when first read."""
        if self._count and not self._starts and cluster_resources() is not None:
            self._read(1)

    def _read(self, until: int) -> None:
        """Compute the predictions up to a number; where Ray runs, compute all."""
        until = until if cluster_resources() is None else self._count
        for prediction in islice(self._source, until - len(self._starts)):
            self._starts.append(self._file.seek(0, 2))
            pickle.dump(prediction, self._file, pickle.HIGHEST_PROTOCOL)
        if len(self._starts) < until:
            count = f"{len(self._starts)} of {self._count}"
            raise RuntimeError(f"{count} predictions: the pass over the split has ended early")
        if len(self._starts) == self._count:
            next(self._source, None)  # the source ends: its workers leave their cores


class Evaluation:
    """A finished network, its task, its splits and its outputs, each computed once.

    Args:
        state: of the trained network.
        data: folder or file of the splits, if they are not the trial's own.
        ray: of the command, with the placement of the network; by default Ray's workers where Ray
            runs, else this process.
    """

    def __init__(
        self, state: Checkpoint, data: str | None = None, ray: LazyRay | None = None
    ) -> None:
        state = state.to_use()
        trial = state.trial.with_events(data) if data else state.trial
        self.state = state = replace(state, trial=trial)
        self.data = data
        self.task: AnyTask = state.trial.task
        self.splits: Splits = state.trial.data.splits
        self._ray = ray
        self._predictions: dict[tuple[Split, bool], Predictions] = {}
        self._workers: SharedWorkers | None = None

    def use(self, task: AnyTask) -> None:
        """Go on with another reconstruction of the same outputs."""
        trial = self.state.trial.model_copy(update={"task": task})
        self.task, self.state = task, replace(self.state, trial=trial)

    def predictions(self, split: Split, *, trained: bool = True) -> Predictions:
        """Return the predictions of the trained network, or of a new one, on a split."""
        if (split, trained) not in self._predictions:
            count = len(self.splits.events(split))
            state = self.state if trained else self.untrained
            title = f"{'network' if trained else 'untrained network'}: {split} event"
            pairs = self._pass(state, split, count, title)
            self._predictions[split, trained] = Predictions(pairs, count)
        return self._predictions[split, trained]

    def compute(self, *splits: Split, trained: bool = True) -> None:
        """Compute the predictions of a network on some splits, by the same workers.

        The start of a worker takes seconds. Without Ray each prediction is computed when it is
        first read.
        """
        with SharedWorkers() as workers:
            self._workers = workers
            try:
                for split in splits:
                    predictions = self.predictions(split, trained=trained)
                    if self._ray:
                        self._ray.start(len(predictions))
                    predictions.compute()
            finally:
                self._workers = None

    @cached_property
    def untrained(self) -> Checkpoint:
        """Return a new network of the trial, with the constants that its task fits.

        Without events of the train split it has none, and its task has nothing to fit.
        """
        trial = self.state.trial
        network = trial.make_network(engine="auto")
        state = replace(self.state, network=network.state_dict())
        if not (wanted := trial.task.fitted_events):
            return state
        try:
            count = min(wanted, len(self.splits.events("train")))
        except ValueError as error:
            if shortage(error):
                raise
            log.info(f"the untrained network has no {trial.task.fitted}: {error}")
            return state.without_fit()
        if count < wanted:
            log.info(f"the untrained network learns {trial.task.fitted} from {count} train events")
        title = "untrained network: train event"
        pairs = self._pass(state.without_fit(), "train", count, title)
        trial.task.fit(network, pairs, trial.seed)
        return replace(state, network=network.state_dict()).to_use()

    def _pass(
        self, state: Checkpoint, split: Split, count: int, title: str
    ) -> Generator[Prediction]:
        """Yield the predictions of a network on the first events of a split."""
        placement = DEFAULT_PLACEMENT
        if self._ray:
            self._ray.start(count)
            placement = self._ray.placement
        source = SplitEvents(splits=self.splits, split=split)
        service = InferenceService([state], source, placement, self._workers)
        whole = cluster_resources() is not None  # `Predictions` reads all of them at once
        work = Work(keep_prediction)
        return service.run(work, [range(count)], title=title if whole else None)
