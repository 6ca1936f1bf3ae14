"""Noisy K-FAC: steps against dense algebra with the same noise; its stationary distribution in linear regression."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from autodiff import Network
from autodiff.passes import ForwardPass
from kfac_ref import posterior
from kfac_ref.batch import Batch
from kfac_ref.curvature import factors
from kfac_ref.optimizer import Diverged
from kfac_ref.posterior import NoisyKFAC, noisy
from kfac_ref.settings import Settings
from tests.conftest import assert_all_close, random_parameters, random_targets, sampled_targets, to
from tests.dense import dense_factors, dense_gradient, dense_pi, flatten, unflatten
from tests.kfac_ref.posterior.dense_posterior import dense_precision

EACH = Settings(inverse="block-diagonal", T3=1, tau1=1.0)


def problem(rng, name="categorical"):
    network = Network([3, 4, 3], "tanh", name)
    return network, random_parameters(rng, network), rng.standard_normal((8, 3)), random_targets(rng, name, 8, 3)


@pytest.mark.parametrize("name", ["bernoulli", "categorical", "gaussian"])
def test_two_steps_are_those_of_dense_algebra(name, like64, rng):
    """At drawn parameters, with averaged factors: M ← M − α [(A+π√γ I)⁻¹ ⊗ (G+√γ/π I)⁻¹](∇L + γ_in W)."""
    network, W, X, Y = problem(rng, name)
    N, lam, kappa, alpha, extrinsic = 50.0, 0.8, 0.5, 0.2, 0.03
    intrinsic = kappa * lam / N
    noisy_kfac = NoisyKFAC(network, N, lam, kl_weight=kappa, learning_rate=alpha, extrinsic=extrinsic, settings=EACH)
    state, mean = noisy_kfac.init(to(like64, W), seed=3), [w.copy() for w in W]
    A = G = None
    for k in (1, 2):
        drawn = mean
        if k == 2:  # M + Σ^½ E of the dense posterior, E being the draw's own
            (deviation,) = state.inverse.posterior.deviations(1, (3, noisy.NOISE, 2))
            found = factors.Factors({(i, i): A[i, i] for i in (0, 1)}, {(i, i): G[i, i] for i in (1, 2)})
            covariance = np.linalg.inv(dense_precision(found, N / kappa, lam, "tikhonov"))
            values, vectors = np.linalg.eigh(covariance)
            E = [np.random.default_rng((3, noisy.NOISE, 2, 0, i)).standard_normal(w.shape) for i, w in enumerate(W)]
            root = (vectors * np.sqrt(values)) @ vectors.T
            assert_all_close(deviation, unflatten(root @ flatten(E), network), like64, 1e-9)
            drawn = [w + d for w, d in zip(mean, unflatten(root @ flatten(E), network), strict=True)]
        z = np.concatenate([a.z for _, a in ForwardPass(network, drawn, X).chunks()])
        sampled = sampled_targets(rng, name, z)
        state, record = noisy_kfac.step(state, Batch(*to(like64, X, Y)), to(like64, sampled))
        new_A, new_G = dense_factors(network, drawn, X, sampled)
        epsilon = 0.0 if k == 1 else 0.5
        A = new_A if A is None else {key: epsilon * A[key] + (1 - epsilon) * new_A[key] for key in A}
        G = new_G if G is None else {key: epsilon * G[key] + (1 - epsilon) * new_G[key] for key in G}
        gradient = unflatten(dense_gradient(network, drawn, X, Y, intrinsic), network)
        for i in (1, 2):
            ratio, gamma = dense_pi(A[i - 1, i - 1], G[i, i]), np.sqrt(intrinsic + extrinsic)
            damped_A = A[i - 1, i - 1] + ratio * gamma * np.eye(len(A[i - 1, i - 1]))
            damped_G = G[i, i] + gamma / ratio * np.eye(len(G[i, i]))
            mean[i - 1] = mean[i - 1] - alpha * np.linalg.inv(damped_G) @ gradient[i - 1] @ np.linalg.inv(damped_A)
        assert_all_close(state.parameters, mean, like64, 1e-9)
        assert record.alpha == alpha and record.k == k


def linear_regression(rng, N=60, d=2):
    X = rng.standard_normal((N, d))
    Y = X @ rng.standard_normal((d, 1)) + rng.standard_normal((N, 1))
    return Network([d, 1], [], "gaussian"), X, Y, np.c_[X, np.ones(N)]


def test_stationary_distribution_of_linear_regression(rng):
    """With all cases in each step and G at its expectation the mean is an autoregression around the closed form's:
    M′ = (I − αP)M + αP(θ* − ε), P = F₀⁻¹H, ε from the posterior; its covariance solves a Lyapunov equation."""
    network, X, Y, X1 = linear_regression(rng)
    N, lam, alpha, steps = 60, 2.0, 0.5, 2000
    optimizer = NoisyKFAC(network, N, lam, learning_rate=alpha, posterior_damping="exact", settings=EACH)
    state = optimizer.init([np.zeros((1, 3))], seed=1)
    path, draws = [], []
    for _ in range(steps):
        drawn = optimizer.drawn(state)
        z = X1 @ drawn[0].T
        state, _ = optimizer.step(state, Batch(X, Y), z + 1)  # (z − y)² = 1, the expectation
        path.append(state.parameters[0][0])
        draws.append(drawn[0][0])
    precision = X1.T @ X1 + lam * np.eye(3)
    theta, S = np.linalg.solve(precision, X1.T @ Y[:, 0]), np.linalg.inv(precision)
    found = optimizer.posterior(state)
    np.testing.assert_allclose(found.covariance_product([np.eye(3)[:1]])[0][0], S[0], rtol=0, atol=1e-10)
    F0 = np.linalg.inv(np.array([state.inverse.apply([e[None]])[0][0] for e in np.eye(3)]))
    P = np.linalg.solve(F0, precision / N)
    transition = np.eye(3) - alpha * P
    stationary = solve_discrete_lyapunov(transition, alpha**2 * P @ S @ P.T)
    path, draws = np.array(path[50:]), np.array(draws[50:])
    # autocorrelations die out within 1/(αP) ≈ 2 steps: as if there were a fifth of the steps
    error = np.sqrt(5 / len(path))
    np.testing.assert_array_less(np.abs(path.mean(0) - theta), 5 * error * np.sqrt(np.diag(stationary)))
    for sample, expected in ((path, stationary), (draws, stationary + S)):
        deviation = np.abs(np.cov(sample.T) - expected)
        spread = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        np.testing.assert_array_less(deviation, 5 * error * spread)


def test_kl_weight_narrows_and_the_posterior_is_laplaces(rng):
    network, W, X, Y = problem(rng, "gaussian")
    states = []
    for kappa in (1.0, 0.25):
        optimizer = NoisyKFAC(network, 8, 0.5, kl_weight=kappa, settings=EACH)
        state, _ = optimizer.step(optimizer.init(W, seed=0), Batch(X, Y))
        states.append(optimizer.posterior(state))
        assert optimizer.settings.eta == kappa * 0.5 / 8
    wide, narrow = states
    assert narrow.cases == 4 * wide.cases
    assert all(np.all(n < w) for n, w in zip(narrow.variances(), wide.variances(), strict=True))
    # the factors of the first iteration are those at the mean that it began with
    plain = posterior.fit(network, W, X, Y, 0.5, damping="tikhonov")
    for a, b in zip(wide.basis.s_A, plain.basis.s_A, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_it_is_repeatable_and_learns(rng):
    network = Network([2, 8, 2], "tanh", "categorical")
    X = rng.standard_normal((200, 2))
    Y = np.eye(2)[(X[:, 0] * X[:, 1] > 0).astype(int)]
    optimizer = NoisyKFAC(network, 200, 0.1, learning_rate=0.3, extrinsic=1e-3)
    ends = []
    for _ in range(2):
        state = optimizer.init(random_parameters(np.random.default_rng(0), network), seed=0)
        for _ in range(60):
            state, record = optimizer.step(state, Batch(X, Y))
        ends.append(state.averaged)
    assert all(np.array_equal(a, b) for a, b in zip(*ends, strict=True))
    assert record.h < 0.5
    p = optimizer.posterior(state)
    wrong = np.mean(posterior.expectation(p, X, "network").argmax(1) != Y.argmax(1))
    assert wrong < 0.1


@pytest.mark.parametrize("name", ["cases", "prior_precision", "kl_weight", "learning_rate"])
def test_what_must_be_positive_is_named(name):
    arguments = {"cases": 10.0, "prior_precision": 1.0, "kl_weight": 1.0, "learning_rate": 0.1} | {name: 0.0}
    with pytest.raises(ValueError, match=re.escape(f"{name} must be positive and finite; got 0.0")):
        NoisyKFAC(Network([2, 1], [], "gaussian"), **arguments)


def test_bad_input(rng):
    network, W, X, Y = problem(rng)
    optimizer = NoisyKFAC(network, 8, settings=EACH)
    state = optimizer.init(W)
    with pytest.raises(ValueError, match="there is no posterior before the first iteration"):
        optimizer.posterior(state)
    with pytest.raises(ValueError, match=r"X\[0, 0\] is nan"):
        optimizer.step(state, Batch(np.where(X[0, 0] == X, np.nan, X), Y))
    with np.errstate(all="ignore"), pytest.raises((Diverged, ValueError)):
        optimizer.step(optimizer.init([w * 1e200 for w in W]), Batch(X, Y))
