"""Standardisation, on every array library."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff.arrays import to_numpy
from kfac_ref.data.scaling import Scaling
from tests.conftest import assert_close, assert_home, to


def test_mean_0_and_variance_1_and_back(like, rng):
    X = rng.standard_normal((50, 3)) * [1.0, 20.0, 0.1] + [0.0, 5.0, -2.0]
    scaling = Scaling.of(to(like, X))
    Z = scaling.apply(to(like, X))
    assert_home(Z, like)
    assert_close(Z, (X - X.mean(0)) / X.std(0), like)
    assert_close(scaling.undo(Z), X, like)


@pytest.mark.parametrize("value", [0.0, 7.0, 1e6 + 0.1])
def test_a_constant_column_becomes_0(like64, value):
    scaling = Scaling.of(to(like64, np.full((30, 1), value)))
    assert to_numpy(scaling.scale)[0] == 1
    assert abs(to_numpy(scaling.apply(to(like64, np.full((2, 1), value))))).max() < 1e-9


def test_none_changes_nothing(like, rng):
    X = to(like, rng.standard_normal((4, 3)))
    assert_close(Scaling.none(3, X).apply(X), to_numpy(X), like)
