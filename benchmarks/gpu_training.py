"""Train and predict on the packaged sample: the parts of benchmarks/gpu.py with whole trials."""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from lartpc_ray.predict.inference import predict
from lartpc_ray.runtime.resources import Meter
from lartpc_ray.train.loop import StepStats, Worker, train
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.trials.trial import Trial

Result = dict[str, Any]


def trial_of(device: str, scale: float, steps: int) -> Trial:
    """Return a clustering trial on the packaged sample: on a CPU a small network."""
    gpu = device == "cuda"
    settings = {
        "task.classes": True,
        "task.coordinates": True,
        "task.class_heads": True,
        "task.init_margin": 0.1,
        "task.max_margin": 0.3,
        "task.init_offset_scale": 0.1,
        "task.loss.mask": "balanced_bce",
        "network.depth": 6 if gpu else 4,
        "network.filters": 32 if gpu else 8,
        "network.blocks": 2 if gpu else 1,
        "data.batch_events": 32 if gpu else 2,
        "data.batch_voxels": 10**6,
        "data.prefetch": 2,
        "optimizer.learning_rate": 3e-3,
        "optimizer.clip": 1.0,
        "optimizer.steps": steps,
        "optimizer.evaluate_every": max(1, steps // 4),
        "data.splits.most_events": 150 if gpu else 40,
    }
    return make_trial(settings)


def trained(
    device: str, scale: float, steps: int
) -> tuple[list[dict[str, float]], list[StepStats]]:
    """Train on the packaged sample; return the reports and the measurements of each step."""
    reports: list[dict[str, float]] = []
    stats: list[StepStats] = []
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(device=device)
        trial = trial_of(device, scale, steps)
        train(trial, Path(folder), reports.append, worker=worker, watch=stats.append)
    return reports, stats


def loader(device: str, scale: float) -> Result:
    """Measure the share of a step that waits for the next batch."""
    _, stats = trained(device, scale, 40)
    waits = [one.data / (one.data + one.compute) for one in stats[5:]]
    rate = [one.events / (one.data + one.compute) for one in stats[5:]]
    return {"waiting_share": statistics.median(waits), "events_per_second": statistics.median(rate)}


def training(device: str, scale: float) -> Result:
    """Train for about two minutes on a GPU, and record the loss curve."""
    reports, stats = trained(device, scale, 400 if device == "cuda" else 80)
    kept = ("step", "loss", "objective")
    return {
        "seconds_per_step": statistics.median(one.data + one.compute for one in stats[5:]),
        "curve": [{name: report[name] for name in kept} for report in reports],
        "loss_first_ten": statistics.mean(one.loss for one in stats[:10]),
        "loss_last_ten": statistics.mean(one.loss for one in stats[-10:]),
    }


def events(device: str, scale: float) -> Result:
    """Time inference event by event on the packaged test events (Koh et al.'s poster: 0.73 s)."""
    trial = trial_of(device, scale, 1)
    network = trial.make_network().to(device)
    test = trial.data.splits.events("test")
    some = [test[index] for index in range(min(len(test), 20))]
    seconds = []
    for event in some[:3] + some:  # the first three warm up
        with Meter(device) as meter:
            list(predict(network, trial.task, [event], device=device))
        seconds.append(meter.seconds)
    return {
        "seconds_per_event": statistics.median(seconds[3:]),
        "voxels_per_event": statistics.mean(len(event) for event in some),
    }
