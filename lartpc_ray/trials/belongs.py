"""Settings that have no effect in a group of a search-space file, and the group of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

STEPS = "optimizer.steps"
SAME_EVENTS = "a search compares its trials on the same events"
NOT_SEARCHED = {
    "resources.workers": "all trials of a search have the same resources",
    "resources.min_workers": "all trials of a search have the same resources",
    "resources.cpus": "all trials of a search have the same resources",
    "resources.gpus": "all trials of a search have the same resources",
    "optimizer.evaluate_every": "a search compares its trials after the same steps",
    "data.splits.path": SAME_EVENTS,
    "data.splits.fractions": SAME_EVENTS,
    "data.splits.val_events": SAME_EVENTS,
    "data.splits.most_events": f"{SAME_EVENTS}; data.splits.train_events varies the training alone",
    "data.splits.layout.": SAME_EVENTS,
    "task.metric": "a search compares its trials by one metric",
    "task.min_voxels": "a search compares its trials on the same clusters",
    "task.dead": "a search compares its trials on the same dead regions",
    "task.regions.": "a search compares its trials on the same dead regions",
}
"""Path (or group, which ends in a dot) to reason, of settings that one search cannot vary.

Each belongs to `fixed`.
"""
SAME_VOXELS = "a search compares its trials on the same voxels"
SAME_CLASSES = "a search compares its trials on the same classes"
GRID_ONLY = {
    "data.splits.smear": SAME_VOXELS,
    "data.splits.threshold": SAME_VOXELS,
    "data.splits.plane": SAME_VOXELS,
    "data.splits.wires.": SAME_VOXELS,
    "data.splits.box": SAME_VOXELS,
    "task.min_energy": SAME_VOXELS,
    "task.segmentation.min_energy": SAME_VOXELS,
    "task.poster_classes": SAME_CLASSES,
    "task.relabel": SAME_CLASSES,
    "task.segmentation.relabel": SAME_CLASSES,
    "task.semantics": SAME_CLASSES,
}
"""Path (or group) to reason, of settings that change what is scored.

A grid may vary them: it shows its points side by side.
"""
JUDGED = ("task.method", *(path for path in NOT_SEARCHED if path.startswith("task.")), *GRID_ONLY)
"""Paths (or groups) of the settings on which the meaning of an objective depends."""
BEGIN_ANEW = (
    "this study, which an earlier version began, cannot go on: write one value under `fixed` of "
    "the search space, and begin a new search with it and with --from STUDY"
)
IDLE = {
    "network.chunk": "it changes no result, only memory on a GPU",
    "data.prefetch": "it changes no result: a thread prepares the same batches",
    "task.segmentation.metric": "the metric of a michel search is `matched`",
}
"""Path to reason, of settings that change no objective; a search with costs may vary them."""
RATIO = ("task.loss.gamma_seediness", "task.loss.gamma_embedding")
"""Two weights of which only the ratio acts under Adam."""


class Need(NamedTuple):
    """The value of another setting without which a setting has no effect.

    Attributes:
        setting: its path, or a group of settings that ends in a dot.
        other: path of the other setting.
        values: of the other setting.
        above: the other setting is larger, where there are no values.
    """

    setting: str
    other: str
    values: tuple[Any, ...] = ()
    above: float = 0

    def met(self, value: Any) -> bool:
        """Return whether the other setting has a value that gives the setting an effect."""
        if self.values:
            return value in self.values
        return isinstance(value, int | float) and value > self.above


NEEDS = (
    Need("task.seeds.", "task.method", ("seeds",)),
    Need("task.linked.", "task.method", ("linked",)),
    Need("task.joining_events", "task.method", ("pieces",)),
    Need("task.pieces.", "task.method", ("pieces",)),
    Need("task.dbscan.", "task.method", ("dbscan",)),
    Need("task.loss.inter_distance", "task.loss.inter"),
    Need("task.regions.", "task.dead", (None,)),
    Need("optimizer.norm", "resources.workers", above=1),
    Need("data.splits.wires.U", "data.splits.plane", ("U",)),
    Need("data.splits.wires.V", "data.splits.plane", ("V",)),
    Need("data.splits.wires.Y", "data.splits.plane", ("Y",)),
    Need("data.splits.wires.pitch", "data.splits.plane", ("U", "V", "Y")),
    Need("data.splits.wires.adc_per_mev", "data.splits.plane", ("U", "V", "Y")),
)
"""Settings that have an effect on the objective only with some values of another setting."""


def need_of(key: str) -> Need | None:
    """Return the need of a setting; None for a setting that always has an effect.

    Example:
        >>> need_of("task.linked.s0").other
        'task.method'
    """
    fits = (one for one in NEEDS if f"{key}.".startswith(f"{one.setting.removesuffix('.')}."))
    return next(fits, None)


def misplaced(group: str, key: str, *, grid: bool = False, kept: bool = False) -> str:
    """Return the reason why a setting has no effect in a group, and its place; empty if it fits.

    Args:
        group: `fixed`, `search`, `first`, `--set`, or `budgets.NAME.fixed`.
        key: path of the setting.
        grid: whether `search` is a grid.
        kept: whether a study has begun with it. All of its trials have the resources of trial 0;
            settings other than resources do not end it.

    Example:
        >>> misplaced("search", "data.splits.box", grid=True)
        ''
        >>> misplaced("search", "resources.cpus")[:46]
        'all trials of a search have the same resources'
        >>> misplaced("fixed", "resources.cpus")
        ''
        >>> misplaced("search", "task.metric", kept=True)
        ''
    """
    if kept:
        stuck = group == "search" and key.startswith("resources.") and _reason(NOT_SEARCHED, key)
        return f"{stuck}; {BEGIN_ANEW}" if stuck else ""
    if key == STEPS and group != "--set":
        return (
            "a budget sets the steps of its trials; write `steps: N` in budgets, or "
            f"--set {STEPS}=N on the command line"
        )
    if group == "search" and not grid and (reason := _reason(GRID_ONLY, key)):
        return f"{reason}; write one value under `fixed`, or make all of `search` grids"
    if group == "search" and (reason := _reason(NOT_SEARCHED, key)):
        return f"{reason}; write one value under `fixed`, or --set {key}=VALUE"
    return ""


def _reason(settings: Mapping[str, str], key: str) -> str:
    """Return the reason of a setting or its group; empty without one."""
    fits = (name for name in settings if f"{key}.".startswith(f"{name.removesuffix('.')}."))
    return settings.get(next(fits, ""), "")
