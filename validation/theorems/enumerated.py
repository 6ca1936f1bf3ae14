"""The other side of the statements: one case after another with every target it may have, in straight-line NumPy.

Nothing of the library's passes, likelihoods or Fisher is used. An expectation over y is a sum over all its values, for
the Gaussian over the nodes of a Gauss–Hermite rule that is exact for the polynomials at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from validation.theorems.statement import EPSILON, Instance

Blocks = dict[tuple[int, int], np.ndarray]


def logistic(s: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-s))


Function = Callable[[np.ndarray], np.ndarray]

PHI: dict[str, tuple[Function, Function]] = {
    "tanh": (np.tanh, lambda s: 1 / np.cosh(s) ** 2),
    "logistic": (logistic, lambda s: logistic(s) * logistic(-s)),
    "softplus": (lambda s: np.log(1 + np.exp(s)), logistic),
    "identity": (lambda s: s, np.ones_like),
}
"""φ and φ′, both of s."""


def mean(name: str, z: np.ndarray) -> np.ndarray:
    """E[y|z] of one case, (d,)."""
    if name == "categorical":
        return np.exp(z) / np.sum(np.exp(z))
    return logistic(z) if name == "bernoulli" else z


def output_fisher(name: str, z: np.ndarray) -> np.ndarray:
    """F_R(z) of one case, written out, (d, d)."""
    p = mean(name, z)
    if name == "categorical":
        return np.diag(p) - np.outer(p, p)
    return np.diag(p * (1 - p)) if name == "bernoulli" else np.eye(len(z))


def nll(name: str, z: np.ndarray, y: np.ndarray) -> float:
    """L(y, z) of one case, without constants."""
    if name == "categorical":
        return float(np.log(np.sum(np.exp(z))) - y @ z)
    return float(np.sum(np.log(1 + np.exp(z)) - y * z)) if name == "bernoulli" else float(0.5 * np.sum((y - z) ** 2))


def outcomes(name: str, z: np.ndarray, nodes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """The targets that a case may have: probabilities (r,) and targets (r, d).

    For the Gaussian the nodes^d points of a Gauss–Hermite rule, exact up to degree 2·nodes − 1 in each y_k.
    """
    d = len(z)
    if name == "categorical":
        return mean(name, z), np.eye(d)
    if name == "bernoulli":
        Y = np.array(list(product((0.0, 1.0), repeat=d)))
        return np.prod(np.where(Y == 1, logistic(z), logistic(-z)), axis=1), Y
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    return np.prod(list(product(weights, repeat=d)), axis=1), z + np.array(list(product(points, repeat=d)))


def forward(instance: Instance, W: Sequence[np.ndarray], x: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """s_1 … s_ℓ and ā_0 … ā_{ℓ−1} of one case; s_ℓ is z."""
    a, s = [np.append(x, 1.0)], []
    for i, W_i in enumerate(W):
        s.append(W_i @ a[i])
        if i < len(W) - 1:
            a.append(np.append(PHI[instance.activations[i]][0](s[i]), 1.0))
    return s, a


def h(instance: Instance, W: Sequence[np.ndarray], eta: float) -> float:
    """h(θ) without constants."""
    losses = [
        nll(instance.likelihood, forward(instance, W, x)[0][-1], y) for x, y in zip(instance.X, instance.Y, strict=True)
    ]
    return float(np.mean(losses) + 0.5 * eta * sum(np.sum(W_i**2) for W_i in W))


def saturation(instance: Instance) -> float:
    """1/min φ′ over hidden units and cases, at least 1: by so much 1 − φ² and φ(1 − φ) multiply a rounding of φ."""
    smallest = 1.0
    for x in instance.X:
        s, _ = forward(instance, instance.parameters, x)
        for name, s_i in zip(instance.activations, s[:-1], strict=True):
            smallest = min(smallest, float(np.min(PHI[name][1](s_i))))
    return 1 / smallest


@dataclass(frozen=True)
class Distribution:
    """Every case with every target; rows are these pairs."""

    weights: np.ndarray
    """(n,), of sum 1."""
    case: np.ndarray
    """The case of each row, (n,)."""
    a: list[np.ndarray]
    """ā_0 … ā_{ℓ−1}, each (n, d_i+1)."""
    g: list[np.ndarray]
    """g_1 … g_ℓ, each (n, d_i)."""

    @cached_property
    def derivatives(self) -> np.ndarray:
        """𝒟θ, (n, P): [ā_{i−1} ⊗ g_i for each i]."""
        rows = [(a[:, :, None] * g[:, None, :]).reshape(len(a), -1) for a, g in zip(self.a, self.g, strict=True)]
        return np.concatenate(rows, axis=1)

    @property
    def fisher(self) -> np.ndarray:
        """E[𝒟θ 𝒟θᵀ], (P, P)."""
        return (self.derivatives.T * self.weights) @ self.derivatives

    @property
    def residual(self) -> float:
        """max |𝒟z|, within [ε, 1]: where E[y|z] − y is small it has few digits; it is 0 for a single class."""
        return float(np.clip(np.max(np.abs(self.g[-1])), EPSILON, 1))

    @property
    def gradient(self) -> np.ndarray:
        """E[𝒟θ], (P,)."""
        return self.weights @ self.derivatives

    def A(self) -> Blocks:
        """E[ā_i ā_jᵀ] for all i, j, counted from 0."""
        return self._second_moments(self.a, 0)

    def G(self) -> Blocks:
        """E[g_i g_jᵀ] for all i, j, counted from 1."""
        return self._second_moments(self.g, 1)

    def _second_moments(self, rows: list[np.ndarray], first: int) -> Blocks:
        layers = range(len(rows))
        return {(i + first, j + first): (rows[i].T * self.weights) @ rows[j] for i in layers for j in layers}


def distribution(
    instance: Instance, targets: np.ndarray | None = None, cases: int | None = None, nodes: int = 3
) -> Distribution:
    """x uniform on the first `cases` cases; y from the model, all its values, or the `targets` given, one a case."""
    cases = instance.cases if cases is None else cases
    W, weights, index = instance.parameters, [], []
    a: list[list[np.ndarray]] = [[] for _ in W]
    g: list[list[np.ndarray]] = [[] for _ in W]
    for n in range(cases):
        s, abar = forward(instance, W, instance.X[n])
        name, z = instance.likelihood, s[-1]
        p, Y = outcomes(name, z, nodes) if targets is None else (np.ones(1), targets[n : n + 1])
        back = mean(name, z) - Y
        for i in reversed(range(len(W))):
            g[i].append(back)
            a[i].append(np.tile(abar[i], (len(p), 1)))
            if i:
                back = back @ W[i][:, :-1] * PHI[instance.activations[i - 1]][1](s[i - 1])
        weights.append(p / cases)
        index.append(np.full(len(p), n))
    stacked = [[np.concatenate(parts) for parts in rows] for rows in (a, g)]
    return Distribution(np.concatenate(weights), np.concatenate(index), *stacked)


# --- dense matrices --------------------------------------------------------------------------------------------------


def vec(matrices: Sequence[np.ndarray]) -> np.ndarray:
    """[vec W_1; …; vec W_ℓ], vec stacking columns."""
    return np.concatenate([W.flatten(order="F") for W in matrices])


def unvec(theta: np.ndarray, instance: Instance) -> list[np.ndarray]:
    """W_1 … W_ℓ of that vector."""
    shapes = instance.network.shapes
    parts = np.split(theta, np.cumsum([p * q for p, q in shapes])[:-1])
    return [part.reshape(shape, order="F") for part, shape in zip(parts, shapes, strict=True)]


def kronecker_fisher(A: Blocks, G: Blocks) -> np.ndarray:
    """F̃: the blocks Ā_{i−1,j−1} ⊗ G_{i,j} as one matrix."""
    layers = range(1, max(i for i, _ in G) + 1)
    return np.block([[np.kron(A[i - 1, j - 1], G[i, j]) for j in layers] for i in layers])


def damped(A: Blocks, G: Blocks, gamma: float) -> tuple[Blocks, Blocks]:
    """Factored Tikhonov with the π of traces (§6.3); where G_{i,i} is 0, π is 1."""
    A, G = dict(A), dict(G)
    for i in range(1, max(i for i, _ in G) + 1):
        a, g = A[i - 1, i - 1], G[i, i]
        p = np.sqrt((np.trace(a) / len(a)) / (np.trace(g) / len(g))) if np.trace(g) > 0 else 1.0
        A[i - 1, i - 1], G[i, i] = a + p * gamma * np.eye(len(a)), g + gamma / p * np.eye(len(g))
    return A, G


def split(matrix: np.ndarray, instance: Instance) -> Blocks:
    """The blocks (i, j), counted from 1, of a matrix in the order of θ."""
    ends = np.cumsum([p * q for p, q in instance.network.shapes])[:-1]
    rows = [np.split(row, ends, axis=1) for row in np.split(matrix, ends)]
    return {(i + 1, j + 1): block for i, row in enumerate(rows) for j, block in enumerate(row)}
