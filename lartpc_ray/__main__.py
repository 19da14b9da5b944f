"""`python -m lartpc_ray`: the commands there are, and what the package tells of itself."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import OneLineParser, Parser, results_folder

COMMANDS = {
    "tune": "search a study's space; the main job",
    "train": "train one network, data-parallel",
    "thresholds": "tune the thresholds of a trained run, with errors",
    "predict": "write the clusters that a trained run finds in new events",
    "report": "print the table of a run again",
    "data": "look into event files",
}


VIEWS = """{study}

MLflow: every run, its numbers and files
  {mlflow}

report page: the search in one file
  python -m lartpc_ray.report {space} --html study.html --runs {runs}

optuna-dashboard: the trials as Optuna sees them, also while it runs
  pip install 'lartpc-ray[optuna-dashboard]'
  optuna-dashboard {journal}
  http://127.0.0.1:8080

Ray's dashboard, while it runs on a cluster or with --dashboard: processes, nodes, logs
  http://127.0.0.1:8265

Prometheus, while it runs: speed, loss, objectives, memory
  prometheus --config.file={runs}/prometheus.yml --storage.tsdb.path={runs}/prometheus \
--web.listen-address=127.0.0.1:9090
  http://127.0.0.1:9090

Grafana: the same as curves
  http://127.0.0.1:3000; add http://127.0.0.1:9090 as a Prometheus data source, then import
  {files}/lartpc.json"""


def dashboards(options: argparse.Namespace) -> int:
    """Print how to open all that shows the newest search of a folder.

    Raises:
        ValueError: where there is no search.
    """
    from lartpc_ray.runtime.ray_session import private_folder
    from lartpc_ray.runtime.run_folder import load_plan
    from lartpc_ray.tracking.pages import server_command
    from lartpc_ray.tracking.runs import Tracking
    from lartpc_ray.tracking.store import kept_store
    from lartpc_ray.trials.shipped import shipped
    from lartpc_ray.tune.journal import JOURNAL
    from lartpc_ray.tune.study_plan import PLAN, StudyPlan

    runs: Path = options.runs.resolve()
    plans = sorted(runs.glob(f"*/{PLAN}"), key=lambda path: path.stat().st_mtime)
    if not plans:
        raise ValueError(
            f"{runs}: no search in it; start one: python -m lartpc_ray.tune clustering"
        )
    plan = load_plan(plans[-1], StudyPlan)
    scrape = (shipped("dashboards") / "prometheus.yml").read_text()
    nodes = scrape.replace("/tmp/ray/", f"{private_folder()}/ray/")  # noqa: S108 (Ray's own place)
    (runs / "prometheus.yml").write_text(nodes)
    tracking = Tracking(runs, None, kept_store(plan.uri, runs))
    server = server_command(tracking)
    print(
        VIEWS.format(
            study=plans[-1].parent.name,
            mlflow=f"{server}\n  http://127.0.0.1:5000" if server else tracking.shown,
            space=shlex.quote(plan.space),
            runs=shlex.quote(str(runs)),
            journal=shlex.quote(str(plans[-1].with_name(JOURNAL))),
            files=shipped("dashboards").resolve(),
        )
    )
    return 0


def run_settings(options: argparse.Namespace) -> int:
    from lartpc_ray.trials.settings_page import names, page

    print(f"{json.dumps(names(), indent=1)}\n" if options.names else page(), end="")
    return 0


Action = Callable[[argparse.Namespace], int]
ACTIONS: dict[str, tuple[str, Action]] = {
    "dashboards": ("how to watch a search, and open what it left", dashboards),
    "settings": ("print all settings, as in docs/settings.md", run_settings),
}
"""What each does, and its action."""


def listed() -> int:
    """Print the commands."""
    print("lartpc_ray: find the best sparse network and thresholds for LArTPC images\n")
    for name, about in COMMANDS.items():
        print(f"  python -m lartpc_ray.{name:<11} {about}")
    for name, (about, _) in ACTIONS.items():
        print(f"  python -m lartpc_ray {name:<11} {about}")
    print("\neach has --help with an example; start with: python -m lartpc_ray.tune clustering")
    return 0


def main(options: argparse.Namespace) -> int:
    return ACTIONS[options.what][1](options) if options.what else listed()


def parser() -> Parser:
    """Return the arguments of the commands."""
    made = Parser(
        "", "Print facts about the package; without COMMAND list the commands.", "settings"
    )
    commands = made.add_subparsers(dest="what", metavar="COMMAND", parser_class=OneLineParser)
    for name, about in COMMANDS.items():
        commands.add_parser(name, help=about, add_help=False)
    for name, (about, _) in ACTIONS.items():
        epilog = f"example: python -m lartpc_ray {name}"
        each = commands.add_parser(
            name, help=about, description=about, epilog=epilog, allow_abbrev=False
        )
        if name == "dashboards":
            each.add_argument(
                "--runs", type=results_folder, default="runs", help="where results are"
            )
        if name == "settings":
            each.add_argument("--names", action="store_true", help="their names only, as JSON")
    return made


def console() -> NoReturn:
    """Run `lartpc-ray COMMAND ...`, which is `python -m lartpc_ray.COMMAND ...`."""
    name, arguments = "".join(sys.argv[1:2]), sys.argv[2:]
    if name not in COMMANDS:
        command.run_and_exit(parser(), main)
    module = import_module(f"lartpc_ray.{name}.__main__")
    command.run_and_exit(module.parser(), module.main, arguments)


if __name__ == "__main__":
    console()
