"""The block-diagonal approximation F̆ = diag(F̃_{1,1}, …, F̃_{ℓ,ℓ}) and its inverse (§4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autodiff import arrays
from autodiff.arrays import Array
from autodiff.network import Parameters
from autodiff.threads import Work, side_by_side
from autodiff.trees import Symmetric
from kfac_ref.curvature import damping, kronecker
from kfac_ref.curvature.damping import DampedFactors
from kfac_ref.curvature.factors import Factors


@dataclass(frozen=True)
class BlockDiagonalInverse:
    """F̆⁻¹ for one γ: factorised once, applied to many V (§4.2)."""

    A_inverse: list[Array]
    """(Ā_{i−1,i−1} + π_i γ I)⁻¹, i = 1 … ℓ, (d_{i−1}+1, d_{i−1}+1)."""
    G_inverse: list[Array]
    """(G_{i,i} + (γ/π_i) I)⁻¹, (d_i, d_i)."""

    def apply(self, V: Parameters) -> Parameters:
        """U = F̆⁻¹V: U_i = G_{i,i}⁻¹ V_i Ā_{i−1,i−1}⁻¹."""
        return [kronecker.product(A, G, v) for A, G, v in zip(self.A_inverse, self.G_inverse, V, strict=True)]


def invert(damped: DampedFactors) -> BlockDiagonalInverse:
    """F̆⁻¹ from the factorised damped factors (§4.2)."""
    roots = damped.A + damped.G
    inverses = side_by_side(lambda R: R.T @ R, roots[0], roots, costs=[R.shape[0] for R in roots])
    return BlockDiagonalInverse(inverses[: len(damped.A)], inverses[len(damped.A) :])


def invert_each(
    factors: Factors, gammas: Sequence[float], norm: str, work: Work = side_by_side
) -> list[tuple[BlockDiagonalInverse, Array]]:
    """F̆⁻¹ for each γ, and its pivots (ℓ, 2) (see `DampedFactors`): damped, factorised and inverted in one piece of
    `work` for each factor (§4.2, §8)."""

    def inverse(damped: Array) -> tuple[Symmetric, Array]:
        found, pivot = arrays.inverse(damped)
        return Symmetric(found), pivot

    found = damping.on_damped(inverse, factors, gammas, norm, work)
    return [(BlockDiagonalInverse([x.matrix for x in f.A], [x.matrix for x in f.G]), f.pivots) for f in found]


def approximate(factors: Factors) -> Factors:
    """The factors of F̆, which are those on the diagonal, damped or not: for `kronecker_fisher.product` and `dense`
    (§4.2)."""
    A = {index: block for index, block in factors.A.items() if index[0] == index[1]}
    G = {index: block for index, block in factors.G.items() if index[0] == index[1]}
    return Factors(A, G, full=factors.full)
