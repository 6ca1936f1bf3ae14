"""The Laplace approximation against dense Gaussians, and with linear regression against the closed form."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodiff import Network
from autodiff.passes import ForwardPass
from kfac_ref import posterior
from kfac_ref.curvature import factors
from kfac_ref.curvature.factors import Kinds
from kfac_ref.posterior import laplace
from tests.conftest import assert_close, random_parameters, random_targets, to
from tests.dense import case_loss, dense_exact_G, dense_factors, flatten
from tests.kfac_ref.posterior.dense_posterior import dense_log_evidence, dense_precision
from tests.stacks import stacks
from tests.strategies import problems

CHOICES = {
    "prior_precision": st.sampled_from([0.01, 0.7, 30.0]),
    "damping": st.sampled_from(laplace.DAMPINGS),
    "layers": st.sampled_from(laplace.LAYERS),
    "fisher": st.sampled_from(["exact", "empirical"]),
}


def factors_of(problem, fisher: str, kinds: Kinds = factors.USUAL):
    forward_pass = ForwardPass(problem.network, problem.W, problem.X)
    return (
        factors.exact(forward_pass, kinds) if fisher == "exact" else factors.empirical(forward_pass, problem.Y, kinds)
    )


def matrix(function, shapes) -> np.ndarray:
    """That of a linear function of [vec V_1; …], V of these shapes."""
    sizes = [p * q for p, q in shapes]
    columns = []
    for e in np.eye(sum(sizes)):
        parts = np.split(e, np.cumsum(sizes)[:-1])
        V = [part.reshape(shape, order="F") for part, shape in zip(parts, shapes, strict=True)]
        columns.append(flatten(function(V)))
    return np.array(columns).T


def roots(p: posterior.Posterior, shapes) -> np.ndarray:
    """What `deviations` does to standard normal numbers, as a matrix."""
    from unittest.mock import patch

    def draw(E):
        queue = iter(E)
        with patch.object(laplace.arrays, "normal", lambda key, shape, like: next(queue)):
            return p.deviations(1, (0,))[0]

    return matrix(draw, shapes)


@given(problem=st.one_of(problems(max_layers=3, max_width=4), stacks()), **CHOICES)
@settings(max_examples=100)
def test_covariance_samples_and_evidence_are_those_of_the_dense_gaussian(
    problem, prior_precision, damping, layers, fisher
):
    network, W = problem.network, problem.W
    noise = 0.3 if network.likelihood.name == "gaussian" else 1.0
    N = len(problem.X)
    p = posterior.fit(
        network, W, problem.X, problem.Y, prior_precision, fisher=fisher, damping=damping, layers=layers,
        noise_variance=noise,
    )  # fmt: skip
    first = 1 if layers == "all" else network.layers
    precision = dense_precision(factors_of(problem, fisher), N / noise, prior_precision, damping, first)
    covariance, shapes = np.linalg.inv(precision), network.shapes[first - 1 :]
    scale = np.max(np.abs(covariance))
    np.testing.assert_allclose(matrix(p.covariance_product, shapes), covariance, rtol=0, atol=1e-9 * scale)
    R = roots(p, shapes)
    np.testing.assert_allclose(R @ R.T, covariance, rtol=0, atol=1e-9 * scale)
    losses = sum(case_loss_of(network, W, x, y) for x, y in zip(problem.X, problem.Y, strict=True))
    expected = dense_log_evidence(network, W[first - 1 :], losses, N, precision, prior_precision, noise)
    assert posterior.log_evidence(p) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def case_loss_of(network: Network, W, x, y) -> float:
    """L of one case, from its outputs; over its positions, where there are several."""
    ((_, activities),) = ForwardPass(network, W, x[None]).chunks()
    z, n = activities.z[0], network.likelihood.positions
    pairs = zip(z.reshape(n, -1), y.reshape(n, -1), strict=True)
    return sum(case_loss(network.likelihood.name, a, b) for a, b in pairs)


@pytest.mark.parametrize("sharing", factors.SHARINGS)
@pytest.mark.parametrize("full", factors.FULL_BLOCKS)
def test_factors_of_all_kinds(sharing, full, rng):
    layers = [
        {"kind": "conv", "out": 2, "kernel": [2, 2], "activation": "tanh"},
        {"kind": "layer-norm"},
        {"kind": "flatten"},
        {"kind": "dense", "out": 2},
    ]
    network = Network.of(layers, (1, 3, 3), "categorical")
    W, X, Y = (
        random_parameters(rng, network),
        rng.standard_normal((5, 1, 3, 3)),
        random_targets(rng, "categorical", 5, 2),
    )
    kinds = Kinds(sharing, full)
    p = posterior.fit(network, W, X, Y, 0.5, kinds=kinds)
    precision = dense_precision(factors.exact(ForwardPass(network, W, X), kinds), 5, 0.5, "exact")
    np.testing.assert_allclose(
        matrix(p.covariance_product, network.shapes) @ precision, np.eye(len(precision)), atol=1e-9
    )


@pytest.mark.parametrize("name", ["bernoulli", "categorical", "gaussian"])
def test_on_every_library(like, rng, name):
    network = Network([3, 4, 2], "tanh", name)
    W, X, Y = random_parameters(rng, network), rng.standard_normal((9, 3)), random_targets(rng, name, 9, 2)
    p = posterior.fit(network, *to(like, W, X, Y), 0.7)
    A, G = dense_factors(network, W, X, Y)[0], dense_exact_G(network, W, X)
    V = random_parameters(rng, network)
    expected = []
    for i, v in enumerate(V, start=1):
        precision = 9 * np.kron(A[i - 1, i - 1], G[i, i]) + 0.7 * np.eye(v.size)
        expected.append(np.linalg.solve(precision, v.flatten(order="F")).reshape(v.shape, order="F"))
    for u, w in zip(p.covariance_product(to(like, V)), expected, strict=True):
        assert_close(u, w, like)
    assert posterior.log_evidence(p) == pytest.approx(
        posterior.log_evidence(posterior.fit(network, W, X, Y, 0.7)), rel=1e-4
    )
    for sampled in p.sample(2, (3,)):
        network.check_parameters(sampled)


def test_sampled_factors_are_those_of_the_exact_fisher_in_the_mean(rng):
    network = Network([3, 3, 2], "tanh", "categorical")
    W, X = random_parameters(rng, network), rng.standard_normal((4000, 3))
    Y = random_targets(rng, "categorical", 4000, 2)
    exact, sampled = (posterior.fit(network, W, X, Y, fisher=fisher) for fisher in ("exact", "sampled"))
    for a, b in zip(sampled.basis.s_G, exact.basis.s_G, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=0.1 * np.max(b))
    other = posterior.fit(network, W, X, Y, fisher="sampled", key=(1, 5))
    assert any(np.any(a != b) for a, b in zip(sampled.basis.s_G, other.basis.s_G, strict=True))


def test_monte_carlo_covariance_of_samples(rng):
    network = Network([2, 2, 2], "tanh", "gaussian")
    W, X, Y = random_parameters(rng, network), rng.standard_normal((6, 2)), random_targets(rng, "gaussian", 6, 2)
    p = posterior.fit(network, W, X, Y, 0.5)
    drawn = np.array([flatten(theta) for theta in p.sample(4000, (1, 2))])
    covariance = matrix(p.covariance_product, network.shapes)
    np.testing.assert_allclose(drawn.mean(0), flatten(W), rtol=0, atol=5 * np.sqrt(covariance.max() / 4000))
    np.testing.assert_allclose(np.cov(drawn.T), covariance, rtol=0, atol=7 * covariance.max() / np.sqrt(4000))


def test_only_the_last_layer_varies_where_only_it_is_uncertain(rng):
    network = Network([2, 3, 2], "tanh", "gaussian")
    W, X, Y = random_parameters(rng, network), rng.standard_normal((6, 2)), random_targets(rng, "gaussian", 6, 2)
    (theta,) = posterior.fit(network, W, X, Y, layers="last").sample(1, (0,))
    assert np.array_equal(theta[0], W[0]) and not np.any(theta[1] == W[1])


def test_weights_of_cases_are_cases_repeated(rng):
    network = Network([2, 3, 2], "tanh", "categorical")
    W, X, Y = random_parameters(rng, network), rng.standard_normal((4, 2)), random_targets(rng, "categorical", 4, 2)
    times = np.array([1, 3, 0, 2])
    weighted = posterior.fit(network, W, X, Y, weights=times.astype(float))
    repeated = posterior.fit(network, W, X.repeat(times, 0), Y.repeat(times, 0))
    assert posterior.log_evidence(weighted) == pytest.approx(posterior.log_evidence(repeated), rel=1e-12)


# --- linear regression: the Laplace approximation is the posterior ---------------------------------------------------


@given(
    seed=st.integers(0, 2**32 - 1),
    d=st.integers(1, 6),
    outputs=st.integers(1, 3),
    N=st.integers(1, 12),
    lam=st.sampled_from([0.01, 1.0, 20.0]),
    noise=st.sampled_from([0.1, 1.0, 3.0]),
)
@settings(max_examples=60)
def test_linear_regression_is_the_closed_form(seed, d, outputs, N, lam, noise):
    """Posterior, predictive variance and evidence of Bayesian linear regression; the evidence as that of the targets,
    N(0, σ²I + X̄X̄ᵀ/λ₀) for each output."""
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((N, d)), rng.standard_normal((N, outputs))
    X1 = np.c_[X, np.ones(N)]
    S = np.linalg.inv(X1.T @ X1 / noise + lam * np.eye(d + 1))
    M = S @ X1.T @ Y / noise
    network = Network([d, outputs], [], "gaussian")
    p = posterior.fit(network, [M.T], X, Y, lam, noise_variance=noise)
    np.testing.assert_allclose(
        matrix(p.covariance_product, network.shapes), np.kron(S, np.eye(outputs)), rtol=0, atol=1e-10 * np.max(S)
    )
    new = rng.standard_normal((3, d))
    new1 = np.c_[new, np.ones(3)]
    z, covariance = posterior.outputs(p, new)
    np.testing.assert_allclose(z, new1 @ M, rtol=0, atol=1e-10 * max(1, np.max(np.abs(M))))
    expected = np.einsum("ma,ab,mb->m", new1, S, new1)[:, None, None] * np.eye(outputs)
    np.testing.assert_allclose(covariance, expected, rtol=0, atol=1e-10 * np.max(expected))
    C = noise * np.eye(N) + X1 @ X1.T / lam
    evidence = sum(-0.5 * (N * np.log(2 * np.pi) + np.linalg.slogdet(C)[1] + y @ np.linalg.solve(C, y)) for y in Y.T)
    assert posterior.log_evidence(p) == pytest.approx(evidence, rel=1e-10, abs=1e-10)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prior_precision": 0.0}, "prior_precision must be positive and finite; got 0.0"),
        ({"noise_variance": -1.0}, "noise_variance must be positive and finite; got -1.0"),
        ({"noise_variance": 2.0}, "noise_variance is 2.0, but only the gaussian likelihood has one"),
        ({"damping": "exactly"}, 'did you mean "exact"?'),
        ({"layers": "lats"}, 'did you mean "last"?'),
        ({"fisher": "empiric"}, 'did you mean "empirical"?'),
        ({"weights": np.array([1.0, -1.0])}, "weights[1] is -1.0"),
    ],
)
def test_bad_arguments_are_named(arguments, said, rng):
    network = Network([2, 2], [], "categorical")
    with pytest.raises(ValueError, match=re.escape(said)):
        posterior.fit(network, random_parameters(rng, network), np.ones((2, 2)), np.eye(2), **arguments)


def test_bad_data_are_named(rng):
    network = Network([2, 2], [], "categorical")
    W = random_parameters(rng, network)
    with pytest.raises(ValueError, match=r"X has shape \(2, 3\)"):
        posterior.fit(network, W, np.ones((2, 3)), np.eye(2))
    with pytest.raises(ValueError, match=r"X\[0, 1\] is nan"):
        posterior.fit(network, W, np.array([[1.0, np.nan], [0.0, 0.0]]), np.eye(2))
    with pytest.raises(ValueError, match="samples must be at least 1; got 0"):
        posterior.fit(network, W, np.ones((2, 2)), np.eye(2)).sample(0, (0,))
