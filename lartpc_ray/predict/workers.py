"""The Ray workers of the inference service: give out chunks, survive lost workers, keep order."""

from __future__ import annotations

import socket
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
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
    """Run networks over chunks of events, in a process of Ray.

    Ray calls `run` from `AHEAD` threads: one reads events while another holds the networks. The
    networks stay until those of another pass come.
    """

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._pass = -1
        self._loading, self._reading, self._computing = Lock(), Lock(), Lock()

    def load(self, number: int, job: str, weights: list[dict[str, np.ndarray]]) -> str:
        """Load the networks of a pass, unless they are; return the name of this machine."""
        with self._loading:
            if self._pass != number:
                self._networks = Networks(Job.model_validate_json(job), _writable(weights))
                self._pass = number
        return socket.gethostname()

    def run(
        self,
        number: int,
        job: str,
        weights: list[dict[str, np.ndarray]],
        work: Work[Result],
        chunk: range,
    ) -> list[Result]:
        """Return the results of a chunk of a pass."""
        node = self.load(number, job, weights)
        with self._reading:
            try:
                events = list(self._networks.read(chunk))
            except ValueError as error:
                raise ValueError(f"{error} (read on {node})") from error
        with self._computing:
            pairs: list[Prediction] = list(self._networks.predictions(iter(events), chunk))
        return list(apply(work, chunk, pairs))


def _writable(weights: list[dict[str, np.ndarray]]) -> list[Weights]:
    """Copy arrays out of Ray's store, which is read-only."""
    return [{name: torch.tensor(value) for name, value in state.items()} for state in weights]


class _Flight(NamedTuple):
    """A chunk, by its number, on its way to a worker."""

    worker: Any
    number: int


class WorkerPool:
    """Workers of one pass or of several; one that is lost is replaced, its chunks go to others.

    Args:
        device: of each worker.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._passes = 0
        self._networks: tuple[Any, ...] = ()
        self._loads: dict[Any, int] = {}
        self._starting: dict[Any, Any] = {}
        self._flights: dict[Any, _Flight] = {}
        self._lost: Counter[int] = Counter()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the workers."""
        self._end()

    def _end(self) -> None:
        """End the workers; they have ended with a Ray that has."""
        if ray.is_initialized():
            for worker in [*self._loads, *self._starting.values()]:
                ray.kill(worker)
        for workers in (self._loads, self._starting, self._flights):
            workers.clear()

    def _grow(self, count: int) -> None:
        """Start workers up to a number. Those that do not fit into the cluster wait for room."""
        more = count - len(self._loads) - len(self._starting)
        if more > 0:
            log.info(f"starting {more} workers on {self._device}")
        for _ in range(more):
            self._start()

    def _start(self) -> None:
        actor = ray.remote(InferenceWorker).options(
            num_cpus=1, num_gpus=int(self._device == "cuda"), max_concurrency=AHEAD
        )
        worker: Any = actor.remote()
        self._starting[worker.load.remote(*self._networks)] = worker

    def run(
        self,
        job: Job,
        weights: Sequence[Weights],
        work: Work[Result],
        chunks: Sequence[range],
        count: int,
    ) -> Generator[list[Result]]:
        """Yield the results of each chunk, in the order of the chunks.

        Args:
            job, weights, work: as for the service.
            chunks: of the events.
            count: number of workers.

        Raises:
            ValueError: for an event that cannot be read.
            RuntimeError: if `TRIES` workers end on the same chunk, or before their first chunk.
        """
        arrays = [
            {name: value.numpy(force=True) for name, value in state.items()} for state in weights
        ]
        self._passes += 1
        self._networks = (self._passes, job.model_dump_json(), ray.put(arrays))
        self._lost.clear()
        self._grow(count)
        waiting = deque(range(len(chunks)))
        done: dict[int, list[Result] | RayTaskError] = {}
        ended = False
        try:
            for number in range(len(chunks)):
                while number not in done:
                    self._give_out(waiting, number + WINDOW * count, work, chunks)
                    done.update(self._results(waiting, chunks))
                yield _result(done.pop(number))
            ended = True
        finally:
            if not ended:  # the workers are still at the other chunks
                self._end()

    def _results(self, waiting: deque[int], chunks: Sequence[range]) -> dict[int, Any]:
        """Return what has ended next; the chunks of a lost worker wait again."""
        done = {}
        for flight, result in self._ended():
            began = flight.number >= 0
            if isinstance(result, RayError) and not (began and isinstance(result, RayTaskError)):
                waiting.extendleft(reversed(self._lose(flight, result, chunks)))
            elif began:
                self._loads[flight.worker] -= 1
                done[flight.number] = result
        return done

    def _give_out(
        self, waiting: deque[int], until: int, work: Work[Any], chunks: Sequence[range]
    ) -> None:
        """Give chunks to the workers with the fewest, up to `AHEAD` each."""
        while waiting and waiting[0] < until and self._loads:
            worker = min(self._loads, key=self._loads.__getitem__)
            if self._loads[worker] >= AHEAD:
                return
            number = waiting.popleft()
            self._loads[worker] += 1
            reference = worker.run.remote(*self._networks, work, chunks[number])
            self._flights[reference] = _Flight(worker, number)

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
