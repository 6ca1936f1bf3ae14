"""What every figure's file has; the diagrams, which are quick, are drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from validation import figures
from validation.work import Work


@pytest.mark.parametrize("name", figures.FIGURES)
def test_every_figure_has_a_title_and_says_how_long_it_takes(name):
    module = figures.module(name)
    assert module.TITLE and module.__doc__
    assert 0 < module.SECONDS["quick"] <= module.SECONDS["full"]


def test_every_figures_file_is_listed():
    files = {path.stem for path in Path(figures.__file__).parent.glob("figure_*.py")}
    assert files == {file for file in figures.FIGURES.values() if file.startswith("figure_")}


@pytest.mark.parametrize("name", ["1", "4", "8"])
def test_the_diagrams(name, tmp_path):
    made = figures.make(name, Work(tmp_path, quick=True))
    assert made["caption"] and (tmp_path / f"{figures.FIGURES[name]}.png").stat().st_size > 10_000
