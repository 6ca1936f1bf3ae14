"""Algorithm 2 again, dense and in a straight line, beside `KFAC.step`."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from autodiff import Network
from kfac_ref import KFAC, Batch, Settings
from tests.conftest import (
    random_parameters,
    sampled_targets,
)
from tests.dense import (
    case_mean,
    dense_diagonal_inverse,
    dense_factors,
    dense_fisher,
    dense_gradient,
    dense_h,
    dense_tridiagonal_inverse,
    flatten,
    unflatten,
)
from tests.kfac_ref.test_optimizer import SMALL, draw_batch, make_network, outputs


class DenseKFAC:
    """Algorithm 2 with θ as one vector, dense F, F̃ and inverses, and every case by itself (§9)."""

    def __init__(self, network: Network, s: Settings, W):
        self.network, self.s = network, s
        self.theta = flatten(W)
        self.averaged = self.theta.copy()
        self.lam, self.gamma = s.lambda0, np.sqrt(s.lambda0 + s.eta)
        self.k, self.delta, self.A, self.G, self.inverse = 0, None, None, None, None

    def step(self, X, Y, sampled):
        s, network = self.s, self.network
        self.k += 1
        k, m, W = self.k, len(X), unflatten(self.theta, network)
        gradient = dense_gradient(network, W, X, Y, s.eta)

        A, G = dense_factors(network, W, X[: int(np.ceil(s.tau1 * m))], sampled)
        epsilon = min(1 - 1 / k, s.epsilon_max)
        if k == 1:
            self.A, self.G = A, G
        else:
            self.A = {i: epsilon * self.A[i] + (1 - epsilon) * A[i] for i in A}
            self.G = {i: epsilon * self.G[i] + (1 - epsilon) * G[i] for i in G}

        gammas = [self.gamma]
        if k % s.T2 == 0:
            omega2 = s.omega ** (s.T2 / 2)
            gammas = [max(omega2 * self.gamma, s.gamma_min), self.gamma, min(self.gamma / omega2, s.gamma_max)]
        invert = dense_tridiagonal_inverse if s.inverse == "block-tridiagonal" else dense_diagonal_inverse
        F = dense_fisher(network, W, X[: int(np.ceil(s.tau2 * m))])
        M = F + (self.lam + s.eta) * np.eye(len(F))
        best = None
        for gamma in gammas:
            inverse = self.inverse
            if k % s.T3 == 0 or k <= 3 or gamma != self.gamma:
                inverse = invert(self.A, self.G, gamma)
            direction = -inverse @ gradient
            columns = [direction] if self.delta is None or not s.momentum else [direction, self.delta]
            U = np.stack(columns, axis=1)
            c = -np.linalg.solve(U.T @ M @ U, U.T @ gradient)
            delta = U @ c
            change = 0.5 * delta @ M @ delta + gradient @ delta
            if best is None or change < best.change:
                best = SimpleNamespace(
                    change=change, delta=delta, gamma=gamma, inverse=inverse, direction=direction,
                    alpha=c[0], mu=c[1] if len(c) > 1 else 0.0,
                )  # fmt: skip

        before = dense_h(network, W, X, Y, s.eta)
        self.theta = self.theta + best.delta
        self.gamma, self.inverse, self.delta = best.gamma, best.inverse, best.delta
        best.gradient, best.h, best.rho = gradient, before, np.nan
        if k % s.T1 == 0:
            after = dense_h(network, unflatten(self.theta, network), X, Y, s.eta)
            best.rho = (after - before) / best.change if after <= before else -np.inf
            omega1 = s.omega**s.T1
            self.lam *= omega1 if best.rho > 0.75 else 1 / omega1 if best.rho < 0.25 else 1
        xi = min(1 - 1 / (k - s.average_from + 1), s.xi_max) if k >= s.average_from else 0.0
        self.averaged = xi * self.averaged + (1 - xi) * self.theta
        return best


CHOICES = [
    ("gaussian", {"inverse": "block-diagonal"}),
    ("gaussian", {"inverse": "block-tridiagonal"}),
    ("bernoulli", {"inverse": "block-tridiagonal", "average_from": 7, "gamma_min": 0.9, "gamma_max": 1.6}),
    ("bernoulli", {"inverse": "block-diagonal", "momentum": False, "xi_max": 0.6, "epsilon_max": 0.8}),
    ("categorical", {"inverse": "block-tridiagonal", "momentum": False, "omega": 0.6}),
    ("categorical", {"inverse": "block-diagonal", "lambda0": 0.05, "tau1": 1.0, "tau2": 0.1, "T1": 1}),
]


@pytest.mark.parametrize(("likelihood", "changes"), CHOICES)
def test_against_a_dense_straight_line(rng, likelihood, changes):
    network, settings = make_network(likelihood), Settings(**(SMALL | changes))
    W = random_parameters(rng, network)
    kfac, dense = KFAC(network, settings), DenseKFAC(network, settings, W)
    state = kfac.init(W)
    assert state.gamma == dense.gamma
    seen = {"lam": set(), "gamma": set()}
    for _ in range(25):
        X, Y = draw_batch(rng, network)
        first = X[: math.ceil(settings.tau1 * len(X))]
        sampled = sampled_targets(rng, likelihood, outputs(network, state.parameters, first))
        state, record = kfac.step(state, Batch(X, Y), sampled)
        expected = dense.step(X, Y, sampled)

        close = {"rtol": 1e-8, "atol": 1e-10}
        np.testing.assert_allclose(flatten(record.gradient), expected.gradient, **close)
        np.testing.assert_allclose(flatten(record.direction), expected.direction, **close)
        np.testing.assert_allclose(flatten(state.delta), expected.delta, **close)
        np.testing.assert_allclose(flatten(state.parameters), dense.theta, **close)
        np.testing.assert_allclose(flatten(state.averaged), dense.averaged, **close)
        np.testing.assert_allclose(
            [record.alpha, record.mu, record.lam, record.gamma, record.model_change, record.norm_delta],
            [expected.alpha, expected.mu, dense.lam, dense.gamma, expected.change, np.linalg.norm(expected.delta)],
            rtol=1e-8,
        )
        constant = np.log(2 * np.pi) if likelihood == "gaussian" else 0.0  # ½ log 2π for each of 2 outputs
        z = outputs(network, unflatten(dense.theta - dense.delta, network), X)  # before the step
        errors = [np.sum((case_mean(likelihood, row) - y) ** 2) for row, y in zip(z, Y, strict=True)]
        assert record.h == pytest.approx(expected.h + constant, rel=1e-10)
        assert record.error == pytest.approx(np.mean(errors), rel=1e-8)
        np.testing.assert_allclose(record.rho, expected.rho, rtol=1e-6)
        assert (state.lam, state.gamma, state.k, record.m) == (record.lam, record.gamma, record.k, 12)
        seen["lam"].add(record.lam)
        seen["gamma"].add(record.gamma)
    assert len(seen["lam"]) > 1  # the rules did something
    assert len(seen["gamma"]) > 1
