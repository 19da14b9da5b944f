"""Shapes in signatures are checked in the test run only."""

import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (at 15 the tests beside it take the core)
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from jaxtyping import install_import_hook

ENGINES = tuple(f"sparse.{name}" for name in ("engine", "native", "minkowski", "spconv", "dense"))
PURE = ("data", "networks", "losses", *ENGINES)  # numba and the refusal tests do without
install_import_hook([f"lartpc_ray.{room}" for room in PURE], "beartype.beartype")

import numpy as np  # noqa: E402 (the hook comes before what it checks)
import pytest  # noqa: E402
import torch  # noqa: E402

from lartpc_ray.data.event import Event  # noqa: E402
from lartpc_ray.data.files import read_events, write_events  # noqa: E402
from lartpc_ray.data.splits import Split, sample  # noqa: E402

torch.set_num_threads(1)

TINY: dict[str, Any] = {
    "network.depth": 2,
    "network.filters": 4,
    "network.blocks": 1,
    "task.seeds.grid_points": 3,
    "task.seediness_from": 2,
    "task.init_margin": 0.1,
    "data.batch_events": 2,
    "optimizer.steps": 4,
    "optimizer.evaluate_every": 2,
    "optimizer.batchnorm_batches": 2,
}
"""Of a clustering trial of some seconds; the fixture `tiny` adds its events."""


@pytest.fixture(scope="session", autouse=True)
def quick_databases() -> Iterator[None]:
    """Copy the tables of an empty MLflow database; to make them takes MLflow 0.7 s a test."""
    if "mlflow" not in sys.modules:
        yield
        return
    from mlflow.store.db import utils

    empty = sqlite3.connect(":memory:")
    make_tables: Callable[[Any], None] = utils._upgrade_db

    def copy_tables(engine: Any) -> None:
        with closing(engine.raw_connection()) as database:
            if not empty.execute("SELECT name FROM sqlite_master").fetchone():
                make_tables(engine)
                database.driver_connection.backup(empty)
            empty.backup(database.driver_connection)

    with pytest.MonkeyPatch.context() as patch, closing(empty):
        patch.setattr(utils, "_upgrade_db", copy_tables)
        yield


@pytest.fixture(autouse=True)
def own_store() -> Iterator[None]:
    """Forget the store that a test has given to MLflow: it stays in the environment."""
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def few_events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the first events of each split of the sample, so that validations are quick."""
    folder = tmp_path_factory.mktemp("events")
    counts: dict[Split, int] = {"train": 12, "tune": 3, "test": 3}
    for split, count in counts.items():
        write_events(folder / f"{split}.h5", read_events(sample(split), indices=range(count)))
    return folder


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start a head without cores and two nodes of one core, each with its own raylet.

    Ray would make it the cluster of this machine, for all that do not name theirs.
    """
    from ray.cluster_utils import Cluster

    monkeypatch.setattr("ray._private.utils.write_ray_address", lambda _: None)
    monkeypatch.setattr("ray._common.utils.reset_ray_address", lambda: None)
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=0, include_dashboard=False)
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture(scope="session")
def tiny(few_events: Path) -> None:
    """Give the trial TINY its events."""
    TINY["data.splits.path"] = str(few_events)


def make_event(rng: np.random.Generator, voxels: int = 60, side: int = 16) -> Event:
    """Random voxels with classes and clusters."""
    flat = rng.choice(side**3, voxels, replace=False)
    coords = np.stack(np.unravel_index(flat, (side,) * 3), axis=1)
    return Event.of(
        coords,
        rng.random(voxels),
        (side,) * 3,
        semantic=rng.integers(-1, 5, voxels),
        cluster=rng.integers(0, 3, voxels),
    )
