"""M(δ) and its minimiser."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
import scipy.optimize

from autodiff import Network
from autodiff.passes import ForwardPass
from kfac_ref.curvature import quadratic
from kfac_ref.curvature.quadratic import InnerProducts
from tests.conftest import assert_close, positive_definite, random_parameters, to
from tests.dense import dense_fisher, flatten

DAMPING = 0.4


def dense_problem(rng, directions: int = 2, n: int = 7):
    """A Hessian with damping, a slope, and directions as columns; and their inner products."""
    F, g, U = positive_definite(rng, n, 0.0), rng.standard_normal(n), rng.standard_normal((n, directions))
    return F + DAMPING * np.eye(n), g, U, InnerProducts(U.T @ F @ U, U.T @ U, U.T @ g)


def test_inner_products(like, rng):
    network = Network([3, 4, 2], "tanh", "bernoulli")
    W, X = random_parameters(rng, network), rng.standard_normal((6, 3))
    gradient, *directions = ([rng.standard_normal(shape) for shape in network.shapes] for _ in range(4))
    F, U, g = dense_fisher(network, W, X[:4]), np.stack([flatten(v) for v in directions], axis=1), flatten(gradient)
    parameters, inputs, slope, *there = to(like, W, X, gradient, *directions)
    products = quadratic.inner_products(ForwardPass(network, parameters, inputs), slope, there, 4)
    assert_close(products.forms, U.T @ F @ U, like, dtype="float64")
    assert_close(products.dots, U.T @ U, like, dtype="float64")
    assert_close(products.slopes, U.T @ g, like, dtype="float64")


@pytest.mark.parametrize("r", [1, 2])
def test_minimise_by_search(rng, r):
    M, g, U, products = dense_problem(rng, r)

    def value(c):
        delta = U @ c
        return 0.5 * delta @ M @ delta + g @ delta

    found = scipy.optimize.minimize(value, np.zeros(r), method="BFGS", options={"gtol": 1e-10})
    ours = quadratic.minimise(products, DAMPING, list(range(r)))
    np.testing.assert_allclose([ours.alpha, ours.mu][:r], found.x, rtol=1e-6)
    assert ours.mu == 0 or r == 2
    assert ours.change == pytest.approx(found.fun, rel=1e-9)
    assert ours.norm == pytest.approx(np.linalg.norm(U @ found.x), rel=1e-6)


def test_minimise_by_least_squares(rng):
    """½ δᵀMδ + gᵀδ is ½‖Lᵀδ + L⁻¹g‖² up to a constant, M = L Lᵀ."""
    M, g, U, products = dense_problem(rng)
    L = np.linalg.cholesky(M)
    c = np.linalg.lstsq(L.T @ U, -np.linalg.solve(L, g), rcond=None)[0]
    ours = quadratic.minimise(products, DAMPING, [0, 1])
    assert (ours.alpha, ours.mu) == pytest.approx(tuple(c), rel=1e-10)


def test_pick_names_the_directions(rng):
    """Of several Δ with δ₀ last, each pair gives what it gives alone."""
    _, g, U, products = dense_problem(rng, 4)
    for c in range(3):
        pair = U[:, [c, 3]]
        alone = InnerProducts(products.forms[np.ix_([c, 3], [c, 3])], pair.T @ pair, pair.T @ g)
        ours, expected = quadratic.minimise(products, DAMPING, [c, 3]), quadratic.minimise(alone, DAMPING, [0, 1])
        assert astuple(ours) == pytest.approx(astuple(expected), rel=1e-12)


def test_a_step_along_the_newton_direction_has_length_1(rng):
    M, g, _, _ = dense_problem(rng)
    delta = -np.linalg.solve(M, g)
    F = M - DAMPING * np.eye(len(g))
    products = InnerProducts(*(np.array([[x]]) for x in (delta @ F @ delta, delta @ delta)), np.array([g @ delta]))
    ours = quadratic.minimise(products, DAMPING, [0])
    assert ours.alpha == pytest.approx(1, rel=1e-12)
    assert ours.change == pytest.approx(-0.5 * g @ np.linalg.solve(M, g), rel=1e-12)


def from_directions(rng, U):
    M, g, _, _ = dense_problem(rng, n=len(U))
    F = M - DAMPING * np.eye(len(U))
    return InnerProducts(U.T @ F @ U, U.T @ U, U.T @ g)


@pytest.mark.parametrize("factor", [1.0, -2.0, 0.1])
def test_parallel_directions(rng, factor):
    """The minimum along the one direction, which both share."""
    u = rng.standard_normal(7)
    products = from_directions(rng, np.stack([u, factor * u], axis=1))
    both, one = quadratic.minimise(products, DAMPING, [0, 1]), quadratic.minimise(products, DAMPING, [0])
    assert both.alpha + factor * both.mu == pytest.approx(one.alpha, rel=1e-8)
    assert both.change == pytest.approx(one.change, rel=1e-8)
    assert both.norm == pytest.approx(one.norm, rel=1e-8)


def test_directions_of_different_lengths(rng):
    """α and μ scale inversely with Δ and δ₀, as long as the pseudo-inverse does not take the shorter one for 0, which
    it does at ratios beyond 1e-8, the root of a rounding."""
    U = rng.standard_normal((7, 2))
    M, g, _, _ = dense_problem(rng)
    F = M - DAMPING * np.eye(7)
    for scale in (1e-6, 1e6):
        S = U * np.array([1.0, scale])
        ours = quadratic.minimise(InnerProducts(S.T @ F @ S, S.T @ S, S.T @ g), DAMPING, [0, 1])
        expected = -np.linalg.solve(U.T @ M @ U, U.T @ g)
        assert (ours.alpha, ours.mu * scale) == pytest.approx(tuple(expected), rel=1e-3)


def test_zero_directions(rng):
    u = rng.standard_normal(7)
    products = from_directions(rng, np.stack([u, np.zeros(7)], axis=1))
    assert quadratic.minimise(products, DAMPING, [0, 1]) == quadratic.minimise(products, DAMPING, [0])
    nothing = quadratic.minimise(InnerProducts(np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2)), DAMPING, [0, 1])
    assert (nothing.alpha, nothing.mu, nothing.change, nothing.norm) == (0, 0, 0, 0)


@pytest.mark.parametrize("ratio", [1e-8, 1e-4, 1e6, 1e10])
def test_minimise_directions_of_very_different_lengths(rng, ratio):
    """Scaling δ₀ by r scales μ by 1/r and changes nothing else."""
    *_, products = dense_problem(rng)
    expected = quadratic.minimise(products, DAMPING, [0, 1])
    scale = np.array([1.0, ratio])
    forms, dots = (scale[:, None] * x * scale for x in (products.forms, products.dots))
    ours = quadratic.minimise(InnerProducts(forms, dots, scale * products.slopes), DAMPING, [0, 1])
    np.testing.assert_allclose([ours.alpha, ours.mu * ratio], [expected.alpha, expected.mu], rtol=1e-11)
    assert ours.change == pytest.approx(expected.change, rel=1e-11)
