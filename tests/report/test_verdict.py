"""The verdict in words, and its summary table."""

import json
import re
from pathlib import Path

import pytest
import yaml

from lartpc_ray.metrics.paired import PairedDifference
from lartpc_ray.predict.evaluate import Differences, EvaluationResult
from lartpc_ray.report.sides import changed_since
from lartpc_ray.report.summary import summary_text
from lartpc_ray.report.verdict import (
    MIN_EVENTS,
    result_content,
    short_answer,
    verdict,
    wrapped,
)
from lartpc_ray.tasks.task import Means
from lartpc_ray.tracking.runs import Tracking

LINKED, SEEDS = "this network, linked voxels", "this network, seeds"
UNTRAINED, DBSCAN = "untrained network, seeds", "DBSCAN (eps 2.8, min 1)"


def means(hip: float, mip: float) -> Means:
    return {"HIP": {"ari": hip, "ari_several": hip}, "MIP": {"ari": mip, "ari_several": mip}}


def compared(hip: PairedDifference, mean: PairedDifference) -> Differences:
    return {"HIP": hip, "MIP": PairedDifference(0.01, 0.02, 0.7, 50), "mean": mean}


def result(dbscan: float = 0.5, sigma: float = 0.02, first: str = LINKED) -> EvaluationResult:
    """Return a result in which `first` is in use; it beats DBSCAN by 0.1 ± sigma."""
    rows = {LINKED: means(0.8, 0.9), SEEDS: means(0.7, 0.9)}
    rows = {first: rows.pop(first)} | rows
    rows |= {UNTRAINED: means(0.3, 0.5), DBSCAN: means(dbscan, 0.9)}
    gain = PairedDifference.of(0.1, sigma, 60)
    untrained = PairedDifference.of(0.4, 0.02, 60)
    loss = PairedDifference.of(-0.05, 0.01, 40)
    return EvaluationResult(
        task="clustering",
        thresholds={},
        tune_scores={},
        means=rows,
        events={"tune": 40, "test": 60},
        errors={LINKED: {"HIP": {"ari": 0.03}, "mean": {"ari": 0.02}}},
        held_out={"seeds": 0.75, "linked voxels": 0.85},
        differences={
            "ari": {
                DBSCAN: compared(PairedDifference.of(0.3, 0.05, 50), gain),
                UNTRAINED: compared(untrained, untrained),
                SEEDS: compared(gain, gain),
            },
            "ari_several": {DBSCAN: compared(loss, loss)},
        },
    )


def test_the_sentences_give_the_best_method_its_gains_and_the_method_in_use() -> None:
    best, dbscan, untrained, several, used = verdict(result())
    assert best == (
        "Best on 60 test events: this network with linked voxels, mean ARI 0.850 ± 0.020."
    )
    assert dbscan == (
        "Better than DBSCAN (eps 2.8, min 1) by 0.100 ± 0.020 (P(better) > 0.99). By class: better "
        "in HIP +0.300 ± 0.050."
    )
    assert untrained.startswith("Better than the untrained network with seeds by 0.400 ± 0.020")
    assert several.endswith(
        "worse than DBSCAN (eps 2.8, min 1) by 0.050 ± 0.010 (P(better) < 0.01)."
    )
    assert used.startswith(
        "predict uses linked voxels, of highest held-out score on the 40 tune events"
    )
    assert "On the test events: better than seeds by 0.100" in used


def test_the_test_events_are_named_once_for_all_other_reconstructions() -> None:
    found = result()
    gain = found.differences["ari"][SEEDS]
    found.means["this network, joined pieces"] = means(0.7, 0.8)
    found.differences["ari"]["this network, joined pieces"] = gain
    assert verdict(found)[-1].partition("On the test events: ")[2] == (
        "better than seeds by 0.100 ± 0.020 (P(better) > 0.99). Better than joined pieces by "
        "0.100 ± 0.020 (P(better) > 0.99). --method chooses another."
    )


def test_events_too_few_to_compare_say_nothing_of_a_class() -> None:
    found = result()
    few = PairedDifference(0.1, 0.01, 0.99, MIN_EVENTS - 1)
    found.differences["ari"][DBSCAN] = {"HIP": few, "mean": few}
    assert verdict(found)[1] == "9 events are too few to compare it with DBSCAN (eps 2.8, min 1)."


