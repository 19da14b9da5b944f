"""What a study looks like at its end."""

from lartpc_ray.report import compared, study_text
from lartpc_ray.tracking import TrialRun


def trial(number: int, engine: str, box: int, *costs: float, error: str = "") -> TrialRun:
    names = ("training_gib", "seconds_a_step", "inference_gib", "seconds_an_event")
    return TrialRun(
        id=f"run{number}",
        number=number,
        parameters={"network.engine": engine, "data.splits.box": str(box), "seed": "0"},
        numbers=dict(zip(names, costs, strict=False)) | {"goal": 0.5},
        status="FAILED" if error else "FINISHED",
        error=error,
    )


def test_a_comparison_shows_the_factors_beside_the_published_ones() -> None:
    trials = [
        trial(0, "dense", 64, 1.0, 0.5, 0.25, 0.1),
        trial(1, "native", 64, 0.25, 0.05, 0.125, 0.04),
        trial(2, "dense", 192, error="MemoryError: engine 'dense': needs 30 GiB"),
        trial(3, "native", 192, 0.5, 0.1, 0.2, 0.08),
    ]
    lines = study_text("dense_vs_sparse", compared(trials)).splitlines()
    shown = [line.split() for line in lines]
    assert ["64", "dense", "/", "native", "4", "10", "2", "2.5"] in shown
    assert ["192", "native", "0.5", "0.1", "0.2", "0.08"] in shown
    assert any(line.endswith("dense  MemoryError: engine 'dense': needs 30 GiB") for line in lines)
    assert ["192", "dense", "/", "native", "-", "-", "-", "-"] in shown
    published = next(line for line in lines if "2020, 3D" in line)
    assert published.split()[-4:] == ["-", "-", "364", "33"]
    widths = {len(line) for line in lines if " native " in line and "MemoryError" not in line}
    assert len(widths) == 1, "columns stand below each other"


def test_a_search_that_has_just_begun_has_nothing_to_compare() -> None:
    text = study_text("dense_vs_sparse", compared([trial(0, "dense", 64), trial(1, "dense", 96)]))
    assert "published" not in text


def test_a_study_without_a_comparison_is_a_list_of_its_trials() -> None:
    text = study_text("clustering", compared([trial(0, "native", 64), trial(1, "native", 96)]))
    assert "2 trials, best first" in text
    assert "published" not in text
