"""The prior precision and noise variance at which the evidence is largest."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import Network
from kfac_ref import posterior
from tests.conftest import random_parameters, random_targets


def regression(rng, noise: float):
    """A linear regression's posterior at its mean, and its X̄ and Y."""
    X = rng.standard_normal((40, 3))
    X1 = np.c_[X, np.ones(40)]
    Y = X1 @ rng.standard_normal((4, 2)) + noise**0.5 * rng.standard_normal((40, 2))
    M = np.linalg.solve(X1.T @ X1 + 0.1 * np.eye(4), X1.T @ Y)
    return posterior.fit(Network([3, 2], [], "gaussian"), [M.T], X, Y, 1.0), X1, Y


def test_mackays_conditions_hold_where_the_evidence_is_largest(rng):
    """λ₀‖θ‖² = γ and Σ‖y − z‖²/σ² = N d − γ, γ the number of well-determined parameters (MacKay 1992)."""
    p, X1, Y = regression(rng, 0.2)
    best = posterior.most_evident(p, noise=True)
    lam, noise = best.prior_precision, best.noise_variance
    e = np.linalg.eigvalsh(X1.T @ X1) / noise
    determined = 2 * np.sum(e / (e + lam))
    (W,) = p.mean
    assert lam * np.sum(W**2) == pytest.approx(determined, rel=1e-4)
    assert np.sum((Y - X1 @ W.T) ** 2) / noise == pytest.approx(Y.size - determined, rel=1e-4)
    assert noise == pytest.approx(0.2, rel=0.5)


@pytest.mark.parametrize("damping", ["exact", "factored", "tikhonov"])
def test_no_prior_precision_nearby_is_better(damping, rng):
    network = Network([3, 4, 2], "tanh", "categorical")
    W, X, Y = random_parameters(rng, network), rng.standard_normal((30, 3)), random_targets(rng, "categorical", 30, 2)
    p = posterior.fit(network, W, X, Y, damping=damping)
    best = posterior.most_evident(p)
    assert posterior.log_evidence(best) > posterior.log_evidence(p)
    assert best.noise_variance == 1.0
    for factor in (0.9, 1.1):
        assert posterior.log_evidence(p.with_prior(factor * best.prior_precision)) < posterior.log_evidence(best)


def test_classes_have_no_noise(rng):
    network = Network([2, 2], [], "categorical")
    p = posterior.fit(network, random_parameters(rng, network), np.ones((2, 2)), np.eye(2))
    with pytest.raises(ValueError, match="the categorical likelihood has no noise variance to choose"):
        posterior.most_evident(p, noise=True)


def test_float32_finds_the_same(rng):
    X, Y = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    network = Network([3, 5, 2], "tanh", "gaussian")
    W = random_parameters(rng, network)
    best, single = (
        posterior.most_evident(posterior.fit(network, [w.astype(t) for w in W], X.astype(t), Y.astype(t)), noise=True)
        for t in (np.float64, np.float32)
    )
    assert single.prior_precision == pytest.approx(best.prior_precision, rel=1e-3)
    assert single.noise_variance == pytest.approx(best.noise_variance, rel=1e-3)
