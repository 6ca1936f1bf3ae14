"""F̂, the approximation whose inverse is block-tridiagonal, and that inverse, F̂⁻¹ = Ξᵀ Λ Ξ (§4.3).

F̂ agrees with F̃ on the diagonal blocks and those next to them. With i = 1 … ℓ−1,
Ψ_{i,i+1} = Ψᴬ_{i−1,i} ⊗ Ψᴳ_{i,i+1}, Ψᴬ_{i−1,i} = Ā_{i−1,i} Ā_{i,i}⁻¹, Ψᴳ_{i,i+1} = G_{i,i+1} G_{i+1,i+1}⁻¹, and
Σ_{i|i+1} = Ā_{i−1,i−1} ⊗ G_{i,i} − (Ψᴬ Ā_{i,i} Ψᴬᵀ) ⊗ (Ψᴳ G_{i+1,i+1} Ψᴳᵀ), Σ_ℓ = Ā_{ℓ−1,ℓ−1} ⊗ G_{ℓ,ℓ}.
Only the diagonal blocks Ā_{i,i}, G_{i,i} are damped (§6.3).
"""

from __future__ import annotations

from dataclasses import dataclass

from autodiff import arrays
from autodiff.arrays import Array
from autodiff.network import Parameters
from autodiff.threads import Work, side_by_side
from kfac_ref.curvature import kronecker
from kfac_ref.curvature.damping import DampedFactors
from kfac_ref.curvature.factors import Blocks, Factors, mirrored
from kfac_ref.curvature.kronecker import PairInverse, Pencil

REDUCED = 0.6
"""The rank, as a part of the size, up to which Σ's second term counts as one of low rank."""


@dataclass(frozen=True)
class BlockTridiagonalInverse:
    """F̂⁻¹ for one γ: factorised once, applied to many V (§4.3)."""

    Psi_A: list[Array]
    """Ψᴬ_{i−1,i}, i = 1 … ℓ−1, (d_{i−1}+1, d_i+1)."""
    Psi_G: list[Array]
    """Ψᴳ_{i,i+1}, (d_i, d_{i+1})."""
    Sigma_inverse: list[PairInverse]
    """Σ_{i|i+1}⁻¹, by App. B."""
    last: list[Array]
    """Σ_ℓ⁻¹: Ā_{ℓ−1,ℓ−1}⁻¹ (d_{ℓ−1}+1, d_{ℓ−1}+1) and G_{ℓ,ℓ}⁻¹ (d_ℓ, d_ℓ)."""

    def apply(self, V: Parameters) -> Parameters:
        """U = F̂⁻¹V, the three factors applied right to left."""
        Psi = list(zip(self.Psi_A, self.Psi_G, strict=True))
        # Ξ: U_i = V_i − Ψᴳ V_{i+1} Ψᴬᵀ
        U = [v - kronecker.product(P_A, P_G, v_next) for v, v_next, (P_A, P_G) in zip(V[:-1], V[1:], Psi, strict=True)]
        # Λ: Σ⁻¹ per layer
        U = [pair.solve(u) for pair, u in zip(self.Sigma_inverse, U, strict=True)]
        U.append(kronecker.product(self.last[0], self.last[1], V[-1]))
        # Ξᵀ: U_i − Ψᴳᵀ U_{i−1} Ψᴬ
        below = [kronecker.product(P_A.T, P_G.T, u) for u, (P_A, P_G) in zip(U[:-1], Psi, strict=True)]
        return [U[0], *[u - b for u, b in zip(U[1:], below, strict=True)]]


