"""Captured cases with random rows and derivatives, and their factors and blocks by sums written out."""

from __future__ import annotations

import numpy as np
from scipy.linalg import block_diag

from kfac_ref.oracle import CapturedCase, CapturedLayer

SHAPES = [(1, 5, 3), (6, 4, 5), (7, 12, 2), (4, 3, 3), (9, 8, 4)]
"""T, p and d of layers to choose from; 12 = 3 x 2 x 2 and 8 = 2 x 2 x 2 entries may be patches."""


def captured(rng: np.random.Generator, N: int | None = None, **keys) -> CapturedCase:
    """Three layers, activities with means that are not 0; some have no bias."""
    likelihood = str(rng.choice(["categorical", "bernoulli", "gaussian"]))
    C = int(rng.integers(3, 6))
    N = int(rng.choice([11, 17, 23])) if N is None else N
    z = rng.standard_normal((N, C))
    Y = {
        "categorical": np.eye(C)[rng.integers(0, C, N)],
        "bernoulli": rng.integers(0, 2, (N, C)).astype(float),
        "gaussian": rng.standard_normal((N, C)),
    }[likelihood]
    layers = []
    for k in rng.choice(len(SHAPES), 3, replace=False):
        T, p, d = SHAPES[k]
        a = rng.standard_normal((N, T, p)) * rng.uniform(0.3, 2, p) + 0.5 + 0.3 * rng.standard_normal((N, 1, p))
        layers.append(CapturedLayer(a, rng.standard_normal((C, N, T, d)), bias=bool(rng.random() < 0.8)))
    return CapturedCase(likelihood, z, Y, layers, **keys)


def rows(case: CapturedCase, i: int) -> np.ndarray:
    layer = case.layers[i - 1]
    ones = np.ones((*layer.a.shape[:2], 1))
    return np.concatenate([layer.a, ones], axis=2) if layer.bias else layer.a


def moments(likelihood: str, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of y for one z (C,)."""
    if likelihood == "categorical":
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        return p, np.diag(p) - np.outer(p, p)
    if likelihood == "bernoulli":
        mean = 1 / (1 + np.exp(-z))
        return mean, np.diag(mean * (1 - mean))
    return z, np.eye(len(z))


def output_fishers(case: CapturedCase, fisher: str) -> np.ndarray:
    """E[𝒟z 𝒟zᵀ] of each case, (N, C, C): position by position, where each has a distribution of its own."""
    found, targets = [], case.sampled if fisher == "sampled" else case.Y
    for z, y in zip(case.z, targets, strict=True):
        each = [moments(case.likelihood, part) for part in z.reshape(case.positions, -1)]
        Dz = np.concatenate([mean for mean, _ in each]) - y
        found.append(block_diag(*(F for _, F in each)) if fisher == "exact" else np.outer(Dz, Dz))
    return np.stack(found)


def factors(case: CapturedCase, i: int, sharing: str, fisher: str = "exact") -> tuple[np.ndarray, np.ndarray]:
    """Ā and G, case by case and location by location."""
    a, g, F = rows(case, i), case.layers[i - 1].g, output_fishers(case, fisher)
    N, T = a.shape[:2]
    A, G = 0.0, 0.0
    for n in range(N):
        if sharing == "reduce":
            mean, total = a[n].mean(0), g[:, n].sum(1)
            A, G = A + np.outer(mean, mean), G + total.T @ F[n] @ total
            continue
        for t in range(T):
            A, G = A + np.outer(a[n, t], a[n, t]) / T, G + g[:, n, t].T @ F[n] @ g[:, n, t]
    factor = T if sharing == "kfc" else 1
    return A / N * factor, G / N / factor


def positions_together(case: CapturedCase, i: int, sharing: str) -> np.ndarray:
    """G of derivatives of Σ_r B_r z_r, positions added up before the outer product; B = diag(√p) − p √pᵀ of classes."""
    g, R = case.layers[i - 1].g, case.positions
    total = 0.0
    for n, z in enumerate(case.z):
        roots = []
        for part in z.reshape(R, -1):
            mean, F = moments(case.likelihood, part)
            root = np.diag(np.sqrt(mean)) - np.outer(mean, np.sqrt(mean))
            roots.append(root if case.likelihood == "categorical" else np.sqrt(F))
        for column in np.concatenate(roots).T:
            Ds = np.tensordot(column, g[:, n], 1)
            total = total + (np.outer(Ds.sum(0), Ds.sum(0)) if sharing == "reduce" else Ds.T @ Ds)
    return total / case.cases


def jacobian(case: CapturedCase, i: int, n: int) -> np.ndarray:
    """∂z/∂vec(W) of case n, (C, d p): Σ_t ā_t ⊗ g_t; of a normalisation Σ_t [g_t ⊙ x̂_t; g_t]."""
    layer = case.layers[i - 1]
    if layer.kind == "normalisation":
        g, x = layer.g[:, n], layer.a[n]
        return np.concatenate([(g * x).sum(1)] + [g.sum(1)] * layer.bias, axis=1)
    a = rows(case, i)[n]
    return np.stack([sum(np.kron(a[t], g[n, t]) for t in range(len(a))) for g in layer.g])


def block(case: CapturedCase, i: int, fisher: str = "exact") -> np.ndarray:
    """F_ii of layer i, from ∂z/∂vec(W) of each case."""
    each = (jacobian(case, i, n) for n in range(case.cases))
    return sum(J.T @ F @ J for J, F in zip(each, output_fishers(case, fisher), strict=True)) / case.cases


def gradient(case: CapturedCase, i: int) -> np.ndarray:
    total = 0.0
    for n, (z, y) in enumerate(zip(case.z, case.Y, strict=True)):
        mean = [moments(case.likelihood, part)[0] for part in z.reshape(case.positions, -1)]
        total = total + (np.concatenate(mean) - y) @ jacobian(case, i, n)
    return total.reshape(-1, case.layers[i - 1].g.shape[3]).T / case.cases
