"""Kronecker algebra, damping and the inverses, broken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autodiff import arrays
from kfac_ref.curvature import block_diagonal, block_tridiagonal, damping, kronecker
from kfac_ref.curvature.block_diagonal import BlockDiagonalInverse
from kfac_ref.curvature.block_tridiagonal import BlockTridiagonalInverse
from kfac_ref.curvature.factors import Factors
from kfac_ref.curvature.kronecker import PairInverse
from tests.validation.theorems.mutations import after, caught_by, transposed

TRIDIAGONAL = ["tridiagonal-blocks", "tridiagonal-inverse", "tridiagonal-factors", "tridiagonal-two-layers"]
DAMPED = ["damped-factors", "kronecker-inverse", "block-diagonal-inverse", "tridiagonal-factors"]

# --- Kronecker algebra -----------------------------------------------------------------------------------------------


@caught_by("kronecker-identities", "fisher-products", "kronecker-inverse")
def vec_of_rows(patch):
    """vec stacks rows."""
    patch.setattr(kronecker, "vec", lambda X: np.reshape(X, -1))
    patch.setattr(kronecker, "unvec", lambda x, shape: np.reshape(x, shape))


@caught_by("kronecker-identities", "kronecker-blocks", *TRIDIAGONAL)
def product_without_transposition(patch):
    """BXA in place of BXAᵀ."""
    patch.setattr(kronecker, "product", lambda A, B, X: B @ X @ transposed(A).T)


@caught_by("kronecker-identities", "fisher-dense", "kronecker-blocks", "cumulants")
def kronecker_product_the_other_way(patch):
    """B⊗A in place of A⊗B."""

    def as_block(moments):
        q, q_, p, p_ = moments.shape
        return moments.transpose(2, 0, 3, 1).reshape(q * p, q_ * p_)

    patch.setattr(kronecker, "as_block", as_block)


@caught_by("pair-inverse", "neighbours", *TRIDIAGONAL)
def sign_of_a_pair(patch):
    """A⊗B + C⊗D in place of A⊗B − C⊗D."""
    pair = kronecker.pair_inverse
    patch.setattr(kronecker, "pair_inverse", lambda first, second, sign, clip=False: pair(first, second, -sign, clip))


@caught_by("pair-inverse", "neighbours", *TRIDIAGONAL)
def denominators_of_a_pair_transposed(patch):
    """s₁ s₂ᵀ in place of s₂ s₁ᵀ."""
    after(
        patch,
        kronecker,
        "pair_inverse",
        lambda pair, *_, **__: replace(pair, reciprocals=transposed(pair.reciprocals)),
    )


@caught_by("pair-inverse", *TRIDIAGONAL)
def pair_multiplied_by_its_denominators(patch):
    """⊙ in place of ⊘."""

    def solve(self, X):
        U = self.K2 @ ((self.K2.T @ X @ self.K1) / self.reciprocals) @ self.K1.T
        return U if self.A_inverse is None else U + self.B_inverse @ X @ self.A_inverse

    patch.setattr(PairInverse, "solve", solve)


@caught_by("damped-factors", "block-diagonal-inverse", "kronecker-inverse", "corollary-3", "theorem-1-affine-full")
def root_transposed(patch):
    """RRᵀ is the inverse, not RᵀR."""
    after(patch, arrays, "inverse_square_root", lambda found, A: (found[0].T, found[1]))


# --- damping ---------------------------------------------------------------------------------------------------------


@caught_by("pi", *DAMPED, "tridiagonal-two-layers", "inverse-covariance", "neighbours", "neighbours-sampled")
def pi_inverted(patch):
    """1/π."""
    after(patch, damping, "pi", lambda found, *_: 1 / found)


@caught_by("pi")
def pi_of_norms_undivided(patch):
    """π by Frobenius norms that are not divided by the factors' sizes."""

    def undivided(found, A, G, norm="trace"):
        return found if norm == "trace" else found * (len(A) / len(G)) ** 0.25

    after(patch, damping, "pi", undivided)


@caught_by("damped-product", *DAMPED)
def damping_of_the_other_factor(patch):
    """γ/π for Ā and πγ for G."""
    after(patch, damping, "shifts", lambda found, *_: {i: (g, a) for i, (a, g) in found.items()})


@caught_by("damped-product", *DAMPED)
def damping_of_one_factor(patch):
    """G as it is."""
    after(patch, damping, "shifts", lambda found, *_: {i: (a, 0 * g) for i, (a, g) in found.items()})


