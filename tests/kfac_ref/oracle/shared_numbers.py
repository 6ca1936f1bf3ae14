"""Captured cases with random rows and derivatives, and their factors and blocks by sums written out."""

from __future__ import annotations

import numpy as np

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


def output_fishers(case: CapturedCase, fisher: str) -> np.ndarray:
    """E[𝒟z 𝒟zᵀ] of each case, (N, C, C)."""
    z, found = case.z, []
    for n in range(case.cases):
        if case.likelihood == "categorical":
            p = np.exp(z[n]) / np.exp(z[n]).sum()
            mean, F = p, np.diag(p) - np.outer(p, p)
        elif case.likelihood == "bernoulli":
            mean = 1 / (1 + np.exp(-z[n]))
            F = np.diag(mean * (1 - mean))
        else:
            mean, F = z[n], np.eye(len(z[n]))
        found.append(F if fisher == "exact" else np.outer(mean - case.Y[n], mean - case.Y[n]))
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


def block(case: CapturedCase, i: int, fisher: str = "exact") -> np.ndarray:
    """F_ii of layer i, from ∂z/∂vec(W) of each case."""
    a, g, F = rows(case, i), case.layers[i - 1].g, output_fishers(case, fisher)
    total = 0.0
    for n in range(case.cases):
        J = np.stack([sum(np.kron(a[n, t], g[c, n, t]) for t in range(a.shape[1])) for c in range(len(g))])
        total = total + J.T @ F[n] @ J
    return total / case.cases


def gradient(case: CapturedCase, i: int) -> np.ndarray:
    a, g = rows(case, i), case.layers[i - 1].g
    mean = {
        "categorical": lambda z: np.exp(z) / np.exp(z).sum(),
        "bernoulli": lambda z: 1 / (1 + np.exp(-z)),
        "gaussian": lambda z: z,
    }[case.likelihood]
    total = 0.0
    for n in range(case.cases):
        Dz = mean(case.z[n]) - case.Y[n]
        total = total + sum(Dz[c] * g[c, n].T @ a[n] for c in range(len(Dz)))
    return total / case.cases
