"""How SGD is tuned, on errors that are made up."""

from __future__ import annotations

import math

import pytest

from kfac_ref.baselines import momentum
from validation.figures.tuning import MU_MAX, Grid, Setting, alike, distinct, tune

GRID = Grid((-6, -5, -4, -3, -2), short=250, long=2000, kept=2, more=3)


class Errors:
    """A valley whose bottom is at `bottom`, and which counts the runs; from `unstable` on all diverges."""

    def __init__(self, bottom: int, unstable: int = 99) -> None:
        self.bottom, self.unstable = bottom, unstable
        self.runs: list[tuple[Setting, int]] = []

    def __call__(self, setting: Setting, iterations: int) -> float:
        self.runs.append((setting, iterations))
        if setting.half_decades >= self.unstable:
            return math.inf
        return 1 + abs(setting.half_decades - self.bottom) - momentum(iterations, setting.mu_max) + 100 / iterations


def test_learning_rates_are_half_decades():
    rates = [Setting(n, 0.9).learning_rate for n in (-6, -5, -4, -3, 0, 1)]
    assert rates == [0.001, 0.0032, 0.01, 0.032, 1, 3.2]
    assert str(Setting(-5, 0.99)) == "0.0032-0.99"


@pytest.mark.parametrize("iterations", [1, 249, 250, 1249, 1250, 12_500, 10**6])
def test_bounds_are_alike_if_every_momentum_is(iterations):
    def schedule(bound: float) -> list[float]:
        return [momentum(t, bound) for t in range(1, min(iterations, 13_000) + 1)] + [momentum(iterations, bound)]

    for mu_max in MU_MAX:
        assert alike(mu_max, iterations) == tuple(mu for mu in MU_MAX if schedule(mu) == schedule(mu_max))
    assert [mu for first in distinct(iterations) for mu in alike(first, iterations)] == list(MU_MAX)


def test_momentum_bounds_that_are_not_reached_share_a_run():
    assert distinct(1249) == [0, 0.9] and distinct(2000) == [0, 0.9, 0.99] and distinct(10**6) == list(MU_MAX)


def test_all_have_short_runs_and_the_best_long_ones():
    error = Errors(bottom=-4)
    tuned = tune(error, GRID)
    assert tuned.winner == Setting(-4, 0.99) and tuned.enclosed
    assert set(tuned.short) == {Setting(n, mu) for n in GRID.half_decades for mu in (0, 0.9)}
    # of the short runs (−4, 0.9), which stands for all bounds but 0, and (−4, 0) or a neighbour are best
    assert {Setting(-4, 0.9), Setting(-4, 0.99)} <= set(tuned.long)
    assert {Setting(-5, 0.99), Setting(-3, 0.99)} <= set(tuned.long)
    assert len(error.runs) == len(set(error.runs)) == len(tuned.short) + len(tuned.long)


@pytest.mark.parametrize("bottom", [-8, -1])
def test_beyond_the_edge_the_grid_goes_on(bottom):
    tuned = tune(Errors(bottom), GRID)
    assert tuned.winner == Setting(bottom, 0.99) and tuned.enclosed
    assert tuned.long[tuned.winner] == min(tuned.long.values())


def test_only_so_far():
    tuned = tune(Errors(bottom=-20), GRID)
    assert tuned.winner == Setting(-9, 0.99) and not tuned.enclosed


def test_what_diverged_is_not_run_again():
    error = Errors(bottom=-3, unstable=-3)
    tuned = tune(error, GRID)
    assert tuned.winner == Setting(-4, 0.99) and tuned.enclosed
    assert tuned.short[Setting(-3, 0.9)] == tuned.long[Setting(-3, 0.99)] == math.inf
    assert (Setting(-3, 0.99), GRID.long) not in error.runs


def test_everything_diverges():
    with pytest.raises(ValueError, match="every learning rate diverges"):
        tune(Errors(bottom=0, unstable=-99), GRID)
