"""Kronecker algebra, App. B, and the inverses of F̃ and F̆ (§4), against dense matrices.

Factors are those of the instance, damped with a random γ; the dense matrices are made of moments over every y and
numpy.kron. Tolerances grow with the condition number of the damped matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kfac_ref.curvature import block_diagonal, block_tridiagonal, damping, factors, kronecker, kronecker_fisher
from validation.theorems import enumerated
from validation.theorems.comparison import apart
from validation.theorems.enumerated import Blocks
from validation.theorems.statement import Deviation, Instance, Space, Statement, worst


@dataclass(frozen=True)
class Damped:
    """The factors of an instance with a random γ."""

    gamma: float
    ours: factors.Factors
    """The library's, undamped."""
    F: np.ndarray
    """F̃ from damped factors, by numpy.kron of the moments over every y."""
    blocks: Blocks
    """Its blocks."""

    @property
    def factorised(self) -> damping.DampedFactors:
        return damping.factorise(self.ours, self.gamma)

    @property
    def tridiagonal(self) -> block_tridiagonal.BlockTridiagonalInverse:
        """F̂⁻¹."""
        return block_tridiagonal.invert(self.ours, self.factorised)


def damped(instance: Instance) -> Damped:
    """γ is between 0.03 and 1."""
    gamma = 10 ** instance.rng(3).uniform(-1.5, 0)
    drawn = enumerated.distribution(instance)
    F = enumerated.kronecker_fisher(*enumerated.damped(drawn.A(), drawn.G(), gamma))
    return Damped(gamma, factors.exact(instance.forward_pass), F, enumerated.split(F, instance))


def applied(inverse: Any, instance: Instance) -> np.ndarray:
    """An inverse applied to every unit vector, as one matrix (P, P)."""
    P = sum(p * q for p, q in instance.network.shapes)
    columns = [enumerated.vec(inverse.apply(enumerated.unvec(e, instance))) for e in np.eye(P)]
    return np.stack(columns, axis=1)


def assembled(blocks: Blocks) -> np.ndarray:
    """One matrix of blocks (i, j), i, j = 1 … ℓ; those not given are 0."""
    sizes = [len(blocks[i, i]) for i in range(1, max(i for i, _ in blocks) + 1)]
    return np.block(
        [[blocks.get((i, j), np.zeros((p, q))) for j, q in enumerate(sizes, 1)] for i, p in enumerate(sizes, 1)]
    )


# --- §4.1 and App. B -------------------------------------------------------------------------------------------------


def kronecker_identities(instance: Instance) -> Deviation:
    """For a random layer's damped factors: vec(BXAᵀ) and B⁻¹XA⁻¹, with numpy.kron; and of A, B that are not square."""
    rng, at = instance.rng(4), damped(instance)
    i = int(rng.integers(1, instance.network.layers + 1))
    pair = damping.damp(at.ours, at.gamma).pair(i, i)
    assert pair is not None
    A, B = pair
    X = rng.standard_normal((len(B), len(A)))
    C, D = rng.standard_normal((3, len(A))), rng.standard_normal((2, len(B)))
    condition = np.linalg.cond(np.kron(A, B))
    solved = kronecker.product(np.linalg.inv(A), np.linalg.inv(B), X)
    return worst(
        apart(kronecker.vec(kronecker.product(C, D, X)), np.kron(C, D) @ X.flatten(order="F"), 200),
        apart(kronecker.dense(C, D), np.kron(C, D), 200),
        apart(kronecker.vec(solved), np.linalg.solve(np.kron(A, B), X.flatten(order="F")), 200, condition),
        apart(kronecker.unvec(kronecker.vec(X), X.shape), X, 0.5),
    )


def pair_inverse(instance: Instance) -> Deviation:
    """(A⊗B ± C⊗D)⁻¹ vec(X) of random matrices, with a dense solve; for the minus C⊗D < A⊗B, as in §4.3."""
    rng = instance.rng(4)
    p, q = int(rng.integers(1, 7)), int(rng.integers(1, 7))
    deviations = []
    for sign in (1, -1):
        A, B, C, D = (_positive(rng, n) for n in (p, q, p, q))
        if sign < 0:
            C, D = 0.95 * C / _largest(A, C), D / _largest(B, D)
        dense = np.kron(A, B) + sign * np.kron(C, D)
        X = rng.standard_normal((q, p))
        R_A, R_B = (np.linalg.inv(np.linalg.cholesky(M)) for M in (A, B))
        ours = kronecker.factorise_pair(R_A, R_B, C, D, sign).solve(X)
        theirs = np.linalg.solve(dense, X.flatten(order="F")).reshape(q, p, order="F")
        condition = max(np.linalg.cond(dense), np.linalg.cond(np.kron(A, B)))
        deviations.append(apart(ours, theirs, 200, condition))
    return worst(*deviations)


def _positive(rng: np.random.Generator, n: int) -> np.ndarray:
    """A random positive definite (n, n)."""
    R = rng.standard_normal((n, n))
    return R @ R.T + 0.1 * np.eye(n)


def _largest(A: np.ndarray, C: np.ndarray) -> float:
    """The largest eigenvalue of A⁻¹C."""
    return float(np.max(np.linalg.eigvals(np.linalg.solve(A, C)).real))


# --- F̆ and F̃ ---------------------------------------------------------------------------------------------------------


def diagonal(instance: Instance) -> Deviation:
    """F̆⁻¹ applied to every unit vector, with the inverse of the diagonal blocks of the dense F̃; and F̆ itself."""
    at = damped(instance)
    F = assembled({index: block for index, block in at.blocks.items() if index[0] == index[1]})
    ours = block_diagonal.approximate(damping.damp(at.ours, at.gamma))
    inverse = applied(block_diagonal.invert(at.factorised), instance)
    return worst(apart(kronecker_fisher.dense(ours), F, 200), apart(inverse, np.linalg.inv(F), 200, np.linalg.cond(F)))


def whole(instance: Instance) -> Deviation:
    """F̃⁻¹ applied to every unit vector, with the dense inverse."""
    at = damped(instance)
    inverse = kronecker_fisher.invert(damping.damp(at.ours, at.gamma))
    return apart(applied(inverse, instance), np.linalg.inv(at.F), 200, np.linalg.cond(at.F))


EVERY = Space(width=(1, 4))

STATEMENTS = (
    Statement(
        "kronecker-identities",
        "§4.1",
        "(A⊗B) vec X = vec(BXAᵀ), (A⊗B)⁻¹ = A⁻¹⊗B⁻¹",
        "with numpy.kron and a dense solve; allowed: 200 ε, for the inverse 200 ε κ(A⊗B)",
        EVERY,
        kronecker_identities,
        50,
    ),
    Statement(
        "pair-inverse",
        "App. B",
        "(A⊗B ± C⊗D)⁻¹ by two eigendecompositions",
        "with a dense solve, both signs; allowed: 200 ε κ, the larger of that matrix's and of A⊗B's",
        Space(),
        pair_inverse,
        50,
    ),
    Statement(
        "kronecker-inverse",
        "§4",
        "U = F̃⁻¹V solves F̃U = V",
        "applied to every unit vector, with the dense inverse; allowed: 200 ε κ(F̃)",
        EVERY,
        whole,
        50,
    ),
    Statement(
        "block-diagonal-inverse",
        "§4.2",
        "F̆⁻¹V is G_{i,i}⁻¹ V_i Ā_{i−1,i−1}⁻¹",
        "applied to every unit vector, with the dense inverse of F̃'s diagonal blocks; allowed: 200 ε κ(F̆)",
        EVERY,
        diagonal,
        50,
    ),
)
