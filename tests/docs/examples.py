"""Running the examples of the site."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

FOLDER = Path(__file__).parents[2] / "docs" / "examples"


def run(name: str, *changes: tuple[str, str]) -> Figure:
    """Run an example of at most 60 lines, text changed as said; the figure that it leaves."""
    path = FOLDER / f"{name}.py"
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 60
    for old, new in changes:
        assert source.count(old) == 1
        source = source.replace(old, new)
    before = matplotlib.get_backend()
    matplotlib.use("agg")
    try:
        exec(compile(source, str(path), "exec"), {})
        return plt.gcf()
    finally:
        plt.close("all")
        matplotlib.use(before)
