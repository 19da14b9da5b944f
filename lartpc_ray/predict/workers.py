"""The Ray workers of the inference service: give out chunks, survive lost workers, keep order."""

from __future__ import annotations

import socket
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from threading import Lock
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import ray
import torch
from ray.exceptions import RayError, RayTaskError

from lartpc_ray.predict.job import Job, Networks, Weights, Work, apply
from lartpc_ray.runtime.ray_tasks import own_error
from lartpc_ray.tasks.task import Prediction
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.text import error_text

Result = TypeVar("Result")
AHEAD = 2
"""Chunks that a worker holds: it reads the next one while its network computes."""
WINDOW = 4
"""Chunks per worker that may be finished before an earlier one is; they bound the memory."""
TRIES = 3
"""Workers that may end on the same chunk before the job fails."""
PATIENCE = 20.0
"""Seconds without a worker until a message names the resources that are missing."""


class InferenceWorker(Generic[Result]):
    """Run the networks of a job over chunks, in a process of Ray.

    Ray calls `run` from `AHEAD` threads: one reads events while another holds the network.
    """

    def __init__(self, job: str, weights: list[dict[str, np.ndarray]], work: Work[Result]) -> None:
        torch.set_num_threads(1)
        self._networks = Networks(Job.model_validate_json(job), _writable(weights))
        self._work = work
        self._reading, self._computing = Lock(), Lock()

    def node(self) -> str:
        """Return the name of this worker's machine, once the networks are loaded."""
        return socket.gethostname()

    def run(self, chunk: range) -> list[Result]:
        """Return the results of a chunk."""
        with self._reading:
            try:
                events = list(self._networks.read(chunk))
            except ValueError as error:
                raise ValueError(f"{error} (read on {socket.gethostname()})") from error
        with self._computing:
            pairs: list[Prediction] = list(self._networks.predictions(iter(events), chunk))
        return list(apply(self._work, chunk, pairs))


def _writable(weights: list[dict[str, np.ndarray]]) -> list[Weights]:
    """Copy arrays out of Ray's store, which is read-only."""
    return [{name: torch.tensor(value) for name, value in state.items()} for state in weights]


class _Flight(NamedTuple):
    """A chunk, by its number, on its way to a worker."""

    worker: Any
    number: int


class WorkerPool(Generic[Result]):
    """A number of workers; one that is lost is replaced, and its chunks go to others.

    Args:
        job, weights, work: as for the service.
        count: number of workers. Workers that do not fit into the cluster wait for room.
    """

    def __init__(
        self, job: Job, weights: Sequence[Weights], work: Work[Result], count: int
    ) -> None:
        self._device = job.device
        arrays = [
            {name: value.numpy(force=True) for name, value in state.items()} for state in weights
        ]
        self._arguments = (job.model_dump_json(), ray.put(arrays), work)
        self._count = count
        self._loads: dict[Any, int] = {}
        self._starting: dict[Any, Any] = {}
        self._flights: dict[Any, _Flight] = {}
        self._lost: Counter[int] = Counter()

    def __enter__(self) -> WorkerPool[Result]:
        """Start the workers."""
        log.info(f"starting {self._count} workers on {self._device}")
        for _ in range(self._count):
            self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the workers; they have ended with a Ray that has."""
        if ray.is_initialized():
            for worker in [*self._loads, *self._starting.values()]:
                ray.kill(worker)

    def _start(self) -> None:
        actor = ray.remote(InferenceWorker).options(
            num_cpus=1, num_gpus=int(self._device == "cuda"), max_concurrency=AHEAD
        )
        job, weights, work = self._arguments
        worker: Any = actor.remote(job, weights, work)
        self._starting[worker.node.remote()] = worker

    def run(self, chunks: Sequence[range]) -> Iterator[list[Result]]:
        """Yield the results of each chunk, in the order of the chunks.

        Raises:
            ValueError: for an event that cannot be read.
            RuntimeError: if `TRIES` workers end on the same chunk, or before their first chunk.
        """
        waiting = deque(range(len(chunks)))
        done: dict[int, list[Result] | RayTaskError] = {}
        for number in range(len(chunks)):
            while number not in done:
                self._give_out(waiting, number + WINDOW * self._count, chunks)
                for flight, result in self._ended():
                    if isinstance(result, RayError) and not isinstance(result, RayTaskError):
                        waiting.extendleft(reversed(self._lose(flight, result, chunks)))
                    elif flight.number >= 0:
                        self._loads[flight.worker] -= 1
                        done[flight.number] = result
            yield _result(done.pop(number))

    def _give_out(self, waiting: deque[int], until: int, chunks: Sequence[range]) -> None:
        """Give chunks to the workers with the fewest, up to `AHEAD` each."""
        while waiting and waiting[0] < until and self._loads:
            worker = min(self._loads, key=self._loads.__getitem__)
            if self._loads[worker] >= AHEAD:
                return
            number = waiting.popleft()
            self._loads[worker] += 1
            self._flights[worker.run.remote(chunks[number])] = _Flight(worker, number)

    def _ended(self) -> Iterator[tuple[_Flight, Any]]:
        """Wait for the next chunk or worker; yield it with its result or its error."""
        while True:
            pending = [*self._flights, *self._starting]
            ended, _ = ray.wait(pending, num_returns=1, timeout=PATIENCE)
            if ended or self._loads:
                break
            kind = "GPU" if self._device == "cuda" else "free CPU"
            log.info(f"waiting for a node with a {kind}; `ray status` lists the nodes")
        for reference in ended:
            flight = self._flights.pop(reference, None)
            worker = self._starting.pop(reference, None)
            try:
                result = ray.get(reference)
            except RayError as error:
                result = error
            if worker is not None and not isinstance(result, RayError):
                self._loads[worker] = 0
            yield flight or _Flight(worker, -1), result

    def _lose(self, flight: _Flight, error: RayError, chunks: Sequence[range]) -> list[int]:
        """Replace a lost worker; return the numbers of its chunks, which wait again.

        Raises:
            RuntimeError: if too many workers ended on a chunk.
        """
        references = [key for key, other in self._flights.items() if other.worker == flight.worker]
        numbers = sorted([flight.number, *(self._flights.pop(key).number for key in references)])
        self._lost.update(numbers)
        number, count = max(((n, self._lost[n]) for n in numbers), key=lambda pair: pair[1])
        if count >= TRIES:
            where = "before their first event"
            if number >= 0:
                where = f"on events {chunks[number][0]} to {chunks[number][-1]}"
            raise RuntimeError(f"{count} workers ended {where}: {error_text(error)}")
        log.info(f"a worker ended; another one takes its work ({error_text(error, 80)})")
        self._loads.pop(flight.worker, None)
        ray.kill(flight.worker)
        self._start()
        return [number for number in numbers if number >= 0]


def _result(result: list[Result] | RayTaskError) -> list[Result]:
    """Return the results of a chunk, or raise the error of its worker as this process's own."""
    if isinstance(result, RayTaskError):
        raise own_error(result)
    return result
