"""The estimators, against solutions in closed form, other solvers, and themselves by another way."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.datasets import load_digits, make_friedman1, make_multilabel_classification
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kfac_ref import KFAC, Diverged
from kfac_ref.estimators import KFACAutoencoder, KFACClassifier, KFACRegressor
from kfac_ref.estimators.base import Estimator


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))[:900]
    return X[order[:600]], y[order[:600]], X[order[600:]], y[order[600:]]


@pytest.fixture(scope="module")
def numbers():
    X, y = make_friedman1(500, noise=0.5, random_state=0)
    return X[:400], y[:400], X[400:], y[400:]


# --- against other solvers -----------------------------------------------------------------------------------------


def test_without_hidden_layers_a_regressor_is_ridge_regression(rng):
    X = rng.standard_normal((200, 5)) * [1, 10, 0.1, 1, 1] + 3
    Y = X @ rng.standard_normal((5, 2)) + rng.standard_normal((200, 2))
    found = KFACRegressor((), alpha=7.0, max_iter=300, tol=0, random_state=0).fit(X, Y)
    Z = np.c_[(X - X.mean(0)) / X.std(0), np.ones(200)]
    T = (Y - Y.mean(0)) / Y.std(0)
    W = np.linalg.solve(Z.T @ Z + 7.0 * np.eye(6), Z.T @ T)
    np.testing.assert_allclose(found.coefs_[0], W[:-1], atol=1e-5)
    np.testing.assert_allclose(found.predict(X), Z @ W * Y.std(0) + Y.mean(0), rtol=1e-4, atol=1e-4)


def test_without_hidden_layers_a_classifier_is_penalised_softmax_regression(rng):
    X, y = rng.standard_normal((150, 4)), rng.integers(3, size=150)
    X[:, 0] += y
    found = KFACClassifier((), alpha=2.0, max_iter=300, tol=0, random_state=0).fit(X, y)
    Z, T = np.c_[(X - X.mean(0)) / X.std(0), np.ones(150)], np.eye(3)[y]

    def objective(flat):
        z = Z @ flat.reshape(5, 3)
        gradient = Z.T @ (softmax(z, axis=1) - T) + 2.0 * flat.reshape(5, 3)
        return -(T * log_softmax(z, axis=1)).sum() + flat @ flat, gradient.ravel()

    W = minimize(objective, np.zeros(15), jac=True, tol=1e-12).x.reshape(5, 3)
    np.testing.assert_allclose(found.predict_proba(X), softmax(Z @ W, axis=1), atol=1e-4)
    np.testing.assert_allclose(found.predict_log_proba(X), log_softmax(Z @ W, axis=1), atol=1e-3)
    np.testing.assert_array_equal(found.predict(X), (Z @ W).argmax(1))


def test_a_linear_autoencoder_keeps_what_principal_components_keep(rng):
    X = rng.standard_normal((300, 3)) @ rng.standard_normal((3, 8)) + 0.3 * rng.standard_normal((300, 8))
    found = KFACAutoencoder((3,), alpha=0.0, max_iter=400, tol=0, standardize=False, damping=0.1, random_state=0)
    X -= X.mean(0)
    kept = PCA(3).fit(X).explained_variance_ratio_.sum()
    assert found.fit(X).score(X) == pytest.approx(kept, abs=1e-4)
    codes = found.transform(X)
    assert codes.shape == (300, 3)
    assert 1 - ((X - found.inverse_transform(codes)) ** 2).sum() / (X**2).sum() == pytest.approx(kept, abs=1e-4)


def test_networks_learn(digits, numbers):
    X, y, X_test, y_test = digits
    assert KFACClassifier(random_state=0).fit(X, y).score(X_test, y_test) > 0.93
    X, y, X_test, y_test = numbers
    assert KFACRegressor(random_state=0).fit(X, y).score(X_test, y_test) > 0.93


# --- what is the same by two ways ----------------------------------------------------------------------------------


def test_sparse_inputs_are_as_dense_ones(digits):
    X, y, X_test, _ = digits
    dense = KFACClassifier(max_iter=12, batch_size=300, random_state=0).fit(X, y)
    for kind in (sparse.csr_array, sparse.csc_matrix):
        found = clone(dense).fit(kind(X), y)
        np.testing.assert_allclose(found.predict_proba(kind(X_test)), dense.predict_proba(X_test), atol=1e-8)


@pytest.mark.parametrize("kind", [KFACClassifier, KFACRegressor, KFACAutoencoder])
def test_float32_is_kept(digits, kind):
    X, y, X_test, _ = digits
    found = kind(max_iter=5, random_state=0).fit(X.astype(np.float32), y)
    assert all(W.dtype == np.float32 for W in found.coefs_)
    shown = {KFACClassifier: "predict_proba", KFACRegressor: "predict", KFACAutoencoder: "transform"}[kind]
    assert getattr(found, shown)(X_test.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("kind", [KFACClassifier, KFACRegressor, KFACAutoencoder])
def test_a_seed_repeats_bit_for_bit_and_a_pickle_is_the_same(digits, kind):
    X, y, _, _ = digits
    one, two = (kind(max_iter=12, batch_size=200, random_state=3).fit(X, y) for _ in range(2))
    three = pickle.loads(pickle.dumps(one))
    for a, b, c in zip(one.coefs_, two.coefs_, three.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert np.any(kind(max_iter=12, random_state=4).fit(X, y).coefs_[0] != one.coefs_[0])
    # factors and inverses are not kept
    assert len(pickle.dumps(one)) < 4 * 8 * sum(W.size for W in one.coefs_) + 20_000


def test_a_warm_start_goes_on(numbers):
    X, y, X_test, _ = numbers
    options = {"alpha": 1.0, "tol": 0.0, "random_state": 0}
    whole = KFACRegressor(max_iter=10, **options).fit(X, y)
    parts = KFACRegressor(max_iter=5, warm_start=True, **options).fit(X, y).fit(X, y)
    assert parts.n_iter_ == 10
    np.testing.assert_array_equal(parts.predict(X_test), whole.predict(X_test))
    with pytest.raises(ValueError, match="training cannot go on with it"):
        parts.set_params(hidden_layer_sizes=(7,)).fit(X, y)


def test_partial_fit_is_one_iteration(digits):
    X, y, X_test, _ = digits
    whole = KFACClassifier(alpha=1.0, max_iter=3, tol=0, random_state=0).fit(X, y)
    found = KFACClassifier(alpha=1.0, random_state=0)
    for _ in range(3):
        found.partial_fit(X, y, classes=np.arange(10))
    np.testing.assert_array_equal(found.predict_proba(X_test), whole.predict_proba(X_test))
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        KFACClassifier().partial_fit(X, y)
    with pytest.raises(ValueError, match=r"y has the classes \[11\], which are not among those of the first fit"):
        found.partial_fit(X[:2], [11, 3])


def test_early_stopping_keeps_what_predicts_held_out_cases_best(numbers):
    X, y, _, _ = numbers
    found = KFACRegressor(early_stopping=True, validation_fraction=0.25, max_iter=60, tol=0, random_state=0).fit(X, y)
    assert found.best_validation_score_ == max(found.validation_scores_)
    assert found.n_iter_ == 1 + int(np.argmax(found.validation_scores_)) <= len(found.validation_scores_)


# --- kinds of targets ----------------------------------------------------------------------------------------------


def test_several_labels_a_case():
    X, Y = make_multilabel_classification(400, 10, n_classes=4, random_state=0)
    for given in (Y, sparse.csr_array(Y)):
        found = KFACClassifier(random_state=0).fit(X, given)
        p = found.predict_proba(X)
        assert p.shape == (400, 4) and (p.sum(1) > 1.2).any()
        np.testing.assert_array_equal(found.predict(X), p > 0.5)
        commonest = (Y.mean(0) > 0.5) == Y
        assert (found.predict(X) == Y).mean() > commonest.mean() + 0.1


def test_several_numbers_a_case(rng):
    X = rng.standard_normal((200, 3))
    found = KFACRegressor(random_state=0).fit(X, np.c_[X[:, 0], 100 * np.abs(X[:, 1])])
    assert found.predict(X).shape == (200, 2) and found.score(X, np.c_[X[:, 0], 100 * np.abs(X[:, 1])]) > 0.95


def test_labels_that_are_words_and_constant_columns(rng):
    X = np.c_[rng.standard_normal((100, 2)), np.full(100, 7.0), np.zeros(100)]
    y = np.where(X[:, 0] > 0, "warm", "cold")
    found = KFACClassifier(random_state=0).fit(X, y)
    assert list(found.classes_) == ["cold", "warm"] and found.score(X, y) > 0.97


def test_one_class_and_one_case():
    found = KFACClassifier(random_state=0).fit([[1.0, 2.0], [2.0, 3.0]], ["only", "only"])
    assert list(found.predict([[0.0, 0.0]])) == ["only"]
    np.testing.assert_array_equal(found.predict_proba([[0.0, 0.0]]), [[1.0]])
    assert KFACRegressor(random_state=0).fit([[1.0, 2.0]], [5.0]).predict([[1.0, 2.0]]) == pytest.approx(5.0, rel=0.01)


# --- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"alpha": -1.0}, "'alpha' parameter of KFACRegressor must be"),
        ({"alpha": "much"}, "'alpha' parameter of KFACRegressor must be"),
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be > 0"),
        ({"damping": 0.0}, "'damping' parameter of KFACRegressor must be"),
        ({"activation": "swish"}, "'activation' parameter"),
        ({"settings": {"lamda0": 1.0}}, 'did you mean "lambda'),
        ({"early_stopping": True, "validation_fraction": 1.5}, "'validation_fraction' parameter"),
    ],
)
def test_parameters_out_of_range(numbers, parameters, said):
    with pytest.raises(ValueError, match=said):
        KFACRegressor(**parameters).fit(*numbers[:2])


@pytest.mark.parametrize(
    ("X", "y", "said"),
    [
        ([[1.0, np.nan]], [1.0], "Input X contains NaN"),
        ([[1.0, np.inf]], [1.0], "Input X contains infinity"),
        ([[1.0]], [np.nan], "Input y contains NaN"),
        ([[1.0], [2.0]], [1.0], "inconsistent numbers of samples"),
        (np.zeros((0, 2)), [], "minimum of 1 is required"),
    ],
)
def test_data_that_cannot_be_fitted(X, y, said):
    with pytest.raises(ValueError, match=said):
        KFACRegressor().fit(X, y)


def test_a_fit_that_diverges_keeps_the_parameters_before(numbers, monkeypatch):
    """Iteration 4 finds that h is not finite, so that the third led there: those of the second are kept."""
    X, y, X_test, _ = numbers
    expected = KFACRegressor(max_iter=2, tol=0, random_state=0).fit(X, y).predict(X_test)
    step = KFAC.step

    def diverging(kfac, state, batch):
        if state.k == 3:
            raise Diverged("iteration 4: the objective h is inf")
        return step(kfac, state, batch)

    monkeypatch.setattr(KFAC, "step", diverging)
    with pytest.warns(ConvergenceWarning, match="iteration 4: the objective h is inf; the parameters before are kept"):
        found = KFACRegressor(max_iter=20, random_state=0).fit(X, y)
    np.testing.assert_array_equal(found.predict(X_test), expected)
    assert found.n_iter_ == 2


def test_steps_that_promise_too_much_are_not_taken(monkeypatch):
    """With small mini-batches and little damping, plain Algorithm 2 leaves what it has learnt for good."""
    X, y = load_digits(return_X_y=True)
    made = [KFACClassifier(alpha=0.5, damping=1e-3, batch_size=300, random_state=seed) for seed in range(3)]
    assert min(clone(one).fit(X[::2], y[::2]).score(X[1::2], y[1::2]) for one in made) > 0.93
    monkeypatch.setattr(Estimator, "_believable_step", lambda self, batch: self._kfac.step(self._state, batch))
    assert min(clone(one).fit(X[::2], y[::2]).score(X[1::2], y[1::2]) for one in made) < 0.5


def test_an_autoencoder_keeps_more_of_new_cases_than_principal_components():
    X = load_digits().data
    train, test = X[::2], X[1::2]
    scale = np.where(train.std(0) > 0, train.std(0), 1)
    Z, Z_test = (train - train.mean(0)) / scale, (test - train.mean(0)) / scale
    found = KFACAutoencoder((64, 4), random_state=0).fit(Z)
    pca = PCA(4).fit(Z)
    rest = pca.inverse_transform(pca.transform(Z_test)) - Z_test
    assert found.score(Z_test) > 0.1 + 1 - (rest**2).sum() / ((Z_test - Z_test.mean(0)) ** 2).sum()


# --- in company ----------------------------------------------------------------------------------------------------


def test_in_pipelines_searches_and_validation(digits):
    X, y, _, _ = digits
    pipeline = make_pipeline(StandardScaler(), KFACClassifier(max_iter=5, random_state=0))
    assert cross_val_score(pipeline, X, y, cv=2).shape == (2,)
    search = GridSearchCV(pipeline, {"kfacclassifier__alpha": [0.1, 10.0]}, cv=2, n_jobs=2)
    assert search.fit(X, y).best_score_ > 0.8


def test_transform_gives_frames_on_request(digits):
    X = digits[0]
    found = KFACAutoencoder((8, 2), max_iter=3, random_state=0).set_output(transform="pandas").fit(X)
    assert list(found.transform(X).columns) == ["kfacautoencoder0", "kfacautoencoder1"]
