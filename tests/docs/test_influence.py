"""docs/examples/influence.py runs as it is written, and what it shows is of the right kinds."""

from __future__ import annotations

from tests.docs.examples import run


def test_the_example(capsys):
    titles = [ax.get_title().split("\n") for ax in run("influence").axes if ax.get_title()]
    assert len(titles) == 11 and "for" in titles[0][1]
    said = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    truth = titles[0][0].removesuffix(", taken")
    # cases of the query's own class help it, and those that mislead are of others
    assert sum(truth in case for case in said["helps"].split(", ")) >= 3
    assert sum(truth in case for case in said["harms"].split(", ")) <= 2
