"""Evaluate a trained network on the test split, with the methods that it must beat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lartpc_ray.data.event import Event
from lartpc_ray.metrics.paired import PairedDifference, paired_differences
from lartpc_ray.metrics.table import Metrics, Row
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.predict.evaluation import Evaluation, Predictions
from lartpc_ray.predict.inference import predict
from lartpc_ray.predict.job import Work, read_task
from lartpc_ray.reconstruct.reconstructions import LinkedClustering
from lartpc_ray.settings import earlier_names, with_present_names
from lartpc_ray.tasks import AnyTask
from lartpc_ray.tasks.task import Means, Outputs, Task, Thresholds, Validation
from lartpc_ray.terminal.command import log

EARLIER_NAMES = {"beside": "alternatives", "tuned": "tune_scores"}
THIS = "this network"
UNTRAINED = "untrained network"
Differences = dict[str, PairedDifference]
"""Class, or `MEAN`, to a paired difference."""
OF_ERRORS = "± 68 %"
"""Begins the label of a row of errors."""
ERRORS = f"{OF_ERRORS}, bootstrap over events"


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of a network on the test split, and its thresholds.

    Attributes:
        task: name of the task.
        thresholds: class to thresholds, chosen on the tune split.
        tune_scores: class to its best score on the tune split.
        means: method to class to metric to mean over the test events; the method in use first.
        events: number of test events and of tune events.
        alternatives: label of another reconstruction to its thresholds.
        errors: of `means`, 68 % bootstrap half-widths.
        held_out: label of a reconstruction to its mean held-out score on the tune split.
        differences: metric to other method to class to the paired difference of the method in use
            over the test events.
    """

    task: str
    thresholds: Thresholds
    tune_scores: dict[str, float]
    means: dict[str, Means]
    events: dict[str, int]
    alternatives: dict[str, Thresholds] = field(default_factory=dict)
    errors: dict[str, Means] = field(default_factory=dict)
    held_out: dict[str, float] = field(default_factory=dict)
    differences: dict[str, dict[str, Differences]] = field(default_factory=dict)

    @staticmethod
    def read(content: dict[str, Any]) -> EvaluationResult:
        """Return the result that a verdict.json holds, also one of an earlier version."""
        present = with_present_names(content, EARLIER_NAMES)
        present.pop("verdict", None)  # sentences for readers
        axes = earlier_names(LinkedClustering)
        for name, thresholds in present.get("alternatives", {}).items():
            present["alternatives"][name] = {
                label: with_present_names(point, axes) for label, point in thresholds.items()
            }
        present["differences"] = {
            metric: {
                other: {name: PairedDifference(**values) for name, values in rows.items()}
                for other, rows in others.items()
            }
            for metric, others in present.get("differences", {}).items()
        }
        return EvaluationResult(**present)

    @property
    def best(self) -> Means:
        """Return the means of the first method: the network with the method in use."""
        return next(iter(self.means.values()))

    @property
    def rows(self) -> dict[str, Means]:
        """Return the means of each method, followed by their errors."""
        rows: dict[str, Means] = {}
        for method, means in self.means.items():
            rows[method] = means
            if method in self.errors:
                first = method == next(iter(self.means))
                label = ERRORS if first else f"{OF_ERRORS}, {short_method(method)}"
                rows[label] = self.errors[method]
        return rows


def evaluate_on_test(evaluation: Evaluation, *, choose_method: bool = False) -> EvaluationResult:
    """Tune the thresholds on the tune split, then measure everything once on the test split.

    Args:
        evaluation: of the network.
        choose_method: use the reconstruction of highest held-out score on the tune split, instead
            of the one that the settings of the task name.
    """
    evaluation.compute("tune", "test")
    tune = evaluation.predictions("tune")
    tuned = validations(_ways(evaluation.task), tune)
    held_out = {label: _mean(way.held_out) for label, way in tuned.items() if way.held_out}
    if choose_method and held_out:
        evaluation.use(_ways(evaluation.task)[max(held_out, key=held_out.__getitem__)])
    task = evaluation.task
    metrics = _measure_all(evaluation, tuned)
    first = task.method_label
    return EvaluationResult(
        task=task.name,
        thresholds=tuned[first].thresholds,
        tune_scores=tuned[first].scores,
        means={method: task.summary(rows) for method, rows in metrics.items()},
        events={"tune": len(tune), "test": len(evaluation.predictions("test"))},
        alternatives={label: tuned[label].thresholds for label in task.alternatives()},
        errors={method: _errors(task, rows) for method, rows in metrics.items()},
        held_out=held_out,
        differences=_differences(task, metrics),
    )