@caught_by(
    *(
        f"theorem-1-{omega}-{name}"
        for omega in ("affine", "general")
        for name in ("block-diagonal", "block-tridiagonal")
    ),
    *("theorem-1-affine-full", "theorem-1-general-full", "theorem-1-rescaled"),
    *("corollary-3", "corollary-3-square-roots"),
    *(f"corollary-2-{name}" for name in ("logistic-tanh", "shifted", "scaled", "whitened")),
)
def damping_left_in(patch):
    """γ is 1e-4 more than it should be."""
    shifts = damping.shifts
    patch.setattr(damping, "shifts", lambda found, gamma, norm="trace": shifts(found, gamma + 1e-4, norm))


# --- F̆ ---------------------------------------------------------------------------------------------------------------


@caught_by(
    "block-diagonal-inverse", "theorem-1-affine-block-diagonal", "theorem-1-general-block-diagonal", "corollary-3"
)
def root_for_inverse(patch):
    """Ā^{−½} in place of Ā⁻¹."""
    patch.setattr(block_diagonal, "invert", lambda damped: BlockDiagonalInverse(damped.A, [R.T @ R for R in damped.G]))


@caught_by("block-diagonal-inverse", "corollary-3", "corollary-3-square-roots")
def inverse_forgets_the_outputs(patch):
    """U = V Ā⁻¹."""
    patch.setattr(
        BlockDiagonalInverse, "apply", lambda self, V: [v @ A for v, A in zip(V, self.A_inverse, strict=True)]
    )


# --- F̂ ---------------------------------------------------------------------------------------------------------------


@caught_by("neighbours", "neighbours-sampled", "theorem-1-affine-block-tridiagonal", *TRIDIAGONAL)
def psi_transposed(patch):
    """Ψᵀ in place of Ψ."""
    after(patch, block_tridiagonal, "_regress", lambda found, *_: (transposed(found[0]), found[1]))


@caught_by("neighbours", "tridiagonal-factors", "theorem-1-general-block-tridiagonal")
def psi_of_a_root(patch):
    """Ψ has M^{−½}ᵀ in place of M⁻¹."""
    after(patch, block_tridiagonal, "_regress", lambda found, cross, R: (cross @ R, found[1]))


@caught_by("neighbours", *TRIDIAGONAL)
def sigma_of_a_root(patch):
    """XRRᵀXᵀ in place of ΨMΨᵀ."""

    def residual(found, cross, R):
        return found[0], cross @ R

    after(patch, block_tridiagonal, "_regress", residual)


def _apply(self, V, first=True, last=True):
    """F̂⁻¹V with or without Ξ and Ξᵀ."""
    Psi = list(zip(self.Psi_A, self.Psi_G, strict=True))
    U = list(V)
    if first:
        U[:-1] = [v - G @ n @ A.T for v, n, (A, G) in zip(V[:-1], V[1:], Psi, strict=True)]
    U = [pair.solve(u) for pair, u in zip(self.Sigma_inverse, U[:-1], strict=True)]
    U.append(self.last[1] @ V[-1] @ self.last[0].T)
    if last:
        U[1:] = [u - G.T @ b @ A for u, b, (A, G) in zip(U[1:], U[:-1], Psi, strict=True)]
    return U


@caught_by(*TRIDIAGONAL)
def without_the_first_Xi(patch):
    """ΞᵀΛ."""
    patch.setattr(BlockTridiagonalInverse, "apply", lambda self, V: _apply(self, V, first=False))


@caught_by(*TRIDIAGONAL)
def without_the_last_Xi(patch):
    """ΛΞ."""
    patch.setattr(BlockTridiagonalInverse, "apply", lambda self, V: _apply(self, V, last=False))


@caught_by("tridiagonal-blocks", "tridiagonal-factors", "tridiagonal-two-layers")
def without_either_Xi(patch):
    """Λ, symmetric still."""
    patch.setattr(BlockTridiagonalInverse, "apply", lambda self, V: _apply(self, V, first=False, last=False))


@caught_by("tridiagonal-inverse")
def approximation_zero_beyond_the_tridiagonal(patch):
    """F̂ itself is block-tridiagonal."""

    def near(found, _):
        A, G = ({(i, j): b * (abs(i - j) <= 1) for (i, j), b in blocks.items()} for blocks in (found.A, found.G))
        return Factors(A, G)

    after(patch, block_tridiagonal, "approximate", near)


@caught_by("tridiagonal-inverse")
def approximation_is_that_of_F(patch):
    """F̂ has all blocks of F̃."""
    patch.setattr(block_tridiagonal, "approximate", lambda found: found)