def test_the_short_answer_is_the_comparison_with_the_method_without_training() -> None:
    assert short_answer(result()) == "Better than DBSCAN by 0.100 ± 0.020 (P(better) > 0.99)."
    assert len(short_answer(result(sigma=0.1))) < 95
    (alone := result()).differences.clear()
    assert short_answer(alone) == verdict(alone)[0]


def test_a_baseline_that_wins_is_named_first() -> None:
    assert verdict(result(dbscan=0.95))[0] == (
        "Best on 60 test events: DBSCAN (eps 2.8, min 1), mean ARI 0.925. In use: this network "
        "with linked voxels, 0.850 ± 0.020."
    )


def test_too_few_events_are_named_with_their_number() -> None:
    text = verdict(result(sigma=0.1))[1]
    assert text.startswith("60 events cannot tell it from DBSCAN (eps 2.8, min 1): +0.100 ± 0.100")
    assert "about 240 would" in text


def test_a_reconstruction_that_the_settings_name_is_kept() -> None:
    assert "predict uses seeds, as the settings name it" in verdict(result(first=SEEDS))[-1]


def test_the_summary_marks_the_best_of_each_column_and_the_best_row() -> None:
    lines = summary_text(result(), ("<", ">")).splitlines()
    assert lines[1].split() == ["mean", "HIP", "MIP", "SHOWER", "DELTA", "MICHEL"]
    assert lines[2].startswith("<linked voxels *.850±.020 *.800±.030 *.900")
    assert [line for line in lines[:6] if line.startswith("<")] == [lines[2]]
    assert lines[5].split()[:3] == ["DBSCAN", ".700", ".500"]
    assert max(len(re.sub("[<>]", "", line)) for line in lines) <= 80


def test_the_summary_of_long_numbers_fits_a_terminal() -> None:
    names = ("HIP", "MIP", "SHOWER", "DELTA", "MICHEL")
    rows = {name: {"ari": 0.9 + place / 100} for place, name in enumerate(names)}
    errors = {LINKED: {name: {"ari": 0.012} for name in (*names, "mean")}}
    many = EvaluationResult(
        "clustering", {}, {}, {LINKED: rows, DBSCAN: rows}, {"tune": 1, "test": 1}, errors=errors
    )
    assert max(map(len, summary_text(many).splitlines())) <= 80


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_a_result_comes_back_from_json(sigma: float) -> None:
    content = json.loads(json.dumps(result_content(result(sigma=sigma))))
    assert next(iter(content)) == "verdict"
    assert EvaluationResult.read(content) == result(sigma=sigma)
    assert max(map(len, wrapped(content["verdict"]).splitlines())) <= 80


def test_thresholds_that_were_kept_since_are_named(tmp_path: Path) -> None:
    """The numbers of a result stay those of the first thresholds after `thresholds --keep`."""
    found = result()
    found.thresholds.clear()
    found.thresholds["MIP"] = {"s0": 0.8, "p0": 0.1}
    tracking = Tracking(tmp_path, None)
    assert changed_since(tracking, str(tmp_path), found) == "", "no thresholds in the folder"
    for p0, changed in ((0.1, False), (0.3, True)):
        content = {"method": "linked", "classes": {"MIP": {"s0": 0.8, "p0": p0}, "HIP": {"s0": 1}}}
        (tmp_path / "thresholds-linked.yaml").write_text(yaml.safe_dump(content))
        said = changed_since(tracking, str(tmp_path), found)
        assert said.startswith("All numbers are of the thresholds that were tuned first") == changed
        assert bool(said) == changed


@pytest.mark.parametrize(
    ("task", "first", "file", "axis"),
    [
        ("clustering", "this network, DBSCAN, tuned", "dbscan", "eps"),
        ("infill", "this network", "infill", "p0"),
        ("michel", "this network", "michel", "attach"),
    ],
)
def test_thresholds_of_every_task_and_method_that_were_kept_since_are_named(
    tmp_path: Path, task: str, first: str, file: str, axis: str
) -> None:
    found = EvaluationResult(task, {"MIP": {axis: 0.5}}, {}, {first: {}}, {"tune": 1, "test": 1})
    for value in (0.5, 0.25):
        content = {"method": file, "classes": {"MIP": {axis: value}}}
        (tmp_path / f"thresholds-{file}.yaml").write_text(yaml.safe_dump(content))
        said = changed_since(Tracking(tmp_path, None), str(tmp_path), found)
        assert bool(said) == (value == 0.25)