def _ways(task: AnyTask) -> dict[str, AnyTask]:
    """Return the task with each reconstruction that a result compares, the active one first."""
    return {task.method_label: task, **task.alternatives()}


def validations(ways: Mapping[str, AnyTask], predictions: Predictions) -> dict[str, Validation]:
    """Return the validation of each task on the same predictions, by the names of the tasks.

    Raises:
        ValueError: if no event has anything to score.
    """
    return {
        label: way.validation_of(
            predictions.results(Work(_validation_part, (way.model_dump_json(),)))
        )
        for label, way in ways.items()
    }


def _validation_part(settings: str, number: int, event: Event, outputs: Outputs) -> Any:
    """Return what an event adds to the validation of a task."""
    return read_task(settings).validation_part(number, event, outputs)


def _measure_all(evaluation: Evaluation, tuned: dict[str, Validation]) -> dict[str, Metrics]:
    """Measure each method on the test split, the method in use first.

    Raises:
        ValueError: if no event has anything to score.
    """
    task, test = evaluation.task, evaluation.predictions("test")
    ways = _ways(task)
    log.info(f"measuring {len(test)} test events")
    points = {_method(THIS, label): (way, tuned[label].thresholds) for label, way in ways.items()}
    for way in ways.values():
        if untuned := way.untuned():
            points[_method(THIS, way.untuned_label)] = way, untuned
    rows = _measured(points, test)
    evaluation.compute("tune", "test", trained=False)
    new_tune, new_test = (evaluation.predictions(name, trained=False) for name in ("tune", "test"))
    known = _ways(evaluation.untrained.trial.task)
    ways = {label: way for label, way in ways.items() if label in known}
    tuned = validations(ways, new_tune)
    points = {
        _method(UNTRAINED, label): (way, tuned[label].thresholds) for label, way in ways.items()
    }
    rows |= _measured(points, new_test)
    if task.baseline_label:
        rows[task.baseline_label] = baseline(task, (event for event, _ in test))
    rows = {method: metrics for method, metrics in rows.items() if metrics.rows}
    if not rows:
        raise ValueError(f"no test event has {task.scored_object}; give more events")
    return rows


def _differences(task: AnyTask, rows: dict[str, Metrics]) -> dict[str, dict[str, Differences]]:
    """Compare the first method with each other one, by each metric of the task."""
    names = (*task.scored_classes, task.headline)
    ours, *others = (
        (method, Metrics(row for row in metrics.rows if row.name in names))
        for method, metrics in rows.items()
    )
    return {
        metric: {method: paired_differences(ours[1], metrics, metric) for method, metrics in others}
        for metric in task.compared_metrics
    }


def _mean(scores: dict[str, float]) -> float:
    return sum(scores.values()) / len(scores)


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


def short_method(method: str) -> str:
    """Return the name of a method of this network without the network.

    Example:
        >>> short_method("this network, linked voxels"), short_method("this network")
        ('linked voxels', 'this network')
    """
    return method.removeprefix(f"{THIS}, ")


def validate(
    network: UResNet, task: Task, events: Sequence[Event], device: str = "cpu"
) -> Validation:
    """Return the task's objective on events that the network was not trained on."""
    return task.validate_on(predict(network, task, events, device=device))


def measure(task: Task, predictions: Predictions, thresholds: Thresholds) -> Metrics:
    """Return all metrics of predictions at given thresholds."""
    return _measured({"": (task, thresholds)}, predictions)[""]


def _measured(
    points: Mapping[str, tuple[Task, Thresholds]], predictions: Predictions
) -> dict[str, Metrics]:
    """Return the metrics of each task with its thresholds, by their names."""
    settings = tuple((task.model_dump_json(), thresholds) for task, thresholds in points.values())
    events = predictions.results(Work(_rows, (settings,)))
    return {
        name: Metrics(row for of_event in events for row in of_event[column])
        for column, name in enumerate(points)
    }


def _rows(
    points: tuple[tuple[str, Thresholds], ...], number: int, event: Event, outputs: Outputs
) -> list[tuple[Row, ...]]:
    """Return the rows of an event by each task with its thresholds."""
    return [
        read_task(settings).evaluate(number, event, outputs, thresholds).rows
        for settings, thresholds in points
    ]


def baseline(task: Task, events: Iterable[Event]) -> Metrics:
    """Return the same metrics of prepared events by the method without training."""
    rows = [row for number, event in enumerate(events) for row in task.baseline(number, event).rows]
    return Metrics(rows)


def mean_of(names: Sequence[str], means: Means, metric: str) -> float | None:
    """Return the mean of a metric over the classes that have it."""
    values = [means[name][metric] for name in names if metric in means.get(name, {})]
    return sum(values) / len(values) if values else None
