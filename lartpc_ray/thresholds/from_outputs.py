"""Tune (s0, p0) from the outputs of a network, also of another program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.formats.outputs import COLUMNS, checked_outputs
from lartpc_ray.data.formats.source import locate_errors
from lartpc_ray.data.outputs import open_outputs
from lartpc_ray.predict.inference import predict
from lartpc_ray.predict.trained_model import load_model
from lartpc_ray.reconstruct.grid import (
    ThresholdGrid,
    choose,
    objective_scores,
)
from lartpc_ray.reconstruct.names import ClusterRule, Rule
from lartpc_ray.reconstruct.reconstructions import SWEEPS, SeedClustering
from lartpc_ray.reconstruct.resampling import ChoiceSettings
from lartpc_ray.thresholds.source import class_voxels
from lartpc_ray.thresholds.tuning import class_objectives

Outputs = Mapping[str, Any]


def tune_thresholds(
    outputs: pd.DataFrame | Iterable[Outputs] | str | Path,
    *,
    objective: str = "ari",
    s0: Sequence[float] | np.ndarray | None = None,
    p0: Sequence[float] | np.ndarray | None = None,
    min_voxels: int = 10,
    rule: Rule = "robust",
    cluster_rule: ClusterRule = "argmax",
) -> pd.DataFrame:
    """Tune s0 and p0 of each class: score every point of a grid exactly, and choose a point.

    Args:
        outputs: one mapping per event with the arrays `class (voxel,)` (0 to 4 as
            `ParticleClass`, or names), `cluster (voxel,)` (true cluster, -1 none), `position
            (voxel, axis)`, `margin (voxel,)` and `seediness (voxel,)`; or a table with one row per
            voxel, these columns, `event`, and `position_0`, `position_1`, ... for the position; or
            a file of outputs as for `thresholds --outputs`; or a trained run, as for `load_model`,
            which is applied to the events of its tune split.
        objective: `ari`, `purity`, `efficiency`, `sbd`, `ami`, or a product such as
            `purity*efficiency`; its mean over the events is maximised.
        s0: ascending values in [0, 1]; by default 21 values from 0 to 1.
        p0: ascending values in [0, 1]; by default the same and four values near 0.
        min_voxels: true clusters with fewer voxels are not scored.
        rule: `best`, the point of highest mean; or `robust`, the middle of the best points of
            resampled events.
        cluster_rule: `argmax` (Koh et al. 2020), `counted` (lartpc_mlreco3d) or `first_come`
            (SPINE 1.4).

    Returns:
        a table with one row per class and the columns class, s0, p0, score (the mean over the
        events at the point), error (its standard error by the bootstrap) and events. A class
        without true clusters has no row.

    Raises:
        ValueError: for missing arrays, arrays of unequal lengths, an unknown objective or rule, or
            values of s0 and p0 that are not ascending in [0, 1].

    Example:
        >>> tracks = {"class": [1, 1, 1], "cluster": [0, 0, 1], "margin": [1.0, 1.0, 1.0],
        ...           "position": [[0.0], [0.1], [5.0]], "seediness": [0.9, 0.5, 0.8]}
        >>> tune_thresholds([tracks], min_voxels=1)[["class", "score", "events"]]
          class  score  events
        0   MIP    1.0       1
    """
    if cluster_rule not in SWEEPS:
        raise ValueError(f"cluster_rule {cluster_rule!r}: give {', '.join(SWEEPS)}")
    if rule not in get_args(Rule):
        raise ValueError(f"rule {rule!r}: give {', '.join(get_args(Rule))}")
    metrics = objective.split("*")
    objectives = class_objectives([objective], SeedClustering.metrics)
    axes = SeedClustering(rule=cluster_rule).axes()
    axes |= {
        name: np.asarray(values, np.float64)
        for name, values in (("s0", s0), ("p0", p0))
        if values is not None
    }
    scores: dict[str, list[np.ndarray]] = {name: [] for name in CLASS_NAMES}
    for event in _events(outputs):
        for name, voxels in class_voxels(event, min_voxels):
            rows = [voxels[key] for key in ("position", "margin", "seediness", "truth")]
            surfaces = SWEEPS[cluster_rule](*rows, **axes, min_voxels=min_voxels, metrics=metrics)
            scores[name].append(objective_scores(surfaces, objectives[name]))
    grid = ThresholdGrid(axes, {name: np.stack(rows) for name, rows in scores.items() if rows})
    return _table(grid, ChoiceSettings(rule=rule))


def _table(grid: ThresholdGrid, settings: ChoiceSettings) -> pd.DataFrame:
    rows = []
    for name in grid.scores:
        choice = choose(grid, name, settings)
        row = {"class": name, **choice.thresholds, "score": choice.score, "error": choice.error}
        rows.append(row | {"events": choice.events})
    return pd.DataFrame(rows, columns=["class", "s0", "p0", "score", "error", "events"])


def _events(
    outputs: pd.DataFrame | Iterable[Outputs] | str | Path,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the checked outputs of each event."""
    if isinstance(outputs, str | Path) and _is_file(Path(outputs)):
        yield from open_outputs(outputs)
        return
    for number, event in enumerate(_given_events(outputs)):
        with locate_errors(f"event {number}"):
            checked = checked_outputs(event)
        yield checked


def _is_file(path: Path) -> bool:
    """Return whether a path means a file of outputs, also one that is not there."""
    return path.is_file() or (path.suffix in (".h5", ".hdf5") and not path.is_dir())


def _given_events(outputs: pd.DataFrame | Iterable[Outputs] | str | Path) -> Iterator[Outputs]:
    if isinstance(outputs, str | Path):
        state = load_model(outputs).state
        events = state.trial.data.splits.events("tune")
        for event, arrays in predict(state.restored(), state.trial.task, events):
            yield {"class": event.semantic, "cluster": event.cluster, **arrays}
    elif isinstance(outputs, pd.DataFrame):
        if "event" not in outputs:
            raise ValueError(f"a table without the column event; give event, {', '.join(COLUMNS)}")
        if (missing := outputs["event"].isna()).any():
            raise ValueError(f"row {missing.argmax()}: no event; give its number in each row")
        axes = sorted(name for name in outputs if str(name).startswith("position_"))
        for _, rows in outputs.groupby("event", sort=False):
            arrays = {name: rows[name].to_numpy() for name in COLUMNS if name in rows}
            yield arrays | ({"position": rows[axes].to_numpy()} if axes else {})
    else:
        yield from outputs
