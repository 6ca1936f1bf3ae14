"""Redraws the paper's figures, and others beyond it, each from a file of its own here (§3–§13).

Beside each picture are the numbers that are drawn, as CSV or npz, and a JSON file with the caption, which says on what
it was run. What takes long is kept in the folder and used again: after a change of the code, use another.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from autodiff.names import closest
from validation.figures.drawn import as_text, write
from validation.work import Work

FIGURES = {
    "1": "figure_01",
    "2": "figure_02",
    "3": "figure_03",
    "4": "figure_04",
    "5": "figure_05",
    "6": "figure_06",
    "7": "figure_07",
    "8": "figure_08",
    "9": "figure_09",
    "10": "figure_10",
    "11": "figure_11",
    "invariance": "invariance",
    "kfc": "kfc",
    "natural-gradient": "natural_gradient",
    "posterior": "posterior",
    "presets": "presets",
    "recurrent": "recurrent",
    "recurrent-blocks": "recurrent_blocks",
    "variants": "variants",
}
"""The figures by the names that the command takes, and their files."""


def module(name: str) -> Any:
    """A figure's file: it has TITLE, SECONDS ("quick" and "full", about, on two cores) and draw(Work) → Drawn."""
    return importlib.import_module(f"validation.figures.{FIGURES[name]}")


def make(name: str, work: Work) -> dict[str, Any]:
    """Draw a figure and write it with its numbers; its caption and summary are in NAME.json."""

    def drawn() -> dict[str, Any]:
        figure = module(name).draw(work)
        write(figure, work.out, FIGURES[name])
        return {"caption": figure.caption, "table": [dict(row) for row in figure.summary]}

    return work.part(FIGURES[name], f"figures {name}{' --quick' if work.quick else ''}", drawn)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation figures [N …] --out DIR [--quick]`."""
    parser = argparse.ArgumentParser(prog="python -m validation figures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="N", help=f"which (default: all): {', '.join(FIGURES)}")
    parser.add_argument("--out", type=Path, default=Path("figures"), metavar="DIR", help="default: figures")
    parser.add_argument("--quick", action="store_true", help="fewer iterations, cases and settings: minutes in all")
    options = parser.parse_args(arguments)
    names = [closest(name, FIGURES, "figure") for name in options.names] or list(FIGURES)
    work = Work(options.out, options.quick)
    work.refuse_other_kind(FIGURES[name] for name in names)
    with tqdm(names, unit="figure", disable=None, leave=False) as bar:
        for name in bar:
            bar.set_description(f"figure {name}")
            made = make(name, work)
            tqdm.write(f"\n{module(name).TITLE}\n{made['caption']}")
            if made["table"]:
                tqdm.write("\n" + as_text(made["table"]))
            tqdm.write(f"\n{work.out / FIGURES[name]}.png")
    return 0
