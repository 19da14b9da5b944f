"""The published rows of the tables are the sources' own numbers."""

import pytest

from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.report.published import published
from lartpc_ray.report.tables import layout, table


def rows(task: str) -> dict[str, dict[str, dict[str, float]]]:
    return {row["row"]: row["means"] for row in layout(task)["published"]}


def test_clustering_shows_table_three_of_koh_et_al() -> None:
    (means,) = rows("clustering").values()
    assert {name: values["ari"] for name, values in means.items()} == {
        "HIP": 0.9743,
        "MIP": 0.9612,
        "SHOWER": 0.8408,
        "DELTA": 0.9567,
        "MICHEL": 0.9746,
    }
    assert means["MICHEL"]["efficiency"] == 0.9941


def test_clustering_shows_table_two_beside_its_thresholds() -> None:
    result = EvaluationResult(
        task="clustering",
        thresholds={"HIP": {"s0": 0.75, "p0": 0.1}},
        tune_scores={},
        means={"this network, tuned thresholds": {"HIP": {"ari": 0.5}}},
        events={"tune": 4, "test": 6},
    )
    text = table(result)
    ours, theirs = text.split("thresholds, tuned on 4 other events")[1].split("Table II *")
    assert [line.split()[:2] for line in ours.splitlines()[1:3]] == [["s0", "0.75"], ["p0", "0.1"]]
    assert theirs.splitlines()[1].split() == ["s0", "0.65", "0.5", "0.25", "0.85", "0"]
    assert theirs.splitlines()[2].split() == ["p0", "0.29", "0.087", "0.036", "0.27", "0.087"]


def test_michel_electrons_have_a_row_with_and_one_without_the_cut_on_voxels() -> None:
    (means,) = rows("michel").values()
    assert (means["MICHEL"]["id_purity"], means["MICHEL"]["electrons"]) == (0.973, 6961)
    assert (means["ALL"]["id_purity"], means["ALL"]["electrons"]) == (0.967, 6998)


def test_segmentation_shows_tables_three_to_five() -> None:
    found = rows("segmentation")
    michel = [means["MICHEL"]["accuracy"] for means in found.values() if "MICHEL" in means]
    four = [0.365, 0.426, 0.439, 0.626, 0.700, 0.704]
    assert michel == [0.566, 0.944, 0.947, 0.957, *four]
    three = [row["ALL"]["accuracy"] for row in found.values() if set(row) == {"ALL"}]
    assert three == [
        *(0.9874, 0.9900, 0.9907),
        *(0.9886, 0.9907, 0.9906),
        *(0.9894, 0.9916, 0.9923),
    ]


def test_an_unknown_table_is_an_error() -> None:
    assert published("koh2020.table_II.HIP") == {"s0": 0.65, "p0": 0.29}
    with pytest.raises(KeyError):
        published("koh2020.table_IX")
