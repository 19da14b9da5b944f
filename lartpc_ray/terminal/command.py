"""The common part of all commands: errors in one line, exit status, progress on stderr."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from lartpc_ray.terminal.text import error_text

log = logging.getLogger("lartpc_ray")
"""The package's logger for progress; `run` alone gives it a handler."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, or another signal that stops a command."""


class _StderrHandler(logging.Handler):
    """Print messages on the present stderr, which rich replaces while a table is live."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        print(record.getMessage(), file=sys.stderr, flush=True)


def prepare_process() -> None:
    """Set the environment variables that torch and MLflow read when Python imports them.

    Call it before their import. Values of the user stay, and Ray's workers inherit them.
    """
    # threads that spin while they wait take the cores of those that work
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # matplotlib reports for each picture which fonts this machine lacks
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


class Parser(argparse.ArgumentParser):
    """The parser of a command, or of the package for an empty name, with an example."""

    def __init__(self, name: str, about: str, example: str) -> None:
        program = f"python -m lartpc_ray{name and '.'}{name}"
        super().__init__(
            prog=program,
            description=about,
            epilog=f"example: {program} {example}",
            allow_abbrev=False,
        )
        self.add_argument("--debug", action="store_true", help="print the traceback of an error")
        self.add_argument("--quiet", action="store_true", help="results and errors only")


def run(
    parser: Parser, main: Callable[[argparse.Namespace], int], argv: Sequence[str] | None = None
) -> int:
    """Run a command; print an error as one line on stderr, also with `--quiet`.

    Returns:
        0 for success, 1 for a failure, 2 for wrong arguments or settings, 130 after Ctrl-C.
    """
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    prepare_process()
    handler = _StderrHandler()
    log.addHandler(handler)
    log.setLevel(logging.ERROR if arguments.quiet else logging.INFO)
    try:
        return main(arguments)
    except (ValueError, KeyError, FileNotFoundError) as error:
        return _failed(parser, arguments, error, 2)
    except (RuntimeError, OSError, FloatingPointError) as error:
        return _failed(parser, arguments, error, 1)
    except KeyboardInterrupt:
        log.info("interrupted")
        return INTERRUPTED
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)


def _failed(parser: Parser, arguments: argparse.Namespace, error: Exception, status: int) -> int:
    if arguments.debug:
        traceback.print_exc()
    print(f"{parser.prog}: {error_text(error, 5000)}", file=sys.stderr, flush=True)
    return status