def invert(factors: Factors, damped: DampedFactors, work: Work = side_by_side) -> BlockTridiagonalInverse:
    """F̂⁻¹ from the factors next to the diagonal and the factorised damped ones; eigenproblems are left to `work`
    (§4.3)."""
    layers = range(1, factors.layers)
    cross_A, cross_G = [factors.A[i - 1, i] for i in layers], [factors.G[i, i + 1] for i in layers]
    reduced = [_low_rank(A, G) for A, G in zip(cross_A, cross_G, strict=True)] * 2
    cross, own, following = cross_A + cross_G, damped.A[:-1] + damped.G[:-1], damped.A[1:] + damped.G[1:]
    like, sizes = damped.A[0], [x.shape[0] for x in cross]
    regressed = side_by_side(_regress, like, cross, following, costs=sizes)
    Psi, halves = [Psi for Psi, _ in regressed], [half for _, half in regressed]
    inverses = side_by_side(_inverse, like, own, reduced, costs=sizes)
    spectra = work(kronecker.diagonalised, like, own, halves, reduced, costs=sizes)
    pencils = [Pencil(K, s, inverse) for (K, s), inverse in zip(spectra, inverses, strict=True)]
    pairs = zip(pencils[: len(layers)], pencils[len(layers) :], strict=True)
    return BlockTridiagonalInverse(
        Psi[: len(layers)],
        Psi[len(layers) :],
        [kronecker.pair_inverse(a, g, sign=-1, clip=True) for a, g in pairs],
        [damped.A[-1].T @ damped.A[-1], damped.G[-1].T @ damped.G[-1]],
    )


def _inverse(R: Array, wanted: bool) -> Array | None:
    """RᵀR."""
    return R.T @ R if wanted else None


def _low_rank(cross_A: Array, cross_G: Array) -> bool:
    """Whether ΨᴬĀΨᴬᵀ ⊗ ΨᴳGΨᴳᵀ has so low a rank that a reduced pencil saves more than applying it costs."""
    (q, q_), (p, p_) = cross_A.shape, cross_G.shape
    return min(q, q_) * min(p, p_) <= REDUCED * p * q


def eliminate(cross: Array, R_next: Array, R: Array, reduced: bool) -> tuple[Array, Pencil]:
    """Ψ = X M⁻¹ (q, q′), and the pencil of a factor and ΨMΨᵀ (App. B), X being Ā_{i−1,i} or G_{i,i+1} (§4.3), or one a
    step apart (RNN §3).

    Parameters
    ----------
    cross : X, (q, q′).
    R_next, R : inverse square roots of M (q′, q′) and of the factor (q, q), RᵀR being the inverse.
    reduced : as of `kronecker.pencil`.
    """
    Psi, half = _regress(cross, R_next)
    return Psi, kronecker.pencil(R, half, reduced)


def _regress(cross: Array, R: Array) -> tuple[Array, Array]:
    """Ψ = X M⁻¹, and the H with HHᵀ = ΨMΨᵀ, for X = `cross` and M⁻¹ = RᵀR (§4.1)."""
    half = cross @ R.T
    return half @ R, half


def approximate(factors: Factors) -> Factors:
    """The factors of F̂ itself, damped as `factors` are: for `kronecker_fisher.product` and `dense` (§4.3).

    From F̂ = Ξ⁻¹Λ⁻¹Ξ⁻ᵀ, and hence ΞF̂ = Λ⁻¹Ξ⁻ᵀ lower triangular, F̂_{i,j} = Ψ_{i,i+1} F̂_{i+1,j} for j > i+1: away from the
    tridiagonal blocks, too, F̂ is a Kronecker product, of Ψᴬ_{i−1,i} Â_{i,j−1} and Ψᴳ_{i,i+1} Ĝ_{i+1,j}.

    Raises
    ------
    ValueError
        If an Ā_{i,i} or G_{i,i} that Ψ needs is not positive definite: then F̂ is for damped factors alone.
    """
    layers = factors.layers
    A, G = _complete(factors.A, "A", 0, layers - 1), _complete(factors.G, "G", 1, layers)
    return Factors(A, G, full=factors.full)


def _complete(blocks: Blocks, name: str, first: int, last: int) -> Blocks:
    upper = {(i, j): blocks[i, j] for i in range(first, last + 1) for j in (i, i + 1) if (i, j) in blocks}
    for i in range(last - 2, first - 1, -1):
        beyond = [j for j in range(i + 2, last + 1) if (i, i + 1) in upper and (i + 1, j) in upper]
        if not beyond:  # the chain starts anew at i+1 or i+2, and all that follows is 0
            continue
        R, pivot = arrays.inverse_square_root(blocks[i + 1, i + 1])
        if not arrays.read_scalars(pivot)[0] > 0:
            raise ValueError(f"the factor {name}[{i + 1},{i + 1}] is not positive definite; F̂ needs it damped (§6.3)")
        Psi, _ = _regress(blocks[i, i + 1], R)
        upper |= {(i, j): Psi @ upper[i + 1, j] for j in beyond}
    return mirrored(upper)
