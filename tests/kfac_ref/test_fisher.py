"""The exact Fisher."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from autodiff import Network
from autodiff.arrays import to_numpy
from autodiff.passes import ForwardPass, backward, forward
from kfac_ref import fisher
from tests.conftest import assert_all_close, assert_close, random_parameters, to
from tests.dense import case_F_R, case_forward, case_mean, dense_fisher, flatten, unflatten
from tests.strategies import problems

NAMES = ["bernoulli", "categorical", "gaussian"]


def make(rng, name):
    network = Network([3, 4, 3, 3], ["tanh", "softplus"], name)
    directions = [[rng.standard_normal(shape) for shape in network.shapes] for _ in range(3)]
    return network, random_parameters(rng, network), rng.standard_normal((8, 3)), directions


@pytest.mark.parametrize("cases", [None, 8, 5, 1])
@pytest.mark.parametrize("chunk_size", [100, 3])
@pytest.mark.parametrize("name", NAMES)
def test_forms_and_product_against_the_dense_matrix(like, rng, name, chunk_size, cases):
    network, W, X, directions = make(rng, name)
    F = dense_fisher(network, W, X[: cases or 8])
    V = np.stack([flatten(v) for v in directions], axis=1)
    parameters, inputs, *there = to(like, W, X, *directions)
    forward_pass = ForwardPass(network, parameters, inputs, chunk_size)
    assert_close(fisher.quadratic_forms(forward_pass, there, cases), V.T @ F @ V, like, dtype="float64")
    Fv = fisher.product(forward_pass, there[0], cases)
    assert_all_close(Fv, unflatten(F @ V[:, 0], network), like)


def test_directions_are_left_alone(rng):
    network, W, X, directions = make(rng, "bernoulli")
    before = [v.copy() for v in directions[0]]
    fisher.product(ForwardPass(network, W, X), directions[0])
    assert all(np.array_equal(a, b) for a, b in zip(directions[0], before, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_is_the_expectation_of_squared_derivatives_over_the_models_targets(rng, name):
    """F = E[𝒟θ 𝒟θᵀ], y from the model: over all targets, of which each has probability r(y|z), or for the Gaussian
    over the two targets z ± √d e_c for each output c, whose second moment is that of the distribution."""
    network, W, X, _ = make(rng, name)
    P = sum(p * q for p, q in network.shapes)
    expectation = np.zeros((P, P))
    for x in X:
        z = case_forward(network, W, x)[2]
        p = case_mean(name, z)
        if name == "categorical":
            outcomes = list(zip(p, np.eye(3), strict=True))
        elif name == "bernoulli":
            ys = [np.array([b >> i & 1 for i in range(3)], dtype=float) for b in range(8)]
            outcomes = [(np.prod(np.where(y == 1, p, 1 - p)), y) for y in ys]
        else:
            outcomes = [(1 / 6, z + sign * np.sqrt(3) * e) for e in np.eye(3) for sign in (1, -1)]
        for probability, y in outcomes:
            activities = forward(network, W, x[None, :])
            g = backward(network, W, activities, network.likelihood.derivative(activities.z, y[None, :]))
            D = flatten([g_i.T @ a for g_i, a in zip(g, activities.a, strict=True)])
            expectation += probability * np.outer(D, D) / len(X)
    forward_pass = ForwardPass(network, W, X)
    columns = [flatten(fisher.product(forward_pass, unflatten(e, network))) for e in np.eye(P)]
    np.testing.assert_allclose(np.array(columns).T, expectation, atol=1e-12)


@settings(max_examples=60)
@given(problems(max_layers=4, max_width=5))
def test_form_by_differences(p):
    """vᵀFv = mean of (Jv)ᵀ F_R (Jv), with Jv by differences of the outputs."""
    v, step, name = p.direction(), 1e-5, p.network.likelihood.name
    ahead, behind = (
        np.array([case_forward(p.network, [W + s * step * d for W, d in zip(p.W, v, strict=True)], x)[2] for x in p.X])
        for s in (1, -1)
    )
    Jv = (ahead - behind) / (2 * step)
    z = [case_forward(p.network, p.W, x)[2] for x in p.X]
    expected = np.mean([j @ case_F_R(name, row) @ j for j, row in zip(Jv, z, strict=True)])
    ours = float(fisher.quadratic_forms(ForwardPass(p.network, p.W, p.X), [v])[0, 0])
    assert ours == pytest.approx(expected, rel=1e-6, abs=1e-8)


@settings(max_examples=60)
@given(problems())
def test_forms_are_products_and_chunks_change_nothing(p):
    """uᵀ(Fv), by forward and backward passes, is uᵀFv by forward-mode passes alone, for every chunk size."""
    u, v = p.direction(), p.direction()
    Fv = flatten(fisher.product(ForwardPass(p.network, p.W, p.X), v))
    forms = fisher.quadratic_forms(ForwardPass(p.network, p.W, p.X), [u, v])
    size = np.linalg.norm(Fv) + np.sqrt(abs(forms[0, 0] * forms[1, 1]))
    # where a softmax is saturated, F_R (Jv) cancels to little; rounding is that of JᵀJv, before it
    plain = Network(p.network.sizes, p.network.activations, "gaussian")
    before = np.linalg.norm(flatten(fisher.product(ForwardPass(plain, p.W, p.X), v)))
    assert abs(flatten(u) @ Fv - forms[0, 1]) <= 1e-12 * max(size, 1e-3)
    np.testing.assert_allclose(forms, forms.T, atol=1e-14 * max(1, np.abs(forms).max()))
    for chunk_size in range(1, len(p.X) + 1):
        forward_pass = ForwardPass(p.network, p.W, p.X, chunk_size)
        np.testing.assert_allclose(
            fisher.quadratic_forms(forward_pass, [u, v]), forms, rtol=1e-12, atol=1e-13 * max(1, np.abs(forms).max())
        )
        np.testing.assert_allclose(
            flatten(fisher.product(forward_pass, v)), Fv, rtol=1e-12, atol=1e-13 * (size + before)
        )


def test_sampled_targets_estimate_it(rng):
    """Monte Carlo: the mean of (𝒟θᵀv)² over 32 000 sampled targets agrees with vᵀFv to 5 standard errors."""
    network, W, X, directions = make(rng, "categorical")
    many = np.repeat(X, 4000, axis=0)
    activities = forward(network, W, many)
    y = network.likelihood.sample(activities.z, (11,))
    g = backward(network, W, activities, network.likelihood.derivative(activities.z, y))
    v = directions[0]
    slopes = sum(np.einsum("mi,ij,mj->m", g[i], v[i], activities.a[i]) for i in range(3))
    exact = float(to_numpy(fisher.quadratic_forms(ForwardPass(network, W, X), [v]))[0, 0])
    assert abs(np.mean(slopes**2) - exact) < 5 * np.std(slopes**2) / np.sqrt(len(many))
