"""Damping."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autodiff.arrays import to_numpy
from kfac_ref.curvature import damping
from kfac_ref.curvature.factors import Factors
from tests.conftest import assert_close, assert_home, positive_definite, to


def make_factors(rng, like, sizes=(3, 4, 2)):
    """Random diagonal factors in NumPy, and the same on `like`'s device."""
    A = {(i, i): positive_definite(rng, d + 1) for i, d in enumerate(sizes[:-1])}
    G = {(i, i): 0.1 * positive_definite(rng, d) for i, d in enumerate(sizes[1:], start=1)}
    return A, G, Factors({i: to(like, a) for i, a in A.items()}, {i: to(like, g) for i, g in G.items()})


def test_pi_by_traces(like, rng):
    A, G = positive_definite(rng, 4), positive_definite(rng, 3)
    expected = math.sqrt((np.sum(np.diag(A)) / 4) / (np.sum(np.diag(G)) / 3))
    assert_close(damping.pi(*to(like, A, G)), expected, like)
    assert_close(damping.pi(*to(like, A, G), norm="trace"), expected, like)


def test_pi_by_frobenius_norms(like, rng):
    A, G = positive_definite(rng, 4), positive_definite(rng, 3)
    expected = math.sqrt((np.sqrt(np.sum(A * A)) / np.sqrt(4)) / (np.sqrt(np.sum(G * G)) / np.sqrt(3)))
    assert_close(damping.pi(*to(like, A, G), norm="frobenius"), expected, like)


@pytest.mark.parametrize("norm", damping.PI_NORMS)
def test_pi_of_multiples_of_the_identity_is_the_root_of_their_ratio(like, norm):
    assert_close(damping.pi(*to(like, 8.0 * np.eye(5), 2.0 * np.eye(3)), norm=norm), 2.0, like)


@pytest.mark.parametrize("norm", damping.PI_NORMS)
def test_pi_of_a_dead_layer_is_1(like, norm):
    with np.errstate(all="raise"):
        assert_close(damping.pi(*to(like, np.eye(3), np.zeros((2, 2))), norm=norm), 1.0, like)


def test_pi_of_an_almost_dead_layer_does_not_overflow(like):
    """Derivatives of 1e-20 give a G of 1e-40; π is then 1e20, but the ratio of which it is the root is beyond float32.

    Such a G is below float32's normal range, hence the tolerance."""
    with np.errstate(over="raise"):
        value = to_numpy(damping.pi(*to(like, np.eye(3), 1e-40 * np.eye(2))))
    assert value == pytest.approx(1e20, rel=1e-3)


def test_unknown_norm():
    with pytest.raises(ValueError, match='unknown norm for π "traces"; did you mean "trace"'):
        damping.pi(np.eye(2), np.eye(2), "traces")


@pytest.mark.parametrize("norm", damping.PI_NORMS)
def test_factorise(like, rng, norm):
    A, G, factors = make_factors(rng, like)
    damped = damping.factorise(factors, 0.3, norm)
    pivots = []
    for i in (1, 2):
        a, g = A[i - 1, i - 1], G[i, i]
        size = (lambda M: np.trace(M) / len(M)) if norm == "trace" else (lambda M: np.linalg.norm(M) / len(M) ** 0.5)
        pi = np.sqrt(size(a) / size(g))
        L_A = np.linalg.cholesky(a + pi * 0.3 * np.eye(len(a)))
        L_G = np.linalg.cholesky(g + 0.3 / pi * np.eye(len(g)))
        assert_close(damped.A[i - 1].T @ damped.A[i - 1], np.linalg.inv(L_A @ L_A.T), like)
        assert_close(damped.G[i - 1].T @ damped.G[i - 1], np.linalg.inv(L_G @ L_G.T), like)
        pivots.append([np.diag(L_A).min(), np.diag(L_G).min()])
    assert_close(damped.pivots, np.array(pivots), like)
    damping.require_positive_definite(to_numpy(damped.pivots), 0.3)


