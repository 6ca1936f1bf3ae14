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
    """The columns of X (p, q), stacked: (p·q,) (§2.1)."""
    xp = namespace(X)
    return xp.reshape(X.T, (-1,))


def unvec(x: Array, shape: tuple[int, int]) -> Array:
    """The matrix of shape (p, q) whose columns, stacked, are x (p·q,) (§2.1)."""
    return namespace(x).reshape(x, shape[::-1]).T


def flatten(V: Sequence[Array]) -> Array:
    """[vec V_1; …; vec V_ℓ] of V, each V_i (d_i, d_{i−1}+1), in the order of θ: (P,) (§2.1)."""
    return namespace(*V).concat([vec(v) for v in V])


def unflatten(theta: Array, shapes: Sequence[tuple[int, int]]) -> list[Array]:
    """V_1 … V_ℓ, of the `shapes` (d_i, d_{i−1}+1), from `theta`, [vec V_1; …; vec V_ℓ] (P,); ValueError if it has
    another number of entries (§2.1)."""
    ends = list(itertools.accumulate(p * q for p, q in shapes))
    if tuple(theta.shape) != (ends[-1],):
        raise ValueError(f"a vector in the order of θ has shape {(ends[-1],)} here; got {tuple(theta.shape)}")
    return [unvec(theta[end - p * q : end], (p, q)) for end, (p, q) in zip(ends, shapes, strict=True)]


def product(A: Array, B: Array, X: Array) -> Array:
    """(A⊗B) vec(X) as a matrix (p′, q′), B X Aᵀ, of A (q′, q), B (p′, p) and X (…, p, q), by the cheaper order of the
    two products (§4.2)."""
    (q_, q), (p_, p) = A.shape, B.shape
    if p_ * q * (p + q_) <= p * q_ * (q + p_):
        return (B @ X) @ A.T
    return B @ (X @ A.T)


def dense(A: Array, B: Array) -> Array:
    """A⊗B itself, (q p, q′ p′), for small A (q, q′) and B (p, p′), square or not (§3)."""
    return as_block(A[:, :, None, None] * B[None, None, :, :])


def as_block(moments: Array) -> Array:
    """The numbers [a, b, g, h] of `moments` (q, q′, p, p′) as the block (q p, q′ p′) that has them where A⊗B has
    A_{a,b} B_{g,h} (§3)."""
    q, q_, p, p_ = moments.shape
    xp = namespace(moments)
    return xp.reshape(xp.permute_dims(moments, (0, 2, 1, 3)), (q * p, q_ * p_))


@dataclass(frozen=True)
class Pencil:
    """A positive definite A (n, n) and a symmetric C (n, n), diagonalised together (App. B)."""

    K: Array
    """With KKᵀ = A⁻¹ and KᵀCK = diag(s), (n, n); or, if reduced, the J of `pencil`, (n, r)."""
    s: Array
    """(n,), or (r,) beside a J."""
    inverse: Array | None = None
    """A⁻¹ (n, n) beside a J."""


def pencil(R: Array, H: Array, reduced: bool = False) -> Pencil:
    """K = RᵀE and s, with RCRᵀ = E diag(s) Eᵀ, of A⁻¹ = RᵀR, R (n, n), and C = HHᵀ, H (n, r) (App. B).

    If reduced, J = A⁻¹HV and s, with HᵀA⁻¹H = V diag(s) Vᵀ, which is K diag(s)^½ without its columns of 0: an
    eigenproblem of the size of H's shorter side.
    """
    return Pencil(*diagonalised(R, H, reduced), R.T @ R if reduced else None)


def diagonalised(R: Array, H: Array, reduced: bool) -> tuple[Array, Array]:
    """K, or J, and s of `pencil`, from the same R (n, n) and H (n, r): what takes an eigenproblem (App. B, §8)."""
    Y = R @ H
    if reduced and H.shape[1] < H.shape[0]:
        s, V = arrays.eigh(Y.T @ Y)
        return R.T @ (Y @ V), s
    full = _full_pencil(R, Y @ Y.T)
    if not reduced:
        return full.K, full.s
    return full.K * namespace(full.s).sqrt(arrays.positive_part(full.s)), full.s


