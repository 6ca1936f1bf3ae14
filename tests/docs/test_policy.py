"""docs/examples/policy.py runs as it is written, and learns; fewer steps than written, as each is longer."""

from __future__ import annotations

import re

import pytest

from tests.docs.examples import run


def test_the_example(capsys):
    pytest.importorskip("gymnasium")
    run("policy", ("range(1, 26)", "range(1, 11)"))
    found = re.fullmatch(r"return (\d+) at first, (\d+) at last; KL/δ (\S+)\n", capsys.readouterr().out)
    assert found and int(found[2]) > 3 * int(found[1]) and 0.5 < float(found[3]) < 2
