"""Damaged JSON files of a study: each is named, and healed where neighbours know the content."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from lartpc_ray.atomic import read_json, write_json
from lartpc_ray.predict.shards import MANIFEST, ShardFolder
from lartpc_ray.report.sides import logged_result
from lartpc_ray.runtime.run_folder import load_plan, resume_folder
from lartpc_ray.tracking.provenance import file_digest
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.train.training import TrainPlan
from lartpc_ray.tune.study_plan import PLAN, StudyPlan

TEXTS = [
    "",
    "{",
    "null",
    "[1]",
    "3",
    '"text"',
    "[" * 3000,
    '{"options": 3}',
    '{"a": {}}',
    "\x00" * 50,
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_damaged_plan_is_named_also_with_options(tmp_path: Path, text: str) -> None:
    (tmp_path / PLAN).write_text(text)
    options = argparse.Namespace(resume=tmp_path, runs=tmp_path, budget="smoke")
    assert resume_folder(options, PLAN) == tmp_path, "the options may restore it"
    for kind in (StudyPlan, TrainPlan):
        with pytest.raises(ValueError, match=r"plan\.json: ") as refused:
            load_plan(tmp_path / PLAN, kind)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", TEXTS)
def test_a_damaged_manifest_is_written_again_or_protects_its_shards(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    manifest, shards = tmp_path / MANIFEST, ShardFolder(tmp_path, range(256), 128)
    content: dict[str, Any] = {"data": "0123"}
    manifest.write_text(text)
    shards.claim(dict(content), force=False)
    assert read_json(manifest)["data"] == "0123"
    assert ("written again" in caplog.text) == (not text.startswith('{"'))
    manifest.write_text(text)
    shards.file(range(128)).write_bytes(b"x")
    with pytest.raises(ValueError, match="it holds shards of another prediction") as refused:
        shards.claim(dict(content), force=False)
    assert "--force" in str(refused.value)
    assert shards.file(range(128)).exists()
    shards.claim(dict(content), force=True)
    assert read_json(manifest)["data"] == "0123"
    assert not shards.file(range(128)).exists()


@pytest.mark.parametrize("text", TEXTS)
def test_a_damaged_verdict_is_named_with_the_command_that_writes_it_again(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "verdict.json").write_text(text)
    with pytest.raises(ValueError, match=r"verdict\.json is damaged .*--resume FOLDER") as refused:
        logged_result(Tracking(tmp_path, None), str(tmp_path / "run"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", TEXTS)
def test_damaged_digests_are_computed_again(tmp_path: Path, text: str) -> None:
    write_json(tmp_path / "data", {"a": 1})
    (tmp_path / "digests.json").write_text(text)
    digest = file_digest(tmp_path / "data", tmp_path / "digests.json")
    assert digest in json.loads((tmp_path / "digests.json").read_text()).values()


def test_digests_that_cannot_be_kept_are_found(tmp_path: Path) -> None:
    """`--from` reads the study of another user, in whose folder nobody else writes."""
    write_json(tmp_path / "data", {"a": 1})
    kept = file_digest(tmp_path / "data", tmp_path / "digests.json")
    assert file_digest(tmp_path / "data", tmp_path / "none" / "digests.json") == kept