def test_damping_adds_the_right_multiple_to_the_kronecker_product(like, rng):
    """Ā⊗G + γ² I⊗I plus cross terms: the product of the two multiples is γ², whatever π."""
    A, G, factors = make_factors(rng, like)
    damped = damping.factorise(factors, 0.5)
    for i in (1, 2):
        R_A, R_G = to_numpy(damped.A[i - 1]), to_numpy(damped.G[i - 1])
        added_A = (np.linalg.inv(R_A.T @ R_A) - A[i - 1, i - 1])[0, 0]
        added_G = (np.linalg.inv(R_G.T @ R_G) - G[i, i])[0, 0]
        assert added_A * added_G == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize("gamma", [-0.1, math.nan])
def test_gamma_must_be_a_number_not_below_0(rng, gamma):
    with pytest.raises(ValueError, match="gamma must be a number ≥ 0; got"):
        damping.factorise(make_factors(rng, np.zeros(0))[2], gamma)


@pytest.mark.parametrize(("which", "layer", "name"), [("A", 2, r"A\[1,1\]"), ("G", 1, r"G\[1,1\]")])
@pytest.mark.parametrize("value", [-5.0, math.nan])
def test_a_factor_that_is_not_positive_definite_is_named(like, rng, which, layer, name, value):
    """The pivots are computed on every library without an exception; whoever reads them raises."""
    _, _, factors = make_factors(rng, like)
    blocks = getattr(factors, which)
    index = (layer - 1, layer - 1) if which == "A" else (layer, layer)
    blocks[index] = to(like, value * np.eye(blocks[index].shape[0]))
    with np.errstate(invalid="ignore"):  # π of a negative trace
        pivots = damping.factorise(factors, 0.01).pivots
    assert_home(pivots, like)
    with pytest.raises(ValueError, match=rf"layer {layer}: the factor {name} .* gamma = 0.01"):
        damping.require_positive_definite(to_numpy(pivots), 0.01)


def test_without_damping_a_singular_factor_is_named(like, rng):
    _, _, factors = make_factors(rng, like)
    factors.A[0, 0] = to(like, np.ones((4, 4)))  # as with inputs that are all 1
    pivots = to_numpy(damping.factorise(factors, 0.0).pivots)
    with pytest.raises(ValueError, match=r"layer 1: the factor A\[0,0\] is not positive definite .* gamma = 0"):
        damping.require_positive_definite(pivots, 0.0)


def test_lambda_stays_within_its_bounds():
    assert damping.adjust_lambda(1.0, 0.9, 0.5, lambda_min=0.8) == 0.8
    assert damping.adjust_lambda(1.0, 0.1, 0.5, lambda_max=1.5) == 1.5


def test_gamma_candidates():
    """In the order ω₂γ, γ, γ/ω₂; bounds move the outer two alone."""
    assert damping.gamma_candidates(1.0, 0.5, 0.0, math.inf) == [0.5, 1.0, 2.0]
    assert damping.gamma_candidates(1.0, 0.5, 0.7, 1.5) == [0.7, 1.0, 1.5]
    assert damping.gamma_candidates(12.2, 0.5, 0.1, 1.0) == [6.1, 12.2, 1.0]
    assert damping.gamma_candidates(0.1, 0.5, 0.1, 1.0) == [0.1, 0.1, 0.2]
    assert damping.gamma_candidates(0.1, 0.5, 0.3, 1.0) == [0.3, 0.1, 0.2]


@pytest.mark.parametrize(
    ("rho", "expected"),
    [
        (1.0, 0.5),
        (math.inf, 0.5),
        (math.nextafter(0.75, 1), 0.5),
        (0.75, 1.0),
        (0.5, 1.0),
        (0.25, 1.0),
        (math.nextafter(0.25, 0), 2.0),
        (0.0, 2.0),
        (-math.inf, 2.0),
        (math.nan, 1 / 0.5),
    ],
)
def test_adjust_lambda(rho, expected):
    assert damping.adjust_lambda(1.0, rho, 0.5) == expected
