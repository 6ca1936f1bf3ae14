"""The evidence estimate of α, against its definition with dense matrices."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import Network
from kfac_ref import KFAC, Batch, preset
from kfac_ref.estimators import evidence


@pytest.mark.parametrize("likelihood", ["gaussian", "categorical"])
def test_by_the_dense_matrix(rng, monkeypatch, likelihood):
    """γ is the trace of F̆(F̆ + αI/N)⁻¹, whose blocks are multiplied out here."""
    network, N, alpha = Network([4, 5, 3], "tanh", likelihood), 60, 2.0
    X = rng.standard_normal((N, 4))
    Y = rng.standard_normal((N, 3)) if likelihood == "gaussian" else np.eye(3)[rng.integers(3, size=N)]
    kfac = KFAC(network, preset("authors", eta=alpha / N, lambda0=1.0, tau1=1.0, inverse="block-diagonal"))
    state, record = kfac.step(kfac.init([rng.standard_normal(shape) for shape in network.shapes]), Batch(X, Y))
    factors = state.factors.explicit
    determined = 0.0
    for i in (1, 2):
        F = np.kron(factors.A[i - 1, i - 1], factors.G[i, i])
        determined += np.trace(F @ np.linalg.inv(F + alpha / N * np.eye(len(F))))
    norm = sum(float((W**2).sum()) for W in state.averaged)
    left = record.error / np.sum((Y - Y.mean(0)) ** 2) * N * N / max(N - determined, 0.1 * N)
    monkeypatch.setattr(evidence, "BOUNDS", {likelihood: (0.0, 1e6)})
    found = evidence.alpha(network, state, record.error, Y, alpha)
    assert found == pytest.approx(evidence.SHARES[likelihood] * determined * left / norm, rel=1e-10)
    monkeypatch.setattr(evidence, "BOUNDS", {likelihood: (100.0, 200.0)})
    assert evidence.alpha(network, state, record.error, Y, alpha) == pytest.approx(100)


def test_noise_is_found():
    """α is larger for data of more noise, which fewer parameters are determined by."""
    from kfac_ref.estimators import KFACRegressor

    rng = np.random.default_rng(0)
    X, noise = rng.standard_normal((400, 4)), rng.standard_normal(400)
    found = [KFACRegressor(random_state=0).fit(X, np.sin(X[:, 0]) + s * noise).alpha_ for s in (0.01, 0.3, 1.0)]
    assert found == sorted(found) and found[0] < 0.5 < 2 < found[2]
