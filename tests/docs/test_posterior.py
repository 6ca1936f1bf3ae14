"""docs/examples/posterior.py runs as it is written, and its error bars are larger far from the cases."""

from __future__ import annotations

import re

from tests.docs.examples import run


def test_the_example(capsys):
    (ax,) = run("posterior").axes
    assert len(ax.lines) == 12
    printed = capsys.readouterr().out
    noise, inside, outside = (
        float(re.search(x, printed)[1]) for x in (r"noise (\S+),", r": (\S+) among", r", (\S+) far")
    )
    assert 0.08 < noise < 0.12
    assert inside < 1.5 * noise and outside > 2 * inside
