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
from kfac_ref import kronecker
from kfac_ref.damping import DampedFactors
from kfac_ref.factors import Blocks, Factors, mirrored


@dataclass(frozen=True)
class BlockTridiagonalInverse:
    """F̂⁻¹ for one γ: factorised once, applied to many V."""

    Psi_A: list[Array]
    """Ψᴬ_{i−1,i}, i = 1 … ℓ−1."""
    Psi_G: list[Array]
    """Ψᴳ_{i,i+1}."""
    K1: list[Array]
    """Σ_{i|i+1}⁻¹ by App. B: see `kronecker.PairInverse`."""
    K2: list[Array]
    reciprocals: list[Array]
    last: list[Array]
    """Σ_ℓ⁻¹: Ā_{ℓ−1,ℓ−1}⁻¹ and G_{ℓ,ℓ}⁻¹."""

    def apply(self, V: Parameters) -> Parameters:
        """U = F̂⁻¹V, the three factors applied right to left."""
        Psi = list(zip(self.Psi_A, self.Psi_G, strict=True))
        # Ξ: U_i = V_i − Ψᴳ V_{i+1} Ψᴬᵀ
        U = [v - kronecker.product(P_A, P_G, v_next) for v, v_next, (P_A, P_G) in zip(V[:-1], V[1:], Psi, strict=True)]
        # Λ: Σ⁻¹ per layer
        pairs = zip(self.K1, self.K2, self.reciprocals, strict=True)
        U = [kronecker.PairInverse(*pair).solve(u) for pair, u in zip(pairs, U, strict=True)]
        U.append(kronecker.product(self.last[0], self.last[1], V[-1]))
        # Ξᵀ: U_i − Ψᴳᵀ U_{i−1} Ψᴬ
        below = [kronecker.product(P_A.T, P_G.T, u) for u, (P_A, P_G) in zip(U[:-1], Psi, strict=True)]
        return [U[0], *[u - b for u, b in zip(U[1:], below, strict=True)]]


def invert(factors: Factors, damped: DampedFactors) -> BlockTridiagonalInverse:
    """F̂⁻¹ from the factors next to the diagonal and the factorised damped ones."""
    Psi_A, Psi_G, pairs = [], [], []
    for i in range(1, factors.layers):
        P_A, C = _regress(factors.A[i - 1, i], damped.A[i])
        P_G, D = _regress(factors.G[i, i + 1], damped.G[i])
        Psi_A.append(P_A)
        Psi_G.append(P_G)
        pairs.append(kronecker.factorise_pair(damped.A[i - 1], damped.G[i - 1], C, D, sign=-1, clip=True))
    return BlockTridiagonalInverse(
        Psi_A,
        Psi_G,
        [pair.K1 for pair in pairs],
        [pair.K2 for pair in pairs],
        [pair.reciprocals for pair in pairs],
        [damped.A[-1].T @ damped.A[-1], damped.G[-1].T @ damped.G[-1]],
    )


def _regress(cross: Array, R: Array) -> tuple[Array, Array]:
    """Ψ = X M⁻¹ and Ψ M Ψᵀ for X = `cross` and M⁻¹ = RᵀR (§4.1)."""
    half = cross @ R.T
    return half @ R, half @ half.T


def approximate(factors: Factors) -> Factors:
    """The factors of F̂ itself, damped as `factors` are: for `kronecker_fisher.product` and `dense`.

    From F̂ = Ξ⁻¹Λ⁻¹Ξ⁻ᵀ, and hence ΞF̂ = Λ⁻¹Ξ⁻ᵀ lower triangular, F̂_{i,j} = Ψ_{i,i+1} F̂_{i+1,j} for j > i+1: away from the
    tridiagonal blocks, too, F̂ is a Kronecker product, of Ψᴬ_{i−1,i} Â_{i,j−1} and Ψᴳ_{i,i+1} Ĝ_{i+1,j}.

    Raises
    ------
    ValueError
        If an Ā_{i,i} or G_{i,i} that Ψ needs is not positive definite: then F̂ is for damped factors alone.
    """
    layers = factors.layers
    return Factors(_complete(factors.A, "A", 0, layers - 1), _complete(factors.G, "G", 1, layers))


def _complete(blocks: Blocks, name: str, first: int, last: int) -> Blocks:
    upper = {(i, j): blocks[i, j] for i in range(first, last + 1) for j in (i, i + 1) if j <= last}
    for i in range(last - 2, first - 1, -1):
        R, pivot = arrays.inverse_square_root(blocks[i + 1, i + 1])
        if not arrays.read_scalars(pivot)[0] > 0:
            raise ValueError(f"the factor {name}[{i + 1},{i + 1}] is not positive definite; F̂ needs it damped (§6.3)")
        Psi, _ = _regress(blocks[i, i + 1], R)
        upper |= {(i, j): Psi @ upper[i + 1, j] for j in range(i + 2, last + 1)}
    return mirrored(upper)
