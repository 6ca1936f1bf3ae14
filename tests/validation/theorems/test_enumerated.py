"""The straight-line mathematics of the statements, against that of the tests and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from tests.dense import (
    assemble,
    case_derivative,
    case_forward,
    damped_blocks,
    dense_exact_G,
    dense_factors,
    dense_fisher,
    dense_gradient,
    dense_h,
    flatten,
    kronecker_block,
    split,
    unflatten,
)
from validation.theorems import enumerated
from validation.theorems.enumerated import distribution
from validation.theorems.statement import Instance

NAMES = ["bernoulli", "categorical", "gaussian"]


def make(name: str, cases: int = 4) -> Instance:
    return Instance((2, 3, 1, 3), ("tanh", "softplus"), name, cases, 8)


@pytest.mark.parametrize("name", NAMES)
def test_fisher_factors_and_gradient(name):
    """Over all targets, F, Ā and G are those that F_R gives; at the data's y, 𝒟θ and ∇h those of JᵀL′."""
    instance = make(name)
    network, W, X, Y = instance.network, instance.parameters, instance.X, instance.Y
    drawn, given = distribution(instance), distribution(instance, Y)
    np.testing.assert_allclose(drawn.fisher, dense_fisher(network, W, X), atol=1e-13)
    A, G = dense_factors(network, W, X, Y)
    for ours, theirs in ((drawn.A(), A), (drawn.G(), dense_exact_G(network, W, X)), (given.G(), G)):
        assert set(ours) == set(theirs)
        for index in ours:
            np.testing.assert_allclose(ours[index], theirs[index], atol=1e-13)
    derivatives = [case_derivative(network, W, x, y) for x, y in zip(X, Y, strict=True)]
    np.testing.assert_allclose(given.derivatives, derivatives, atol=1e-13)
    np.testing.assert_allclose(given.gradient, dense_gradient(network, W, X, Y, 0.0), atol=1e-13)
    assert enumerated.h(instance, W, 0.3) == pytest.approx(dense_h(network, W, X, Y, 0.3), rel=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_first_cases(name):
    instance = make(name)
    part = distribution(instance, cases=2)
    assert set(part.case) == {0, 1}
    expected = dense_fisher(instance.network, instance.parameters, instance.X[:2])
    np.testing.assert_allclose(part.fisher, expected, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_outcomes_are_the_distribution(name):
    """Probabilities sum to 1; all moments up to the fourth, for the Gaussian with 3 nodes the fifth, of one y."""
    z = np.array([0.3, -1.2, 0.8])
    p, Y = enumerated.outcomes(name, z)
    assert p.sum() == pytest.approx(1, rel=1e-14)
    mean = enumerated.mean(name, z)
    np.testing.assert_allclose(p @ Y, mean, atol=1e-14)
    np.testing.assert_allclose((Y - mean).T * p @ (Y - mean), enumerated.output_fisher(name, z), atol=1e-14)
    for k, (m, y) in enumerate(zip(mean, Y.T, strict=True)):
        law = scipy.stats.norm(m) if name == "gaussian" else scipy.stats.bernoulli(m)
        for order in range(1, 6):
            assert p @ y**order == pytest.approx(law.moment(order), rel=1e-12), (k, order)


def test_more_nodes_are_exact_further():
    """The ninth moment about 0 of a normal variable of mean 1: 5 nodes have it, 3 do not."""
    expected = scipy.stats.norm(1.0).moment(9)
    (p, y), (q, x) = (enumerated.outcomes("gaussian", np.ones(1), nodes) for nodes in (5, 3))
    assert p @ y[:, 0] ** 9 == pytest.approx(expected, rel=1e-12)
    assert abs(q @ x[:, 0] ** 9 - expected) > 1


@pytest.mark.parametrize("name", NAMES)
def test_forward(name):
    instance = make(name)
    s, a = enumerated.forward(instance, instance.parameters, instance.X[1])
    abar, _, z = case_forward(instance.network, instance.parameters, instance.X[1])
    np.testing.assert_allclose(s[-1], z, atol=1e-14)
    for ours, theirs in zip(a, abar, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-14)


def test_dense_matrices():
    """F̃ damped, its blocks, and θ as a vector."""
    instance = make("bernoulli")
    drawn, W = distribution(instance), instance.parameters
    A, G = drawn.A(), drawn.G()
    theirs = damped_blocks(A, G, 0.2)
    F = enumerated.kronecker_fisher(*enumerated.damped(A, G, 0.2))
    pairs = [(i, j) for i in (1, 2, 3) for j in (1, 2, 3)]
    expected = assemble({index: kronecker_block(*theirs, *index) for index in pairs}, 3)
    np.testing.assert_allclose(F, expected, atol=1e-14)
    blocks = split(F, [p * q for p, q in instance.network.shapes])
    for index, block in enumerated.split(F, instance).items():
        assert np.array_equal(block, blocks[index])
    theta = enumerated.vec(W)
    assert np.array_equal(theta, flatten(W))
    for ours, other in zip(enumerated.unvec(theta, instance), unflatten(theta, instance.network), strict=True):
        assert np.array_equal(ours, other)


def test_a_layer_of_derivative_zero_is_damped_with_pi_one():
    A, G = enumerated.damped({(0, 0): np.eye(2)}, {(1, 1): np.zeros((1, 1))}, 0.5)
    assert np.array_equal(A[0, 0], 1.5 * np.eye(2)) and np.array_equal(G[1, 1], [[0.5]])
