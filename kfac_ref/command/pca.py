"""Principal component analysis: the best that a linear autoencoder can do, as a line to compare with."""

from __future__ import annotations

import numpy as np

from autodiff.passes import CHUNK_SIZE


def reconstruction_errors(X: np.ndarray, X_test: np.ndarray | None, components: int) -> tuple[float, float | None]:
    """‖x − x̂‖², summed over pixels, mean over cases, of training X (N, d) and test cases.

    x̂ is x's projection on the leading `components` principal components of the training cases.
    """
    mean = X.mean(0, dtype=np.float64)
    covariance = np.zeros((X.shape[1], X.shape[1]))
    for start in range(0, len(X), CHUNK_SIZE):
        centred = X[start : start + CHUNK_SIZE] - mean
        covariance += centred.T @ centred
    _, vectors = np.linalg.eigh(covariance)
    leading = vectors[:, ::-1][:, :components]

    def error(cases: np.ndarray) -> float:
        total = 0.0
        for start in range(0, len(cases), CHUNK_SIZE):
            centred = cases[start : start + CHUNK_SIZE] - mean
            total += float(np.sum(centred**2) - np.sum((centred @ leading) ** 2))
        return max(total, 0.0) / len(cases)  # rounding may bring it below 0

    return error(X), None if X_test is None else error(X_test)
