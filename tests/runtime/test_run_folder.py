"""The plan of a run: read again on resume, and refused in one line where it is damaged."""

import argparse
import fcntl
import json
import os
import re
import resource
import shlex
from pathlib import Path
from typing import Any

import pytest

from lartpc_ray.atomic import write_json
from lartpc_ray.runtime.run_folder import (
    load_plan,
    locked,
    planned_options,
    resume_command,
    resume_folder,
    study_name,
)
from lartpc_ray.train.training import TrainPlan
from lartpc_ray.trials.trial import Trial
from lartpc_ray.tune.__main__ import parser
from lartpc_ray.tune.study_plan import StudyPlan

STUDY: dict[str, Any] = {
    "space": "smoke",
    "budget": "laptop",
    "overrides": {"network.depth": 3},
    "uri": None,
}


def test_a_plan_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "plan.json", STUDY | {"concurrent": 2})
    plan = load_plan(tmp_path / "plan.json", StudyPlan)
    assert plan == StudyPlan(**STUDY, concurrent=2)
    trial = Trial(seed=3)
    write_json(tmp_path / "job.json", {"study": "a", "uri": None, "trial": trial.model_dump_json()})
    job = load_plan(tmp_path / "job.json", TrainPlan)
    assert job.trial == trial
    kept = json.loads((tmp_path / "job.json").read_text())
    later = {"inputs": {}, "options": {}, "choose_method": False}
    assert job.model_dump() == {**kept, **later}, "earlier plans lack these"


def test_a_repeated_command_line_resumes_and_another_one_is_refused(tmp_path: Path) -> None:
    """SLURM starts a requeued job with the options that began it."""
    begun = {"budget": "smoke", "set": ["network.depth=3"]}
    write_json(tmp_path / "plan.json", STUDY | {"options": begun})

    def resume(**options: Any) -> Path:
        line = argparse.Namespace(resume=tmp_path, runs=tmp_path, **options)
        return resume_folder(line, "plan.json")

    assert resume() == resume(budget="smoke") == resume(**begun, seed=None) == tmp_path
    with pytest.raises(ValueError, match=r"--budget laptop: .*here: smoke\); leave out --budget"):
        resume(budget="laptop")
    with pytest.raises(ValueError, match=r"--seed 3: .* \(here: not given\); leave out --seed"):
        resume(**begun, seed=3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            json.dumps(STUDY)[:30],
            "truncated or not JSON (EOF while parsing a string at line 1 column 30)",
        ),
        (json.dumps(STUDY | {"overide": 1}), "overide: unknown; did you mean 'overrides'?"),
        ("{}", "space: missing"),
        (json.dumps(STUDY | {"budget": 3}), "budget: 3: input should be a valid string"),
    ],
)
def test_a_damaged_plan_is_refused_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^.*$") as refused:
        load_plan(path, StudyPlan)
    assert str(refused.value).startswith(f"{path}: {reason}")


@pytest.mark.parametrize(("given", "named"), [("nothing", "runs/nothing"), ("a/b", "a/b")])
def test_a_path_to_resume_is_not_looked_for_below_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    options = argparse.Namespace(resume=Path(given), runs=Path("runs"))
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path / named))}: no study"):
        resume_folder(options, "plan.json")


def test_the_plan_keeps_no_password_and_takes_its_store_again(tmp_path: Path) -> None:
    store = "postgresql://me:s3cret@host/db"
    kept = planned_options(argparse.Namespace(tracking_uri=store, seed=1))
    assert kept == {"tracking_uri": "postgresql://me@host/db", "seed": 1}
    for options in (kept, {"tracking_uri": store}):  # as a former version wrote it
        (tmp_path / "plan.json").write_text(json.dumps({"uri": None, "options": options}))
        again = argparse.Namespace(resume=tmp_path, runs=tmp_path, tracking_uri=store)
        assert resume_folder(again, "plan.json") == tmp_path
        again.tracking_uri = "postgresql://me:0ther@elsewhere/db"
        with pytest.raises(ValueError, match="postgresql://me@elsewhere/db: a resumed") as refused:
            resume_folder(again, "plan.json")
        assert "0ther" not in str(refused.value)
        assert "s3cret" not in str(refused.value)


def test_a_full_disk_below_a_lock_names_the_lock(tmp_path: Path) -> None:
    """The close of the file must not fail again without its name."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*lock'"), locked(tmp_path):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with locked(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / "lock").read_text()


def test_a_holder_that_has_not_written_its_name_yet_is_another_process(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=r"in use by another process$"), locked(tmp_path):
            pass


@pytest.mark.parametrize("study", ["smoke", "mine-2.1", "my spaces/mine-2.1.yaml", "a.yml"])
def test_the_printed_command_resumes_a_folder_of_any_name(tmp_path: Path, study: str) -> None:
    folder = tmp_path / "my runs (2026)" / "it's"
    line = resume_command("tune", study, folder)
    python, _, module, *words = shlex.split(line)
    assert (python, module) == ("python", "lartpc_ray.tune")
    given = parser().parse_args(words)
    assert (given.study, given.resume) == (study, folder)
    names = {"my spaces/mine-2.1.yaml": "mine-2.1", "a.yml": "a"}
    assert study_name(given.study) == names.get(study, study)
