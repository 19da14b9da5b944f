"""Mean ARI of joined pieces against the train events that the joining networks learn from.

    python benchmarks/joining.py --run models/clustering --data DATA

The weights of the network do not change. With --untrained it prints the same of an untrained
network. The thresholds are tuned on the tune split for each number of events, and the test split
is measured once for each. It prints a row as soon as it is known.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lartpc_ray.data.event import Event
from lartpc_ray.metrics.table import MEAN
from lartpc_ray.predict.evaluate import measure, validate
from lartpc_ray.predict.evaluation import Predictions
from lartpc_ray.predict.inference import predict
from lartpc_ray.train.joining import add_joining
from lartpc_ray.trials.checkpoint import Checkpoint, load

EVENTS = (25, 50, 100, 200, 400, 700, 1500)


def row(state: Checkpoint, tune: Sequence[Event], test: Sequence[Event]) -> list[str]:
    """Return the mean over the classes, and each class, on the test events, with their errors."""
    network, task = state.restored(), state.trial.task
    thresholds = validate(network, task, tune).thresholds
    metrics = measure(task, Predictions(predict(network, task, test), len(test)), thresholds)
    means, errors = task.summary(metrics), metrics.errors(task.scored_classes)
    scores = {name: means[name]["ari"] for name in task.scored_classes}
    scores = {MEAN: sum(scores.values()) / len(scores), **scores}
    return [f"{score:.3f} ± {errors[name]['ari']:.3f}" for name, score in scores.items()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("models/clustering"))
    parser.add_argument("--data", required=True, help="folder of the splits")
    parser.add_argument("--events", type=int, nargs="+", default=EVENTS)
    parser.add_argument("--untrained", action="store_true")
    options = parser.parse_args()
    state = load(options.run)
    if options.untrained:
        state = replace(state, network=state.trial.make_network(engine="auto").state_dict())
    splits = state.trial.with_events(options.data).data.splits
    names = [MEAN, *state.trial.task.scored_classes]
    print(f"{'events':>8} {'CPU s':>5}  " + "  ".join(f"{name:13}" for name in names), flush=True)
    for count in options.events:
        began = time.process_time()
        joined = add_joining(state, count, data=options.data)
        spent = time.process_time() - began
        cells = row(joined, splits.events("tune"), splits.events("test"))
        print(f"{count:8d} {spent:5.0f}  " + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
