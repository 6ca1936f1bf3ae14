"""The data sets: those that scikit-learn ships, those that it generates, and fashion16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn import datasets as sk

from kfac_ref.data import datasets

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Problem:
    """Inputs X (N, d), and y: classes (N,), labels (N, K) or numbers (N,) or (N, K)."""

    name: str
    classes: bool
    make: Callable[[], Arrays]
    chosen_on: bool = False
    """Whether the estimators' defaults were chosen by its folds."""
    large: bool = False


def _fashion16() -> Arrays:
    found = datasets.load("fashion16")
    assert found.Y is not None and found.X_test is not None and found.Y_test is not None
    X, Y = np.vstack([found.X, found.X_test]), np.vstack([found.Y, found.Y_test])
    return X.astype(np.float64), Y.argmax(1)


def _seven_classes() -> Arrays:
    return sk.make_classification(5000, 54, n_informative=12, n_redundant=10, n_classes=7, flip_y=0.05, random_state=0)


def _large_classes() -> Arrays:
    return sk.make_classification(
        20_000, 784, n_informative=30, n_redundant=100, n_classes=10, flip_y=0.02, class_sep=1.5, random_state=0
    )


def _large_numbers() -> Arrays:
    X = np.random.default_rng(0).standard_normal((30_000, 50))
    # smooth, with interactions of a few inputs
    y = np.sin(X[:, 0] * X[:, 1]) + X[:, 2] ** 2 + np.exp(-X[:, 3]) * 0.3 + X[:, 4:14] @ np.linspace(-1, 1, 10)
    return X, y + 0.3 * np.random.default_rng(1).standard_normal(len(X))


def _noise(seed: int, X: np.ndarray, t: np.ndarray) -> Arrays:
    return X, t + 0.3 * np.random.default_rng(seed).standard_normal(len(t))


PROBLEMS = {
    p.name: p
    for p in (
        Problem("digits", True, lambda: sk.load_digits(return_X_y=True), chosen_on=True),
        Problem("breast cancer", True, lambda: sk.load_breast_cancer(return_X_y=True), chosen_on=True),
        Problem("7 classes", True, _seven_classes, chosen_on=True),
        Problem("fashion16", True, _fashion16, chosen_on=True),
        Problem("friedman1", False, lambda: sk.make_friedman1(1000, noise=1.0, random_state=0), chosen_on=True),
        Problem("friedman2", False, lambda: sk.make_friedman2(1000, noise=50.0, random_state=0), chosen_on=True),
        Problem("friedman3", False, lambda: sk.make_friedman3(1000, noise=0.1, random_state=0), chosen_on=True),
        Problem("diabetes", False, lambda: sk.load_diabetes(return_X_y=True), chosen_on=True),
        # no number was chosen by the others, but they were looked at between three rounds of choosing
        Problem("iris", True, lambda: sk.load_iris(return_X_y=True)),
        Problem("wine", True, lambda: sk.load_wine(return_X_y=True)),
        Problem("linnerud", False, lambda: sk.load_linnerud(return_X_y=True)),
        Problem("moons", True, lambda: sk.make_moons(1000, noise=0.3, random_state=0)),
        Problem("circles", True, lambda: sk.make_circles(1000, noise=0.2, factor=0.5, random_state=0)),
        Problem("blobs", True, lambda: sk.make_blobs(1000, 10, centers=8, cluster_std=5.0, random_state=0)),
        Problem("quantiles", True, lambda: sk.make_gaussian_quantiles(n_samples=2000, n_features=5, random_state=0)),
        Problem("hastie", True, lambda: sk.make_hastie_10_2(3000, random_state=0)),
        Problem("2 classes", True, lambda: sk.make_classification(2000, 20, flip_y=0.1, random_state=0)),
        Problem("labels", True, lambda: sk.make_multilabel_classification(2000, 20, n_classes=5, random_state=0)),
        Problem("linear", False, lambda: sk.make_regression(1000, 30, n_informative=15, noise=50.0, random_state=0)),
        Problem("3 targets", False, lambda: sk.make_regression(1000, 20, n_targets=3, noise=30.0, random_state=0)),
        Problem("uncorrelated", False, lambda: sk.make_sparse_uncorrelated(1000, 20, random_state=0)),
        Problem("low rank", False, lambda: _low_rank()),
        Problem("swiss roll", False, lambda: _noise(0, *sk.make_swiss_roll(2000, noise=0.5, random_state=0))),
        Problem("s curve", False, lambda: _noise(1, *sk.make_s_curve(2000, noise=0.1, random_state=0))),
        Problem("30000 x 50", False, _large_numbers, large=True),
        Problem("20000 x 784", True, _large_classes, large=True),
    )
}


def _low_rank() -> Arrays:
    X = sk.make_low_rank_matrix(1500, 40, effective_rank=8, random_state=0)
    X = X / X.std()
    return _noise(2, X, np.tanh(X[:, :5].sum(1)) + 0.5 * X[:, 5] * X[:, 6])
