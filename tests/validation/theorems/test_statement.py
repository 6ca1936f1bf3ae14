"""Instances, where they come from, deviations, and the table that the command prints."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kfac_ref.curvature import factors, kronecker_fisher
from validation import theorems
from validation.theorems.statement import Deviation, Instance, Space, Statement, relative, worst


def statement(check) -> Statement:
    return Statement("a-statement", "§0", "It holds.", "nothing", Space(), check, 5)


@pytest.mark.parametrize(
    ("value", "tolerance", "ratio"),
    [(1.0, 2.0, 0.5), (3.0, 2.0, 1.5), (math.nan, 2.0, math.inf), (0.0, 0.0, 0.0), (1.0, 0.0, math.inf)],
)
def test_deviations(value, tolerance, ratio):
    deviation = Deviation(value, tolerance)
    assert deviation.ratio == ratio
    assert deviation.within == (ratio <= 1)


def test_the_worst_is_the_closest_to_its_own_tolerance():
    far, near, lost = Deviation(1.0, 10.0), Deviation(1e-9, 1e-10), Deviation(math.nan, 1.0)
    assert worst(far, near) is near
    assert worst(far, near, lost) is lost


def test_relative():
    assert relative(np.array([3.0, 5.0]), np.array([3.0, 4.0])) == 1 / 5
    assert relative(np.array([3.0, 4.0]), np.zeros(2)) == 5


def test_an_instance_is_the_same_each_time():
    one, other = (Instance((2, 3, 2), ("tanh",), "categorical", 4, seed=7) for _ in range(2))
    assert one == other
    np.testing.assert_array_equal(one.X, other.X)
    np.testing.assert_array_equal(one.Y, other.Y)
    scaled = Instance((2, 3, 2), ("tanh",), "categorical", 4, seed=7, scale=2.0)
    np.testing.assert_array_equal(scaled.parameters[0], 2 * one.parameters[0])


def test_a_space_keeps_to_its_ranges():
    space = Space((2, 3), (2, 4), (5, 6), (7, 9), ("tanh",), ("gaussian",), scale=3.0)
    rng = np.random.default_rng(0)
    for instance in (space.random(rng) for _ in range(50)):
        *widths, outputs = instance.sizes
        assert 2 <= len(widths) <= 3
        assert min(widths) >= 2
        assert max(widths) <= 4
        assert outputs in (5, 6)
        assert 7 <= instance.cases <= 9
        assert set(instance.activations) == {"tanh"}
        assert instance.likelihood == "gaussian"
        assert instance.scale == 3.0


@pytest.mark.parametrize("likelihood", ["gaussian", "categorical"])
def test_only_what_is_well_conditioned_is_admitted(likelihood):
    space = Space((1, 3), (2, 3), (3, 4), (15, 20), ("tanh",), (likelihood,), 2.0, 1e4)
    rng = np.random.default_rng(0)
    for instance in (space.random(rng) for _ in range(10)):
        values = np.linalg.eigvalsh(kronecker_fisher.dense(factors.exact(instance.forward_pass)))
        # what belongs to numbers added to all logits is 0, and is no reason to leave it out
        null = instance.sizes[-2] + 1 if likelihood == "categorical" else 0
        assert np.all(np.abs(values[:null]) < 1e-14 * values[-1] * len(values))
        assert values[-1] / values[null] <= 1e4


def test_fewer_cases_than_inputs_are_not_admitted():
    instance = Instance((4, 3), (), "gaussian", 3, seed=0)
    assert Space().admits(instance)
    assert not Space(condition=1e8).admits(instance)


def test_a_statement_that_holds():
    result = theorems.examine(statement(lambda instance: Deviation(1e-12, 1e-10)), 5)
    assert (result.tried, result.failed, result.raised) == (5, 0, "")
    assert result.row()["holds"] == "ok"


def test_a_statement_that_fails_names_the_instance():
    tried = []

    def check(instance: Instance) -> Deviation:
        tried.append(instance)
        return Deviation(1.0 if len(tried) == 3 else 0.0, 0.5)

    result = theorems.examine(statement(check), 5)
    assert (result.failed, result.instance) == (1, tried[2])
    assert result.row()["holds"] == "1 FAIL"


def test_a_check_that_raises_is_a_failure():
    def check(instance: Instance) -> Deviation:
        raise np.linalg.LinAlgError("singular")

    result = theorems.examine(statement(check), 5)
    assert (result.failed, result.raised) == (5, "LinAlgError: singular")


def test_the_command(monkeypatch, capsys):
    def fails(instance: Instance) -> Deviation:
        raise ArithmeticError("no number")

    good = Statement("good", "§1", "All is well " * 20, "a comparison", Space(), lambda instance: Deviation(0.0, 1.0))
    bad = Statement("bad", "§2", "All is ill", "a comparison", Space(), fails)
    monkeypatch.setattr(theorems, "STATEMENTS", {"good": good, "bad": bad})
    assert theorems.main(["good", "--instances", "2"]) == 0
    printed = capsys.readouterr().out
    assert "1 statements, 2 instances" in printed
    assert max(map(len, printed.splitlines())) <= 150
    assert theorems.main(["--instances", "3"]) == 1
    printed = capsys.readouterr().out
    assert "bad fails on 3 of 3; worst on Instance(" in printed
    assert "which raised ArithmeticError: no number" in printed


def test_bad_requests():
    with pytest.raises(ValueError, match=r"unknown statement"):
        theorems.main(["no-such-thing"])
    with pytest.raises(ValueError, match=r"--instances must be ≥ 1; got 0"):
        theorems.main(["--instances", "0"])
