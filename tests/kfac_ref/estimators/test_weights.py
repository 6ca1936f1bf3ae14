"""Weights of cases and classes in the estimators: fits with them are fits of cases repeated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from kfac_ref.data.scaling import Scaling
from kfac_ref.estimators import KFACAutoencoder, KFACClassifier, KFACRegressor
from kfac_ref.estimators.cases import Cases
from kfac_ref.estimators.few import FEW

N = 40


@pytest.fixture
def data(rng):
    X = rng.standard_normal((N, 4)) * [1, 3, 1, 0.1] + [0, 2, 0, 0]
    return X, (X[:, 0] + rng.standard_normal(N) > 0.3).astype(int), rng.integers(0, 4, N)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("made", [KFACClassifier, KFACRegressor, KFACAutoencoder])
def test_whole_numbers_are_repetitions(made, kind, data):
    """As long as rounding has not grown; past the iteration that sets alpha, too."""
    X, y, w = data
    if made is KFACAutoencoder and kind is not np.asarray:
        pytest.skip("takes no sparse inputs")
    model = made((6, 2), activation="tanh", max_iter=16, tol=0, random_state=3)
    X_often, y_often = np.repeat(X, w, axis=0), np.repeat(y, w)
    assert np.sum(w > 0) < N and len(X_often) <= FEW
    predict = "transform" if made is KFACAutoencoder else "predict_proba" if made is KFACClassifier else "predict"
    once = model.fit(kind(X), y, sample_weight=w)
    found, alpha, curve = getattr(once, predict)(kind(X)), once.alpha_, once.loss_curve_
    often = model.fit(kind(X_often), y_often)
    np.testing.assert_allclose(found, getattr(often, predict)(kind(X)), rtol=1e-6, atol=1e-6)
    assert alpha == pytest.approx(often.alpha_, rel=1e-6)
    np.testing.assert_allclose(curve, often.loss_curve_, rtol=1e-6)


def test_a_ridge_regression_is_that_of_weighted_cases(data):
    """In closed form, with weights that are no whole numbers, beyond the size at which factors are exact."""
    rng = np.random.default_rng(1)
    X, w = rng.standard_normal((150, 3)), rng.uniform(0, 3, 150)
    y = X @ [1.0, -2.0, 0.5] + rng.standard_normal(150)
    model = KFACRegressor((), alpha=4.0, max_iter=300, tol=0, random_state=0, standardize=False)
    model.fit(X, y, sample_weight=w)
    Z = np.c_[X, np.ones(150)]
    W = np.linalg.solve((Z.T * w) @ Z + 4.0 * np.eye(4), (Z.T * w) @ y)
    np.testing.assert_allclose(np.r_[model.coefs_[0][:, 0], model.intercepts_[0]], W, atol=1e-5)


def test_class_weights_are_sample_weights(data):
    X, y, w = data
    for given in ("balanced", {0: 1.0, 1: 3.0}):
        model = KFACClassifier((5,), class_weight=given, max_iter=8, random_state=0).fit(X, y)
        plain = KFACClassifier((5,), max_iter=8, random_state=0).fit(X, y, compute_sample_weight(given, y))
        np.testing.assert_allclose(model.predict_proba(X), plain.predict_proba(X), rtol=1e-9)
    model = KFACClassifier((5,), class_weight="balanced", max_iter=8, random_state=0)
    often = model.fit(np.repeat(X, w, axis=0), np.repeat(y, w)).predict_proba(X)
    np.testing.assert_allclose(model.fit(X, y, w).predict_proba(X), often, rtol=1e-6)


def test_a_class_of_weight_0_is_never_predicted(data):
    X, y, _ = data
    model = KFACClassifier((5,), class_weight={0: 0.0, 1: 1.0}, random_state=0).fit(X, y)
    assert set(model.predict(X)) == {1}


def test_weights_go_with_their_cases(data):
    X, y, _ = data
    w = np.arange(1.0, N + 1)
    cases = Cases.of(X, y[:, None], Scaling.none(4, X), w)
    for kept in (cases, Cases.of(sparse.csr_array(X), y[:, None], Scaling.none(4, X), w)):
        batch = kept.taken(np.arange(3, 30)).batch(0, 1, 9)
        rows = [int(np.flatnonzero((x == X).all(axis=1))[0]) for x in batch.X]
        np.testing.assert_array_equal(batch.weights, w[rows])


def test_held_out_cases_are_weighted(data):
    X, y, _ = data
    w = np.where(np.arange(N) % 2, 5.0, 0.5)
    model = KFACClassifier((5,), early_stopping=True, validation_fraction=0.25, max_iter=1, random_state=0)
    model.fit(X, y, w)
    _, held = model._split(Cases(X, np.eye(2)[y], None, w), y)
    p = model.predict_proba(held.X)
    assert model.best_validation_score_ == pytest.approx(-log_loss(held.Y[:, 1], p, sample_weight=held.weights))


def test_weighted_score_of_an_autoencoder(data):
    X, _, w = data
    model = KFACAutoencoder((3, 2), max_iter=5, random_state=0).fit(X)
    assert model.score(X, sample_weight=w) == pytest.approx(model.score(np.repeat(X, w, axis=0)), rel=1e-12)


def test_partial_fit_takes_weights(data):
    X, y, w = data
    once, often = (KFACClassifier((5,), random_state=0) for _ in range(2))
    for _ in range(3):
        once.partial_fit(X, y, classes=[0, 1], sample_weight=w)
        often.partial_fit(np.repeat(X, w, axis=0), np.repeat(y, w), classes=[0, 1])
    np.testing.assert_allclose(once.predict_proba(X), often.predict_proba(X), rtol=1e-8)


@pytest.mark.parametrize(
    ("parameters", "y", "weights", "message"),
    [
        ({}, None, -np.ones(N), "Negative values"),
        ({}, None, np.zeros(N), "at least one non-zero"),
        ({}, None, np.ones(N + 1), "sample_weight.shape"),
        ({"class_weight": {0: -1.0, 1: 1.0}}, None, None, "class_weight is"),
        ({"class_weight": "equal"}, None, None, "class_weight"),
        ({"class_weight": {7: 1.0}}, None, None, "class_weight"),
        ({"class_weight": "balanced"}, np.eye(2, dtype=int)[np.arange(N) % 2] | 1, None, "several labels"),
    ],
)
def test_mistakes(parameters, y, weights, message, data):
    with pytest.raises(ValueError, match=message):
        KFACClassifier(**parameters).fit(data[0], data[1] if y is None else y, weights)
    if parameters.get("class_weight") == "balanced":
        with pytest.raises(ValueError, match="partial_fit"):
            KFACClassifier(**parameters).partial_fit(*data[:2], classes=[0, 1])
