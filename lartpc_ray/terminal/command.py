"""What all commands share: one-line errors, exit status 0, 1 or 2, progress on stderr."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence

_quiet = False


class Parser(argparse.ArgumentParser):
    """Arguments of a command (of the package itself where it has no name), with an example."""

    def __init__(self, name: str, about: str, example: str) -> None:
        program = f"python -m lartpc_ray{name and '.'}{name}"
        super().__init__(
            prog=program,
            description=about,
            epilog=f"example: {program} {example}",
            allow_abbrev=False,
        )
        self.add_argument("--debug", action="store_true", help="show where an error comes from")
        self.add_argument("--quiet", action="store_true", help="results and errors only")


def run(
    parser: Parser, main: Callable[[argparse.Namespace], int], argv: Sequence[str] | None = None
) -> int:
    """Run a command; what the user can mend is one line on stderr, also with `--quiet`.

    Returns:
        0 done, 1 it could not be done, 2 the arguments or the settings are wrong.
    """
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    global _quiet
    _quiet = arguments.quiet
    try:
        return main(arguments)
    except (ValueError, KeyError, FileNotFoundError) as error:
        return _failed(parser, arguments, error, 2)
    except (RuntimeError, OSError, FloatingPointError) as error:
        return _failed(parser, arguments, error, 1)
    except KeyboardInterrupt:
        say("interrupted")
        return 1
    finally:
        _quiet = False


def quiet() -> bool:
    """Whether the command was told to show no progress."""
    return _quiet


def say(text: str) -> None:
    """One line of progress."""
    if not _quiet:
        print(text, file=sys.stderr, flush=True)


def _failed(parser: Parser, arguments: argparse.Namespace, error: Exception, status: int) -> int:
    if arguments.debug:
        traceback.print_exc()
    reason = error.args[0] if isinstance(error, KeyError) and error.args else error
    print(f"{parser.prog}: {' '.join(str(reason).split())}", file=sys.stderr, flush=True)
    return status
