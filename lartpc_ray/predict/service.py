"""The inference service: run networks over any number of events, here or on Ray workers.

A job names its events by number. Each worker opens the files itself, takes chunks of events,
runs the networks over batches of them and applies `work` to each prediction. The results come back
in the order of the events. They are the same, bit for bit, for any number of workers,
each of one thread. A process of more threads, as that of a command, may round them otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import torch

from lartpc_ray.predict.inference import CHUNK_EVENTS
from lartpc_ray.predict.job import Job, Networks, Weights, Work, apply, cut
from lartpc_ray.predict.placement import DEFAULT_PLACEMENT, Placement, few_events
from lartpc_ray.predict.sources import FileEvents, SplitEvents
from lartpc_ray.runtime.cluster import cluster_resources
from lartpc_ray.terminal.screen import ProgressBar
from lartpc_ray.trials.checkpoint import Checkpoint

if TYPE_CHECKING:
    from lartpc_ray.predict.workers import WorkerPool

Result = TypeVar("Result")


class SharedWorkers(ExitStack):
    """Workers of one pass after the other: they start with the first that needs them.

    They hold their cores until the block ends, so no other work of Ray may wait inside it.

    Example:
        with SharedWorkers() as workers:
            for state in states:
                results = list(InferenceService([state], source, workers=workers).run(work, events))
    """

    def __init__(self) -> None:
        super().__init__()
        self._pools: dict[str, WorkerPool] = {}

    def pool(self, device: str) -> WorkerPool:
        """Return the workers on a device."""
        if device not in self._pools:
            from lartpc_ray.predict.workers import WorkerPool  # Ray, which one process does without

            self._pools[device] = self.enter_context(WorkerPool(device))
        return self._pools[device]


@dataclass(frozen=True, eq=False)
class InferenceService:
    """Networks with a placement; each `run` gives one result per event, in order.

    Args:
        states: checkpoints of the networks, applied one after the other.
        source: of the events.
        placement: where the networks run.
        workers: of several passes; by default each `run` has workers of its own.
    """

    states: Sequence[Checkpoint]
    source: SplitEvents | FileEvents
    placement: Placement = DEFAULT_PLACEMENT
    workers: SharedWorkers | None = None

    def run(
        self, work: Work[Result], events: Sequence[range], *, title: str | None = "network: event"
    ) -> Generator[Result]:
        """Yield the result of each event of some ranges; close it to end its workers early.

        Args:
            work: what is made of each prediction.
            events: ranges of their numbers; each one but the first starts at a multiple of
                `CHUNK_EVENTS`.
            title: of the progress; None for no progress.

        Raises:
            ValueError: for an event that cannot be read.
            RuntimeError: if workers end again and again on the same events.
        """
        job = self.job()
        chunks = [chunk for part in events for chunk in cut(part, CHUNK_EVENTS[job.device])]
        if self._in_this_process(chunks, job.device):
            results = self._in_process(work, chunks)
        else:
            results = self._on_workers(work, chunks)
        bar = ProgressBar(title, sum(map(len, chunks))) if title else None
        with closing(results), bar or nullcontext():
            for of_chunk in results:
                if bar:
                    bar.advance(len(of_chunk))
                yield from of_chunk

    def _in_this_process(self, chunks: Sequence[range], device: str) -> bool:
        """Return whether this process predicts: no Ray, one chunk, or few events on one machine.

        Where the GPUs are those of other nodes of a cluster, their workers predict.
        """
        if cluster_resources() is None:
            return True
        if device == "cuda" and not torch.cuda.is_available():
            return False
        if len(chunks) == 1:
            return True
        if self.placement.workers is not None or os.environ.get("RAY_ADDRESS"):
            return False
        return sum(map(len, chunks)) <= few_events(self.placement.resolve().workers or 1)

    def job(self) -> Job:
        """Return the job of the workers."""
        placement = self.placement.resolve()
        assert placement.device != "auto"
        return Job(
            trials=tuple(state.trial for state in self.states),
            source=self.source,
            device=placement.device,
            precision=placement.precision,
        )

    @cached_property
    def _networks(self) -> Networks:
        """Load the networks into this process: 30 ms, as long as an event."""
        return Networks(self.job(), self._weights)

    @property
    def _weights(self) -> list[Weights]:
        return [state.network for state in self.states]

    def _in_process(self, work: Work[Result], chunks: Sequence[range]) -> Generator[list[Result]]:
        numbers = [number for chunk in chunks for number in chunk]
        pairs = self._networks.predictions(self._networks.read(numbers), numbers)
        for chunk in chunks:
            yield list(apply(work, chunk, islice(pairs, len(chunk))))

    def _on_workers(self, work: Work[Result], chunks: Sequence[range]) -> Generator[list[Result]]:
        job = self.job()
        count = min(self.placement.resolve().workers or 1, len(chunks))
        with ExitStack() as own:
            shared = self.workers or own.enter_context(SharedWorkers())
            pool = shared.pool(job.device)
            with closing(pool.run(job, self._weights, work, chunks, count)) as results:
                yield from results
