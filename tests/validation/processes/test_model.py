"""What many processes would take: bytes as they are counted, and what is divided."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from kfac_ref.settings import preset
from tests.kfac_ref.machine.test_processes import ROOT, mpiexec
from validation import processes
from validation.benchmark import flops
from validation.processes import model

SIZES = (270, 300, 260, 40, 270)
WIRE = model.Wire("", 1e-5, 1e9)
RATES = dict.fromkeys(("gradient", "factors", "inverse", "direction", "quadratic model", "ρ", "rest"), 1e-09)


@pytest.mark.parametrize("inverse", processes.INVERSES)
def test_bytes_are_those_that_are_counted(inverse):
    """Of the first iterations, each of which inverts, and of one that does not."""
    about = ["--network", "-".join(map(str, SIZES)), "--inverse", inverse, "--m", "12", "--iterations", "4"]
    done = mpiexec(2, "-m", "validation.processes.measured", *about, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    expected = model.payload(SIZES, preset("authors", inverse=inverse), range(1, 5))
    assert {what: run["traffic"][what]["bytes"] for what in expected} == pytest.approx(expected)
    assert run["processes"] == 2 and run["threads"] == 1
    small = {what: t for what, t in run["traffic"].items() if what not in expected}
    assert sum(t["bytes"] for t in small.values()) < 200
    assert sum(t["messages"] for t in small.values()) == pytest.approx(model.SMALL_MESSAGES, rel=0.25)


@pytest.mark.parametrize("inverse", processes.INVERSES)
def test_one_process_takes_what_its_operations_take(inverse):
    settings = preset("authors", inverse=inverse)
    found = model.seconds(SIZES, 500, settings, 1, RATES, WIRE)
    weights = sum(d * (n + 1) for n, d in pairwise(SIZES))
    everything = sum(flops.mean_over_cycle(SIZES, 500, settings).values()) + weights
    assert sum(found.values()) == pytest.approx(1e-9 * everything, rel=1e-12)
    assert found["messages"] == 0


def test_what_is_divided():
    settings = preset("authors", inverse="block-diagonal")
    one, two, many = (model.seconds(SIZES, 500, settings, P, RATES, WIRE) for P in (1, 2, 1000))
    assert two["cases"] == one["cases"] / 2 and two["all"] == one["all"] == many["all"]
    assert one["inverses"] / 2 <= two["inverses"] < 0.7 * one["inverses"]
    # of three γ together the largest piece is left, and small pieces are done by all
    small = sum(n**3 for n in (41, 40))
    assert many["inverses"] == pytest.approx(1e-9 * (301**3 + 3 * small) / 20)
    assert two["messages"] < many["messages"]


def test_when_iterations_invert():
    authors, paper = preset("authors"), preset("paper", T2=10)
    assert [model.due(authors, k) for k in (1, 3, 4, 20)] == [(True, 1), (True, 1), (False, 0), (True, 3)]
    assert [model.due(paper, k) for k in (9, 10, 20)] == [(False, 0), (True, 2), (True, 3)]
