"""The passes of an evaluation: python benchmarks/scaling.py --part passes (or this file, alone).

A network passes the tune and the test split, by two workers that start anew for each split, and by
two that stay: by turns in one Ray. The outputs must be the same, bit for bit.
"""

import argparse
import hashlib
import statistics
import tempfile
import time
from pathlib import Path

from prediction import MODEL, many

from lartpc_ray.data.files import write_events
from lartpc_ray.data.splits import Split
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.placement import LazyRay, Placement
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint

SPLITS: tuple[Split, ...] = ("tune", "test")


def measure_passes(events: int, repeats: int) -> None:
    """Print the times of both ways, and whether their outputs are the same."""
    state = checkpoints.load(MODEL)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    digests = set()
    with tempfile.TemporaryDirectory() as folder, ray_session(2, dashboard=False):
        for split in SPLITS:
            write_events(Path(folder) / f"{split}.h5", many(events))
        for _ in range(repeats):
            for stay, times in seconds.items():
                began = time.perf_counter()
                evaluation = evaluated(state, folder, stay)
                times.append(time.perf_counter() - began)
                digests.add(digest(evaluation))
    anew, shared = (statistics.median(times) for times in seconds.values())
    print(
        f"  {len(SPLITS)} splits of {events} events: {anew:.1f} s by workers of each split, "
        f"{shared:.1f} s by workers that stay: {anew - shared:+.1f} s less, {shared / anew:.2f}"
    )
    print(f"  the same outputs: {len(digests) == 1}")


def evaluated(state: Checkpoint, folder: str, stay: bool) -> Evaluation:
    """Return the evaluation of a network after its passes."""
    evaluation = Evaluation(state, folder, LazyRay(Placement(workers=2, device="cpu")))
    if stay:
        evaluation.compute(*SPLITS)
    else:
        for split in SPLITS:
            evaluation.predictions(split).compute()
    return evaluation


def digest(evaluation: Evaluation) -> str:
    """Return the digest of all outputs."""
    found = hashlib.sha256()
    for split in SPLITS:
        for _, outputs in evaluation.predictions(split):
            for name in sorted(outputs):
                found.update(outputs[name].tobytes())
    return found.hexdigest()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the size of the measurement."""
    parser.add_argument("--passed", type=int, default=64, help="passes: events of each split")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    measure_passes(options.passed, options.repeats)


if __name__ == "__main__":
    main()
