"""Evaluate a trained network on the test split, with the methods that it must beat."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lartpc_ray.data.event import Event
from lartpc_ray.metrics.table import Metrics
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.inference import predict
from lartpc_ray.reconstruct.reconstructions import LinkedClustering
from lartpc_ray.settings import earlier_names, with_present_names
from lartpc_ray.tasks.task import Means, Prediction, Task, Thresholds, Validation
from lartpc_ray.terminal.command import log

EARLIER_NAMES = {"beside": "alternatives", "tuned": "tune_scores"}
THIS = "this network"
UNTRAINED = "untrained network"
ERRORS = "± 68 %, bootstrap over events"


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of a network on the test split, and its thresholds.

    Attributes:
        task: name of the task.
        thresholds: class to thresholds, chosen on the tune split.
        tune_scores: class to its best score on the tune split.
        means: method to class to metric to mean over the test events.
        events: number of test events and of tune events.
        alternatives: label of another reconstruction to its thresholds.
        errors: of `means`, 68 % bootstrap half-widths, for each method with tuned thresholds.
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
        """Return the means of the first method: the network with tuned thresholds."""
        return next(iter(self.means.values()))

    def best_method(self, names: Sequence[str], metric: str) -> tuple[str, Thresholds]:
        """Return the reconstruction with the highest mean, and its thresholds.

        Returns:
            its label, empty for the task's own; class to thresholds.
        """
        first = next(iter(self.means))
        methods = {"": first} | {label: _method(THIS, label) for label in self.alternatives}

        def score(label: str) -> float:
            return mean_of(names, self.means[methods[label]], metric) or 0.0

        best = max(methods, key=score)
        return best, self.alternatives.get(best, self.thresholds)

    @property
    def rows(self) -> dict[str, Means]:
        """Return the means of each method, followed by their errors."""
        rows: dict[str, Means] = {}
        for method, means in self.means.items():
            rows[method] = means
            if method in self.errors:
                label = method.removeprefix(f"{THIS}, ")
                title = f"± 68 %, {label}" if label in self.alternatives else ERRORS
                rows[title] = self.errors[method]
        return rows

    def json(self) -> str:
        """Return the text of verdict.json."""
        return json.dumps(asdict(self), indent=1)


def evaluate_on_test(evaluation: Evaluation) -> EvaluationResult:
    """Tune the thresholds on the tune split, then measure everything once on the test split."""
    task: Task = evaluation.task
    tune, test = evaluation.predictions("tune"), evaluation.predictions("test")
    first = "tuned thresholds" if task.untuned() else ""
    tasks: dict[str, Task] = {first: task, **task.alternatives()}
    tuned = {label: way.validate_on(tune) for label, way in tasks.items()}
    log.info(f"measuring {len(test)} test events")
    rows = {_method(THIS, first): measure(task, test, tuned[first].thresholds)}
    if untuned := task.untuned():
        rows[_method(THIS, task.untuned_label)] = measure(task, test, untuned)
    for label, way in task.alternatives().items():
        rows[_method(THIS, label)] = measure(way, test, tuned[label].thresholds)
    for label, way in tasks.items():
        chosen = way.validate_on(evaluation.predictions("tune", trained=False)).thresholds
        predictions = evaluation.predictions("test", trained=False)
        rows[_method(UNTRAINED, label)] = measure(way, predictions, chosen)
    if task.baseline_label:
        rows[task.baseline_label] = baseline(task, (event for event, _ in test))
    return EvaluationResult(
        task=task.name,
        thresholds=tuned[first].thresholds,
        tune_scores=tuned[first].scores,
        means={method: task.summary(metrics) for method, metrics in rows.items()},
        events={"tune": len(tune), "test": len(test)},
        alternatives={label: tuned[label].thresholds for label in task.alternatives()},
        errors={_method(THIS, label): _errors(task, rows[_method(THIS, label)]) for label in tasks},
    )


def _errors(task: Task, metrics: Metrics) -> Means:
    return _of_means(metrics.errors(task.scored_classes), metrics.means(), task.summary(metrics))


def _of_means(errors: Means, means: Means, summary: Means) -> Means:
    """Return the errors of metrics that are means over events, and of no median or ratio."""
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


def _method(network: str, label: str) -> str:
    return f"{network}, {label}" if label else network


def validate(
    network: UResNet, task: Task, events: Sequence[Event], device: str = "cpu"
) -> Validation:
    """Return the task's objective on events that the network was not trained on."""
    return task.validate_on(predict(network, task, events, device=device))


def measure(task: Task, predictions: Iterable[Prediction], thresholds: Thresholds) -> Metrics:
    """Return all metrics of predictions at given thresholds."""
    rows = [
        row
        for number, (event, outputs) in enumerate(predictions)
        for row in task.evaluate(number, event, outputs, thresholds).rows
    ]
    return Metrics(rows)


def baseline(task: Task, events: Iterable[Event]) -> Metrics:
    """Return the same metrics of prepared events by the method without training."""
    rows = [row for number, event in enumerate(events) for row in task.baseline(number, event).rows]
    return Metrics(rows)


def mean_of(names: Sequence[str], means: Means, metric: str) -> float | None:
    """Return the mean of a metric over the classes that have it."""
    values = [means[name][metric] for name in names if metric in means.get(name, {})]
    return sum(values) / len(values) if values else None
