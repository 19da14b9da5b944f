"""A finished network on its splits: each event passes the network once."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from tempfile import SpooledTemporaryFile
from typing import overload

from lartpc_ray.data.event import Event
from lartpc_ray.data.splits import Split, Splits
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.predict.inference import predict
from lartpc_ray.tasks import AnyTask
from lartpc_ray.tasks.task import Prediction, Task
from lartpc_ray.trials.checkpoint import Checkpoint

MEMORY = 2**28
"""Bytes that the predictions of a network on a split take in memory; larger ones go to a file.

An `Evaluation` has at most four: of the trained and of an untrained network, on two splits.
"""


class Predictions(Sequence[Prediction]):
    """The prepared events of a split with the outputs of a network, computed when first read.

    Events pass the network in their order, in batches of `predict`: the numbers do not depend on
    the events that are read.
    """

    def __init__(self, network: UResNet, task: Task, events: Sequence[Event]) -> None:
        self._count = len(events)
        self._source = predict(network, task, events)
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
        while number >= len(self._starts):
            self._starts.append(self._file.seek(0, 2))
            pickle.dump(next(self._source), self._file, pickle.HIGHEST_PROTOCOL)
        self._file.seek(self._starts[number])
        prediction: Prediction = pickle.load(self._file)  # noqa: S301  # written above
        return prediction


class Evaluation:
    """A finished network, its task, its splits and its outputs, each computed once.

    Args:
        state: of the trained network.
        data: folder or file of the splits, if they are not the trial's own.
    """

    def __init__(self, state: Checkpoint, data: str | None = None) -> None:
        trial = state.trial.with_events(data) if data else state.trial
        self.state = state = replace(state, trial=trial)
        self.data = data
        self.task: AnyTask = state.trial.task
        self.splits: Splits = state.trial.data.splits
        self._predictions: dict[tuple[Split, bool], Predictions] = {}

    @cached_property
    def network(self) -> UResNet:
        """Return the trained network."""
        return self.state.restored()

    def predictions(self, split: Split, *, trained: bool = True) -> Predictions:
        """Return the predictions of the trained network, or of a new one, on a split."""
        if (split, trained) not in self._predictions:
            network = self.network if trained else self.state.trial.make_network(engine="auto")
            events = self.splits.events(split)
            self._predictions[split, trained] = Predictions(network, self.task, events)
        return self._predictions[split, trained]
