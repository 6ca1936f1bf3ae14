"""The command `kfac-ref`, put together from its parts, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import kfac_ref
from autodiff.names import closest, nearest
from kfac_ref import machine, optimizer
from kfac_ref.command import influence as influence_command
from kfac_ref.command import models as model_commands
from kfac_ref.command import oracle as oracle_commands
from kfac_ref.command import parsers
from kfac_ref.command import train as train_command

DESCRIPTION = """
K-FAC, an optimizer for neural networks (Martens & Grosse 2015), in its reference implementation on NumPy or CuPy: train
networks, use what was trained, and check other implementations.
"""
EPILOG = """
Begin with

  kfac-ref train

which trains an autoencoder on images that come with the package, for less than a minute, and draws what it did. What
each command takes is said by its --help, as in

  kfac-ref train --help
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code: 0, 1 for a run that diverged, 2 for bad input or none, 130 for Ctrl-C."""
    parser = whole_parser()
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given:
        if machine.started_first():
            parser.print_help()
        return 2
    try:
        if not given[0].startswith("-"):
            closest(given[0], parser.parts, "command")
        options, rest = parser.parse_known_args(given)
        if rest:
            hint = nearest(rest[0], options.parser.option_names)
            raise ValueError(f"unrecognized arguments: {' '.join(rest)}{hint}")
        return options.command(options)
    except optimizer.Diverged as error:
        return _ended(f"kfac-ref: stopped: {error}", 1, error)
    except KeyboardInterrupt as error:
        return _ended(str(error) or "kfac-ref: interrupted", 130, error)
    except BrokenPipeError:
        # whoever read the output has gone; nothing more can be said, not even by the flush when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, MemoryError) as error:
        message = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        if isinstance(error, MemoryError):
            message = f"not enough memory: {error}"
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            message = f"{error.filename}: is a file, expected a folder"
        return _ended(f"kfac-ref: error: {' '.join(message.split())}", 2, error)


def _ended(message: str, code: int, error: BaseException) -> int:
    """Say why the command ends, once: of several processes the first does if all know; else who knows ends all."""
    if not (machine.started_alone() or machine.agreed(error)):
        machine.end_all(message, code)
    elif machine.started_first():
        print(message, file=sys.stderr)
    return code


def whole_parser() -> parsers.Parser:
    """The parser of the command with all its parts, which shtab makes completions of."""
    parser = parsers.Parser(
        prog="kfac-ref",
        usage="kfac-ref COMMAND …",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=parsers.Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"kfac-ref {kfac_ref.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", prog="kfac-ref")
    parser.parts = commands.choices

    train_command.register(commands)
    model_commands.register(commands)
    influence_command.register(commands)
    oracle_commands.register(commands)
    parser.complete_paths()
    return parser


if __name__ == "__main__":
    sys.exit(main())
