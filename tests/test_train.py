"""The loop: the same weights whoever runs it, resumed or not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lartpc_ray import checkpoint as checkpoints
from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import write_events
from lartpc_ray.report import judge, table
from lartpc_ray.space import make_trial
from lartpc_ray.train import learn, start_ray, trainer
from lartpc_ray.trial import OptimizerSettings, Trial

TINY = {
    "network.depth": 2,
    "network.filters": 4,
    "network.blocks": 1,
    "task.cut.grid_points": 3,
    "task.seediness_from": 2,
    "task.start_margin": 0.1,
    "data.batch_events": 2,
    "optimizer.steps": 4,
    "optimizer.evaluate_every": 2,
}


def run(trial: Trial, folder: Path, resume: Path | None = None) -> list[dict[str, float]]:
    """Learn, keeping the checkpoint of each report in a folder of its own."""
    reports = []

    def report(numbers: dict[str, float], saved: Path | None) -> None:
        reports.append(numbers)
        assert saved is not None
        checkpoints.save(folder / str(int(numbers["step"])), checkpoints.load(saved))

    learn(trial, report, resume=resume)
    return reports


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoints.load(folder).network


def test_same_seed_same_weights_and_a_resumed_run_ends_the_same(tmp_path: Path) -> None:
    trial = make_trial(TINY)
    first = run(trial, tmp_path / "a")
    run(trial, tmp_path / "b")
    run(trial, tmp_path / "c", resume=tmp_path / "a" / "2")
    other = run(trial.model_copy(update={"seed": 1}), tmp_path / "d")
    assert [numbers["step"] for numbers in first] == [2, 4]
    assert {"loss", "goal", "MIP/ari", "MIP/s0", "MIP/p0"} <= set(first[0])
    assert other[0]["loss"] != first[0]["loss"]
    wanted = weights(tmp_path / "a" / "4")
    for folder in ("b", "c"):
        found = weights(tmp_path / folder / "4")
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert len(checkpoints.load(tmp_path / "c" / "4").history) == 2


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


def test_a_checkpoint_is_whole_or_refused(tmp_path: Path) -> None:
    trial = make_trial(TINY)
    network = trial.make_network()
    state = checkpoints.Checkpoint(trial, 7, network.state_dict(), {}, [{"goal": 0.5}])
    path = checkpoints.save(tmp_path, state)
    found = checkpoints.load(tmp_path)
    assert (found.trial, found.step, found.history) == (trial, 7, [{"goal": 0.5}])
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not a checkpoint, or cut short"):
        checkpoints.load(tmp_path)
    with pytest.raises(ValueError, match="no such checkpoint"):
        checkpoints.load(tmp_path / "none")
    torch.save({"trial": Path("x")}, path)
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoints.load(tmp_path)


@pytest.mark.slow
def test_ray_train_gives_the_weights_of_the_plain_loop(tmp_path: Path) -> None:
    """One worker bit for bit; two workers the same events, so nearly the same loss."""
    import ray

    trial = make_trial(TINY)
    plain = run(trial, tmp_path / "plain")
    start_ray(2, dashboard=False)
    try:
        one = trainer(trial, tmp_path, "one", []).fit()
        both = make_trial({**TINY, "resources.workers": 2})
        two = trainer(both, tmp_path, "two", []).fit()
    finally:
        ray.shutdown()
    wanted = weights(tmp_path / "plain" / "4")
    with one.checkpoint.as_directory() as folder:
        found = weights(Path(folder))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    with two.checkpoint.as_directory() as folder:
        state = checkpoints.load(Path(folder))
    assert state.step == 4
    assert state.history[-1]["loss"] == pytest.approx(plain[-1]["loss"], rel=0.3)


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
    trial = make_trial(
        {**TINY, "data.splits.path": str(tmp_path), "data.splits.layout.side": 16, "data.seed": 1}
    )
    reports = run(trial, tmp_path / "a")
    assert all(np.isfinite(numbers["loss"]) for numbers in reports)
    assert reports[-1]["MIP/ari"] <= 1
    verdict = judge(checkpoints.load(tmp_path / "a" / "4"))
    assert list(verdict.thresholds) == ["MIP"]
    text = table(verdict)
    assert "nan" not in text
    assert "-" in text
