"""docs/examples/posterior.py runs as it is written, and its error bars are larger far from the cases."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "posterior.py"


def test_the_example(capsys):
    source = EXAMPLE.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 60
    before = matplotlib.get_backend()
    matplotlib.use("agg")
    try:
        exec(compile(source, str(EXAMPLE), "exec"), {})
        (ax,) = plt.gcf().axes
        assert len(ax.lines) == 12
    finally:
        plt.close("all")
        matplotlib.use(before)
    printed = capsys.readouterr().out
    noise, inside, outside = (
        float(re.search(x, printed)[1]) for x in (r"noise (\S+),", r": (\S+) among", r", (\S+) far")
    )
    assert 0.08 < noise < 0.12
    assert inside < 1.5 * noise and outside > 2 * inside
