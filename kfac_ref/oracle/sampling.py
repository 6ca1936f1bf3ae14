"""Estimates of matrices by targets sampled from the model: draws of them, and what they are in expectation."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from autodiff.likelihoods import Likelihood

DRAWS = 1500
"""Draws of one sample a case, to learn the covariance from, of no more cases in all than ROWS, but FEWEST at least; as
many again check what was learnt."""
ROWS = 600_000
FEWEST = 300
TOGETHER = 2_000_000
"""Numbers drawn together."""
WIDEST = 14
"""Matrices of more rows are looked at through as many random projections, or fewer, so that there are three draws for
each number looked at."""


class Model:
    """Draws of estimates of several matrices at once, each the mean over cases of (K_nᵀe)(K_nᵀe)ᵀ."""

    def __init__(
        self,
        likelihood: Likelihood,
        z: np.ndarray,
        projected: Sequence[np.ndarray],
        projections: Sequence[np.ndarray],
        signs: bool = False,
    ) -> None:
        """Draw estimates of matrices M, each seen through a projection P, as PᵀMP.

        Parameters
        ----------
        z : (N, d_ℓ)
        projected : KP, (d_ℓ, N, k), for each matrix; (d_ℓ, N, T, k) where it is a sum over T locations.
        projections : P, (n, k), for each matrix.
        signs : whether e is not of sampled targets but random signs on a root of F_R, which have the same second moment
            (curvature propagation).
        """
        self.likelihood, self.z, self.signs = likelihood, z, signs
        self.projections = list(projections)
        # (N, d_ℓ, T, k)
        self.jacobians = [np.moveaxis(KP if KP.ndim == 4 else KP[:, :, None], 0, 1) for KP in projected]
        self.uppers = [np.triu_indices(P.shape[1]) for P in self.projections]
        self.weights = [np.where(u[0] == u[1], 1.0, np.sqrt(2.0)) for u in self.uppers]
        self.mean = np.concatenate(self.parts([self._exact(K) for K in self.jacobians], project=False))
        count = draws_of(len(z))
        draws, nll = self._draws(2 * count)
        self.learn, self.test = draws[:count], draws[count:]
        self.nll = nll[:count]

    @property
    def ends(self) -> np.ndarray:
        """Where each matrix's part of a vector ends, (number of matrices,)."""
        return np.cumsum([len(w) for w in self.weights])

    def only(self, which: Sequence[int]) -> Model:
        """The same draws of some of the matrices."""
        part, ends = copy.copy(self), self.ends
        columns = np.concatenate([np.arange(ends[k] - len(self.weights[k]), ends[k]) for k in which])
        part.mean, part.learn, part.test = self.mean[columns], self.learn[:, columns], self.test[:, columns]
        for name in ("projections", "jacobians", "uppers", "weights"):
            setattr(part, name, [getattr(self, name)[k] for k in which])
        return part

    def parts(self, matrices: Sequence[np.ndarray], project: bool = True) -> list[np.ndarray]:
        """The `matrices`, (n, n) each, projected, as vectors of shape (k,) whose norm is Frobenius's."""
        if project:
            matrices = [P.T @ M @ P for P, M in zip(self.projections, matrices, strict=True)]
        return [M[u] * w for M, u, w in zip(matrices, self.uppers, self.weights, strict=True)]

    def diagonals(self, T: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each matrix's part of T (n,), and where in it the diagonal is, of the same shape."""
        return [(t, u[0] == u[1]) for t, u in zip(np.split(T, self.ends[:-1]), self.uppers, strict=True)]

    def _exact(self, K: np.ndarray) -> np.ndarray:
        B = self.likelihood.fisher_root_product(
            self.z, np.broadcast_to(np.eye(K.shape[1])[:, None, :], (K.shape[1], *self.z.shape))
        )
        g = np.matmul(B.transpose(1, 0, 2), K.reshape(*K.shape[:2], -1)).reshape(-1, K.shape[3])
        return g.T @ g / len(self.z)

    def _draws(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Estimates, a row for each draw, and the mean negative log-likelihood of what was drawn."""
        N = len(self.z)
        rows, nll = [], []
        widest = max(K.shape[2] * K.shape[3] if K.shape[2] > 1 else 1 for K in self.jacobians)
        step = max(1, TOGETHER // max(self.z.size, N * widest))
        for start in range(0, count, step):
            size = min(step, count - start)
            z = np.tile(self.z, (size, 1))
            e, surprise = self._residuals(z, (78, start))
            nll.append(surprise.reshape(size, N).mean(1))
            e = e.reshape(size, N, -1)
            parts = []
            for K, u, w in zip(self.jacobians, self.uppers, self.weights, strict=True):
                T, k = K.shape[2:]
                g = np.matmul(e.transpose(1, 0, 2), K.reshape(*K.shape[:2], T * k))  # (N, size, T·k)
                g = g.reshape(N, size, T, k).transpose(1, 0, 2, 3).reshape(size, N * T, k)
                M = np.matmul(g.transpose(0, 2, 1), g) / N
                parts.append(M[:, u[0], u[1]] * w)
            rows.append(np.concatenate(parts, axis=1))
        return np.concatenate(rows), np.concatenate(nll)

    def _residuals(self, z: np.ndarray, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """e for cases with outputs z, and how unlikely it is."""
        if self.signs:
            signs = np.random.default_rng(key).choice((-1.0, 1.0), z.shape)
            e = self.likelihood.fisher_root_product(z, signs)
            return e, np.sum(e**2, axis=1)
        y = self.likelihood.sample(z, key)
        return self.likelihood.derivative(z, y), self.likelihood.loss(z, y)


def draws_of(cases: int) -> int:
    """How many draws are made of so many cases, to learn from."""
    return max(FEWEST, min(DRAWS, ROWS // cases))


def widest(matrices: int, cases: int) -> int:
    """Through how many projections each of so many matrices may be looked at."""
    k = WIDEST
    while k > 3 and 3 * matrices * k * (k + 1) // 2 > draws_of(cases):
        k -= 1
    return k


def projection(rng: np.random.Generator, n: int, most: int) -> np.ndarray:
    """P (n, k) with orthonormal columns, k ≤ `most`: the identity where n is small enough."""
    return np.eye(n) if n <= most else np.linalg.qr(rng.standard_normal((n, most)))[0]
