"""F̃, the block-wise Kronecker approximation of F: F̃_{i,j} = Ā_{i−1,j−1} ⊗ G_{i,j} (§3), or a full block's own.

The functions take whatever blocks the factors have, the others being 0, so that they serve F̃ (all blocks, as of
`factors.exact`), F̆ (`block_diagonal.approximate`) and F̂ (`block_tridiagonal.approximate`), damped or not. ValueError
where factors have correlations over time: then a block is no Kronecker product, see `recurrent.dense`.
"""

from __future__ import annotations

from dataclasses import dataclass

from autodiff import arrays
from autodiff.arrays import Array, device, namespace
from autodiff.network import Parameters
from kfac_ref.curvature import kronecker
from kfac_ref.curvature.factors import Factors


def product(factors: Factors, V: Parameters) -> Parameters:
    """F̃V: (F̃V)_i = Σ_j G_{i,j} V_j Ā_{i−1,j−1}ᵀ (§3). ValueError where factors have correlations over time."""
    factors.require_independent("a Kronecker product")
    U = []
    for i in range(1, factors.layers + 1):
        if (i, i) in factors.full:
            block, v = factors.full[i, i], V[i - 1]
            U.append(kronecker.unvec(block @ kronecker.vec(v), v.shape))
            continue
        row = ((factors.pair(i, j), v) for j, v in enumerate(V, start=1))
        terms = [kronecker.product(*pair, v) for pair, v in row if pair is not None]
        U.append(sum(terms[1:], terms[0]))
    return U


def dense(factors: Factors) -> Array:
    """F̃ as one matrix (P, P), in the order of θ (§3). ValueError where factors have correlations over time."""
    factors.require_independent("a Kronecker product")
    layers = range(1, factors.layers + 1)
    like = next(iter((*factors.G.values(), *factors.full.values())))
    xp = namespace(like)
    sizes = [
        factors.A[i - 1, i - 1].shape[0] * factors.G[i, i].shape[0]
        if (i, i) in factors.G
        else factors.full[i, i].shape[0]
        for i in layers
    ]

    def block(i: int, j: int) -> Array:
        if (i, j) in factors.full:
            return factors.full[i, j]
        pair = factors.pair(i, j)
        if pair is None:
            return xp.zeros((sizes[i - 1], sizes[j - 1]), dtype=like.dtype, device=device(like))
        return kronecker.dense(*pair)

    return xp.concat([xp.concat([block(i, j) for j in layers], axis=1) for i in layers])


@dataclass(frozen=True)
class KroneckerFisherInverse:
    """F̃⁻¹ of a small network, by its dense matrix: factorised once, applied to many V (§4)."""

    root: Array
    """R with RᵀR = F̃⁻¹, (P, P)."""

    def apply(self, V: Parameters) -> Parameters:
        """U = F̃⁻¹V."""
        u = self.root.T @ (self.root @ kronecker.flatten(V))
        return kronecker.unflatten(u, [v.shape for v in V])


def invert(factors: Factors) -> KroneckerFisherInverse:
    """F̃⁻¹ from factors, damped or not (§4). ValueError if F̃ is not positive definite; damped it is."""
    root, pivot = arrays.inverse_square_root(dense(factors))
    if not arrays.read_scalars(pivot)[0] > 0:
        raise ValueError("F̃ is not positive definite, so it has no inverse; damp its factors (§6.3)")
    return KroneckerFisherInverse(root)
