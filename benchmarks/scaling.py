"""What distribution costs, and what breaks first: python benchmarks/scaling.py --part PART ...

ddp         events a second of a data-parallel training by 1, 2, ... workers, and their efficiency
overhead    seconds a step: a plain torch loop, this package's loop, Ray Train with one worker
trials      a search of short trials, one after the other: what each takes beside its own work
thresholds  the whole threshold surface by one worker and by two
scheduling  trials without work over fake nodes of many CPUs: trials a second, the driver's time
            and memory
predict     prediction by one worker and by two, the driver's memory, the overhead of one event
memory      the driver's memory of a prediction alone
ray-data    prediction by two workers of the service and by two actors of Ray Data
passes      the passes of an evaluation, by workers of each split and by workers that stay
validation  the validation of a trial by one process and by two
sums        thresholds of a million events, from recorded surfaces
shards      threshold shards of next to no work, with room for few and for many at a time
plan        100 nodes and a million events, and the study's own training, by formulas, from what was
            measured (`--rate`) and what is assumed (`--price`); the numbers of docs/scaling.md

What is compared runs by turns; medians. The machine's load is printed first: above the number of
its cores the times mean little.
"""

import argparse
import os
from collections.abc import Callable

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # fake nodes on loopback, whatever is joined

import evaluation_passes
import many_events
import prediction
from scaling_driver import scheduling, shards
from scaling_plan import plan
from scaling_training import ddp, overhead, trials
from thresholds import events as threshold_events


def thresholds(options: argparse.Namespace) -> None:
    threshold_events(options.events, options.repeats)


def predict(options: argparse.Namespace) -> None:
    prediction.measure_prediction(options.predicted, options.sizes, options.repeats)


def memory(options: argparse.Namespace) -> None:
    prediction.measure_memory(options.sizes)


def ray_data(options: argparse.Namespace) -> None:
    prediction.measure_ray_data(options.predicted, options.repeats)


def passes(options: argparse.Namespace) -> None:
    evaluation_passes.measure_passes(options.passed, options.repeats)


def validation(options: argparse.Namespace) -> None:
    many_events.measure_validation(options.validated, options.repeats)


def sums(options: argparse.Namespace) -> None:
    many_events.measure_sums(options.million, options.real_cpus)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "ddp": ddp,
    "overhead": overhead,
    "trials": trials,
    "thresholds": thresholds,
    "predict": predict,
    "memory": memory,
    "ray-data": ray_data,
    "passes": passes,
    "validation": validation,
    "sums": sums,
    "scheduling": scheduling,
    "shards": shards,
    "plan": plan,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--part", choices=PARTS, action="append", help="all by default; predict has memory"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=80, help="ddp, overhead: steps a training")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="ddp")
    parser.add_argument(
        "--budget", default="laptop", help="ddp, overhead: whose trial 0 is trained"
    )
    parser.add_argument("--batch", type=int, default=8, help="ddp, overhead: events a step")
    parser.add_argument("--short", type=int, default=8, help="trials: how many")
    parser.add_argument("--events", type=int, default=100, help="thresholds")
    parser.add_argument("--trials", type=int, default=1000, help="scheduling")
    parser.add_argument("--nodes", type=int, default=8, help="scheduling, shards: fake nodes")
    parser.add_argument("--cpus", type=int, default=64, help="scheduling, shards: CPUs of each")
    parser.add_argument("--trial-cpus", type=int, default=32, help="scheduling: CPUs of a trial")
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--real-cpus", type=int, default=2, help="shards: workers that do the work")
    parser.add_argument("--rate", type=float, default=12.8, help="plan: events a second, a worker")
    parser.add_argument("--price", type=float, default=0.05, help="plan: of a node hour, assumed")
    parser.add_argument("--whole-passes", type=int, default=1, help="plan: over all events")
    prediction.add_arguments(parser)
    evaluation_passes.add_arguments(parser)
    many_events.add_arguments(parser)
    options = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default: slower beside other work
    for part in options.part or [name for name in PARTS if name != "memory"]:
        load = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        print(f"{part} ({load})", flush=True)
        PARTS[part](options)


if __name__ == "__main__":
    main()
