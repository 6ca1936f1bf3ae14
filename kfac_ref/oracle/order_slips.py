"""What may have been done to a mean of outer products in the wrong order, or besides: the mean taken before the
product, a root, a square, an inverse, a part of the matrix handed over for the whole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

MEAN_FIRST = "outer product of the mean (the mean taken before the product)"
CENTRED = "centred: covariance, not second moment"
CONDITION = 1e4
"""Beyond this condition number of theirs it is not asked whether it is an inverse."""


def moment(left: np.ndarray, right: np.ndarray | None = None, weights: np.ndarray | None = None) -> np.ndarray:
    """Σ_n w_n Σ_r l_rn r_rnᵀ, (p, q), of the rows `left` (R, N, p) and `right` (R, N, q), with `weights` (N,); the mean
    over cases where none are given."""
    right = left if right is None else right
    N = left.shape[1]
    scaled = left / N if weights is None else left * weights[None, :, None]
    return np.tensordot(scaled, right, axes=([0, 1], [0, 1]))


def mean_first(left: np.ndarray, right: np.ndarray | None = None) -> np.ndarray:
    """Σ_r (mean of l_r)(mean of r_r)ᵀ, (p, q), means over cases of the rows `left` (R, N, p) and `right` (R, N, q)."""
    right = left if right is None else right
    return left.mean(1).T @ right.mean(1)


def changed(rows: np.ndarray, M: np.ndarray) -> Iterator[tuple[np.ndarray, str, float]]:
    """M (p, p), the moment of `rows` (R, N, p), with each slip: the matrix (p, p), its name, and how far-fetched it
    is."""
    mean = mean_first(rows)
    yield mean, MEAN_FIRST, 2.0 if len(rows) == 1 else 2.6
    if len(rows) == 1:
        yield M - mean, CENTRED, 2.5
    if len(M) < 2:
        return
    values, vectors = np.linalg.eigh(M)
    root = np.sqrt(np.maximum(values, 0))
    yield (vectors * root) @ vectors.T, "its matrix square root", 2.6
    yield M @ M, "its square (the matrix times itself)", 2.6
    yield np.diag(np.diag(M)), "its diagonal alone", 2.4
    yield np.triu(M), "its upper triangle alone", 2.6
    yield np.tril(M), "its lower triangle alone", 2.6
    yield M * M, "the square of each entry", 2.8
    if np.all(M >= 0):
        yield np.sqrt(M), "the root of each entry", 2.8
    if values[0] > 1e-8 * values[-1]:
        L = np.linalg.cholesky(M)
        yield L, "its Cholesky factor (lower)", 2.8
        yield L.T, "its Cholesky factor (upper)", 2.8


def inverse(theirs: np.ndarray) -> np.ndarray | None:
    """The matrix (n, n) that theirs (n, n) is the inverse of, where it is regular enough to tell."""
    T = theirs.astype(np.float64)
    if len(T) < 2 or not np.all(np.isfinite(T)):
        return None
    s = np.linalg.svd(T, compute_uv=False)
    return np.linalg.inv(T).astype(theirs.dtype) if s[-1] * CONDITION > s[0] else None
