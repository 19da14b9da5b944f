"""The loop: the same weights whoever runs it, killed and resumed or not, in however many parts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from torch import distributed

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import write_events
from lartpc_ray.losses.loss import Loss
from lartpc_ray.predict import inference
from lartpc_ray.predict.evaluate import evaluate_on_test, validate
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.report.tables import table
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.train.loop import StepStats, Worker, train
from lartpc_ray.train.shared_validation import share
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import CHECKPOINT_REQUEST
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.trials.trial import OptimizerSettings, Trial

COSTS = {"seconds_a_step", "training_gib", "seconds_an_event", "inference_gib"}
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("tiny")


def run(trial: Trial, folder: Path) -> list[dict[str, float]]:
    """Learn; what was reported, without what depends on the machine."""
    reports: list[dict[str, float]] = []
    train(trial, folder, reports.append)
    return curve(reports)


def curve(reports: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: one[key] for key in one.keys() - COSTS} for one in reports]


def last(folder: Path) -> Path:
    return sorted(folder.glob("step-*.pt"))[-1]


def same(one: Path, other: Path) -> bool:
    """Compare the last checkpoints of two runs bit for bit."""
    first, second = (checkpoints.load(last(folder)) for folder in (one, other))
    moments = [
        torch.equal(value, second.optimizer["state"][index][name])
        for index, state in first.optimizer["state"].items()
        for name, value in state.items()
    ]
    weights = [torch.equal(second.network[name], value) for name, value in first.network.items()]
    assert curve(first.history) == curve(second.history)
    assert (first.step, first.scaler, first.window) == (second.step, second.scaler, second.window)
    return all(weights) and all(moments) and bool(moments)


def test_same_seed_same_weights_and_a_resumed_run_ends_the_same(tmp_path: Path) -> None:
    trial = make_trial(TINY)
    first = run(trial, tmp_path / "a")
    run(trial, tmp_path / "b")
    (tmp_path / "c").mkdir()
    copy(tmp_path / "a" / "step-000000002.pt", tmp_path / "c")
    resumed = run(trial, tmp_path / "c")
    other = run(trial.model_copy(update={"seed": 1}), tmp_path / "d")
    assert [numbers["step"] for numbers in first] == [2, 4]
    assert {"loss", "objective", "MIP/ari", "MIP/s0", "MIP/p0"} <= set(first[0])
    assert other[0]["loss"] != first[0]["loss"]
    assert resumed == first, "what the checkpoint knows is told again"
    assert same(tmp_path / "a", tmp_path / "b")
    assert same(tmp_path / "a", tmp_path / "c")


def noisy(self: ClusteringTask, outputs: dict[str, torch.Tensor], batch: object, step: int) -> Loss:
    """Return a loss with a random part from each of the three sources."""
    import random

    noise = torch.rand(()) + np.random.rand() + random.random()
    total = torch.stack([noise * values.square().mean() for values in outputs.values()]).sum()
    return Loss(total, {})


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_run_stopped_between_validations_ends_the_same(
    tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window, the scaler and what is random go on, too: asked in step 3 of 5."""
    monkeypatch.setattr(ClusteringTask, "criterion", noisy)
    several = {"optimizer.steps": 5, "optimizer.evaluate_every": 5, "task.seediness_from": 0}
    trial = make_trial({**TINY, **several, "optimizer.precision": precision, "optimizer.clip": 1.0})
    whole = run(trial, tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    optimizer_step = "lartpc_ray.train.loop._Run.optimizer_step"
    original = __import__("lartpc_ray.train.loop", fromlist=["_Run"])._Run.optimizer_step

    def until_three(self: Any, parts: list[Any]) -> None:
        if self.step == 3:
            raise KeyboardInterrupt
        original(self, parts)
        if self.step == 3:
            (tmp_path / "cut" / CHECKPOINT_REQUEST).touch()

    monkeypatch.setattr(optimizer_step, until_three)
    with pytest.raises(KeyboardInterrupt):
        run(trial, tmp_path / "cut")
    assert [file.name for file in (tmp_path / "cut").iterdir()] == ["step-000000003.pt"]
    assert len(checkpoints.load(last(tmp_path / "cut")).window) == 3
    monkeypatch.setattr(optimizer_step, original)
    torch.rand(7)  # what others draw in between does not matter
    assert run(trial, tmp_path / "cut") == whole
    assert same(tmp_path / "whole", tmp_path / "cut")
    scale = checkpoints.load(last(tmp_path / "cut")).scaler.get("scale", 0)
    assert scale == 0 if precision != "float16" else 0 < scale < 65536, "it has moved"


@pytest.mark.slow
def test_half_precision_learns_nearly_the_same(tmp_path: Path) -> None:
    losses = {
        precision: run(make_trial({**TINY, "optimizer.precision": precision}), tmp_path / precision)
        for precision in ("float32", "bfloat16", "float16")
    }
    wanted = losses["float32"][-1]["loss"]
    assert losses["bfloat16"][-1]["loss"] != wanted
    assert losses["bfloat16"][-1]["loss"] == pytest.approx(wanted, rel=0.05)
    assert losses["float16"][-1]["loss"] == pytest.approx(wanted, rel=0.01)


@pytest.mark.slow
def test_two_parts_give_the_mean_of_their_gradients(tmp_path: Path) -> None:
    """Adam's first moment after one step is 0.1 of the gradient."""
    one_step = {**TINY, "optimizer.steps": 1, "task.seediness_from": 0}
    gradients = []
    for name, settings in {
        "both": {"data.batch_events": 2, "optimizer.accumulate": 2},
        "first": {"data.batch_events": 1},
        "second": {"data.batch_events": 1},
    }.items():
        trial = make_trial({**one_step, **settings})
        folder = tmp_path / name
        if name == "second":  # the second event of the order is the batch of step 1
            optimizer = trial.optimizer.model_copy(update={"steps": 2})
            trial = trial.model_copy(update={"optimizer": optimizer})
            start = checkpoints.Checkpoint(
                trial, 1, trial.make_network().state_dict(), empty(trial), []
            )
            checkpoints.add(folder, start)
        run(trial, folder)
        state = checkpoints.load(last(folder)).optimizer["state"]
        gradients.append([10 * state[index]["exp_avg"] for index in sorted(state)])
    for both, first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(both, (first + second) / 2)


def empty(trial: Trial) -> dict[str, Any]:
    """Return the state of Adam before its first step."""
    return torch.optim.Adam(trial.make_network().parameters()).state_dict()


def in_two_processes(
    trial: Trial, folder: Path, watch: Callable[[int, StepStats], None] = lambda index, step: None
) -> None:
    """Learn in two workers that exchange gradients through gloo."""
    meeting = folder.parent / f"{folder.name}-meeting"

    def work(index: int) -> None:
        distributed.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=index, world_size=2
        )
        seen = partial(watch, index)
        train(trial, folder, lambda _: None, worker=Worker(index, 2), watch=seen)
        distributed.destroy_process_group()

    workers = [get_context("fork").Process(target=work, args=(index,)) for index in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]


