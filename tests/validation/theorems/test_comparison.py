"""Deviations, and derivatives by extrapolated differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

from validation.theorems.comparison import apart, differentiated, small
from validation.theorems.statement import EPSILON


def test_differences_are_extrapolated():
    """sin and exp to 1e-12, and x⁹ exactly, as the powers up to step⁸ of the error cancel; of arrays too."""
    assert differentiated(math.sin) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(differentiated(lambda t: np.exp(t * np.array([1.0, 2.0]))), [1, 2], rtol=1e-12)
    assert differentiated(lambda t: (1 + t) ** 9) == pytest.approx(9, rel=1e-12)
    plain = (math.exp(0.125) - math.exp(-0.125)) / 0.25
    assert differentiated(math.exp, levels=1) == pytest.approx(plain, rel=1e-14)


def test_apart_is_relative_and_grows_with_the_condition():
    deviation = apart(np.array([3.0, 4.0 + 5e-12]), np.array([3.0, 4.0]), 10, 1e4)
    assert deviation.value == pytest.approx(1e-12, rel=1e-3)
    assert deviation.tolerance == 10 * EPSILON * 1e4
    assert deviation.within and not apart(1.0 + 1e-12, 1.0, 10).within


def test_small_is_beside_the_size_of_the_terms():
    deviation = small(np.array([1e-15, 0.0, -3e-15]), np.array([1.0, 0.0, 0.1]), 10)
    assert deviation.value == pytest.approx(3e-14) and not deviation.within
    # where the terms are 0, so must their sum be
    assert small(np.zeros(2), np.zeros(2), 1).within and not small(np.ones(2), np.zeros(2), 1).within
