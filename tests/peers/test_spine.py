"""Clusters and metrics equal those of SPINE itself: `make test-peers` installs its wheel."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from lartpc_ray.data.files import read_events
from lartpc_ray.data.outputs import open_outputs
from lartpc_ray.data.splits import sample
from lartpc_ray.metrics.clustering import ari, efficiency, purity, sbd
from lartpc_ray.predict.inference import predict
from lartpc_ray.reconstruct.first_come import cluster_first_come
from lartpc_ray.reconstruct.reconstructions import SeedClustering
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.thresholds.export import exported
from lartpc_ray.trials import checkpoint

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".peers"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (PEERS / "spine").is_dir(), reason="no SPINE here: make test-peers"),
]
OUTPUTS = ("position", "margin", "seediness")
AXES = SeedClustering().axes()
EVERY = os.environ.get("LARTPC_EVERY_POINT") == "1"
"""Compare all 525 points of the default grid, 20 minutes of a core, instead of 15."""
S0 = tuple(AXES["s0"]) if EVERY else (0.0, 0.5, 0.85)
P0 = tuple(AXES["p0"]) if EVERY else (0.0, 1e-4, 0.1, 0.5, 1.0)


@pytest.fixture(scope="module")
def clusterer() -> Any:
    """SPINE's SPICEClusterer, by its path: the package around it imports MinkowskiEngine."""
    sys.path.insert(0, str(PEERS))
    path = PEERS / "spine" / "model" / "spice" / "cluster.py"
    spec = importlib.util.spec_from_file_location("spice_cluster", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SPICEClusterer


@pytest.fixture(scope="module")
def metrics() -> ModuleType:
    sys.path.insert(0, str(PEERS))
    return importlib.import_module("spine.math.metrics")


@pytest.fixture(scope="module")
def outputs() -> list[dict[str, np.ndarray]]:
    """Return the outputs of the kept network for each class of 50 test events, float32."""
    state = checkpoint.load(ROOT / "models" / "clustering")
    task = state.trial.task
    assert isinstance(task, ClusteringTask)
    events = read_events(sample("test"), indices=range(50))
    return [
        {name: np.asarray(values) for name, values in voxels.items()}
        for event, found in predict(state.restored(), task, events)
        for voxels in task.class_voxels(event, found).values()
    ]


def labels_of_spine(clusterer: Any, voxels: dict[str, np.ndarray], s0: float, p0: float) -> Any:
    spice = clusterer(shapes=[0], seed_threshold=s0, probability_threshold=p0)
    labels = np.full(len(voxels["margin"]), -1)
    if len(labels) >= spice.min_size:
        rows = (voxels[name].astype(np.float32) for name in OUTPUTS)
        tensors = [torch.from_numpy(values) for values in rows]
        clusters = spice._cluster_shape(*tensors, torch.arange(len(labels)), 0)
        for number, cluster in enumerate(clusters):
            labels[cluster.numpy()] = number
    return labels


def pairs(clusterer: Any, outputs: list[dict[str, np.ndarray]]) -> Iterator[tuple[Any, Any]]:
    for voxels in outputs:
        for s0 in S0:
            for p0 in P0:
                position, margin, seediness = (voxels[name] for name in OUTPUTS)
                ours = cluster_first_come(position, margin, seediness, s0, p0)
                yield labels_of_spine(clusterer, voxels, s0, p0), ours


def test_labels_are_those_of_spine(clusterer: Any, outputs: list[dict[str, np.ndarray]]) -> None:
    compared = [np.array_equal(theirs, ours) for theirs, ours in pairs(clusterer, outputs)]
    assert len(compared) > 2000
    assert all(compared), f"{compared.count(False)} of {len(compared)} differ"


def test_metrics_are_those_of_spine(metrics: ModuleType, rng: np.random.Generator) -> None:
    for voxels in (2, 30, 400):
        truth, found = rng.integers(0, 6, voxels), rng.integers(0, 9, voxels)
        assert ari(truth, found) == pytest.approx(metrics.ari(truth, found), abs=1e-12)
        assert purity(truth, found) == pytest.approx(metrics.pur(truth, found), abs=1e-12)
        assert efficiency(truth, found) == pytest.approx(metrics.eff(truth, found), abs=1e-12)
        assert sbd(truth, found) == pytest.approx(metrics.sbd(truth, found), abs=1e-12)


def test_spine_loads_the_export(clusterer: Any) -> None:
    content = {"classes": {"MIP": {"s0": 0.8, "p0": 0.1}, "SHOWER": {"s0": 0.2, "p0": 0.3}}}
    shapes = ["shower", "track", "michel", "delta"]
    spice = clusterer(shapes, **yaml.safe_load(exported(content, "spine"))["clusterer"])
    assert spice.seed_thresholds == {0: 0.2, 1: 0.8, 2: 0.0, 3: 0.0}
    assert spice.probability_thresholds == {0: 0.3, 1: 0.1, 2: 0.5, 3: 0.5}


def test_a_file_of_its_writer_is_read(metrics: ModuleType, tmp_path: Path) -> None:
    """Two events of five and four voxels, of which the network clusters three and two."""
    assert metrics
    spine = importlib.import_module("spine.data")
    writer = importlib.import_module("spine.io.write.hdf5.writer").HDF5Writer
    voxels, kept, rng = np.array([5, 4]), np.array([3, 2]), np.random.default_rng(1)
    labels, shapes = np.zeros((9, 8), np.float32), np.zeros((9, 5), np.float32)
    labels[:, 0] = shapes[:, 0] = np.repeat([0, 1], voxels)
    labels[:, 1:4] = rng.integers(0, 99, (9, 3))
    labels[:, 5] = [0, 0, 1, 1, 2, 0, 0, 0, 1]
    shapes[:, -1] = [1, 0, 4, 3, 2, 1, 1, 0, 4]
    columns = {name: rng.random((5, 1)).astype(np.float32) for name in ("margins", "seediness")}
    columns["embeddings"] = rng.random((5, 3)).astype(np.float32)
    data = {name: spine.TensorBatch(values, kept) for name, values in columns.items()}
    data["index"] = np.arange(2)
    data["filter_index"] = spine.IndexBatch(np.array([0, 1, 3, 6, 7]), spans=voxels, counts=kept)
    for name, values in {"clust_label": labels, "seg_label": shapes}.items():
        data[name] = spine.TensorBatch(values, voxels, has_batch_col=True, coord_cols=[1, 2, 3])
    keys = [name for name in data if name != "index"]
    with writer(file_name=str(tmp_path / "spine.h5"), format_version=2, keys=keys) as file:
        file(data)
    first, second = open_outputs(tmp_path / "spine.h5")
    assert first["class"].tolist() == [1, 2, 3]
    assert second["class"].tolist() == [1, 2]
    assert [*first["cluster"], *second["cluster"]] == [0, 0, 1, 0, 0]
    np.testing.assert_array_equal(second["position"], columns["embeddings"][3:])
    np.testing.assert_array_equal(first["margin"], columns["margins"][:3, 0])
    np.testing.assert_array_equal(second["coords"], labels[[6, 7], 1:4])
