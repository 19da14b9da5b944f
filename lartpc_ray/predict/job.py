"""A job of the inference service: its networks, its events, and the work on each prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from itertools import pairwise
from typing import Annotated, Any, Generic, Literal, TypeVar

import torch
from pydantic import Field, TypeAdapter

from lartpc_ray.data.event import Event, Events
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.predict.inference import Precision, predict
from lartpc_ray.predict.sources import FileEvents, SplitEvents
from lartpc_ray.settings import Settings
from lartpc_ray.tasks import AnyTask
from lartpc_ray.tasks.task import Outputs, Prediction, Task
from lartpc_ray.trials.trial import Trial

Result = TypeVar("Result")
Weights = Mapping[str, Any]


class Job(Settings):
    """The networks, the events and the precision of a prediction; it goes to workers as JSON.

    Attributes:
        trials: of the networks. The reconstruction of each is the input of the next one.
        source: of the events.
        device: of all workers.
        precision: of the convolutions.
    """

    trials: tuple[Trial, ...]
    source: Annotated[SplitEvents | FileEvents, Field(discriminator="kind")]
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Precision = "float32"


@dataclass(frozen=True, eq=False)
class Work(Generic[Result]):
    """A function of the number, the event and the outputs of each prediction.

    Args:
        function: a function that Python can import. It runs where the network runs.
        arguments: plain values that come first.
    """

    function: Callable[..., Result]
    arguments: tuple[Any, ...] = ()

    def __call__(self, number: int, event: Event, outputs: Outputs) -> Result:
        return self.function(*self.arguments, number, event, outputs)


def keep_prediction(number: int, event: Event, outputs: Outputs) -> Prediction:
    """Return the prediction itself."""
    return event, outputs


def apply(
    work: Callable[..., Result], numbers: Sequence[int], predictions: Iterable[Prediction]
) -> Iterator[Result]:
    """Yield the result of each prediction, with the number of its event."""
    for number, (event, outputs) in zip(numbers, predictions, strict=True):
        yield work(number, event, outputs)


@cache
def read_task(settings: str) -> Task:
    """Return the task of its JSON settings."""
    task: Task = TypeAdapter(AnyTask).validate_json(settings)
    return task


@dataclass(eq=False)
class Networks:
    """The networks of a job on their device, with the events that they read.

    Args:
        job: of the networks.
        weights: state of each network.
    """

    job: Job
    weights: Sequence[Weights]
    networks: list[UResNet] = field(init=False)

    def __post_init__(self) -> None:
        """Load the networks."""
        self.networks = []
        for trial, weights in zip(self.job.trials, self.weights, strict=True):
            tensors = {key: torch.as_tensor(value) for key, value in weights.items()}
            self.networks.append(trial.restore_network(tensors).to(self.job.device))

    def predictions(self, events: Iterator[Event], numbers: Sequence[int]) -> Iterator[Prediction]:
        """Yield the predictions of the last network for events of given numbers."""
        device, precision = self.job.device, self.job.precision
        run = partial(predict, device=device, precision=precision, numbers=numbers)
        *earlier, (trial, network) = zip(self.job.trials, self.networks, strict=True)
        for other, earlier_network in earlier:
            pairs = run(earlier_network, other.task, self._seen(events, other))
            events = (other.task.reconstruct(*pair, {}) for pair in pairs)
        yield from run(network, trial.task, self._seen(events, trial))

    def _seen(self, events: Iterator[Event], trial: Trial) -> Iterator[Event]:
        """Apply the shared transforms of a trial to the events of files."""
        if isinstance(self.job.source, SplitEvents):
            return events
        return (trial.data.splits.seen(event) for event in events)

    @cached_property
    def events(self) -> Events:
        """Open the events."""
        return self.job.source.open()

    def read(self, numbers: Sequence[int]) -> Iterator[Event]:
        """Read events by their numbers."""
        return (self.events[number] for number in numbers)


def cut(events: range, size: int) -> list[range]:
    """Cut a range of events at the multiples of a size.

    Example:
        >>> cut(range(10, 40), 16)
        [range(10, 16), range(16, 32), range(32, 40)]
    """
    inner = range(events.start - events.start % size + size, events.stop, size)
    edges = [events.start, *inner, events.stop]
    return [range(low, high) for low, high in pairwise(edges) if low < high]
