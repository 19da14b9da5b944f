"""What the test split says of a trained network, beside what it must beat."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lartpc_ray.data.event import Event
from lartpc_ray.metrics.table import Metrics
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.predict.inference import predict
from lartpc_ray.reconstruct.reconstructions import LinkedClustering
from lartpc_ray.settings import earlier_names, with_present_names
from lartpc_ray.tasks import AnyTask
from lartpc_ray.tasks.task import Means, Task, Thresholds, ThresholdTask, Validation
from lartpc_ray.terminal.command import log
from lartpc_ray.trials.checkpoint import Checkpoint

EARLIER_NAMES = {"beside": "alternatives", "tuned": "tune_scores"}
THIS = "this network"
UNTRAINED = "untrained network"
ERRORS = "± 68 %, bootstrap over events"


@dataclass(frozen=True)
class EvaluationResult:
    """What the test split says of a network.

    Attributes:
        task: name of the task.
        thresholds: chosen on the tune split, class by class.
        tune_scores: the best score of each class on the tune split.
        means: method to class to metric to mean over the test events.
        events: test events, and those of the tune split.
        beside: method to thresholds, of the other ways to read the same network.
        errors: of the means of methods of the network with tuned thresholds, what other test events
            would change (68 %).
    """

    task: str
    thresholds: Thresholds
    tune_scores: dict[str, float]
    means: dict[str, Means]
    events: dict[str, int]
    alternatives: dict[str, Thresholds] = field(default_factory=dict)
    errors: dict[str, Means] = field(default_factory=dict)

    @staticmethod
    def read(content: dict[str, Any]) -> EvaluationResult:
        """Return the result that a verdict.json holds, also one of an earlier version."""
        present = with_present_names(content, EARLIER_NAMES)
        axes = earlier_names(LinkedClustering)
        for name, thresholds in present.get("alternatives", {}).items():
            present["alternatives"][name] = {
                label: with_present_names(point, axes) for label, point in thresholds.items()
            }
        return EvaluationResult(**present)

    @property
    def best(self) -> Means:
        """The network as it should be used: the first method."""
        return next(iter(self.means.values()))

    def best_method(self, names: Sequence[str], metric: str) -> tuple[str, Thresholds]:
        """Of the ways to read the network that of the highest mean: its name and its thresholds.

        The name is empty where it is the task's own.
        """
        first = next(iter(self.means))
        methods = {"": first} | {text: _method(THIS, text) for text in self.alternatives}

        def score(text: str) -> float:
            return mean_of(names, self.means[methods[text]], metric) or 0.0

        best = max(methods, key=score)
        return best, self.alternatives.get(best, self.thresholds)

    @property
    def rows(self) -> dict[str, Means]:
        """The methods in their order, the errors of a method behind it."""
        found: dict[str, Means] = {}
        for method, means in self.means.items():
            found[method] = means
            if method in self.errors:
                way = method.removeprefix(f"{THIS}, ")
                found[f"± 68 %, {way}" if way in self.alternatives else ERRORS] = self.errors[
                    method
                ]
        return found

    def json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def evaluate_on_test(state: Checkpoint) -> EvaluationResult:
    """Tune the thresholds on the tune split, then measure everything once on the test split."""
    task, splits = state.trial.task, state.trial.data.splits
    tune_events, test_events = splits.events("tune"), splits.events("test")
    network, untrained = state.restored(), state.trial.make_network(engine="auto")
    tuned = validate(network, task, tune_events)
    log.info(f"measuring {len(test_events)} test events")
    plain = task.untuned()
    first = "tuned thresholds" if plain else ""
    others: dict[str, Task] = dict(task.alternatives()) if isinstance(task, ThresholdTask) else {}
    beside = {text: validate(network, way, tune_events).thresholds for text, way in others.items()}
    ways: dict[str, tuple[Task, Thresholds]] = {first: (task, tuned.thresholds)}
    if plain:
        ways[task.untuned_label] = task, plain
    ways |= {text: (way, beside[text]) for text, way in others.items()}
    rows = {
        _method(THIS, text): measure(network, way, test_events, at)
        for text, (way, at) in ways.items()
    }
    for text, way in {first: task, **others}.items():  # its thresholds are tuned, too
        at = validate(untrained, way, tune_events).thresholds
        rows[_method(UNTRAINED, text)] = measure(untrained, way, test_events, at)
    if task.baseline_label:
        rows[task.baseline_label] = baseline(task, test_events)
    means = {method: task.summary(metrics) for method, metrics in rows.items()}
    sizes = {"tune": len(tune_events), "test": len(test_events)}
    chosen = [_method(THIS, text) for text in (first, *others)]
    errors = {
        method: _plain(
            rows[method].errors(task.scored_classes), rows[method].means(), means[method]
        )
        for method in chosen
    }
    return EvaluationResult(task.name, tuned.thresholds, tuned.scores, means, sizes, beside, errors)


def _plain(errors: Means, means: Means, summary: Means) -> Means:
    """The errors of what the task gives as a mean over events, and no median or ratio of sums."""
    other = {
        metric
        for name, values in means.items()
        for metric, value in values.items()
        if summary.get(name, {}).get(metric) != value
    }
    return {
        name: {metric: error for metric, error in values.items() if metric not in other}
        for name, values in errors.items()
    }


def _method(network: str, way: str) -> str:
    return f"{network}, {way}" if way else network


def validate(
    network: UResNet, task: Task, events: Sequence[Event], device: str = "cpu"
) -> Validation:
    """The task's objective, on events that the network has not seen."""
    return task.validate_on(predict(network, task, events, device=device))


def measure(network: UResNet, task: Task, events: Sequence[Event], at: Thresholds) -> Metrics:
    """All metrics of a network on events, at given thresholds."""
    rows = [
        row
        for number, (event, outputs) in enumerate(predict(network, task, events))
        for row in task.evaluate(number, event, outputs, at).rows
    ]
    return Metrics(rows)


def baseline(task: AnyTask, events: Sequence[Event]) -> Metrics:
    """The same metrics of the method that needs no training."""
    rows = [
        row
        for number, event in enumerate(events)
        for row in task.baseline(number, task.prepare(event)).rows
    ]
    return Metrics(rows)


def mean_of(names: Sequence[str], means: Means, metric: str) -> float | None:
    """Mean of a metric over the classes that have it."""
    values = [means[name][metric] for name in names if metric in means.get(name, {})]
    return sum(values) / len(values) if values else None
