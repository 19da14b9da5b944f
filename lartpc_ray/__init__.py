"""Ray-distributed hyperparameter and threshold optimizer for liquid-argon TPC images."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lartpc_ray.data.draw import draw
    from lartpc_ray.data.event import Event
    from lartpc_ray.data.files import open_events, read_events, write_events
    from lartpc_ray.metrics.clustering import ari, efficiency, purity, sbd, scores
    from lartpc_ray.predict.trained_model import load_model
    from lartpc_ray.reconstruct.clusters import cluster
    from lartpc_ray.reconstruct.sweep import sweep
    from lartpc_ray.report.compare import compare
    from lartpc_ray.thresholds.from_outputs import tune_thresholds
    from lartpc_ray.train.training import train_trial
    from lartpc_ray.trials.space import Space
    from lartpc_ray.trials.trial import Trial
    from lartpc_ray.tune.search import search

__all__ = [
    "Event",
    "Space",
    "Trial",
    "ari",
    "cluster",
    "compare",
    "draw",
    "efficiency",
    "load_model",
    "open_events",
    "purity",
    "read_events",
    "sbd",
    "scores",
    "search",
    "sweep",
    "train_trial",
    "tune_thresholds",
    "write_events",
]
_MODULES = {
    "data.draw": ("draw",),
    "data.event": ("Event",),
    "data.files": ("open_events", "read_events", "write_events"),
    "metrics.clustering": ("ari", "efficiency", "purity", "sbd", "scores"),
    "predict.trained_model": ("load_model",),
    "reconstruct.clusters": ("cluster",),
    "reconstruct.sweep": ("sweep",),
    "report.compare": ("compare",),
    "thresholds.from_outputs": ("tune_thresholds",),
    "train.training": ("train_trial",),
    "trials.space": ("Space",),
    "trials.trial": ("Trial",),
    "tune.search": ("search",),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    for module, names in _MODULES.items():
        if name in names:
            from lartpc_ray.terminal.command import prepare_process

            prepare_process()
            value = getattr(import_module(f"lartpc_ray.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'lartpc_ray' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, also those that are not imported yet."""
    return sorted({*globals(), *__all__})
