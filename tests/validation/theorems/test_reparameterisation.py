"""The transformed network and the rules of Lemma 5, against a network written out and against ζ's matrix."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import LIKELIHOODS, Network, backward, forward
from kfac_ref.curvature import factors, kronecker
from kfac_ref.curvature.factors import Factors
from tests.conftest import positive_definite, random_parameters, random_targets
from validation.theorems import reparameterisation
from validation.theorems.reparameterisation import Reparameterisation, affine, reparameterised
from validation.theorems.statement import Instance

SIZES = (3, 4, 2, 3)


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


@pytest.fixture
def network() -> Network:
    return Network(SIZES, ["tanh", "logistic"], "bernoulli")


@pytest.fixture
def change(network, rng) -> Reparameterisation:
    return reparameterisation.random(network, rng)


def zeta_matrix(change: Reparameterisation) -> np.ndarray:
    """ζ as a matrix, column by column from its action on unit vectors."""
    shapes = [(len(Phi), len(Omega)) for Phi, Omega in zip(change.Phi, change.Omega, strict=True)]
    identity = np.eye(sum(p * q for p, q in shapes))
    return np.stack([kronecker.flatten(change.zeta(kronecker.unflatten(e, shapes))) for e in identity], axis=1)


def test_the_transformed_network_is_the_one_of_theorem_1(network, change, rng):
    W, x = random_parameters(rng, network), rng.standard_normal(SIZES[0])
    # s†_i = W†_i ā†_{i−1}, ā†_i = Ω_i φ̄_i(Φ_i s†_i), written out
    a, phi = change.Omega[0] @ [*x, 1.0], [np.tanh, lambda s: 1 / (1 + np.exp(-s))]
    for i in range(2):
        a = change.Omega[i + 1] @ [*phi[i](change.Phi[i] @ (W[i] @ a)), 1.0]
    z = forward(change.network(network), W, change.inputs(x[None])).z
    assert_close(z[0], W[2] @ a)
    assert_close(change.outputs(z)[0], change.Phi[2] @ (W[2] @ a))


def test_zeta_is_undone(network, change, rng):
    W = random_parameters(rng, network)
    for found, expected in zip(change.zeta_inverse(change.zeta(W)), W, strict=True):
        assert_close(found, expected)
    assert_close(change.zeta(W)[1], change.Phi[1] @ W[1] @ change.Omega[1])


def test_the_gradient_transforms_by_zetas_transpose(network, change, rng):
    V = random_parameters(rng, network)
    assert_close(kronecker.flatten(change.gradient(V)), zeta_matrix(change).T @ kronecker.flatten(V))


def test_the_condition_is_that_of_zetas_matrix(change):
    assert_close(np.float64(change.condition), np.linalg.cond(zeta_matrix(change)))


def test_factors_are_those_of_transformed_vectors(change, rng):
    a = {i: rng.standard_normal(d + 1) for i, d in enumerate(SIZES[:-1])}
    g = {i: rng.standard_normal(d) for i, d in enumerate(SIZES) if i}
    found = change.factors(Factors({(0, 1): np.outer(a[0], a[1])}, {(1, 2): np.outer(g[1], g[2])}))
    assert_close(found.A[0, 1], np.outer(change.Omega[0] @ a[0], change.Omega[1] @ a[1]))
    assert_close(found.G[1, 2], np.outer(change.Phi[0].T @ g[1], change.Phi[1].T @ g[2]))


def test_an_omega_that_is_not_affine_has_no_network(network, rng):
    general = reparameterisation.random(network, rng, general=True)
    with pytest.raises(ValueError, match=r"Omega_0 has the last row .*, expected \[0 … 0 1\]"):
        general.network(network)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_reparameterised_likelihood(rng, name):
    base, Phi = LIKELIHOODS[name], positive_definite(rng, 3) + rng.standard_normal((3, 3)) / 10
    made, z = reparameterised(base, Phi), rng.standard_normal((5, 3))
    y, v, step = random_targets(rng, name, 5, 3), rng.standard_normal((5, 3)), 1e-6
    assert_close(made.nll(z, y), base.nll(z @ Phi.T, y))
    slope = (made.loss(z + step * v, y) - made.loss(z - step * v, y)) / (2 * step)
    np.testing.assert_allclose(np.sum(made.derivative(z, y) * v, axis=1), slope, rtol=1e-7, atol=1e-8)
    curved = (made.derivative(z + step * v, y) - made.derivative(z - step * v, y)) / (2 * step)
    np.testing.assert_allclose(made.fisher_product(z, v), curved, rtol=1e-7, atol=1e-8)
    # B Bᵀ is F_R
    roots = [made.fisher_root_product(z, np.tile(e, (5, 1))) for e in np.eye(3)]
    assert_close(sum(r * np.sum(r * v, axis=1, keepdims=True) for r in roots), made.fisher_product(z, v))
    assert_close(made.sample(z, [1]), base.sample(z @ Phi.T, [1]))
    assert reparameterised(base, np.eye(3)) is base


def test_tanh_in_place_of_logistic(rng):
    logistic, tanh = (Network([3, 4, 2, 2], name, "gaussian") for name in ("logistic", "tanh"))
    change, W = reparameterisation.logistic_to_tanh(logistic), random_parameters(rng, logistic)
    X = rng.standard_normal((6, 3))
    there = change.zeta_inverse(W)
    for network in (tanh, change.network(logistic)):
        assert_close(forward(network, there, X).z, forward(logistic, W, X).z)


def test_inputs_are_mapped(network, rng):
    linear, shift, X = rng.standard_normal((3, 3)), rng.standard_normal(3), rng.standard_normal((5, 3))
    change = reparameterisation.of_inputs(network, linear, shift)
    assert_close(change.inputs(X), X @ linear.T + shift)
    assert_close(change.Omega[0], affine(linear, shift))


def test_whitening_whitens_activities_and_gradients():
    instance = Instance((3, 4, 4), ("tanh",), "gaussian", 50, seed=1, scale=2.0)
    change = reparameterisation.whitening(factors.exact(instance.forward_pass))
    there = change.network(instance.network)
    W, N = change.zeta_inverse(instance.parameters), instance.cases
    activities = forward(there, W, change.inputs(instance.X))
    for a in activities.a:
        np.testing.assert_allclose(a.T @ a / N, np.eye(a.shape[1]), atol=1e-10)
    # the Gaussian's F_R is I in z, and so Φ Φᵀ's root in z†
    g = [backward(there, W, activities, np.tile(change.Phi[-1][k], (N, 1))) for k in range(4)]
    for i in range(2):
        np.testing.assert_allclose(sum(x[i].T @ x[i] for x in g) / N, np.eye(4), atol=1e-10)


def test_square_roots(rng):
    A, G = positive_definite(rng, 4), positive_definite(rng, 2)
    change = reparameterisation.square_roots(Factors({(0, 0): A}, {(1, 1): G}))
    assert_close(change.Omega[0] @ A @ change.Omega[0], np.eye(4))
    assert_close(change.Phi[0] @ G @ change.Phi[0], np.eye(2))
