"""The plan of a run: read again on resume, and refused in one line where it is damaged."""

import json
from pathlib import Path
from typing import Any

import pytest

from lartpc_ray.atomic import write_json
from lartpc_ray.runtime.run_folder import load_plan
from lartpc_ray.train.training import TrainPlan
from lartpc_ray.trials.trial import Trial
from lartpc_ray.tune.study import StudyPlan

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
    assert job.model_dump() == json.loads((tmp_path / "job.json").read_text())


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
