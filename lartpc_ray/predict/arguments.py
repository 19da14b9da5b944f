"""The arguments of all commands that run networks."""

from __future__ import annotations

from lartpc_ray.terminal.command import Parser


def add_placement(made: Parser) -> None:
    """Add the arguments that place the networks: processes, device and precision."""
    made.add_argument(
        "--workers", type=int, help="processes; default: all cores or GPUs, one for few events"
    )
    add_device(made)


def add_device(made: Parser) -> None:
    """Add the arguments of the device and the precision of the networks."""
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    made.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="float32")
