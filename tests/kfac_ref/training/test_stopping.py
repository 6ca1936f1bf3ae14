"""When to stop."""

from __future__ import annotations

import math

from kfac_ref.training.stopping import FLOOR, Patience, Plateau


def test_a_plateau_is_reached_when_a_window_brings_little():
    """1, ½, ¼ … falls by half each time, until 1/8; then by one percent of it in three steps."""
    plateau = Plateau(window=3, tolerance=0.02)
    values = [1, 0.5, 0.25, 0.125, 0.1249, 0.1248, 0.1247]
    assert [plateau.reached(value) for value in values] == [False] * 6 + [True]


def test_what_rises_is_a_plateau_and_what_is_near_0_too():
    rising = Plateau(window=2, tolerance=0.01)
    assert [rising.reached(value) for value in (1, 2, 3)] == [False, False, True]
    near = Plateau(window=1, tolerance=0.5)
    assert [near.reached(value) for value in (FLOOR, FLOOR / 4, FLOOR / 8)] == [False, False, True]


def test_patience_counts_what_is_no_better():
    patience = Patience(patience=2)
    assert [patience.better(value) for value in (3, 2, 2, 1.9, math.nan, 2)] == [True, True, False, True, False, False]
    assert patience.exhausted and patience.best == 1.9
    assert not Patience(1).better(math.inf)
