"""Kronecker-product algebra: (A⊗B) vec(X) = vec(B X Aᵀ), and (A⊗B ± C⊗D)⁻¹ (§4.1, App. B).

vec stacks columns. A acts on the columns of X (a layer's inputs), B on its rows (its outputs); products and solves work
on X itself, never on a matrix of the size of A⊗B.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from autodiff import arrays
from autodiff.arrays import Array, namespace


def vec(X: Array) -> Array:
    """The columns of X (p, q), stacked: (p·q,)."""
    xp = namespace(X)
    return xp.reshape(X.T, (-1,))


def unvec(x: Array, shape: tuple[int, int]) -> Array:
    """The matrix of shape (p, q) whose columns, stacked, are x."""
    return namespace(x).reshape(x, shape[::-1]).T


def flatten(V: Sequence[Array]) -> Array:
    """[vec V_1; …; vec V_ℓ]: (P,), in the order of θ."""
    return namespace(*V).concat([vec(v) for v in V])


def unflatten(theta: Array, shapes: Sequence[tuple[int, int]]) -> list[Array]:
    """V_1 … V_ℓ of these shapes from [vec V_1; …; vec V_ℓ]; ValueError if it has another number of entries."""
    ends = list(itertools.accumulate(p * q for p, q in shapes))
    if tuple(theta.shape) != (ends[-1],):
        raise ValueError(f"a vector in the order of θ has shape {(ends[-1],)} here; got {tuple(theta.shape)}")
    return [unvec(theta[end - p * q : end], (p, q)) for end, (p, q) in zip(ends, shapes, strict=True)]


def product(A: Array, B: Array, X: Array) -> Array:
    """(A⊗B) vec(X) as a matrix: B X Aᵀ."""
    return B @ X @ A.T


def dense(A: Array, B: Array) -> Array:
    """A⊗B itself, for small A and B, square or not."""
    return as_block(A[:, :, None, None] * B[None, None, :, :])


def as_block(moments: Array) -> Array:
    """Numbers [a, b, g, h], (q, q′, p, p′), as the block (pq, p′q′) that has them where A⊗B has A_{a,b} B_{g,h}."""
    q, q_, p, p_ = moments.shape
    xp = namespace(moments)
    return xp.reshape(xp.permute_dims(moments, (0, 2, 1, 3)), (q * p, q_ * p_))


@dataclass(frozen=True)
class PairInverse:
    """(A⊗B ± C⊗D)⁻¹, factorised once by `factorise_pair`, applied to many X (App. B)."""

    K1: Array
    """K₁ = R_Aᵀ E₁ with R_A C R_Aᵀ = E₁ diag(s₁) E₁ᵀ, for an inverse square root R_AᵀR_A = A⁻¹."""
    K2: Array
    """K₂ = R_Bᵀ E₂ with R_B D R_Bᵀ = E₂ diag(s₂) E₂ᵀ."""
    reciprocals: Array
    """1 ⊘ (1 1ᵀ ± s₂ s₁ᵀ)."""

    def solve(self, X: Array) -> Array:
        """(A⊗B ± C⊗D)⁻¹ vec(X) as a matrix: K₂ [(K₂ᵀ X K₁) ⊘ (1 1ᵀ ± s₂ s₁ᵀ)] K₁ᵀ."""
        return self.K2 @ ((self.K2.T @ X @ self.K1) * self.reciprocals) @ self.K1.T


def factorise_pair(R_A: Array, R_B: Array, C: Array, D: Array, sign: int, clip: bool = False) -> PairInverse:
    """Factorise (A⊗B ± C⊗D)⁻¹ (App. B).

    Parameters
    ----------
    R_A, R_B : inverse square roots of the positive definite A and B, RᵀR being the inverse.
    C, D : symmetric, of the shapes of A and B.
    sign : +1 or −1.
    clip : for sign −1 and C⊗D ≤ A⊗B in exact arithmetic: treat what rounding does to that as the authors' program does:
        spectra above 1 are clipped to 1, and a denominator that is then exactly 0 is replaced by 1.
    """
    K1, s1 = _scaled_eigenvectors(R_A, C)
    K2, s2 = _scaled_eigenvectors(R_B, D)
    xp = namespace(s1)
    if clip:
        s1, s2 = arrays.at_most_one(s1), arrays.at_most_one(s2)
    denominators = 1 + sign * s2[:, None] * s1[None, :]
    if clip:
        denominators = xp.where(denominators == 0, xp.ones_like(denominators), denominators)
    return PairInverse(K1, K2, 1 / denominators)


def _scaled_eigenvectors(R: Array, C: Array) -> tuple[Array, Array]:
    """K = RᵀE and s with R C Rᵀ = E diag(s) Eᵀ."""
    s, E = arrays.eigh(R @ C @ R.T)
    return R.T @ E, s
