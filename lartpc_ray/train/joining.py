"""Add the networks that join pieces to a network that was trained without them."""

from __future__ import annotations

from dataclasses import replace

from lartpc_ray.train.validation import fit_constants
from lartpc_ray.trials.checkpoint import Checkpoint, with_constants
from lartpc_ray.trials.trial import Trial


def add_joining(
    state: Checkpoint, events: int, *, data: str | None = None, device: str = "cpu"
) -> Checkpoint:
    """Train the joining networks of a finished clustering network; its weights do not change.

    Args:
        state: of the network.
        events: number of train events from which the joining networks learn.
        data: folder or file of the splits, if they are not the trial's own.
        device: where the network computes.

    Returns:
        the checkpoint to use, with `task.joining_events` and the method `pieces` in its trial;
        tune the thresholds with it.

    Raises:
        ValueError: for a network of another task.

    Example:
        state = add_joining(load(Path("models/clustering")), 700, data="DATA")
        save(Path("joined"), state)
    """
    trial = state.trial.with_events(data) if data else state.trial
    if trial.task.name != "clustering":
        raise ValueError(f"the task {trial.task.name} has no pieces to join; give a clustering run")
    content = trial.model_dump()
    content["task"] |= {"joining_events": events, "method": "pieces"}
    trial = Trial.model_validate(content)
    network = trial.make_network(engine="auto")
    network.load_state_dict(with_constants(state.network, trial))
    network.to(device)
    fit_constants(network, trial, trial.data.splits.events("train"), device)
    own = {**state.trial.model_dump(), "task": content["task"]}
    weights = {name: values.cpu() for name, values in network.state_dict().items()}
    return replace(state.to_use(), trial=Trial.model_validate(own), network=weights)
