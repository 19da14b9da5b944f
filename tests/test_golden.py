"""The kept networks, with their kept thresholds, give the numbers that they gave before.

`python tests/test_golden.py` measures the first events of the packaged sample and writes
tests/files/golden anew. The numbers of the 399 events of docs/results.md are in
models/*/verdict.json; LARTPC_DATA names the folder with these events.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lartpc_ray.predict.evaluate import EvaluationResult, measure
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.tasks.task import Means, Task, Thresholds
from lartpc_ray.trials import checkpoint as checkpoints

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "files" / "golden"
DATA = Path(os.environ.get("LARTPC_DATA", ROOT.parent / "shared" / "data"))
MODELS = ("clustering", "segmentation", "infill")
EVENTS = 60
"""Test events of the sample that are measured, the first ones."""
TOLERANCE = 1e-3


def kept(model: str) -> EvaluationResult:
    return EvaluationResult.read(json.loads((ROOT / "models" / model / "verdict.json").read_text()))


def measured(model: str, data: str, most: int | None = None) -> dict[str, Means]:
    """Measure a kept network on the test split of `data`: method to class to metric to mean.

    Args:
        model: its folder in models/.
        data: folder of the splits, or `sample`.
        most: number of events, the first ones; all by default.
    """
    result, state = kept(model), checkpoints.load(ROOT / "models" / model)
    content = state.trial.model_dump()
    content["data"]["splits"]["most_events"] = most
    evaluation = Evaluation(replace(state, trial=type(state.trial).model_validate(content)), data)
    task, predictions = evaluation.task, evaluation.predictions("test")
    methods: dict[str, tuple[Task, Thresholds]] = {
        next(iter(result.means)): (task, result.thresholds)
    }
    for name, other in task.alternatives().items():
        methods[f"this network, {name}"] = (other, result.alternatives[name])
    return {
        method: reader.summary(measure(reader, predictions, thresholds))
        for method, (reader, thresholds) in methods.items()
    }


def moved(found: dict[str, Means], wanted: dict[str, Means]) -> list[str]:
    """List the numbers of `found` that are not in `wanted`, or differ by more than TOLERANCE."""
    return [
        f"{method}, {name}, {metric}: {value}, was {before}"
        for method, means in found.items()
        for name, values in means.items()
        for metric, value in values.items()
        if abs(value - (before := wanted[method].get(name, {}).get(metric, float("inf"))))
        > TOLERANCE
    ]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_the_sample_gives_the_numbers_that_it_gave(model: str) -> None:
    found, wanted = (
        measured(model, "sample", EVENTS),
        json.loads((GOLDEN / f"{model}.json").read_text()),
    )
    assert found.keys() == wanted.keys()
    assert moved(found, wanted) == []
    assert moved(wanted, found) == []


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "test.h5.xz").is_file(), reason=f"{DATA}: no test.h5.xz")
@pytest.mark.parametrize("model", MODELS)
def test_the_399_events_give_the_numbers_of_the_kept_verdict(model: str) -> None:
    assert moved(measured(model, str(DATA)), kept(model).means) == []


def test_a_number_that_moves_is_listed() -> None:
    before: dict[str, Means] = {"this network": {"HIP": {"ari": 0.5, "sbd": 0.25}}}
    after: dict[str, Means] = {"this network": {"HIP": {"ari": 0.502, "sbd": 0.2505}}}
    assert moved(after, before) == ["this network, HIP, ari: 0.502, was 0.5"]


if __name__ == "__main__":
    for name in sys.argv[1:] or MODELS:
        GOLDEN.mkdir(parents=True, exist_ok=True)
        text = json.dumps(measured(name, "sample", EVENTS), indent=1)
        (GOLDEN / f"{name}.json").write_text(f"{text}\n")
