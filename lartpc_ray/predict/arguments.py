"""The arguments of all commands that run networks."""

from __future__ import annotations

from lartpc_ray.terminal.command import Parser, whole_number

MOST_WORKERS = 100_000
"""Processes of a job."""
RUN_HELP = "an MLflow run, a folder of one, or models:/NAME@ALIAS or models:/NAME/VERSION"


def add_placement(made: Parser) -> None:
    """Add the arguments that place the networks: processes, device and precision."""
    made.add_argument(
        "--workers",
        type=whole_number(1, MOST_WORKERS),
        help="processes; default: all cores or GPUs, one for few events",
    )
    add_device(made)


def add_device(made: Parser) -> None:
    """Add the arguments of the device and the precision of the networks."""
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    made.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="float32")
