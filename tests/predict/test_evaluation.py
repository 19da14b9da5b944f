"""The outputs of a network on a split: in their order, once, wherever they are read first."""

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_event

from lartpc_ray.data.event import Event
from lartpc_ray.data.splits import Split
from lartpc_ray.predict import evaluation
from lartpc_ray.predict.evaluation import Evaluation, Predictions
from lartpc_ray.predict.inference import predict
from lartpc_ray.predict.job import Networks, Work
from lartpc_ray.predict.service import InferenceService
from lartpc_ray.predict.thresholds_file import read_thresholds, read_thresholds_file
from lartpc_ray.reconstruct.reconstructions import LINKED_AXES, LinkedClustering, SeedClustering
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.paths import present_path
from lartpc_ray.trials.trial import Trial

ROOT = Path(__file__).parents[2]
SMALL = {"depth": 2, "filters": 4, "blocks": 1}


@pytest.mark.parametrize("memory", [evaluation.MEMORY, 1])
def test_predictions_are_those_of_predict_in_any_order(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    """In memory and in a file."""
    monkeypatch.setattr(evaluation, "MEMORY", memory)
    task = ClusteringTask()
    network = Trial.model_validate({"task": task, "network": SMALL}).make_network()
    events = [make_event(rng) for _ in range(4)]
    wanted = list(predict(network, task, events))
    predictions = Predictions(predict(network, task, events), len(events))
    backwards = [predictions[number] for number in (2, 0, -1, 1)]
    for number, (event, outputs) in zip((2, 0, 3, 1), backwards, strict=True):
        np.testing.assert_array_equal(event.coords, wanted[number][0].coords)
        np.testing.assert_array_equal(outputs["position"], wanted[number][1]["position"])
    assert len(list(predictions)) == len(predictions[:]) == 4
    with pytest.raises(IndexError):
        predictions[4]


def test_reading_the_first_event_does_not_read_the_last(rng: np.random.Generator) -> None:
    task = ClusteringTask()
    network = Trial.model_validate({"task": task, "network": SMALL}).make_network()
    big = [make_event(rng, voxels=12_000, side=32) for _ in range(9)]
    seen: list[int] = []

    class Recorded(list[Event]):
        def __iter__(self) -> Iterator[Event]:
            for number, event in enumerate(super().__iter__()):
                seen.append(number)
                yield event

    predictions = Predictions(predict(network, task, Recorded(big)), len(big))
    predictions[0]
    assert len(seen) < 6, "a thread prepares a few batches ahead, not the whole split"


def test_only_tasks_know_which_task_they_are() -> None:
    """What one task alone knows is its method, never a type test elsewhere."""
    package = ROOT / "lartpc_ray"
    names = r"(Any|Clustering|Segmentation|Michel|Infill|Threshold)?Task\b"
    for path in package.rglob("*.py"):
        if path.parent.name != "tasks":
            assert not re.search(rf"isinstance\([^)]*\b{names}", path.read_text()), path


def test_a_thresholds_file_of_an_earlier_version_is_the_present_one() -> None:
    earlier = ROOT / "tests" / "files" / "earlier" / "thresholds-linked.yaml"
    present = ROOT / "tests" / "files" / "earlier" / "thresholds-linked-present.yaml"
    assert "reach:" in earlier.read_text()
    assert "reach:" not in present.read_text()
    assert read_thresholds_file(earlier) == read_thresholds_file(present)
    assert list(read_thresholds(earlier, LinkedClustering())["MIP"]) == list(LINKED_AXES)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("method: linked", "thresholds of the reconstruction linked, not of seeds; give --method"),
        (
            "method: seeds\ncluster_rule: first_come",
            "thresholds for the clustering rule first_come; this run clusters by argmax",
        ),
    ],
)
def test_thresholds_of_another_reconstruction_or_rule_are_refused(
    tmp_path: Path, named: str, message: str
) -> None:
    path = tmp_path / "at.yaml"
    path.write_text(f"{named}\nclasses: {{MIP: {{s0: 0.8, p0: 0.05}}}}\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        read_thresholds(path, SeedClustering())
    path.write_text("classes: {MIP: {s0: 0.8, p0: 0.05}}\n")
    assert read_thresholds(path, SeedClustering(rule="counted")) == {"MIP": {"s0": 0.8, "p0": 0.05}}


def test_a_checkpoint_of_an_earlier_version_has_the_smallest_scored_cluster() -> None:
    state = checkpoints.load(ROOT / "models" / "clustering")
    assert isinstance(state.trial.task, ClusteringTask)
    assert state.trial.task.min_voxels == 10
    text = state.trial.model_dump_json()
    assert text.count('"min_voxels"') == 1
    earlier = text.replace('"min_voxels":10,', "").replace('"cut":{', '"seeds":{')
    for group, value in (("linked", 5), ("seeds", 3)):
        earlier = earlier.replace(f'"{group}":{{', f'"{group}":{{"min_voxels":{value},')
    task = Trial.model_validate_json(earlier).task
    assert isinstance(task, ClusteringTask)
    assert task.min_voxels == 3, "the setting of the seeds held for all methods"


@pytest.mark.parametrize(
    ("path", "task"),
    [
        *((f"task.{group}.min_voxels", "clustering") for group in ("cut", "linked", "dbscan")),
        ("task.cut.min_voxels", "michel"),
    ],
)
def test_a_space_of_an_earlier_version_sets_the_smallest_scored_cluster(
    path: str, task: str
) -> None:
    assert present_path(path, task) == "task.min_voxels"


def test_the_workers_of_predictions_end_with_the_last_prediction() -> None:
    """A second network waited for ever for the cores that the workers of the first one held."""
    ended = []

    def source() -> Iterator[Any]:
        yield from ("first", "second")
        ended.append(True)

    predictions: Any = Predictions(source(), 2)
    assert [predictions[1], predictions[0]] == ["second", "first"]
    assert ended


def test_where_ray_runs_all_predictions_are_computed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed = []

    def source() -> Iterator[Any]:
        for number in range(3):
            computed.append(number)
            yield number

    Predictions(source(), 3).compute()
    assert not computed, "without Ray each one is computed when it is first read"
    monkeypatch.setattr(evaluation, "cluster_resources", lambda: {"CPU": 2.0})
    predictions: Any = Predictions(source(), 3)
    predictions.compute()
    assert computed == [0, 1, 2]
    assert predictions[2] == 2
    assert computed == [0, 1, 2]


def _note(word: str, number: int, event: int, outputs: str) -> str:
    return f"{word} {number} {event} {outputs}"


def test_results_are_the_same_by_tasks_and_here(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = []

    def run_here(function: Any, calls: Iterator[tuple[Any, ...]]) -> Iterator[Any]:
        for call in calls:
            tasks.append(list(call[1]))
            own_function, own_call = pickle.loads(pickle.dumps((function, call)))
            yield own_function(*own_call)

    def results() -> list[str]:
        source: Any = ((10 * n, "out") for n in range(21))
        predictions = Predictions(source, 21)
        found: list[str] = predictions.results(Work(_note, ("event",)))
        return found

    monkeypatch.setattr("lartpc_ray.runtime.ray_tasks.run_in_order", run_here)
    here = results()
    assert here[20] == "event 20 200 out"
    monkeypatch.setattr(evaluation, "cluster_resources", lambda: {"CPU": 2.0})
    assert results() == here
    assert not tasks, "so little work is not worth a task"
    monkeypatch.setattr(evaluation, "SOON", -1.0)
    assert results() == here
    assert [len(numbers) for numbers in tasks] == [8, 8, 5]


def test_a_slow_network_is_no_reason_for_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def source() -> Iterator[Any]:
        for number in range(40):
            clock[0] += 10.0
            yield number, "out"

    monkeypatch.setattr(evaluation, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr("lartpc_ray.predict.evaluation.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("lartpc_ray.runtime.ray_tasks.run_in_order", None)
    predictions: Any = Predictions(source(), 40)
    assert len(predictions.results(Work(_note, ("event",)))) == 40


def test_a_pass_over_a_split_shows_its_progress_where_ray_runs(
    few_events: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lartpc_ray")
    monkeypatch.setattr("lartpc_ray.terminal.screen.FIRST", 0.0)
    trial = Trial.model_validate({"network": SMALL}).with_events(str(few_events))
    state = checkpoints.Checkpoint(trial, 0, trial.make_network().state_dict(), {}, [])
    Evaluation(state).predictions("tune").compute()
    for module in ("evaluation", "service", "placement"):
        name = f"lartpc_ray.predict.{module}.cluster_resources"
        monkeypatch.setattr(name, lambda: {"CPU": 2.0})
    Evaluation(state).predictions("tune").compute()
    assert caplog.messages == ["network: tune event: 3 of 3"]


def test_the_passes_of_a_network_share_their_workers(
    few_events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start of a worker takes seconds; after the last pass the cores are free for tasks."""
    pools: list[Any] = []

    class Pool:
        def __init__(self, device: str) -> None:
            pools.append(self)
            self.passes: list[int] = []
            self.ended = False

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self.ended = True

        def run(self, job: Any, weights: Any, work: Any, chunks: Any, count: int) -> Iterator[Any]:
            assert not self.ended
            self.passes.append(sum(map(len, chunks)))
            networks = Networks(job, weights)
            for chunk in chunks:
                yield list(networks.predictions(networks.read(chunk), chunk))

    trial = Trial.model_validate({"network": SMALL}).with_events(str(few_events))
    state = checkpoints.Checkpoint(trial, 0, trial.make_network().state_dict(), {}, [])
    splits: tuple[Split, ...] = ("tune", "test")
    here = Evaluation(state)
    wanted = [here.predictions(split)[:] for split in splits]
    monkeypatch.setattr("lartpc_ray.predict.workers.WorkerPool", Pool)
    monkeypatch.setattr(InferenceService, "_in_this_process", lambda *_: False)
    for module in ("evaluation", "service", "placement"):
        name = f"lartpc_ray.predict.{module}.cluster_resources"
        monkeypatch.setattr(name, lambda: {"CPU": 2.0})
    shared = Evaluation(state)
    shared.compute(*splits)
    assert [(pool.passes, pool.ended) for pool in pools] == [([3, 3], True)]
    for split, predictions in zip(splits, wanted, strict=True):
        for (_, outputs), (_, expected) in zip(shared.predictions(split), predictions, strict=True):
            np.testing.assert_array_equal(outputs["position"], expected["position"])
    shared.compute(*splits, trained=False)
    assert pools[1].passes[-2:] == [3, 3], "the untrained network, after its fit"
    assert len(pools) == 2
