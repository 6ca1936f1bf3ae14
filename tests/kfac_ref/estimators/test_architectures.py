"""Estimators with other layers than dense ones."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits

from kfac_ref.data.scaling import moments
from kfac_ref.estimators import KFACClassifier, KFACRegressor
from kfac_ref.estimators.architectures import network_of, scaling_by_channel

TEXT = "1x8x8: conv 4 3x3 relu, max-pool 2, flatten, dense {}"


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    return X[order], y[order]


def test_a_convolutional_classifier_learns_digits(digits):
    X, y = digits
    network = "1x8x8: conv 8 3x3 relu padding=1, max-pool 2, conv 16 3x3 relu padding=1, flatten, dense 10"
    model = KFACClassifier(network=network, max_iter=25, random_state=0).fit(X[:900], y[:900])
    assert model.score(X[900:], y[900:]) > 0.96
    assert not hasattr(model, "coefs_") and model.alpha_ == pytest.approx(1.0)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X[:50]), model.predict_proba(X[:50]))
    repeated = clone(model).fit(sparse.csr_array(X[:900]), y[:900])
    np.testing.assert_allclose(repeated.predict_proba(X[:50]), model.predict_proba(X[:50]), rtol=1e-3, atol=1e-4)


def test_a_recurrent_regressor(digits):
    """By name, of images row by row, and several targets."""
    X, y = digits
    Y = np.c_[y > 4, X[:, :32].mean(axis=1)].astype(float)
    model = KFACRegressor(network="recurrent", max_iter=15, random_state=0).fit(X[:600], Y[:600])
    assert model.predict(X).shape == Y.shape and model.score(X[600:], Y[600:]) > 0.5


def test_a_recurrent_classifier_whose_steps_are_correlated(digits):
    """Few cases too, of which all blocks are estimated and those next to the diagonal kept."""
    X, y = digits[0][:90], digits[1][:90]
    settings = {"time": "stationary", "inverse": "block-tridiagonal"}
    chain, plain = (
        KFACClassifier(network="recurrent", settings=s, max_iter=12, random_state=0).fit(X, y) for s in (settings, None)
    )
    assert chain.score(X, y) > 0.8
    assert np.abs(chain.predict_proba(X) - plain.predict_proba(X)).max() > 1e-3
    with pytest.raises(ValueError, match="time stationary is for recurrent layers"):
        KFACClassifier(settings=settings).fit(X, y)


def test_weights_are_repetitions_with_other_layers_too(digits):
    X, y = digits[0][:30], digits[1][:30] % 3
    w = np.arange(30) % 4
    model = KFACClassifier(network=TEXT.format(3), max_iter=5, random_state=0)
    often = model.fit(np.repeat(X, w, axis=0), np.repeat(y, w)).predict_proba(X)
    np.testing.assert_allclose(model.fit(X, y, w).predict_proba(X), often, rtol=1e-6, atol=1e-9)


def test_sizes_are_those_of_hidden_layers(digits):
    X, y = digits[0][:120], digits[1][:120]
    by_sizes = KFACClassifier(network="64-7-10", max_iter=3, random_state=0).fit(X, y)
    plain = KFACClassifier((7,), max_iter=3, random_state=0).fit(X, y)
    np.testing.assert_array_equal(by_sizes.predict_proba(X), plain.predict_proba(X))


def test_a_description_is_taken():
    network = network_of(TEXT.format(3), 64, 3, "categorical", "relu")
    assert str(network_of(network.description(), 64, 3, "categorical", "relu")) == str(network)


@pytest.mark.parametrize("shape", [(2, 3, 2), (4, 3), (12,)])
def test_channels_are_standardised(shape, rng):
    X = rng.standard_normal((50, 12)) * np.arange(1, 13) + np.arange(12) ** 2
    Z = scaling_by_channel(*moments(X), shape).apply(X).reshape(50, *shape)
    axes = {3: (0, 2, 3), 2: (0, 1), 1: 0}[len(shape)]
    np.testing.assert_allclose(Z.mean(axis=axes), 0, atol=1e-12)
    np.testing.assert_allclose(Z.std(axis=axes), 1, rtol=1e-12)
    scale = scaling_by_channel(*moments(X), shape).scale.reshape(shape)
    assert len(np.unique(scale)) == {3: 2, 2: 3, 1: 12}[len(shape)]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("conf", "is not sizes"),
        ("conv", "does not suit images of 8x8"),
        ("1x7x7: flatten, dense 10", "network takes"),
        (TEXT.format(9), r"network gives \(9,\), expected \(10,\)"),
        ("8x8: dense 10", "network gives"),
        (TEXT.format(10) + "; gaussian", "likelihood"),
        ({"input": [64]}, "network"),
        (3, "network"),
    ],
)
def test_mistakes(network, message, digits):
    with pytest.raises(ValueError, match=message):
        KFACClassifier(network=network).fit(*digits)


def test_a_name_is_for_squares(digits):
    with pytest.raises(ValueError, match="square images"):
        KFACClassifier(network="residual").fit(digits[0][:, :60], digits[1])
