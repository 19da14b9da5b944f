"""What a machine lacks is named before anything is made; what a cluster lacks while it waits."""

import time
from pathlib import Path

import pytest

import lartpc_ray
from lartpc_ray.terminal.command import run
from lartpc_ray.terminal.phases import line, phase
from lartpc_ray.train import __main__ as train
from lartpc_ray.train.resources import absent_here, missing, refuse_absent
from lartpc_ray.trials.trial import Resources, Trial
from lartpc_ray.tune import __main__ as tune

GPU = "resources.gpus: a trial needs 2 GPUs, torch sees none; choose another --budget, or "


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})


@pytest.mark.parametrize(
    ("command", "further"), [(train, []), (tune, []), (tune, ["--concurrent", "4"])]
)
def test_a_gpu_that_is_absent_is_one_line_and_nothing_is_made(
    command: object, further: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The training would wait for it without an end."""
    words = ["smoke", "--runs", str(tmp_path / "runs"), "--set", "resources.gpus=2", *further]
    assert run(command.parser(), command.main, words) == 2  # type: ignore[attr-defined]
    err = capsys.readouterr().err.splitlines()
    assert [text for text in err if GPU in text] == err[-1:]
    assert not (tmp_path / "runs").exists()


def test_python_refuses_it_too(tmp_path: Path) -> None:
    trial = Trial.model_validate({"resources": {"gpus": 2}}).with_events("sample")
    with pytest.raises(ValueError, match="a trial needs 2 GPUs"):
        lartpc_ray.train_trial(trial, runs=tmp_path / "runs")
    with pytest.raises(ValueError, match="a trial needs 3 cores, this machine has 2"):
        lartpc_ray.search("smoke", settings={"resources.cpus": 3}, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_trial_that_may_shrink_needs_its_fewest_workers() -> None:
    assert not absent_here(Resources(workers=9, min_workers=2))
    assert absent_here(Resources(workers=9, min_workers=3)).keys() == {"CPU"}
    refuse_absent(Resources(workers=9), "GPU")
    with pytest.raises(ValueError, match="a trial needs 9 cores, this machine has 2"):
        refuse_absent(Resources(workers=9), "GPU", "CPU")


def test_a_long_phase_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lartpc_ray.terminal.phases.AGAIN", 0.05)
    absent = missing(Resources(gpus=1), {"CPU": 1, "GPU": 0}, {"CPU": 2, "GPU": 4})
    with phase("training", lambda: absent):
        work = line.work[-1]
        assert work.text_now() == "training, 0 s"
        time.sleep(0.06)
        assert work.text_now() == (
            "training, 0 s; waiting for resources: a trial needs 1 GPU; free: 0 of 4"
        )
        absent = ""
        time.sleep(0.06)
        assert work.text_now() == "training, 0 s"
