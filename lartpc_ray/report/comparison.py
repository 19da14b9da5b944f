"""Two networks, or two reconstructions of one, on the same events: paired differences."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lartpc_ray.metrics.paired import LOWER_IS_BETTER, PairedDifference, paired_differences
from lartpc_ray.metrics.table import MEAN, Metrics
from lartpc_ray.predict.cluster_columns import Columns
from lartpc_ray.predict.evaluate import mean_of, measure
from lartpc_ray.predict.tables import read_clusters, read_metrics
from lartpc_ray.report.sides import Side
from lartpc_ray.report.tables import layout
from lartpc_ray.report.verdict import difference_text, wrapped
from lartpc_ray.tasks import TASKS
from lartpc_ray.tasks.task import Means
from lartpc_ray.terminal.text import align_columns, format_value

Differences = dict[str, dict[str, PairedDifference]]
"""Metric to class, or `MEAN`, to a paired difference."""
IGNORED = ("data.splits.path", "resources")
"""Settings that change no result."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The metrics of two networks event by event, and their paired differences.

    Attributes:
        task: name of the task of both.
        objective: metric of the task of the first network.
        labels: of the first network and of the other one.
        events: number of events.
        metrics: of both networks, event by event.
        settings: dotted path to the two values of each setting in which they differ; None for
            predictions, which do not hold them.
        objectives: of both networks: training step to the objective on the tune split.
        notes: sentences on what makes the scores differ besides the networks.
        source: of the events, in words.
    """

    task: str
    objective: str
    labels: tuple[str, str]
    events: int
    metrics: tuple[Metrics, Metrics]
    settings: Mapping[str, tuple[Any, Any]] | None
    objectives: tuple[Mapping[int, float], Mapping[int, float]] = ({}, {})
    notes: tuple[str, ...] = ()
    source: str = "the test split"

    @cached_property
    def titles(self) -> dict[str, str]:
        """Return the metrics that are means over events, the objective first, with their titles."""
        titles: dict[str, str] = {}
        for part in layout(self.task)["tables"]:
            titles = part["metrics"] | titles
        wanted = dict.fromkeys([self.objective, *titles])
        return {metric: titles.get(metric, metric) for metric in wanted if self._classes(metric)}

    @cached_property
    def means(self) -> tuple[Means, Means]:
        """Return the means over events, without sums, medians and ratios."""
        ours, others = (_event_means(self.task, metrics) for metrics in self.metrics)
        return ours, others

    def mean(self, side: int, metric: str, name: str) -> float | None:
        """Return a mean of the first (0) or the other (1) network, of a class or of all.

        The mean over the classes leaves out those of one value in all events, as the difference.
        """
        means = self.means[side]
        if name == MEAN:
            return mean_of(self._varying(metric), means, metric)
        return means.get(name, {}).get(metric)

    @cached_property
    def differences(self) -> Differences:
        """Return the paired differences, first - other, of each metric and class.

        `p_better` is the probability that the first network is the better one: of metrics in
        `LOWER_IS_BETTER` that the true difference is below zero.
        """
        return {metric: self._differences(metric) for metric in self.titles}

    @property
    def headline(self) -> PairedDifference | None:
        """Return the difference that sums up the comparison; None if no event tells."""
        first = next(iter(self.differences.values()), {})
        return first.get(TASKS[self.task].headline)

    def _classes(self, metric: str) -> list[str]:
        """Return the classes of a metric in both networks, the scored ones first."""
        shared = self.means[0].keys() & self.means[1].keys()
        parts = layout(self.task)["tables"]
        columns = (name for part in parts for name in part["columns"])
        names = [*TASKS[self.task].scored_classes, *columns]
        known = [name for name in dict.fromkeys(names) if name in shared]
        return [name for name in known if all(metric in means[name] for means in self.means)]

    def _varying(self, metric: str) -> list[str]:
        """Return the scored classes of a metric without those of one value in all events."""
        scored = TASKS[self.task].scored_classes
        values: dict[str, set[float]] = {name: set() for name in self._classes(metric)}
        for row in (row for metrics in self.metrics for row in metrics.rows):
            if row.metric == metric and row.name in values:
                values[row.name].add(row.value)
        return [name for name, of_class in values.items() if name in scored and len(of_class) > 1]

    def _differences(self, metric: str) -> dict[str, PairedDifference]:
        names, scored = self._classes(metric), TASKS[self.task].scored_classes
        found = self._paired(metric, names)
        mean = found.pop(MEAN, None)
        if TASKS[self.task].headline == MEAN and not set(names) <= set(scored):
            mean = self._paired(metric, scored).get(MEAN)
        first = {MEAN: mean} if TASKS[self.task].headline == MEAN and mean else {}
        return first | {name: found[name] for name in names if name in found}

    def _paired(self, metric: str, names: Iterable[str]) -> dict[str, PairedDifference]:
        ours, others = (
            Metrics(row for row in metrics.rows if row.metric == metric and row.name in names)
            for metrics in self.metrics
        )
        found = paired_differences(ours, others, metric)
        if metric not in LOWER_IS_BETTER:
            return found  # higher is better
        return {name: replace(row, p_better=1 - row.p_better) for name, row in found.items()}

    def event_differences(self) -> dict[int, float]:
        """Return event to first - other of the first metric, mean over its classes in the event.

        Of metrics in `LOWER_IS_BETTER` the sign is turned: above zero the first network is better.
        """
        metric = next(iter(self.titles), "")
        names, sign = self._classes(metric), -1 if metric in LOWER_IS_BETTER else 1
        values: tuple[dict[tuple[int, str], float], ...] = ({}, {})
        for of_side, metrics in zip(values, self.metrics, strict=True):
            rows = (row for row in metrics.rows if row.metric == metric and row.name in names)
            of_side.update({(row.event, row.name): row.value for row in rows})
        shared: dict[int, list[float]] = {}
        for key in values[0].keys() & values[1].keys():
            shared.setdefault(key[0], []).append(sign * (values[0][key] - values[1][key]))
        return {event: sum(parts) / len(parts) for event, parts in sorted(shared.items())}

    def sentences(self) -> list[str]:
        """Return the comparison in words, the most important first."""
        head = self.headline
        if head is None:
            text = f"No difference on {self.events} events: all scores are equal."
        else:
            title = next(iter(self.titles.values())).partition(",")[0]
            text = f"{title}, {self.labels[0]}: "
            said = difference_text(head, self.labels[1])
            text += said if said[0].isdigit() else said[0].lower() + said[1:]
        return [text, *self._left_out(), *self.notes]

    def _left_out(self) -> list[str]:
        """Name the classes that the mean of the first metric leaves out."""
        metric = next(iter(self.titles), "")
        varying, scored = self._varying(metric), TASKS[self.task].scored_classes
        equal = [name for name in self._classes(metric) if name in scored and name not in varying]
        if not equal or TASKS[self.task].headline != MEAN:
            return []
        return [f"Means leave out {', '.join(equal)}: one value in all events."]

    def text(self, *, every: bool = False) -> str:
        """Return the comparison as text.

        Args:
            every: list each class of each metric; by default the classes of the objective, and
                the summary of each further metric.
        """
        lines = [wrapped(self.sentences()), "", f"A: {self.labels[0]}", f"B: {self.labels[1]}"]
        for number, (metric, title) in enumerate(self.titles.items()):
            rows = self.differences[metric]
            if number and not every:
                rows = {name: rows[name] for name in (TASKS[self.task].headline,) if name in rows}
            if rows:
                lines += ["", *self._table(metric, title, rows)]
        return "\n".join([*lines, *self._settings()])

    def _table(self, metric: str, title: str, rows: Mapping[str, PairedDifference]) -> list[str]:
        cells = [[title, "A", "B", "A - B", "error", "P(A better)", "events"]]
        for name, row in rows.items():
            values = [_number(self.mean(side, metric, name)) for side in (0, 1)]
            signed = [f"{row.difference:+.3f}", f"{row.error:.3f}", f"{row.p_better:.2f}"]
            cells.append([f"  {name}", *values, *signed, str(row.events)])
        return align_columns(cells, "<>", (32, 5), gap=1)

    def _settings(self) -> list[str]:
        if self.settings is None:
            return []
        if not self.settings:
            return ["", "No setting differs."]
        rows = [[key, *map(format_setting, values)] for key, values in self.settings.items()]
        return ["", *align_columns([["settings that differ", "A", "B"], *rows], "<<")]

    def content(self) -> dict[str, Any]:
        """Return the comparison for JSON."""
        names = ("a", "b")
        return {
            "verdict": self.sentences(),
            **dict(zip(names, self.labels, strict=True)),
            "task": self.task,
            "events": self.events,
            "means": dict(zip(names, self.means, strict=True)),
            "differences": {
                metric: {name: asdict(row) for name, row in rows.items()}
                for metric, rows in self.differences.items()
            },
            "settings": {key: list(values) for key, values in (self.settings or {}).items()},
            "objectives": dict(zip(names, self.objectives, strict=True)),
        }


def compare_sides(ours: Side, others: Side) -> Comparison:
    """Measure two networks on the same events of the test split.

    Raises:
        ValueError: for splits of different numbers of events.
    """
    predictions = [side.evaluation.predictions("test") for side in (ours, others)]
    count, other = map(len, predictions)
    if count != other:
        raise ValueError(f"{others.label}: {other} test events, {ours.label}: {count}; give --data")
    metrics = [
        measure(side.evaluation.task, pairs, side.thresholds)
        for side, pairs in zip((ours, others), predictions, strict=True)
    ]
    histories = [side.evaluation.state.history for side in (ours, others)]
    curves = [{int(row["step"]): row["objective"] for row in rows} for rows in histories]
    return Comparison(
        task=ours.evaluation.task.name,
        objective=ours.evaluation.task.metric,
        labels=_labels(ours, others),
        events=count,
        metrics=(metrics[0], metrics[1]),
        settings=differing(ours.settings, others.settings),
        objectives=(curves[0], curves[1]),
        notes=tuple(_notes(ours, others)),
    )


def compare_predictions(ours: Path, others: Path) -> Comparison:
    """Compare two predictions by the tables beside them, on the events that both have.

    Raises:
        ValueError: for predictions without tables, of two tasks, or of no common event.
    """
    (task, metrics), (other, theirs) = (read_metrics(path) for path in (ours, others))
    if task != other:
        raise ValueError(f"{others}: predictions of the task {other}, {ours}: {task}")
    scored = [{row.event for row in table.rows} for table in (metrics, theirs)]
    events = scored[0] & scored[1]
    if not events:
        raise ValueError(
            f"{others}: no event has a score here and in {ours}; predict the same events, with "
            "their true clusters"
        )
    metrics, theirs = (
        Metrics(row for row in table.rows if row.event in events) for table in (metrics, theirs)
    )
    energies = [_true_energies(read_clusters(path)) for path in (ours, others)]
    differ = [
        event
        for event in energies[0].keys() & energies[1].keys()
        if abs(energies[0][event] / energies[1][event] - 1) > 0.01
    ]
    notes = _notes_on_events(scored, len(events), len(differ))
    objective = str(TASKS[task].model_fields["metric"].default)
    names = (ours.name, others.name if others.name != ours.name else str(others))
    tables = (metrics, theirs)
    more: dict[str, Any] = {"notes": notes, "source": "both predictions"}
    return Comparison(task, objective, names, len(events), tables, None, **more)


def _notes_on_events(
    scored: Sequence[Collection[int]], shared: int, differ: int
) -> tuple[str, ...]:
    """Name the events that a comparison of two predictions leaves out, or that are not the same."""
    ours, others = map(len, scored)
    notes = []
    if max(ours, others) > shared:
        notes.append(
            f"Compared are the {shared} events with a score in both: A has {ours}, B {others}."
        )
    if differ:
        notes.append(
            f"The true clusters of {differ} events differ: compare predictions of one file."
        )
    return tuple(notes)


def _true_energies(clusters: Columns) -> dict[int, float]:
    """Return event to the energy of its true clusters, MeV, where it is above 0."""
    events, index = np.unique(clusters["event"], return_inverse=True)
    own = np.where(clusters["predicted"], 0, clusters["energy"].astype(float))
    sums = np.bincount(index, own, minlength=len(events))
    return {int(event): float(value) for event, value in zip(events, sums, strict=True) if value}


def differing(
    ours: Mapping[str, object], others: Mapping[str, object]
) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ; of one that only one has, the other value is None.

    Example:
        >>> differing({"seed": 0, "network.depth": 5}, {"seed": 1, "network.depth": 5})
        {'seed': (0, 1)}
    """
    paths = dict.fromkeys([*ours, *others])
    return {
        path: (ours.get(path), others.get(path))
        for path in paths
        if ours.get(path) != others.get(path) and not path.startswith(IGNORED)
    }


def _event_means(task: str, metrics: Metrics) -> Means:
    """Return the metrics whose summary is the mean of their rows."""
    if not metrics.rows:
        return {}
    means, summary = metrics.means(), TASKS[task].model_validate({}).summary(metrics)
    return {
        name: {
            metric: value for metric, value in values.items() if summary[name].get(metric) == value
        }
        for name, values in means.items()
        if name in summary
    }


def _labels(ours: Side, others: Side) -> tuple[str, str]:
    """Return two labels that differ."""
    same = ours.label == others.label
    return (ours.label, f"{others.label} (B)" if same else others.label)


def _notes(ours: Side, others: Side) -> list[str]:
    sizes = [side.evaluation.task.smallest_cluster for side in (ours, others)]
    if sizes[0] == sizes[1]:
        return []
    return [
        f"A scores true clusters from {sizes[0]} voxels, B from {sizes[1]}: this changes the "
        "scores, too."
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def format_setting(value: Any) -> str:
    """Return a value of a setting as a short text; '-' for None."""
    text = "-" if value is None else format_value(value) if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else f"{text[:21]}..."
