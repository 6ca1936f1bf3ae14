"""What a figure's file returns, and what is written of it: the picture, the numbers behind it, and its caption."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tabulate import tabulate

from kfac_ref.command import plots
from kfac_ref.data.files import write_text, write_whole

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Drawn:
    """A figure with what belongs to it."""

    figure: Figure
    caption: str
    """What it shows and on what it was run: data, network, cases, settings, iterations, seeds."""
    summary: Sequence[Row] = ()
    """A short table that is printed, and stands below the picture in the report."""
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """The numbers drawn, as tables: each becomes NAME-KEY.csv."""
    arrays: Mapping[str, Any] = field(default_factory=dict)
    """The numbers drawn, as arrays: all become NAME.npz."""


def write(drawn: Drawn, folder: Path, name: str) -> None:
    """Write NAME.png and the numbers."""
    plots.save(drawn.figure, folder / f"{name}.png")
    for key, rows in drawn.tables.items():
        write_text(folder / f"{name}-{key}.csv", as_csv(rows))
    if drawn.arrays:
        write_whole(folder / f"{name}.npz", lambda file: np.savez_compressed(file, **drawn.arrays))


def as_csv(rows: Sequence[Row]) -> str:
    """A table as CSV, numbers in full; the columns are those of all rows, in the order of their first appearance."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def as_text(rows: Sequence[Row], style: str = "simple") -> str:
    """A table for people to read, numbers to four digits; `style` is tabulate's ("github" for Markdown)."""
    shown = escaped if style == "github" else str
    cells = [{shown(k): shown(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    return tabulate(cells, headers="keys", tablefmt=style, floatfmt=".4g", missingval="–")


def escaped(text: str) -> str:
    """Text for Markdown, what that would take for its own escaped, save in `code`."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\|_*])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)
