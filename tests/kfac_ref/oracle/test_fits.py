"""Fitting c·B + b·I: coefficients against NumPy's least squares, and no more said than the numbers tell."""

from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle import fits
from kfac_ref.oracle.expressions import Symbols
from kfac_ref.oracle.fits import FLOAT32, FLOAT64, Candidate, claim
from tests.conftest import positive_definite

SYMBOLS = Symbols("categorical", N=40, C=7)


@pytest.fixture
def B(rng):
    return positive_definite(rng, 5)


def one(theirs, B, **more):
    """What is said of theirs as a multiple of B."""
    (found,) = fits.scaled(theirs, [Candidate(B, claim(fisher="exact", expected=True, **more))], SYMBOLS)
    return found


def both(theirs, B, dampings=None):
    """The same with something on the diagonal."""
    return fits.averaged_or_damped(theirs, [Candidate(B, claim(fisher="exact"))], SYMBOLS, dampings or {})


def test_regression_is_least_squares(rng):
    y, X = rng.standard_normal(30), rng.standard_normal((30, 3))
    coefficients, residual = fits.regress(y, list(X.T))
    expected, (squares,), *_ = np.linalg.lstsq(X, y)
    np.testing.assert_allclose(coefficients, expected, rtol=1e-10)
    assert residual == pytest.approx(np.sqrt(squares) / np.linalg.norm(y), rel=1e-10)


def test_regressors_that_are_dependent_tell_nothing(rng):
    x, y = rng.standard_normal((2, 9))
    assert fits.regress(y, [x, 3 * x]) is None
    assert fits.regress(y, [x, np.zeros(9)]) is None
    assert fits.regress(np.zeros(9), [x]) is None
    assert fits.regress(y[:1], [x[:1], y[:1]]) is None


def test_rounding_is_that_of_the_dtype(B):
    assert fits.rounding(B) == FLOAT64
    assert fits.rounding(B.astype(np.float32)) == FLOAT32


def test_float32_is_known_though_it_was_saved_as_float64(B):
    assert fits.rounding(B.astype(np.float32).astype(np.float64)) == FLOAT32
    assert fits.rounding(np.eye(5)) == FLOAT64  # of which nothing was rounded


@pytest.mark.parametrize(
    ("scale", "text"), [(1.0, "1"), (40.0, "N"), (1 / 1600, "1/N^2"), (1 / 7, "1/C"), (-1.0, "-1")]
)
def test_a_scale_with_a_name(B, scale, text):
    found = one(scale * B, B)
    assert found.fits and (found.scale, found.expression) == (pytest.approx(scale, rel=1e-12), text)
    assert found.residual < 1e-14


def test_a_scale_without_a_name_is_a_number(B):
    found = one(0.3719 * B, B)
    assert found.fits and found.expression is None
    assert found.scale == pytest.approx(0.3719, rel=1e-12)
    assert found.cost > one(40.0 * B, B).cost


def test_another_matrix_does_not_fit(rng, B):
    """Not even one that is off in the eighth digit."""
    off = positive_definite(rng, 5)
    assert not one(off, B).fits
    assert not one(B + 1e-8 * off, B).fits
    assert one((B + 1e-8 * off).astype(np.float32), B).fits


def test_the_residual_is_relative_to_theirs(rng, B):
    theirs = 40 * B + positive_definite(rng, 5)
    c = np.sum(theirs * B) / np.sum(B * B)
    expected = np.linalg.norm(theirs - c * B) / np.linalg.norm(theirs)
    assert one(theirs, B).residual == pytest.approx(expected, rel=1e-12)


def test_one_number_is_explained_by_a_name_alone():
    B = np.array([[2.0]])
    assert one(40 * B, B).expression == "N"
    assert not one(0.3719 * B, B).fits


def test_a_matrix_that_is_nearly_diagonal_is_no_identity(rng):
    theirs = 40 * np.eye(5)
    theirs[0, 1] = theirs[1, 0] = 1e-12
    assert not one(theirs, np.eye(5)).fits


def test_candidates_of_another_shape_are_passed_over(B):
    assert fits.scaled(B, [Candidate(B[:4, :4], claim())], SYMBOLS) == []


@pytest.mark.parametrize(("decay", "updates"), [(0.95, 1), (0.95, 10), (0.9, 3), (0.99, 2)])
@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_a_running_average_from_the_identity(B, decay, updates, scale):
    M = np.eye(5)
    for _ in range(updates):
        M = decay * M + (1 - decay) * scale * B
    (found,) = both(M, B)
    assert (found.start, found.scale) == ("identity", pytest.approx(scale, rel=1e-9))
    assert found.history.weight == pytest.approx(decay**updates, rel=1e-9)
    assert found.fits and found.expression == ("1" if scale == 1 else "N")


def test_damping_on_the_diagonal(B):
    (found,) = both(B + 0.3 * np.eye(5), B, {"lambda": 0.3, "sqrt(lambda)": 0.3**0.5})
    assert found.damping == "lambda added to the diagonal"
    assert found.damping_values == (pytest.approx(0.3, rel=1e-9),)
    assert found.expression == "1" and found.start is None


def test_an_unknown_amount_on_the_diagonal_is_a_number(B):
    found = both(B + 1.234567 * np.eye(5), B, {"lambda": 0.3})
    assert [e.damping for e in found] == ["1.23457 added to the diagonal"]


def test_nothing_on_the_diagonal_is_not_reported(B):
    assert both(40 * B, B) == []


def test_another_matrix_with_something_on_the_diagonal_does_not_fit(rng, B):
    assert both(positive_definite(rng, 5) + 0.3 * np.eye(5), B, {"lambda": 0.3}) == []


@pytest.mark.parametrize(("decay", "updates"), [(0.95, 1), (0.95, 4), (0.9, 2), (0.99, 3)])
def test_a_running_average_from_zero(B, decay, updates):
    M = np.zeros((5, 5))
    for _ in range(updates):
        M = decay * M + (1 - decay) * B
    found = fits.from_zero(one(M, B), SYMBOLS)
    assert found.start == "zero"
    assert found.history.weight == pytest.approx(decay**updates, rel=1e-9)
    assert found.expression == f"(1-{found.history})"
    assert found.scale == pytest.approx(1 - decay**updates, rel=1e-9)


def test_a_plain_scale_needs_no_running_average(B):
    """1/2 is 1 − 0.5 too, N is nothing of the kind."""
    assert fits.from_zero(one(40 * B, B), SYMBOLS).start is None
    assert fits.from_zero(one(B, B), SYMBOLS).start is None
