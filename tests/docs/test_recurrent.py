"""docs/examples/recurrent.py runs as it is written, and its chains learn sooner."""

from __future__ import annotations

import re

from tests.docs.examples import run


def test_the_example(capsys):
    (ax,) = run("recurrent").axes
    assert {line.get_label() for line in ax.lines[:3]} == {"independent", "symmetric", "stationary"}
    printed = re.findall(r"^(\w+) +squared error (\S+)$", capsys.readouterr().out, re.M)
    errors = {name: float(error) for name, error in printed}
    assert max(errors.values()) < 1 / 12  # half of what the best constant has
    assert errors["stationary"] < errors["independent"]
