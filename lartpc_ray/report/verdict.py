"""The verdict on a network, in sentences: the best method, and by how much it is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from textwrap import fill
from typing import Any

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.metrics.paired import PairedDifference, events_needed
from lartpc_ray.metrics.table import MEAN
from lartpc_ray.predict.evaluate import (
    THIS,
    UNTRAINED,
    Differences,
    EvaluationResult,
    short_method,
)
from lartpc_ray.report.summary import compared_methods, headline, result_metric, summary_text
from lartpc_ray.report.tables import layout, metric_name
from lartpc_ray.tasks import TASKS

SIGMAS = 2.0
"""A difference below as many errors is not known by its sign."""

MIN_EVENTS = 10
"""Fewer events do not give the error of a difference."""


def verdict(result: EvaluationResult) -> list[str]:
    """Return the sentences, the most important first.

    Args:
        result: of an earlier version: only the best method is known.
    """
    metric = result_metric(result)
    sentences = [_best(result, metric)]
    methods = compared_methods(result)[1:]
    others = [method for method in methods if not method.startswith(THIS)]
    compared = result.differences.get(metric, {})
    known = [method for method in others[::-1] if compared.get(method)]
    sentences += [_compared(result, method, compared[method]) for method in known]
    sentences += _further(result, metric, others)
    own = [method for method in methods if method.startswith(THIS) and compared.get(method)]
    return [*sentences, *_in_use(result, {method: compared[method] for method in own})]


def short_answer(result: EvaluationResult) -> str:
    """Return the comparison with the method without training as a short line, else the best method.

    MLflow shows a line of about 130 characters above the runs.
    """
    metric = result_metric(result)
    compared, head = result.differences.get(metric, {}), TASKS[result.task].headline
    for method in compared_methods(result)[:0:-1]:
        found = compared.get(method, {}).get(head)
        if found and not method.startswith((THIS, UNTRAINED)):
            return difference_text(found, _words(method).partition(" (")[0])
    return _best(result, metric)


def result_text(result: EvaluationResult, bold: tuple[str, str] = ("", "")) -> str:
    """Return the verdict and the summary as text.

    Args:
        result: of a network.
        bold: texts before and after the best row, as a terminal needs them.
    """
    return f"{wrapped(verdict(result))}\n\n{summary_text(result, bold)}"


def result_content(result: EvaluationResult) -> dict[str, Any]:
    """Return the result for JSON, the verdict first."""
    return {"verdict": verdict(result), **asdict(result)}


def wrapped(sentences: Sequence[str]) -> str:
    """Return sentences on lines of at most 80 characters."""
    return "\n".join(fill(text, 80, subsequent_indent="  ") for text in sentences)


def _best(result: EvaluationResult, metric: str) -> str:
    """Name the method of highest headline score, and the method in use where it is another."""
    scores = {
        method: score
        for method in compared_methods(result)
        if (score := headline(result, method)) is not None
    }
    first, count = next(iter(result.means)), result.events["test"]
    if not scores:
        return f"None of the {count} test events has anything to score."
    best = max(scores, key=scores.__getitem__)
    name = metric_name(result.task, metric)
    mean = "mean " * (TASKS[result.task].headline == MEAN)
    text = (
        f"Best on {count} test events: {_words(best)}, {mean}{name} {_value(result, best, metric)}."
    )
    if best != first and first in scores:
        text += f" In use: {_words(first)}, {_value(result, first, metric)}."
    return text


def _value(result: EvaluationResult, method: str, metric: str) -> str:
    error = result.errors.get(method, {}).get(TASKS[result.task].headline, {}).get(metric)
    return f"{headline(result, method):.3f}" + (f" ± {error:.3f}" if error is not None else "")


def _words(method: str) -> str:
    """Return a method in words.

    Example:
        >>> _words("this network, seeds"), _words("untrained network, linked voxels")
        ('this network with seeds', 'the untrained network with linked voxels')
    """
    text = method.replace(", ", " with ", 1) if method.startswith((THIS, UNTRAINED)) else method
    return f"the {text}" if text[0].islower() and not text.startswith(THIS) else text


def _compared(result: EvaluationResult, method: str, differences: Differences) -> str:
    """State the difference of the method in use to another one, and the classes that decide it."""
    head = differences.get(TASKS[result.task].headline)
    if head is None:
        return f"{_words(method)}: the same in every event."
    classes = {name: differences[name] for name in CLASS_NAMES if name in differences}
    varying = [name for name, row in classes.items() if row.difference or row.error]
    part = TASKS[result.task].headline == MEAN and len(varying) < len(classes)
    text = difference_text(head, _words(method), ", ".join(varying) if part else "")
    if head.events < MIN_EVENTS:
        return text
    better, worse = (
        [
            f"{name} {of_class.difference:+.3f} ± {of_class.error:.3f}"
            for name, of_class in classes.items()
            if sign * of_class.difference > SIGMAS * of_class.error
        ]
        for sign in (1, -1)
    )
    parts = [f"better in {', '.join(better)}"] * bool(better)
    parts += [f"worse in {', '.join(worse)}"] * bool(worse)
    return f"{text} By class: {'; '.join(parts)}." if parts else text


def difference_text(head: PairedDifference, other: str, classes: str = "") -> str:
    """Return a paired difference as a sentence, and how many events would tell where these do not.

    Args:
        head: the difference.
        other: what the network is compared with.
        classes: of the mean, where it leaves some out.

    Example:
        >>> difference_text(PairedDifference(0.1, 0.02, 0.9999, 60), "DBSCAN")
        'Better than DBSCAN by 0.100 ± 0.020 (P(better) > 0.99).'
        >>> difference_text(PairedDifference(-0.02, 0.02, 0.16, 60), "DBSCAN")
        '60 events cannot tell it from DBSCAN: -0.020 ± 0.020 (P(better) 0.16); about 240 would.'
        >>> difference_text(PairedDifference(0.1, 0.02, 0.9999, 60), "DBSCAN", "HIP, MIP")
        'Better than DBSCAN by 0.100 ± 0.020 (P(better) > 0.99), mean over HIP, MIP.'
        >>> difference_text(PairedDifference(0.039, 0.02, 0.97, 60), "DBSCAN")
        '60 events cannot tell it from DBSCAN: +0.039 ± 0.020 (P(better) 0.97).'
    """
    if head.events < MIN_EVENTS:
        return f"{head.events} events are too few to compare it with {other}."
    known = abs(head.difference) > SIGMAS * head.error
    chance = f"{head.p_better:.2f}"
    chance = "> 0.99" if head.p_better > 0.995 else "< 0.01" if head.p_better < 0.005 else chance
    over = f", mean over {classes}" if classes else ""
    if known:
        word = "Better" if head.difference > 0 else "Worse"
        size = f"{abs(head.difference):.3f} ± {head.error:.3f}"
        return f"{word} than {other} by {size} (P(better) {chance}){over}."
    text = f"{head.events} events cannot tell it from {other}: "
    text += f"{head.difference:+.3f} ± {head.error:.3f} (P(better) {chance}){over}"
    if abs(head.difference) <= head.error / 10:
        return text + "; they are as good as equal."
    enough = events_needed(head.events, (SIGMAS * head.error / head.difference) ** 2)
    return f"{text}; about {enough:,} would." if enough else f"{text}."


def _further(result: EvaluationResult, metric: str, others: list[str]) -> list[str]:
    """Compare by the further metrics with the method without training."""
    titles = layout(result.task)["tables"][0]["metrics"]
    sentences = []
    for name, compared in result.differences.items():
        if name == metric or name not in titles:
            continue
        for method in others:
            head = compared.get(method, {}).get(TASKS[result.task].headline)
            if head and not method.startswith(UNTRAINED):
                text = difference_text(head, _words(method))
                sentences.append(f"{titles[name]}: {text[:1].lower()}{text[1:]}")
    return sentences


def _in_use(result: EvaluationResult, own: dict[str, Differences]) -> list[str]:
    """Name the reconstruction that `predict` uses, and compare it with the others."""
    if len(result.held_out) < 2:
        return []
    first = short_method(next(iter(result.means)))
    scores = ", ".join(f"{label} {score:.3f}" for label, score in result.held_out.items())
    best = max(result.held_out, key=result.held_out.__getitem__)
    why = "of highest held-out score" if first == best else "as the settings name it"
    text = f"predict uses {first}, {why} on the {result.events['tune']} tune events ({scores})."
    further = [
        difference_text(head, short_method(method))
        for method, rows in own.items()
        if (head := rows.get(TASKS[result.task].headline))
    ]
    if further:
        text += f" On the test events: {further[0][:1].lower()}{' '.join(further)[1:]}"
    return [f"{text} --method chooses another."]
