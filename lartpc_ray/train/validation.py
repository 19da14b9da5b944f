"""Validate a network while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import islice

import torch

from lartpc_ray.data.event import Event, Events
from lartpc_ray.data.loader import batches
from lartpc_ray.networks.batchnorm import Norm, SynchronisedNorm
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.predict.inference import predict
from lartpc_ray.runtime.resources import Meter
from lartpc_ray.train.shared_validation import gather_parts, own_parts
from lartpc_ray.trials.event_scores import EventScores
from lartpc_ray.trials.trial import Trial


@torch.no_grad()
def recalibrate_batchnorm(
    network: UResNet, trial: Trial, events: Events, step: int, device: str
) -> None:
    """Compute BatchNorm's averages over the next batches with the present weights.

    The running averages lag behind, and few voxels on the coarse levels make them noisy. Training
    does not use them.
    """
    norms = [module for module in network.modules() if isinstance(module, Norm)]
    count = trial.optimizer.batchnorm_batches
    before = [(norm, norm.momentum, deepcopy(norm.state_dict())) for norm in norms]
    _set_local_statistics(norms, True)
    for norm in norms if count else []:
        norm.reset_running_stats()
        norm.momentum = None
    for batch in islice(batches(events, trial.data, trial.task.prepare, start=step), count):
        moved = batch.to(device)
        network(moved.coords, trial.task.features(moved), moved.shape, moved.event)
    for norm, momentum, averages in before:
        norm.momentum = momentum
        if not norm.num_batches_tracked:  # all batches had 0 or 1 voxels
            norm.load_state_dict(averages)
    _set_local_statistics(norms, False)


def fit_constants(network: UResNet, trial: Trial, events: Sequence[Event], device: str) -> None:
    """Let the task set the values that no gradient reaches, with the network as it is.

    They depend only on the weights, the events and the seed, so a run that continues from a
    checkpoint sets the same ones.

    Args:
        network, trial: that is trained.
        events: of the train split; the first ones are taken, without augmentation.
        device: where the network is.
    """
    task = trial.task
    if count := min(task.fitted_events, len(events)):
        chosen = (events[number] for number in range(count))
        task.fit(network, predict(network, task, chosen, device=device), trial.seed)


def _set_local_statistics(norms: Sequence[Norm], alone: bool) -> None:
    """Let rank 0 use its own statistics while the other ranks wait."""
    for norm in norms:
        if isinstance(norm, SynchronisedNorm):
            norm.alone = alone


def validated(
    network: UResNet,
    trial: Trial,
    events: Sequence[Event],
    device: str,
    place: tuple[int, int] = (0, 1),
    own: Sequence[int] | None = None,
) -> tuple[dict[str, float], EventScores]:
    """Return the objective, each class's best score and thresholds; and the events' scores.

    Args:
        network, trial: that is trained.
        events: of the tune split.
        device: where the network is.
        place: rank, and number of ranks; the ranks share the events, and all but rank 0 return
            nothing.
        own: numbers of the events of this rank, see `share`; all by default.
    """
    own = range(len(events)) if own is None else own
    with Meter(device) as meter:
        parts = own_parts(network, trial.task, events, own, device)
    every = gather_parts(parts, *place)
    if place[0]:
        return {}, {}
    result = trial.task.validation_of(every)
    numbers = {
        "objective": result.objective,
        **({} if result.error is None else {"objective_error": result.error}),
        "seconds_an_event": meter.seconds / len(own),
        "inference_gib": meter.peak_gib,
    }
    numbers |= {f"{name}/{trial.task.metric}": score for name, score in result.scores.items()}
    for name, axes in result.thresholds.items():
        numbers |= {f"{name}/{axis}": value for axis, value in axes.items()}
    return numbers, result.event_scores
