"""Inputs that change under a study: a resume compares first, and changes nothing if it refuses."""

import argparse
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY

from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.data.splits import sample
from lartpc_ray.runtime.arguments import chosen_space, study_parser
from lartpc_ray.runtime.run_folder import new_folder, resumable
from lartpc_ray.train import training
from lartpc_ray.train.training import TrainPlan
from lartpc_ray.train.workers import FAILED
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.tune.study import Study
from lartpc_ray.tune.study_plan import PLAN

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(few_events: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(few_events, tmp_path / "events"))


def options(runs: Path, *words: str) -> argparse.Namespace:
    parser = study_parser("tune", "", "")
    parser.add_argument("--run")
    return parser.parse_args(["smoke", "--runs", str(runs), *words])


@pytest.fixture
def study(data: Path, tmp_path: Path) -> Study:
    chosen = options(tmp_path / "runs", "--data", str(data), "--budget", "smoke")
    return Study.create(tmp_path / "runs", chosen_space(chosen), None)


def resumed(study: Study, *words: str) -> Study:
    return Study.reopen(options(study.folder.parent, "--resume", str(study.folder), *words))


def content(runs: Path) -> dict[str, bytes]:
    """Return all files of a runs folder but the cache of digests."""
    files = [path for path in runs.rglob("*") if path.is_file() and path.name != "digests.json"]
    return {str(path): path.read_bytes() for path in files}


def other_events(path: Path) -> None:
    write_events(path, read_events(sample("train"), indices=range(20, 23)))


def of_same_size_and_time(path: Path) -> None:
    """Change one byte of the content, as `cp -p` of another file of this size does."""
    before = path.stat()
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("split", ["train", "tune", "test"])
@pytest.mark.parametrize("change", [other_events, of_same_size_and_time])
def test_other_data_of_the_same_name_is_refused_by_its_split(
    study: Study, data: Path, split: str, change: Callable[[Path], None]
) -> None:
    before = content(study.folder.parent)
    change(data / f"{split}.h5")
    with pytest.raises(ValueError, match=f"changed since it began: {split}; restore") as raised:
        resumed(study)
    assert "--accept-data" in str(raised.value)
    assert content(study.folder.parent) == before


def test_the_same_data_written_again_or_moved_is_no_change(study: Study, data: Path) -> None:
    for path in data.iterdir():
        path.write_bytes(path.read_bytes())
        path.touch()
    assert resumed(study).folder == study.folder


def settings(study: Study) -> tuple[Any, ...]:
    """Return what the search space says, with the sampler and scheduler that follow from it."""
    space = study.space
    return space.fixed, space.search, space.first, space.trials, space.sampler, space.scheduler


def test_an_edited_search_space_is_refused_and_a_restored_one_goes_on(study: Study) -> None:
    path = study.folder / "smoke.yaml"
    text = path.read_text()
    for edited in (text.replace("lovasz", "focal") + "\n", "search: [", ""):
        path.write_text(edited)
        before = content(study.folder.parent)
        with pytest.raises(ValueError, match=r"changed since it began: smoke\.yaml"):
            resumed(study)
        assert content(study.folder.parent) == before
    path.write_text(text)
    assert settings(resumed(study)) == settings(study)


def test_accepted_data_starts_a_new_study_with_the_same_settings(study: Study, data: Path) -> None:
    before = content(study.folder)
    other_events(data / "tune.h5")
    new = resumed(study, "--accept-data")
    assert new.folder != study.folder
    assert settings(new) == settings(study)
    assert content(study.folder) == before
    assert resumed(new).folder == new.folder


def test_a_plan_of_an_earlier_version_goes_on(study: Study, data: Path) -> None:
    path = study.folder / PLAN
    plan = json.loads(path.read_text())
    del plan["inputs"]
    path.write_text(json.dumps(plan))
    other_events(data / "tune.h5")
    assert resumed(study).folder == study.folder


@pytest.mark.parametrize(
    "words",
    [
        ("--set", "optimizer.steps=5"),
        ("--budget", "laptop"),
        ("--data", "elsewhere"),
        ("--workers", "2"),
        ("--seed", "0"),
        ("--tracking-uri", "sqlite:///other.db"),
        ("--run", "1234"),
    ],
)
def test_an_option_that_the_plan_holds_is_refused(study: Study, words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=f"{words[0]} .*: a resumed run keeps its settings"):
        resumed(study, *words)


def test_a_resume_under_another_name_is_refused(study: Study) -> None:
    chosen = options(study.folder.parent, "--resume", str(study.folder))
    chosen.study = "clustering"
    with pytest.raises(ValueError, match="a study of smoke, not of clustering"):
        Study.reopen(chosen)


@pytest.mark.parametrize("flag", ["--retry", "--accept-data"])
def test_options_of_a_resume_are_refused_without_one(tmp_path: Path, flag: str) -> None:
    with pytest.raises(ValueError, match=f"{flag}: belongs to --resume RUN"):
        chosen_space(options(tmp_path, flag))


def test_retry_takes_back_what_failed(study: Study) -> None:
    for number in (0, 1, 12):
        (study.folder / "trials" / str(number)).mkdir(parents=True)
    for number in (1, 12):
        (study.folder / "trials" / str(number) / FAILED).write_text("ValueError: no")
    study.retry_failed()
    assert not list(study.folder.rglob(FAILED))


def test_a_training_compares_its_data_too(data: Path, tmp_path: Path, monkeypatch: Any) -> None:
    trial = make_trial({**TINY, "data.splits.path": str(data)})
    folder = new_folder(tmp_path / "runs", "smoke")
    monkeypatch.setattr(training, "ray_session", lambda *_, **__: resumable(""))
    monkeypatch.setattr(training, "_train", lambda *_: None)
    monkeypatch.setattr(training, "_record", lambda *_: None)
    plan = TrainPlan(study="smoke", uri=None, trial=trial)
    training._train_and_record(folder, plan, training._store(folder, plan), dashboard=False)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / FAILED).write_text("ValueError: no")
    chosen = options(tmp_path / "runs", "--resume", str(folder), "--retry")
    assert training._reopen(chosen)[0] == folder
    assert not list(folder.rglob(FAILED))
    of_same_size_and_time(data / "test.h5")
    with pytest.raises(ValueError, match="changed since it began: test"):
        training._reopen(chosen)
    chosen.accept_data = True
    new, plan = training._reopen(chosen)
    assert new != folder
    assert not new.exists()
    assert not plan.inputs


def test_only_errors_that_the_user_did_not_cause_end_with_the_command_to_resume() -> None:
    for error in (RuntimeError("Ray does not start: x"), OSError(5, "EIO"), EOFError("gone")):
        with (
            pytest.raises(RuntimeError, match="run: tune smoke --resume x"),
            resumable("tune smoke --resume x"),
        ):
            raise error
    missing = ValueError("train.h5: no such file")
    missing.__cause__ = FileNotFoundError(2, "no such file")
    with pytest.raises(RuntimeError, match="no such file; what is done is saved"), resumable("x"):
        raise missing
    with pytest.raises(ValueError, match=r"^no such setting$"), resumable("x"):
        raise ValueError("no such setting")
