"""Paths of K-FAC and of SGD: what they hold, where they end, and the parameterisations in which they are taken."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import Network
from autodiff.passes import forward
from kfac_ref.curvature.factors import Factors
from tests.conftest import positive_definite
from validation.theorems import paths
from validation.theorems.paths import CHANGES, UNDAMPED, Start
from validation.theorems.statement import Instance

INSTANCE = Instance((3, 3, 4), ("logistic",), "bernoulli", 100, seed=3, scale=2.0)
START = Start(INSTANCE.network, INSTANCE.parameters, INSTANCE.X)
Y = paths.targets_within_reach(INSTANCE)


@pytest.mark.parametrize("inverse", UNDAMPED)
def test_the_targets_of_a_path_give_the_same_path(inverse):
    own = paths.kfac(START, Y, UNDAMPED[inverse], seed=1)
    again = paths.kfac(START, Y, UNDAMPED[inverse], own.targets)
    assert len(own.targets) == paths.ITERATIONS
    assert len(own.z) == paths.ITERATIONS + 1
    np.testing.assert_array_equal(paths.distances(again, own), 0)
    assert paths.distances(paths.kfac(START, Y, UNDAMPED[inverse], seed=2), own).max() > 1e-3


def test_nothing_is_damped():
    for settings in UNDAMPED.values():
        assert settings.lambda0 == settings.eta == 0
        assert settings.tau1 == settings.tau2 == settings.T3 == 1
        assert min(settings.T1, settings.T2) > paths.ITERATIONS


def test_a_path_that_runs_away_ends_before_it_does(monkeypatch):
    monkeypatch.setattr(paths, "RUN_AWAY", 0.0)
    path = paths.kfac(START, Y, UNDAMPED["block-diagonal"])
    assert (len(path.z), len(path.targets)) == (1, 0)


def test_descent_with_momentum_written_out():
    linear = Network([3, 2], "tanh", "gaussian")
    rng = np.random.default_rng(0)
    W, X, T = rng.standard_normal((2, 4)), rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    path = paths.sgd(Start(linear, [W], X), T)
    A, V = np.c_[X, np.ones(6)], np.zeros((2, 4))
    for z in path.z:
        np.testing.assert_allclose(z, A @ W.T, rtol=1e-10, atol=1e-12)
        # μ_t is 1/2 in the first 249 iterations
        V = 0.5 * V - 0.1 * ((A @ (W + 0.5 * V).T - T).T @ A) / 6
        W = W + V


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_of_the_parameterisation_alone(name):
    there, change = CHANGES[name].of(START, np.random.default_rng(0))
    np.testing.assert_allclose(there.outputs(there.parameters), START.outputs(START.parameters), rtol=1e-10, atol=1e-11)
    assert any(not np.allclose(a, b) for a, b in zip(there.parameters, START.parameters, strict=True))
    back = change.zeta(there.parameters)
    for found, expected in zip(back, START.parameters, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-11)


def test_the_changes_are_what_they_are_called():
    at = {name: change.of(START, np.random.default_rng(0))[0] for name, change in CHANGES.items()}
    assert [phi.name for phi in at["logistic-tanh"].network.activations] == ["tanh", "identity"]
    np.testing.assert_allclose(np.ptp(at["shifted"].X - START.X, axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.ptp(at["scaled"].X / START.X, axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(at["whitened"].X.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(np.cov(at["whitened"].X.T, bias=True), np.eye(3), atol=1e-12)


def test_a_disturbance_has_its_size():
    moved = START.disturbed(np.random.default_rng(0)).parameters
    for W, V in zip(START.parameters, moved, strict=True):
        np.testing.assert_allclose(np.linalg.norm(V - W) / np.linalg.norm(W), paths.DISTURBANCE, rtol=1e-6)


def test_the_largest_condition(rng):
    A, G = [positive_definite(rng, 4) for _ in range(2)], [positive_definite(rng, 3) for _ in range(2)]
    G[1] = G[1] @ np.diag([1.0, 1.0, 1e-3])
    found = paths.largest_condition(Factors({(0, 0): A[0], (1, 1): A[1]}, {(1, 1): G[0], (2, 2): G[1]}))
    np.testing.assert_allclose(found, np.linalg.cond(A[1]) * np.linalg.cond(G[1]))


def test_targets_lie_in_the_likelihoods_range():
    assert Y.shape == (100, 4)
    assert Y.min() >= 0
    assert Y.max() <= 1
    mean = INSTANCE.network.likelihood.mean(forward(INSTANCE.network, INSTANCE.parameters, INSTANCE.X).z)
    assert np.abs(Y - mean).max() < np.abs(INSTANCE.Y - mean).max()
