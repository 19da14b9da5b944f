"""Measure searches: record real trainings, and simulate searches on them.

python benchmarks/search.py record --data DIR --rows DIR     resumable, one core
python benchmarks/search.py table --rows DIR                 benchmarks/search_trainings.npz
python benchmarks/search.py simulate [--searches N]          mean true gain over the default
python benchmarks/search.py simulate --earlier               the same after an earlier search
python benchmarks/search.py choice [--shrink S]              the winner's gain, estimated and true
python benchmarks/search.py drift                            how far a difference at a rung lasts
python benchmarks/search.py schedules --data DIR --rows DIR  the same of other schedules; resumable

`simulate` needs no data. It fits the surrogate to the table, draws landscapes that the trainings
allow, and runs each search on them with the measured noise of seeds and events.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from search_study.choice import choice, summary
from search_study.drift import drifts
from search_study.ours import Plan, WarmPlan
from search_study.rivals import RIVALS
from search_study.schedules import FORMS, lasting, record_schedules
from search_study.simulate import COSTS, Job, Outcome, longer, simulate_parallel, split
from search_study.surrogate import Surrogate, fit
from search_study.trainings import SPACE, TABLE, Training, class_means, gather, load, record
from search_study.world import Searcher

from lartpc_ray.trials.space_file import read_space

WARM: dict[str, Searcher] = {
    f"after {words}: {'settings, results' if results else 'settings'}": WarmPlan(
        landscape=landscape, results=results
    )
    for landscape, words in (
        ("same", "the same"),
        ("another", "a similar one"),
        ("opposite", "the opposite"),
    )
    for results in (True, False)
}
"""Searches after an earlier one whose effects are the same, similar or of the other sign."""
TUNE_EVENTS = 100
"""Tune events of each class in the simulated searches."""
BUDGETS = (16, 63)
"""Full trainings of 3,000 steps in 45 minutes and in 3 hours of two cores."""


def print_simulation(
    searchers: Mapping[str, Searcher],
    searches: int,
    processes: int,
    shrink: float,
    costs: Sequence[int],
) -> None:
    """Print the gain and the risk of each search after each cost."""
    trainings, space = load(), read_space(SPACE, "laptop")
    surrogate = fit(space.search, space.first, trainings)
    print(f"{len(trainings)} trainings; {searches} simulated searches of each kind; gain of the")
    print("true mean ARI over the default +- its error (share that ends worse by more than 0.002)")
    print(f"{'after so many full trainings':<34}" + "".join(f"{cost:>22}" for cost in costs))
    found = {
        name: print_searcher(name, searcher, surrogate, searches, processes, shrink, costs)
        for name, searcher in searchers.items()
    }
    if WARM.keys() & searchers.keys():
        return
    gains = longer(lengths(trainings), costs)
    cells = "".join(f"{shrink * gain:>+22.4f}" for gain in gains)
    print(f"{'the default with all the steps':<34}{cells}")
    for budget in BUDGETS:
        print(f"lartpc_ray, {budget} full trainings as fewer trials of more steps:")
        for cost, gain in split(budget, found["lartpc_ray"], lengths(trainings)).items():
            print(f"  trials of a search of {cost}, {budget / cost:.2g} times as long: {gain:+.4f}")


def print_choice(searches: int, trials: int, events: int, shrink: float, seeds: float) -> None:
    """Print how often the verdict claims a better trial, and what is true."""
    space = read_space(SPACE, "laptop")
    surrogate = fit(space.search, space.first, load())
    found = [choice(surrogate, seed, trials, events, shrink, seeds) for seed in range(searches)]
    print("\n".join(summary(found)))


def print_drift() -> None:
    """Print the change of the differences from each length to the end of the trainings."""
    print("share of the steps, change to the end, over sqrt(end / rung - 1), correlation")
    for share, (change, correlation) in drifts(load()).items():
        print(
            f"{share:.1f}  {change:.4f}  {change / (1 / share - 1) ** 0.5:.4f}  {correlation:.2f}"
        )


def print_schedules(data: Path, rows: Path, points: int, factor: int, kinds: list[str]) -> None:
    """Train with several schedules of the learning rate; print how well the rung tells the end."""
    record_schedules(data, rows, points, factor, kinds)
    print("schedule    correlation   change   mean score: rung, end   above cosine at the end")
    for form, found in lasting(rows).items():
        rung, end = found.level
        print(
            f"{form:<12}{found.correlation:.2f} ± {found.error:.2f}   {found.change:.4f}   "
            f"{rung:.4f}        {end:.4f}   {found.ahead[0]:+.4f} ± {found.ahead[1]:.4f}"
        )


def print_searcher(
    name: str,
    searcher: Searcher,
    surrogate: Surrogate,
    searches: int,
    processes: int,
    shrink: float,
    costs: Sequence[int],
) -> dict[float, float]:
    """Print one line: the searches of one kind; return cost to gain."""
    anytime = name in RIVALS
    jobs = [
        Job(searcher, surrogate, seed, costs, TUNE_EVENTS, shrink, anytime)
        for seed in range(searches)
    ]
    gains = simulate_parallel(jobs, processes)
    outcomes = [Outcome.of(column) for column in gains.T]
    cells = [f"{one.gain:+.4f} ± {one.error:.4f} ({one.worse:.0%})" for one in outcomes]
    print(f"{name:<34}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
    return {cost: one.gain for cost, one in zip(costs, outcomes, strict=True)}


def lengths(trainings: list[Training]) -> dict[int, list[float]]:
    """Return the scores of the default at each multiple of the full length."""
    defaults = [one for one in trainings if one.kind in ("default", "longer")]
    full = min(int(one.steps[-1]) for one in defaults)
    scores: dict[int, list[float]] = {}
    for one in defaults:
        score = float(np.nanmean(class_means(one.scores)[-1]))
        scores.setdefault(int(one.steps[-1]) // full, []).append(score)
    return scores


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="train the points that have no row yet")
    recording.add_argument("--data", type=Path, required=True, help="with train, tune and test .h5")
    recording.add_argument("--until", type=int, default=200, help="trainings of the plan")
    table = commands.add_parser("table", help="gather the rows into the table of this repository")
    schedules = commands.add_parser("schedules", help="how far a difference lasts with others")
    schedules.add_argument("--data", type=Path, required=True, help="with train, tune and test .h5")
    schedules.add_argument("--points", type=int, default=16, help="of the plan")
    schedules.add_argument("--factor", type=int, default=1, help="on the steps of the plan")
    schedules.add_argument("--schedules", nargs="+", choices=FORMS, default=list(FORMS))
    for command in (recording, table, schedules):
        command.add_argument("--rows", type=Path, required=True, help="folder of the rows")
    simulation = commands.add_parser("simulate", help="simulate searches on the table")
    simulation.add_argument("--searches", type=int, default=200, help="of each kind")
    simulation.add_argument("--processes", type=int, default=2)
    simulation.add_argument("--shrink", type=float, default=1.0, help="of all differences")
    simulation.add_argument("--costs", type=int, nargs="+", default=COSTS, help="in full trainings")
    simulation.add_argument(
        "--earlier", action="store_true", help="searches after an earlier one of 16 full trainings"
    )
    simulation.add_argument("--alone", action="store_true", help="lartpc_ray without its rivals")
    choices = commands.add_parser(
        "choice", help="compare the estimated gain of winners: is it true"
    )
    choices.add_argument("--searches", type=int, default=200)
    choices.add_argument("--trials", type=int, default=12)
    choices.add_argument("--events", type=int, default=40, help="tune events of each class")
    choices.add_argument("--shrink", type=float, default=1.0, help="of the effects of settings")
    choices.add_argument("--seeds", type=float, default=1.0, help="factor on the noise of seeds")
    commands.add_parser("drift", help="how far a difference at a rung lasts")
    options = parser.parse_args()
    if options.command == "simulate":
        others = WARM if options.earlier else {} if options.alone else RIVALS
        print_simulation(
            {"lartpc_ray": Plan(), **others},
            options.searches,
            options.processes,
            options.shrink,
            options.costs,
        )
    elif options.command == "choice":
        print_choice(
            options.searches, options.trials, options.events, options.shrink, options.seeds
        )
    elif options.command == "drift":
        print_drift()
    elif options.command == "schedules":
        print_schedules(
            options.data, options.rows, options.points, options.factor, options.schedules
        )
    elif options.command == "record":
        record(options.data, options.rows, options.until)
    else:
        print(f"{gather(options.rows, TABLE)} trainings in {TABLE}")


if __name__ == "__main__":
    main()