def symmetric_pencil(R: Array, C: Array) -> Pencil:
    """K = RᵀE and s, with RCRᵀ = E diag(s) Eᵀ, of A⁻¹ = RᵀR, R (n, n), and a symmetric C (n, n), which may be
    indefinite (App. B, RNN §3)."""
    return _full_pencil(R, R @ C @ R.T)


def _full_pencil(R: Array, RCR: Array) -> Pencil:
    s, E = arrays.eigh(RCR)
    return Pencil(R.T @ E, s)


@dataclass(frozen=True)
class PairInverse:
    """(A⊗B ± C⊗D)⁻¹, factorised once, applied to many X (App. B); A and C are (q, q), B and D (p, p)."""

    K1: Array
    """Of A and C, (q, q), or J₁ (q, r)."""
    K2: Array
    """Of B and D, (p, p), or J₂ (p, r′)."""
    reciprocals: Array
    """1 ⊘ (1 1ᵀ ± s₂ s₁ᵀ), (p, q), or (r′, r); beside A⁻¹ and B⁻¹ ∓ that."""
    A_inverse: Array | None = None
    B_inverse: Array | None = None

    def solve(self, X: Array) -> Array:
        """(A⊗B ± C⊗D)⁻¹ vec(X) for X (…, p, q), as a matrix of its shape.

        K₂ [(K₂ᵀ X K₁) ⊘ (1 1ᵀ ± s₂ s₁ᵀ)] K₁ᵀ; with reduced pencils B⁻¹ X A⁻¹ ∓ J₂ [(J₂ᵀ X J₁) ⊘ (1 1ᵀ ± s₂ s₁ᵀ)] J₁ᵀ,
        which is the same as J = K diag(s)^½ and 1/(1 ± st) = 1 ∓ st/(1 ± st), or by Woodbury's identity.
        """
        U = product(self.K1, self.K2, product(self.K1.T, self.K2.T, X) * self.reciprocals)
        return U if self.A_inverse is None else product(self.A_inverse, self.B_inverse, X) + U


def factorise_pair(R_A: Array, R_B: Array, C: Array, D: Array, sign: int, clip: bool = False) -> PairInverse:
    """Factorise (A⊗B ± C⊗D)⁻¹ (App. B).

    Parameters
    ----------
    R_A, R_B : inverse square roots of the positive definite A (q, q) and B (p, p), RᵀR being the inverse.
    C, D : symmetric, of the shapes of A and B.
    sign, clip : as of `pair_inverse`.
    """
    return pair_inverse(symmetric_pencil(R_A, C), symmetric_pencil(R_B, D), sign, clip)


def pair_inverse(first: Pencil, second: Pencil, sign: int, clip: bool = False) -> PairInverse:
    """(A⊗B ± C⊗D)⁻¹ from the pencils of A and C, and of B and D, both reduced or neither (App. B).

    Parameters
    ----------
    sign : +1 or −1.
    clip : for sign −1 and C⊗D ≤ A⊗B in exact arithmetic: treat what rounding does to that as the authors' program does:
        spectra above 1 are clipped to 1, and a denominator that is then exactly 0 is replaced by 1.
    """
    s1, s2 = first.s, second.s
    xp = namespace(s1)
    if clip:
        s1, s2 = arrays.at_most_one(s1), arrays.at_most_one(s2)
    denominators = 1 + sign * s2[:, None] * s1[None, :]
    singular = denominators == 0
    if clip:
        denominators = xp.where(singular, xp.ones_like(denominators), denominators)
    reciprocals = 1 / denominators
    if first.inverse is not None:
        reciprocals = -sign * reciprocals
        if clip:  # a denominator replaced by 1 leaves A⁻¹⊗B⁻¹ as it is
            reciprocals = xp.where(singular, xp.zeros_like(reciprocals), reciprocals)
    return PairInverse(first.K, second.K, reciprocals, first.inverse, second.inverse)
