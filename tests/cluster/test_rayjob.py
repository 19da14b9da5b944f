"""cluster/rayjob.yaml: what KubeRay would refuse, and the same commands as on other clusters."""

import copy
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from lartpc_ray.tune import __main__ as tune

ROOT = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((Path(__file__).parent / "rayjob.schema.yaml").read_text())
Manifest = dict[str, Any]


@pytest.fixture
def manifest() -> Manifest:
    return copy.deepcopy(yaml.safe_load((ROOT / "cluster" / "rayjob.yaml").read_text()))


def check(manifest: Manifest) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(manifest)


def pods(manifest: Manifest) -> list[Manifest]:
    cluster = manifest["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_kuberay_takes_the_manifest(manifest: Manifest) -> None:
    check(manifest)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one["spec"].update(backOffLimit=3),
        lambda one: one["spec"].update(submissionMode="Job"),
        lambda one: one["spec"]["rayClusterSpec"].pop("headGroupSpec"),
        lambda one: one["spec"]["rayClusterSpec"]["authOptions"].update(mode="Token"),
        lambda one: one["spec"]["rayClusterSpec"]["workerGroupSpecs"][0].pop("maxReplicas"),
        lambda one: one["spec"]["rayClusterSpec"]["headGroupSpec"].update(rayStartParams={"a": 2}),
        lambda one: pods(one)[1]["containers"][0]["env"].append({"name": "A", "value": 1}),
        lambda one: pods(one)[1]["containers"][0]["resources"]["limits"].update(memory="32 GB"),
    ],
)
def test_what_kuberay_refuses(manifest: Manifest, change: Callable[[Manifest], None]) -> None:
    change(manifest)
    with pytest.raises(jsonschema.ValidationError):
        check(manifest)


def test_its_search_is_the_one_of_the_other_clusters(manifest: Manifest) -> None:
    """The scripts exist, `tune` takes the arguments, as many trials wait as workers may come."""
    shell, flag, commands = shlex.split(manifest["spec"]["entrypoint"])
    assert (shell, flag) == ("bash", "-c")
    server, _, search = commands.partition(" && ")
    scripts = [shlex.split(server)[1], shlex.split(search)[2]]
    for script, name in zip(scripts, ("mlflow.sh", "search.sh"), strict=True):
        assert script == f"/shared/lartpc_ray/cluster/{name}"
        assert (ROOT / "cluster" / name).is_file()
    options = tune.parser().parse_args(shlex.split(search)[4:])
    assert (options.study, options.budget) == ("clustering", "cluster")
    assert str(options.runs) == shlex.split(server)[2]
    (workers,) = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert options.concurrent == workers["maxReplicas"]
    assert Path(shlex.split(search)[3]).is_relative_to(options.runs), "lost with the head"


def test_pods_have_the_versions_and_the_environment_of_the_other_clusters(
    manifest: Manifest,
) -> None:
    (version,) = re.findall(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert manifest["spec"]["rayClusterSpec"]["rayVersion"] == version
    assert manifest["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    common = (ROOT / "cluster" / "environment").read_text()
    wanted = dict(re.findall(r"\b((?:RAY_USAGE|MLFLOW|OMP)\w+)=(\S+)", common))
    assert len(wanted) == 4
    for pod in pods(manifest):
        (container,) = pod["containers"]
        assert f":{version}-py311" in container["image"]
        given = {one["name"]: one["value"] for one in container["env"]}
        assert given.items() >= wanted.items()
        assert given["PATH"].startswith("/shared/lartpc_ray/.venv/bin:")
        mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        assert mounts == {one["name"]: "/shared" for one in pod["volumes"]}
