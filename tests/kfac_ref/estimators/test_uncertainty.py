"""Standard deviations of predicted numbers, and probabilities averaged over the posterior."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import make_moons

from kfac_ref.estimators import KFACClassifier, KFACRegressor

NEEDED = r"\({}=True\) needs the posterior, which KFAC\w+\(posterior=True\) makes at the end of fit"


def numbers(rng, N=300):
    X = rng.standard_normal((N, 3))
    return X, np.sin(X[:, 0]) + 0.5 * X[:, 1] + 0.3 * rng.standard_normal(N)


@pytest.fixture
def regressor(rng):
    return KFACRegressor((20,), "tanh", max_iter=30, random_state=0, posterior=True).fit(*numbers(rng))


def test_standard_deviations_cover_new_targets(regressor, rng):
    X, y = numbers(rng, 2000)
    mean, deviation = regressor.predict(X, return_std=True)
    np.testing.assert_array_equal(mean, regressor.predict(X))
    assert mean.shape == deviation.shape == y.shape
    covered = np.mean(np.abs(y - mean) < deviation)
    assert 0.6 < covered < 0.8  # 0.68 of a Gaussian
    assert 0.25 < np.median(deviation) < 0.45


def test_far_from_the_data_they_are_larger(regressor):
    near, far = (regressor.predict(np.full((1, 3), x), return_std=True)[1][0] for x in (0.0, 4.0))
    assert far > 1.1 * near


def test_units_of_targets_and_inputs(rng):
    """What is predicted of 1000y + 7 is 1000 times as uncertain; of several targets each has its own."""
    X, y = numbers(rng)
    fit = {"max_iter": 10, "random_state": 0, "posterior": True}
    _, plain = KFACRegressor((8,), "tanh", **fit).fit(X, y).predict(X, return_std=True)
    _, scaled = KFACRegressor((8,), "tanh", **fit).fit(2 * X + 1, 1000 * y + 7).predict(2 * X + 1, return_std=True)
    np.testing.assert_allclose(scaled, 1000 * plain, rtol=1e-5)
    Y = np.c_[y, X[:, 0]]
    mean, deviation = KFACRegressor((8,), "tanh", **fit).fit(X, Y).predict(X, return_std=True)
    assert mean.shape == deviation.shape == Y.shape


def test_sparse_inputs_float32_and_pickles(rng):
    X, y = numbers(rng, 150)
    X = X * (rng.random(X.shape) < 0.5)
    made = KFACRegressor((8,), "tanh", max_iter=10, random_state=0, posterior=True)
    _, deviation = made.fit(X, y).predict(X, return_std=True)
    again = pickle.loads(pickle.dumps(made)).predict(X, return_std=True)
    np.testing.assert_array_equal(again[1], deviation)
    rows = sparse.csr_array(X)
    thin = made.fit(rows, y).predict(rows, return_std=True)
    np.testing.assert_allclose(thin[1], deviation, rtol=1e-6)
    single = made.fit(X.astype(np.float32), y).predict(X.astype(np.float32), return_std=True)
    assert single[0].dtype == single[1].dtype == np.float32
    np.testing.assert_allclose(single[1], deviation, rtol=0.05)


def test_probabilities_are_less_sure_away_from_the_data():
    X, y = make_moons(300, noise=0.2, random_state=0)
    made = KFACClassifier((20,), "tanh", max_iter=30, random_state=0, posterior=True).fit(X, np.array(["a", "b"])[y])
    away = np.array([[-6.0, 6.0], [8.0, 8.0], [-8.0, -2.0]])
    for cases in (X, away):
        plain, averaged = made.predict_proba(cases), made.predict_proba(cases, posterior=True)
        np.testing.assert_allclose(averaged.sum(1), 1, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(plain.argmax(1), made.predict_proba(cases).argmax(1))
        assert np.mean(averaged.max(1)) < np.mean(plain.max(1))
    known = np.arange(2)[:, None] == y
    assert np.mean(-np.log(made.predict_proba(X, posterior=True)[known.T])) < 0.3


def test_several_labels_one_class_and_weights(rng):
    X = rng.standard_normal((60, 2))
    labels = (X[:, [0, 1, 0]] > np.array([0, 0, 1])).astype(int)
    fit = {"hidden_layer_sizes": (5,), "max_iter": 5, "random_state": 0, "posterior": True}
    of_labels = KFACClassifier(**fit).fit(X, labels).predict_proba(X, posterior=True)
    assert of_labels.shape == (60, 3) and np.all((of_labels > 0) & (of_labels < 1))
    np.testing.assert_allclose(KFACClassifier(**fit).fit(X, np.ones(60)).predict_proba(X, posterior=True), 1)
    weights = rng.integers(0, 3, 60)
    weighted = KFACClassifier(**fit).fit(X, labels[:, 0], sample_weight=weights)
    assert weighted._posterior.cases == weights.sum()


def test_without_a_posterior_it_says_how_to_have_one(rng):
    X, y = numbers(rng, 40)
    with pytest.raises(ValueError, match="predict" + NEEDED.format("return_std")):
        KFACRegressor((4,), max_iter=2).fit(X, y).predict(X, return_std=True)
    made = KFACClassifier((4,), max_iter=2, posterior=True).fit(X, y > 0)
    made.partial_fit(X, y > 0)
    with pytest.raises(ValueError, match="predict_proba" + NEEDED.format("posterior")):
        made.predict_proba(X, posterior=True)


def test_many_cases_are_a_random_part(monkeypatch, rng):
    monkeypatch.setattr("kfac_ref.estimators.uncertainty.MOST", 100)
    X, y = numbers(rng)
    made = KFACRegressor((8,), "tanh", max_iter=10, random_state=0, posterior=True).fit(X, y)
    assert made._posterior.cases == 300
    monkeypatch.undo()
    whole = KFACRegressor((8,), "tanh", max_iter=10, random_state=0, posterior=True).fit(X, y)
    part, all_ = (m.predict(X, return_std=True)[1] for m in (made, whole))
    np.testing.assert_allclose(part, all_, rtol=0.2)