def close(one: Path, other: Path, tolerance: float = 1e-4) -> None:
    first, second = (checkpoints.load(last(folder)).network for folder in (one, other))
    for name in first.keys() - {name for name in first if "num_batches" in name}:
        torch.testing.assert_close(first[name], second[name], rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_any_number_of_workers_takes_the_same_steps(tmp_path: Path) -> None:
    """Two workers; two, of which one is lost after step 2; one that computes both parts."""
    two = make_trial({**TINY, "resources.workers": 2, "resources.min_workers": 1})
    in_two_processes(two, tmp_path / "two")
    (tmp_path / "lost").mkdir()
    copy(tmp_path / "two" / "step-000000002.pt", tmp_path / "lost")
    train(two, tmp_path / "lost", lambda _: None)
    run(make_trial({**TINY, "optimizer.accumulate": 2}), tmp_path / "one")
    close(tmp_path / "two", tmp_path / "lost")
    close(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize("task", ["clustering", "segmentation"])
def test_two_workers_share_a_validation_to_the_same_bits(
    tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each validates a part of the events; the numbers are those of one worker for all."""
    settings = {key: value for key, value in TINY.items() if not key.startswith("task.")}
    settings |= TINY if task == "clustering" else {"task.name": task}
    settings |= {"resources.workers": 2, "optimizer.steps": 2, "task.min_energy": 0.5}
    trial = make_trial(settings)
    seen = tmp_path / "seen"
    seen.mkdir()
    monkeypatch.setitem(inference.CHUNK_EVENTS, "cpu", 1)
    prepare = type(trial.task).prepare

    def watched(self: Any, event: Event, rng: Any = None) -> Event:
        with (seen / f"{os.getpid()}").open("a") as file:
            file.write(f"{len(event)}\n")
        return prepare(self, event, rng)

    monkeypatch.setattr(type(trial.task), "prepare", watched)
    in_two_processes(trial, tmp_path / "two")
    state = checkpoints.load(last(tmp_path / "two"))
    assert len(list(seen.iterdir())) == 2
    tune = trial.data.splits.events("tune")
    assert len(tune) == 3
    result = validate(state.restored(), trial.task, tune)
    numbers = state.history[-1]
    assert numbers["objective"] == result.objective
    for name, score in result.scores.items():
        assert numbers[f"{name}/{trial.task.metric}"] == score
        for axis, value in result.thresholds.get(name, {}).items():
            assert numbers[f"{name}/{axis}"] == value
    shares = [share(tune, rank, 2, "cpu") for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == [0, 1, 2]
    sizes = [len(event) for event in tune]
    best = min(max(size, sum(sizes) - size) for size in sizes)
    assert max(sum(sizes[number] for number in own) for own in shares) == best, "voxels balanced"


def test_every_step_says_what_it_took(tmp_path: Path) -> None:
    steps: list[StepStats] = []
    began = time.perf_counter()
    train(make_trial(TINY), tmp_path, lambda _: None, watch=steps.append)
    passed = time.perf_counter() - began
    assert [step.events for step in steps] == [2] * 4
    assert all(step.voxels > 0 and np.isfinite(step.loss) for step in steps)
    assert all(step.data > 0 and step.compute > 0 for step in steps)
    assert sum(step.data + step.compute for step in steps) < passed
    assert {step.communication for step in steps} == {0.0}, "there is nobody to wait for"


def test_a_worker_that_waits_for_a_slower_one_says_so(tmp_path: Path) -> None:
    """Worker 1 rests for a second after each step; worker 0 waits for its gradients."""

    def watch(index: int, step: StepStats) -> None:
        with (tmp_path / f"{index}.txt").open("a") as file:
            file.write(f"{step.communication}\n")
        time.sleep(index)

    settings = {**TINY, "resources.workers": 2, "optimizer.evaluate_every": 4}
    in_two_processes(make_trial(settings), tmp_path / "run", watch)
    first, second = (
        [float(text) for text in (tmp_path / f"{index}.txt").read_text().split()]
        for index in range(2)
    )
    assert len(first) == len(second) == 4
    assert sum(first[2:]) > sum(second[2:]) + 1  # DDP begins with steps of its own


@pytest.mark.slow
def test_synchronised_workers_see_each_other_as_one_worker_sees_all(tmp_path: Path) -> None:
    """A step of one event each, BatchNorm over both, is the step of one worker with both."""
    both = make_trial({**TINY, "resources.workers": 2, "optimizer.norm": "synchronised"})
    apart = make_trial({**TINY, "resources.workers": 2})
    in_two_processes(both, tmp_path / "both")
    in_two_processes(apart, tmp_path / "apart")
    run(make_trial(TINY), tmp_path / "one")
    close(tmp_path / "both", tmp_path / "one", 1e-3)
    with pytest.raises(AssertionError):
        close(tmp_path / "apart", tmp_path / "one", 1e-3)


@pytest.mark.slow
def test_sigkill_at_any_step_and_resumed_is_as_if_nothing_had_been(tmp_path: Path) -> None:
    """A process is killed in mid-step twice; what is left is one run, bit for bit."""
    settings = {**TINY, "optimizer.steps": 24, "optimizer.clip": 1.0, "optimizer.warmup": 3}
    trial = make_trial({**settings, "optimizer.schedule": "cosine"})
    whole = run(trial, tmp_path / "whole")
    folder = tmp_path / "killed"
    code = (
        "import sys; from pathlib import Path; from lartpc_ray.train.loop import train\n"
        "from lartpc_ray.trials.trial import Trial\n"
        "trial = Trial.model_validate_json(sys.argv[1])\n"
        "train(trial, Path(sys.argv[2]), lambda numbers: print(numbers['step'], flush=True))"
    )
    command = [sys.executable, "-c", code, trial.model_dump_json(), str(folder)]
    told = []
    for after in (6, 14):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert process.stdout is not None
        for line in process.stdout:
            told.append(int(float(line)))
            if told[-1] == after:
                time.sleep(0.05)  # into a step, a validation or the writing of a checkpoint
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait() == -signal.SIGKILL
    assert len(list(folder.glob("step-*.pt"))) == 2, "bounded in number"
    assert run(trial, folder) == whole
    assert same(tmp_path / "whole", folder)


def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(tmp_path: Path) -> None:
    trial = make_trial(TINY)
    whole = run(trial, tmp_path)
    newest = last(tmp_path)
    content = newest.read_bytes()
    newest.write_bytes(content[:-100])
    said: list[str] = []
    reports: list[dict[str, float]] = []
    train(trial, tmp_path, reports.append, notify=said.append)
    assert len(said) == 1
    assert "step-000000004.pt: not a checkpoint, or cut short" in said[0]
    assert "the earlier checkpoint is used" in said[0]
    assert curve(reports) == whole
    assert checkpoints.load(newest).step == 4, "written anew"


def test_a_folder_of_another_trial_is_refused(tmp_path: Path) -> None:
    run(make_trial({**TINY, "optimizer.steps": 1}), tmp_path)
    with pytest.raises(ValueError, match=r"step-000000001\.pt: of a trial with other settings"):
        run(make_trial({**TINY, "seed": 3}), tmp_path)
    run(make_trial({**TINY, "optimizer.steps": 1, "resources.cpus": 2}), tmp_path)


def test_a_run_starts_from_the_weights_of_another(tmp_path: Path) -> None:
    run(make_trial({**TINY, "optimizer.steps": 2}), tmp_path / "first")
    file = last(tmp_path / "first")
    still = {"optimizer.learning_rate": 1e-30, "optimizer.steps": 1, "seed": 3}
    run(make_trial({**TINY, **still, "start_weights": str(file)}), tmp_path / "second")
    start, end = checkpoints.load(file), checkpoints.load(last(tmp_path / "second"))
    learned = [name for name, _ in start.trial.make_network().named_parameters()]
    assert all(torch.equal(start.network[name], end.network[name]) for name in learned)
    wider = {**TINY, "network.filters": 5, "start_weights": str(file)}
    with pytest.raises(ValueError, match=r"start_weights: .*step-.*\.pt: .* has the shape"):
        run(make_trial(wider), tmp_path / "third")


def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = make_trial(TINY)
    state = checkpoints.Checkpoint(trial, 2, trial.make_network().state_dict(), empty(trial), [])
    checkpoints.add(tmp_path, state)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run(trial, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["step-000000002.pt"]
    newest = checkpoints.newest(tmp_path, trial)
    assert newest is not None
    assert newest.step == 2


def test_a_diverging_run_says_what_to_change(tmp_path: Path) -> None:
    trial = make_trial({**TINY, "optimizer.learning_rate": 1e12, "optimizer.steps": 50})
    with pytest.raises((FloatingPointError, ValueError), match=r"lower|did the training diverge"):
        run(trial, tmp_path)


def test_the_schedule() -> None:
    settings = OptimizerSettings(steps=100, warmup=4, schedule="cosine")
    assert settings.factor(0) == pytest.approx(0.2)
    assert settings.factor(50) == pytest.approx(0.5)
    assert settings.factor(100) == pytest.approx(0.0)
    assert OptimizerSettings(steps=100).factor(99) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resources.workers": 2, "resources.gpus": 0.5}, "2 workers cannot share a GPU"),
        ({"resources.gpus": 1.5}, "resources: gpus: 1.5: below 1 a fraction"),
        ({"resources.min_workers": 2}, "min_workers: 2 is more than workers 1"),
        ({"optimizer.accumulate": 3}, "data.batch_events: 2: at least one event for each of 3"),
        (
            {"optimizer.precision": "float16", "network.engine": "minkowski"},
            "minkowski computes in float32 only",
        ),
        (
            {
                "optimizer.norm": "synchronised",
                "resources.workers": 2,
                "resources.min_workers": 1,
            },
            "synchronised needs all workers",
        ),
    ],
)
def test_what_cannot_be_together_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        make_trial({**TINY, **settings})
    assert not str(error.value).startswith(":")


def test_empty_events_and_single_voxels_train(tmp_path: Path) -> None:
    line = np.array([[0, 0, step] for step in range(12)])
    semantic, cluster = np.full(12, ParticleClass.MIP), np.zeros(12, int)

    def event(voxels: int) -> Event:
        part = slice(voxels)
        return Event.of(
            line[part],
            np.ones(voxels),
            (16, 16, 16),
            semantic=semantic[part],
            cluster=cluster[part],
        )

    for split in ("train", "tune", "test"):
        write_events(tmp_path / f"{split}.h5", [event(0), event(0), event(1), event(12)])
    small = {
        "data.splits.path": str(tmp_path),
        "data.splits.layout.side": 16,
        "data.seed": 1,
    }
    trial = make_trial({**TINY, **small})
    reports = run(trial, tmp_path / "a")
    assert all(np.isfinite(numbers["loss"]) for numbers in reports)
    assert reports[-1]["MIP/ari"] <= 1
    result = evaluate_on_test(Evaluation(checkpoints.load(last(tmp_path / "a"))))
    assert list(result.thresholds) == ["MIP"]
    text = table(result)
    assert "nan" not in text
    assert "-" in text
