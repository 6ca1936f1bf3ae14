"""docs/examples/recurrent.py runs as it is written, and its chains learn sooner."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "recurrent.py"


def test_the_example(capsys):
    source = EXAMPLE.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 60
    before = matplotlib.get_backend()
    matplotlib.use("agg")
    try:
        exec(compile(source, str(EXAMPLE), "exec"), {})
        (ax,) = plt.gcf().axes
        assert {line.get_label() for line in ax.lines[:3]} == {"independent", "symmetric", "stationary"}
    finally:
        plt.close("all")
        matplotlib.use(before)
    errors = {
        name: float(error) for name, error in re.findall(r"^(\w+) +squared error (\S+)$", capsys.readouterr().out, re.M)
    }
    assert max(errors.values()) < 1 / 12  # half of what the best constant has
    assert errors["stationary"] < errors["independent"]
