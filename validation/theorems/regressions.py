"""§4.1: what an inverse covariance says of regressions; Ψ and Σ of §4.3 as coefficients and residual covariances.

The regressions are least squares on samples: such that have F̃ for their second moment exactly, and gradients sampled
from the model.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from kfac_ref.curvature import block_tridiagonal, cotangents, damping, kronecker_fisher
from validation.theorems import enumerated
from validation.theorems.comparison import apart, small
from validation.theorems.inverses import applied, damped
from validation.theorems.statement import Deviation, Instance, Space, Statement, worst
from validation.theorems.tridiagonal import DEEP

DRAWS = 4000
"""Gradients sampled from the model."""
CHANCE = 1e-6
"""How often the largest of an instance's z-scores is over the tolerance, were they normal."""


def _samples(rng: np.random.Generator, F: np.ndarray) -> np.ndarray:
    """Samples (n, P) whose second moment is exactly F."""
    rows = rng.standard_normal((2 * len(F) + 10, len(F)))
    return np.sqrt(len(rows)) * np.linalg.qr(rows)[0] @ np.linalg.cholesky(F).T


def inverse_covariance(instance: Instance) -> Deviation:
    """Of Σ = F̃, by F̃⁻¹ applied to every unit vector: −[Σ⁻¹]_{i,j}/[Σ⁻¹]_{i,i} and 1/[Σ⁻¹]_{i,i}, with least squares."""
    at = damped(instance)
    samples = _samples(instance.rng(4), at.F)
    inverse = applied(kronecker_fisher.invert(damping.damp(at.ours, at.gamma)), instance)
    P = len(inverse)
    coefficients, residuals = np.zeros((P, P)), np.zeros(P)
    for i in range(P):
        others = np.arange(P) != i
        coefficients[i, others] = np.linalg.lstsq(samples[:, others], samples[:, i])[0]
        residuals[i] = np.mean((samples[:, i] - samples @ coefficients[i]) ** 2)
    D = 1 / np.diag(inverse)
    B = -D[:, None] * inverse * (1 - np.eye(P))
    condition = np.linalg.cond(at.F)
    return worst(
        apart(D, residuals, 200, condition),
        # I − B, as B is 0 where nothing is correlated
        apart(np.eye(P) - B, np.eye(P) - coefficients, 200, condition),
    )


def neighbours(instance: Instance) -> Deviation:
    """Ψ_{i,i+1} and Σ_{i|i+1}, from the library's F̂⁻¹, with least squares of layer i's samples on layer i+1's."""
    at = damped(instance)
    ends = np.cumsum([p * q for p, q in instance.network.shapes])[:-1]
    samples = np.split(_samples(instance.rng(4), at.F), ends, axis=1)
    ours = at.tridiagonal
    deviations, condition = [], np.linalg.cond(at.F)
    for i in range(instance.network.layers - 1):
        coefficients = np.linalg.lstsq(samples[i + 1], samples[i])[0].T
        residuals = samples[i] - samples[i + 1] @ coefficients.T
        Psi, precision = _neighbour(ours, i)
        # beside the ratio of the layers' scales, as there may be little correlation
        size = np.linalg.norm(at.blocks[i + 1, i + 1]) / np.linalg.norm(at.blocks[i + 2, i + 2])
        deviations.append(small(Psi - coefficients, math.sqrt(size), 200, condition))
        deviations.append(apart(np.linalg.inv(precision), residuals.T @ residuals / len(residuals), 200, condition))
    last = np.kron(*ours.last)
    deviations.append(apart(np.linalg.inv(last), samples[-1].T @ samples[-1] / len(samples[-1]), 200, condition))
    return worst(*deviations)


