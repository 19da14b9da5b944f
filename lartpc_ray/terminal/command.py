"""The common part of all commands: errors in one line, exit status, progress on stderr."""

from __future__ import annotations

import argparse
import atexit
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from lartpc_ray.terminal.system_errors import shortage
from lartpc_ray.terminal.text import error_text, escape_controls, without_password

log = logging.getLogger("lartpc_ray")
"""The package's logger for progress; `run` alone gives it a handler."""

WRONG = 2
"""Exit status for wrong arguments or settings."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, or another signal that stops a command."""
UNWRITTEN = 120
"""Exit status where the output cannot be written, as Python's own."""


class _StderrHandler(logging.Handler):
    """Print messages on the present stderr, which rich replaces while a table is live."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        print(escape_controls(record.getMessage()), file=sys.stderr, flush=True)


def prepare_process() -> None:
    """Set the variables that torch and MLflow read when Python imports them; silence libraries.

    Call it before their import. Values of the user stay, and Ray's workers inherit them.
    """
    # threads that spin while they wait take the cores of those that work
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # matplotlib reports for each picture which fonts this machine lacks
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    # Optuna warns of each list among the options of a setting, and keeps it
    warnings.filterwarnings("ignore", "Choices for a categorical distribution", UserWarning)


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports a wrong argument in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the argument, its value and what to do; exit with status 2."""
        text = escape_controls(without_password(" ".join(message.split())))
        self.exit(WRONG, f"{self.prog}: {text}; see --help\n")


class Parser(OneLineParser):
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


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return the type of an argument that takes a whole number within limits.

    Example:
        >>> whole_number(1, 8)("3")
        3
    """

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"{text[:40]}: give a whole number from {least} to {most}"
            )
        return value

    return parse


def refuse_file_as_folder(path: Path) -> None:
    """Refuse a file where a folder is wanted, also where a parent of the folder is a file.

    Raises:
        NotADirectoryError: with the name of the file.
    """
    there = next((one for one in (path, *path.parents) if os.path.lexists(one)), path)
    if os.path.lexists(there) and not there.is_dir():
        raise NotADirectoryError(f"{there}: not a folder; give the name of a folder")


def results_folder(text: str) -> Path:
    """Return the folder of an argument, which may not exist yet."""
    try:
        refuse_file_as_folder(Path(text))
    except NotADirectoryError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return Path(text)


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
        return _failed(parser, arguments, error, 1 if shortage(error) else 2)
    except (RuntimeError, OSError, FloatingPointError) as error:
        return _failed(parser, arguments, error, 1)
    except KeyboardInterrupt:
        log.info("interrupted")
        return INTERRUPTED
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)


def run_and_exit(
    parser: Parser, main: Callable[[argparse.Namespace], int], argv: Sequence[str] | None = None
) -> NoReturn:
    """Run a command as this process, and end the process with its status.

    The process ends after its exit functions: Python would then take some 2 s to free the modules
    of torch, Ray and MLflow one by one, and the system frees them at once.
    """
    _open_closed_streams()
    ended = [1]  # the status of an error that `run` does not expect
    atexit.register(_leave, ended)  # the first to be registered is the last to run
    ended[0] = run(parser, main, argv)
    sys.exit(ended[0])


def _open_closed_streams() -> None:
    """Write nowhere in place of a closed stdout or stderr.

    Python has None for it: `print` would write errors to stdout, and the next file that a library
    opens would get its number and the text that C code writes there.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            setattr(sys, name, os.fdopen(nowhere, "w", encoding="utf-8"))


def _leave(ended: list[int]) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the reader has gone, or the disk is full
            ended[0] = UNWRITTEN
    os._exit(ended[0])


def _failed(parser: Parser, arguments: argparse.Namespace, error: Exception, status: int) -> int:
    if arguments.debug:
        print(without_password(traceback.format_exc()), end="", file=sys.stderr)
    print(f"{parser.prog}: {error_text(error, 5000)}", file=sys.stderr, flush=True)
    return status
