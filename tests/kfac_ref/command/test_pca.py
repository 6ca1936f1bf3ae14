"""kfac_ref.command.pca against the singular value decomposition of the centred cases."""

from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.command import pca


def svd_error(X, cases, components):
    mean = X.mean(0)
    V = np.linalg.svd(X - mean)[2][:components].T
    reconstructed = mean + (cases - mean) @ V @ V.T
    return np.mean(np.sum((cases - reconstructed) ** 2, axis=1))


def make(rng, cases, d=9):
    return rng.standard_normal((cases, d)) * np.geomspace(3, 0.1, d) @ rng.standard_normal((d, d)) + 5


@pytest.mark.parametrize("components", [1, 2, 5, 9])
@pytest.mark.parametrize("cases", [1, 2, 6, 40])  # fewer cases than inputs too
def test_against_the_svd(rng, cases, components):
    X, X_test = make(rng, cases), make(rng, 13)
    train, test = pca.reconstruction_errors(X, X_test, components)
    scale = np.sum(X**2) / cases
    np.testing.assert_allclose(train, svd_error(X, X, components), atol=1e-12 * scale)
    if components < cases or components == 9:  # otherwise the leading components are not unique
        np.testing.assert_allclose(test, svd_error(X, X_test, components), atol=1e-10 * scale)


def test_in_chunks_float32_and_without_test_cases(rng, monkeypatch):
    X, X_test = make(rng, 50), make(rng, 21)
    whole = pca.reconstruction_errors(X, X_test, 4)
    monkeypatch.setattr(pca, "CHUNK_SIZE", 8)
    np.testing.assert_allclose(pca.reconstruction_errors(X, X_test, 4), whole, rtol=1e-12)
    single, nothing = pca.reconstruction_errors(X.astype(np.float32), None, 4)
    assert nothing is None and isinstance(single, float)
    np.testing.assert_allclose(single, whole[0], rtol=1e-5)


def test_never_negative(rng):
    """As it is drawn on a logarithmic axis."""
    for _ in range(20):
        X = make(rng, 30, 4)
        train, test = pca.reconstruction_errors(X, X[:7], 4)
        assert train >= 0 and test >= 0


def test_no_linear_autoencoder_is_better(rng):
    X = make(rng, 60)
    best = pca.reconstruction_errors(X, None, 3)[0]
    for _ in range(50):
        Q, _ = np.linalg.qr(rng.standard_normal((9, 3)))
        centred = X - X.mean(0)
        assert np.mean(np.sum((centred - centred @ Q @ Q.T) ** 2, axis=1)) >= best