def _neighbour(ours: block_tridiagonal.BlockTridiagonalInverse, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Ψ and Σ⁻¹ of the i-th layer, counted from 0, as matrices."""
    pair = ours.Sigma_inverse[i]
    K = np.kron(pair.K1, pair.K2)
    precision = (K * pair.reciprocals.flatten(order="F")) @ K.T
    if pair.A_inverse is not None:
        precision += np.kron(pair.A_inverse, pair.B_inverse)
    return np.kron(ours.Psi_A[i], ours.Psi_G[i]), precision


def sampled_gradients(instance: Instance) -> Deviation:
    """Ψ and Σ with least squares on sampled gradients: the largest z-score of their entries.

    The standard errors of Ψ are White's, for residuals of unequal variance; those of Σ of the residuals' products.
    """
    at, largest, tested = damped(instance), 0.0, 0
    rows, ours = _noisy_gradients(instance, at.gamma), at.tridiagonal
    for i in range(instance.network.layers - 1):
        x, y = rows[i + 1], rows[i]
        coefficients = np.linalg.lstsq(x, y)[0]
        leverage = x @ np.linalg.inv(x.T @ x)
        error = np.sqrt((leverage**2).T @ (y - x @ coefficients) ** 2)
        Psi, precision = _neighbour(ours, i)
        residuals = y - x @ Psi.T
        products = residuals[:, :, None] * residuals[:, None, :]
        spread = products.std(axis=0, ddof=1) / math.sqrt(len(products))
        scores = (coefficients - Psi.T) / error, (products.mean(axis=0) - np.linalg.inv(precision)) / spread
        largest = max(largest, *(float(np.max(np.abs(score))) for score in scores))
        tested += sum(score.size for score in scores)
    return Deviation(largest, NormalDist().inv_cdf(1 - CHANCE / (2 * tested)))


def _noisy_gradients(instance: Instance, gamma: float) -> list[np.ndarray]:
    """About DRAWS samples of vec 𝒟W_i, i = 1 … ℓ, y drawn from the model, of a linear network and the Gaussian.

    There ā and g are independent, so that 𝒟W_i = g_i ā_{i−1}ᵀ has the second moment F̃. Damping is noise in them: of
    variance π_i γ added to ā_{i−1}, and γ/π_i to g_i, it makes of that the damped F̃'s tridiagonal blocks.
    """
    rng, drawn, forward_pass = instance.rng(5), enumerated.distribution(instance), instance.forward_pass
    A, G = drawn.A(), drawn.G()
    A_damped, G_damped = enumerated.damped(A, G, gamma)
    (rows, activities), *_ = forward_pass.chunks()
    Dz = np.concatenate(
        list(cotangents.sampled(forward_pass, DRAWS // instance.cases, (instance.seed, 6))(rows, activities.z))
    )
    gradients = []
    for i, (g, a) in enumerate(zip(forward_pass.backward(activities, Dz), activities.a, strict=True)):
        noise = [
            M[index][0, 0] - M_0[index][0, 0]
            for M, M_0, index in ((A_damped, A, (i, i)), (G_damped, G, (i + 1, i + 1)))
        ]
        a = a + math.sqrt(noise[0]) * rng.standard_normal((len(g), *a.shape))
        g = g + math.sqrt(noise[1]) * rng.standard_normal(g.shape)
        gradients.append((a[..., :, None] * g[..., None, :]).reshape(-1, a.shape[-1] * g.shape[-1]))
    return gradients


STATEMENTS = (
    Statement(
        "inverse-covariance",
        "§4.1",
        "Σ⁻¹ = D⁻¹(I − B): regressions of each variable on all others",
        "Σ = F̃, Σ⁻¹ the library's; least squares on samples of second moment Σ; allowed: 200 ε κ(Σ)",
        Space(layers=(1, 3), width=(1, 3)),
        inverse_covariance,
        40,
    ),
    Statement(
        "neighbours",
        "§4.3",
        "Ψ_{i,i+1} and Σ_{i|i+1} are regression coefficients and residual covariance",
        "of layer i's gradient on layer i+1's: least squares on samples of second moment F̃; allowed: 200 ε κ(F̃)",
        DEEP,
        neighbours,
        50,
    ),
    Statement(
        "neighbours-sampled",
        "§4.3",
        "Ψ_{i,i+1} predicts sampled gradients, Σ_{i|i+1} is the covariance of what is left",
        f"least squares on {DRAWS} gradients of linear networks, F̃ = F: the largest z-score, exceeded by chance in "
        f"{CHANCE:g} of instances",
        Space(layers=(2, 3), width=(1, 2), cases=(3, 8), activations=("identity",), likelihoods=("gaussian",)),
        sampled_gradients,
        40,
    ),
)
