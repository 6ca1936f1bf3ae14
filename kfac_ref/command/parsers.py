"""Parsers of the command and of its parts: what `--help` prints, and errors of one line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kfac_ref import machine
from kfac_ref.training import networks

FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
"""What shtab calls where the names of files are to be completed."""


class Formatter(argparse.HelpFormatter):
    """Commands, which are indented, stand as they are; other text is wrapped."""

    def add_argument(self, action: argparse.Action) -> None:
        """As of `HelpFormatter`, but with room for the indentation of a list of commands."""
        super().add_argument(action)
        if action.nargs == argparse.PARSER:
            self._action_max_length += self._indent_increment

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        parts = text.strip("\n").split("\n\n")
        return "\n\n".join(part if part.startswith(" ") else fill(part, width, indent) for part in parts)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    parts: Mapping[str, Parser] = {}
    """By name, where this is the parser of the whole command."""

    def error(self, message: str) -> NoReturn:
        """As of `ArgumentParser.error`; of several processes the first says it."""
        self.exit(2, f"{self.prog}: error: {message}\n" if machine.started_first() else None)

    @property
    def option_names(self) -> list[str]:
        """Of all options, to say which one may have been meant."""
        return list(self._option_string_actions)

    def complete_paths(self) -> None:
        """Let a shell that completes by shtab's script complete the names of files."""
        for action in (action for parser in (self, *self.parts.values()) for action in parser._actions):
            if action.type is Path or action.dest == "data":
                action.complete = FILES  # type: ignore[attr-defined]


def add(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    meaning: str,
    text: str = "",
    examples: Sequence[str] = (),
    **options: Any,
) -> Parser:
    """A part of the command: `meaning` stands in the list of all and begins its own help, before more `text`."""
    parser = commands.add_parser(
        name,
        help=meaning,
        description=f"{meaning[0].upper()}{meaning[1:]}. {text}".strip(),
        epilog="Examples:\n\n" + "\n".join(f"  kfac-ref {example}" for example in examples) if examples else None,
        formatter_class=Formatter,
        allow_abbrev=False,
        **options,
    )
    parser.set_defaults(command=run, parser=parser)
    return parser


def network(words: str) -> networks.Wanted:
    """The network that an option describes; ArgumentTypeError saying what is wrong with it."""
    try:
        return networks.given(words)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{error.filename}: {error.strerror}") from None
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
