"""The cluster files: what Ray would refuse, and that nothing listens to the world."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "cluster.yaml", *sorted((ROOT / "cluster").iterdir())]
RAY_UP = [path for path in FILES if path.suffix == ".yaml" and "provider:" in path.read_text()]


@pytest.mark.parametrize("path", RAY_UP, ids=lambda path: path.name)
def test_ray_takes_the_configuration(path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = {"cluster_synced_files": []} | yaml.safe_load(path.read_text())
    if config["provider"]["type"] == "local":
        config = prepare_config(config)
    validate_config(config)
    with pytest.raises(Exception, match=r"not of type"):
        validate_config({**config, "max_workers": "many"})


def test_the_head_of_an_aws_cluster_trains_and_predicts_nothing() -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    nodes = config["available_node_types"]
    head = nodes.pop(config["head_node_type"])
    assert head["resources"]["CPU"] == 0, "Ray gives it no worker of a network"
    assert all(node["resources"]["CPU"] > 0 for node in nodes.values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_listens_to_the_world_and_every_script_parses(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"(?<!\d)0\.0\.0\.0", text)
    for line in text.splitlines():
        if "ray start" in line and "--head" in line:
            assert "--dashboard-host=127.0.0.1" in line
        if "mlflow server" in line:
            assert "--host 127.0.0.1" in line
    if path.suffix == ".sh":
        subprocess.run(["bash", "-n", str(path)], check=True)
