"""`python -m lartpc_ray.predict`: write the reconstruction of new events by a trained run."""

from __future__ import annotations

import argparse
from pathlib import Path

from lartpc_ray.data.limits import MAX_SIDE, MOST_EVENTS
from lartpc_ray.predict.arguments import RUN_HELP, add_placement
from lartpc_ray.reconstruct.names import METHODS
from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import Parser, results_folder, whole_number


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from lartpc_ray.terminal.phases import phase

    with phase("loading the libraries"):  # that `--help` does without
        from lartpc_ray.predict.write_predictions import run_predict

    return run_predict(options)


def parser() -> Parser:
    """Return the parser of the command."""
    made = Parser(
        "predict",
        "Write what a trained run finds in events, in the PILArNet-M layout.",
        "--run 0123abcd events.h5 -o clusters.h5",
    )
    add_events(made)
    made.add_argument(
        "-o", "--output", type=Path, required=True, help="file, NAME.parquet or folder to write"
    )
    made.add_argument(
        "--shard-events",
        type=whole_number(1, MOST_EVENTS),
        default=1024,
        metavar="N",
        help="events of a shard of a folder",
    )
    made.add_argument(
        "--layout",
        choices=("v1", "v2", "v3"),
        help="version of PILArNet-M (default v3), with the sidecar files of its readers",
    )
    add_tables(made)
    add_placement(made)
    made.add_argument("--run", required=True, help=RUN_HELP)
    made.add_argument(
        "--method", "--cut", choices=METHODS, help="how voxels become clusters; default the task's"
    )
    made.add_argument("--thresholds", type=Path, help="a thresholds.yaml; default the run's own")
    made.add_argument(
        "--semantics", choices=("truth", "predicted"), default="truth", help="classes to cluster in"
    )
    made.add_argument("--segmentation-run", metavar="ID", help="run that predicts the classes")
    made.add_argument(
        "--dead", type=Path, metavar="MAP.yaml", help="dead regions that an infill fills, in cm"
    )
    made.add_argument("--runs", type=results_folder, default="runs", help="where results are kept")
    made.add_argument("--tracking-uri", help="MLflow store; default sqlite in RUNS")
    return made


def add_events(made: Parser) -> None:
    """Add the arguments of the input: the events, and the size of their images."""
    made.add_argument(
        "events", type=Path, nargs="+", metavar="EVENTS", help="files of events, or folders of them"
    )
    made.add_argument(
        "--events", dest="range", metavar="A:B", help="numbers of the events, B excluded"
    )
    made.add_argument(
        "--side",
        type=whole_number(1, MAX_SIDE),
        metavar="N",
        help="voxels along each axis of the images; default that of the training",
    )


def add_tables(made: Parser) -> None:
    """Add the arguments of the output: the tables beside the predictions."""
    made.add_argument("--force", action="store_true", help="write over OUTPUT")
    made.add_argument(
        "--tables",
        action="store_true",
        help="write a Parquet table of all clusters, and one of the metrics of each event",
    )
    made.add_argument("--pitch", type=float, default=0.3, metavar="CM", help="cm per voxel")


if __name__ == "__main__":
    command.run_and_exit(parser(), main)
