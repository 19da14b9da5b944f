"""Two studies at once in one runs folder, again and again: nothing is lost, nothing is doubled.

LARTPC_ROUNDS gives the number of rounds; `make test-attack` runs 20.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lartpc_ray.tracking.store import local_store

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("LARTPC_ROUNDS", "4"))
WRITER = """
import sys
from pathlib import Path
from lartpc_ray.atomic import write_json
from lartpc_ray.runtime.run_folder import locked, new_folder
from lartpc_ray.tracking.runs import Tracking

print("ready", flush=True)
for line in sys.stdin:  # a runs folder, which does not exist yet
    runs = Path(line.strip())
    tracking = Tracking(runs, "smoke")
    folder = new_folder(runs, "smoke")
    folder.mkdir(parents=True)
    write_json(folder / "plan.json", {"space": "smoke"})
    tags = {"study": folder.name, "kind": "search"}
    with locked(folder):
        parent = tracking.start("search", tags)
        for number in range(2):
            run = tracking.start(
                f"trial {number}", {"study": folder.name, "trial": str(number)}, parent
            )
            tracking.log_params(run, {"network.depth": number})
            for step in range(5):
                tracking.log_metrics(run, {"objective": step + number / 10}, step)
            tracking.log_text(run, "a table", "table.txt")
            tracking.finish(run)
        tracking.finish(parent)
    print(folder.name, flush=True)
"""


def check_study(client: MlflowClient, experiment: str, study: str) -> None:
    """Check the runs of a study: each once, with all its values."""
    runs = client.search_runs([experiment], f"tags.study = '{study}'")
    assert sorted(run.info.run_name for run in runs) == ["search", "trial 0", "trial 1"]
    for run in runs:
        assert run.info.status == "FINISHED"
        assert "owner" not in run.data.tags
        if "trial" in run.data.tags:
            number = int(run.data.tags["trial"])
            history = client.get_metric_history(run.info.run_id, "objective")
            values = sorted((metric.step, metric.value) for metric in history)
            assert values == [(step, step + number / 10) for step in range(5)]
            assert run.data.params == {"depth": str(number)}
            assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["table.txt"]


@pytest.mark.slow
def test_two_studies_at_once_in_a_runs_folder_lose_nothing(tmp_path: Path) -> None:
    """The store itself is made by both at the same time."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    try:
        assert [writer.stdout.readline() for writer in writers if writer.stdout] == ["ready\n"] * 2
        for number in range(ROUNDS):
            runs = tmp_path / f"runs{number}"
            for writer in writers:
                assert writer.stdin is not None
                writer.stdin.write(f"{runs}\n")
                writer.stdin.flush()
            names = [writer.stdout.readline().strip() for writer in writers if writer.stdout]
            assert len(set(names)) == 2
            client = MlflowClient(tracking_uri=local_store(runs))
            (experiment,) = client.search_experiments()
            for name in names:
                assert (runs / name / "plan.json").is_file()
                check_study(client, experiment.experiment_id, name)
            assert len(client.search_runs([experiment.experiment_id])) == 6
            left = {path.name for path in runs.iterdir()}
            assert left == {"mlflow.db", "mlartifacts", *names}
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
