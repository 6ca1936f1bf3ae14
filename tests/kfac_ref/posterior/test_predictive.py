"""Predictions of the posterior: exact variances against forward-mode passes and dense Gaussians, and by samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from autodiff import Network
from autodiff.arrays import to_numpy
from autodiff.passes import ForwardPass
from kfac_ref import posterior
from tests.conftest import assert_close, random_parameters, random_targets, to
from tests.kfac_ref.posterior.dense_posterior import all_jacobians, dense_precision
from tests.kfac_ref.posterior.test_laplace import CHOICES, factors_of
from tests.stacks import stacks
from tests.strategies import problems


@given(problem=st.one_of(problems(max_layers=3, max_width=5), stacks()), **CHOICES)
@settings(max_examples=100)
def test_variance_is_the_dense_gaussians(problem, prior_precision, damping, layers, fisher):
    """JΣJᵀ with J by forward-mode passes and Σ by inverting the dense precision."""
    network, N = problem.network, len(problem.X)
    p = posterior.fit(
        network, problem.W, problem.X, problem.Y, prior_precision, fisher=fisher, damping=damping, layers=layers
    )
    first = 1 if layers == "all" else network.layers
    covariance = np.linalg.inv(dense_precision(factors_of(problem, fisher), N, prior_precision, damping, first))
    forward_pass = ForwardPass(network, problem.W, problem.X)
    J = all_jacobians(forward_pass)[:, :, -len(covariance) :]
    expected = J @ covariance @ np.swapaxes(J, 1, 2)
    predicted = posterior.outputs(p, problem.X)
    np.testing.assert_allclose(predicted.covariance, expected, rtol=0, atol=1e-9 * np.max(np.abs(expected)))
    np.testing.assert_array_equal(predicted.variance, np.diagonal(predicted.covariance, axis1=1, axis2=2))
    ((_, activities),) = forward_pass.chunks()
    np.testing.assert_allclose(predicted.z, activities.z, rtol=0, atol=1e-12 * max(1, np.max(np.abs(activities.z))))


@pytest.fixture
def fitted(rng):
    network = Network([2, 4, 3], "tanh", "categorical")
    W, X = random_parameters(rng, network), rng.standard_normal((30, 2))
    return posterior.fit(network, W, X, random_targets(rng, "categorical", 30, 3), 2.0)


def test_linearised_outputs_are_the_mean_and_the_jacobian_times_the_deviation(fitted, rng):
    X = rng.standard_normal((5, 2))
    sampled = posterior.sampled_outputs(fitted, X, 3, (7,))
    J = all_jacobians(ForwardPass(fitted.network, fitted.mean, X))
    for z, deviation in zip(sampled, fitted.deviations(3, (7,)), strict=True):
        vector = np.concatenate([d.flatten(order="F") for d in deviation])
        np.testing.assert_allclose(z, posterior.outputs(fitted, X).z + J @ vector, rtol=0, atol=1e-12)


def test_last_layers_samples_are_linear(fitted, rng):
    """The network is linear in its last layer, so that both kinds of samples are the same."""
    X = rng.standard_normal((5, 2))
    last = posterior.fit(fitted.network, fitted.mean, X, np.eye(3)[[0, 1, 2, 0, 1]], layers="last")
    linear, own = (posterior.sampled_outputs(last, X, 4, (7,), linearised) for linearised in (True, False))
    np.testing.assert_allclose(linear, own, rtol=0, atol=1e-12)


def test_samples_have_the_variance(fitted, rng):
    X = rng.standard_normal((4, 2))
    z, covariance = posterior.outputs(fitted, X)
    sampled = posterior.sampled_outputs(fitted, X, 4000, (1,))
    for n in range(4):
        np.testing.assert_allclose(sampled[:, n].mean(0), z[n], rtol=0, atol=5 * math.sqrt(covariance[n].max() / 4000))
        np.testing.assert_allclose(
            np.cov(sampled[:, n].T), covariance[n], rtol=0, atol=7 * covariance[n].max() / math.sqrt(4000)
        )


def test_probit_of_two_classes_is_nearly_the_integral():
    """E[logistic(z)] by quadrature; MacKay's approximation is known to be within 0.02 of it."""
    network = Network([1, 1], [], "bernoulli")
    p = posterior.fit(network, [np.zeros((1, 2))], np.ones((1, 1)), np.ones((1, 1)))
    grid = np.linspace(-12, 12, 4001)
    for mean in (-3.0, 0.0, 0.5, 2.0):
        for variance in (0.1, 1.0, 9.0):
            exact = np.trapezoid(norm.pdf(grid) / (1 + np.exp(-(mean + math.sqrt(variance) * grid))), grid)
            found = posterior.probit(p, posterior.Outputs(np.array([[mean]]), np.array([[[variance]]])))
            assert found[0, 0] == pytest.approx(exact, abs=0.02)
            assert found[0, 0] == pytest.approx(1 / (1 + math.exp(-mean / math.sqrt(1 + math.pi * variance / 8))))


def test_expectations_agree_where_the_posterior_is_narrow(fitted, rng):
    X = rng.standard_normal((6, 2))
    narrow = fitted.with_prior(1e6)
    plain = fitted.network.likelihood.mean(posterior.outputs(fitted, X).z)
    for how in ("probit", "linearised", "network"):
        np.testing.assert_allclose(posterior.expectation(narrow, X, how, samples=20), plain, rtol=0, atol=1e-2)
        wide = posterior.expectation(fitted.with_prior(1e-2), X, how)
        np.testing.assert_allclose(wide.sum(1), 1, rtol=0, atol=1e-12)
        assert np.mean(wide.max(1)) < np.mean(plain.max(1))
    with pytest.raises(ValueError, match='did you mean "probit"'):
        posterior.expectation(fitted, X, "probits")


def test_chunks_and_shapes_of_cases_make_no_difference(rng, monkeypatch):
    layers = [{"kind": "conv", "out": 2, "kernel": [2, 2], "activation": "tanh"}, {"kind": "flatten"}]
    network = Network.of([*layers, {"kind": "dense", "out": 2}], (2, 3, 3), "gaussian")
    W, X, Y = random_parameters(rng, network), rng.standard_normal((7, 2, 3, 3)), random_targets(rng, "gaussian", 7, 2)
    p = posterior.fit(network, W, X, Y)
    whole = posterior.outputs(p, X)
    monkeypatch.setattr(posterior.predictive, "ENTRIES", 2 * 2 * max(d * q for d, q in network.shapes) * 2)
    for found in (posterior.outputs(p, X), posterior.outputs(p, X.reshape(7, -1))):
        np.testing.assert_allclose(found.covariance, whole.covariance, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.z, whole.z, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"X has shape \(7, 5\)"):
        posterior.outputs(p, np.ones((7, 5)))


def test_on_every_library(like, rng):
    network = Network([3, 4, 2], "tanh", "categorical")
    W, X, Y = random_parameters(rng, network), rng.standard_normal((9, 3)), random_targets(rng, "categorical", 9, 2)
    p, q = (posterior.fit(network, *arrays, 0.7) for arrays in ((W, X, Y), to(like, W, X, Y)))
    expected, found = posterior.outputs(p, X), posterior.outputs(q, to(like, X))
    assert_close(found.covariance, expected.covariance, like)
    for how in ("probit", "linearised", "network"):
        probabilities = posterior.expectation(q, to(like, X), how, samples=3)
        assert_close(
            probabilities, posterior.expectation(p, X, how, samples=3), like, *([] if how == "probit" else [2])
        )
        np.testing.assert_allclose(to_numpy(probabilities).sum(1), 1, rtol=0, atol=1e-5)
