"""Inverses in the eigenbasis of the Kronecker factors: (Ā⊗G + λI)⁻¹ exactly, and EKFAC's diagonal.

With Ā_{i−1,i−1} = U_A diag(s_A) U_Aᵀ and G_{i,i} = U_G diag(s_G) U_Gᵀ, Ā⊗G has the eigenvectors U_A⊗U_G and the
eigenvalues s_G s_Aᵀ (arranged as a matrix of the shape of W_i), so that a multiple of I, which the paper avoids by
factored Tikhonov damping (§6.3), can be added exactly. EKFAC (George et al. 2018) keeps the eigenvectors and puts in
place of the eigenvalues the second moments of the derivatives along them, E[(U_Gᵀ 𝒟W_i U_A)²], the best diagonal there
is in this basis; 𝒟W_i is a case's, summed over locations. A full block has its own eigenvectors, on which nothing can
be bettered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autodiff import arrays
from autodiff.arrays import Array, namespace
from autodiff.network import Parameters
from autodiff.passes import ENTRIES, Activities, ForwardPass
from kfac_ref.curvature import cotangents
from kfac_ref.curvature.factors import Factors


@dataclass(frozen=True)
class Eigenbasis:
    """Eigenvalues, ascending, and eigenvectors, as columns, of Ā_{i−1,i−1} and G_{i,i}, i = 1 … ℓ.

    A layer with a full block has None for Ā's, and the block's (P_i,) and (P_i, P_i) for G's. Where eigenvalues
    coincide the eigenvectors are one choice of many, and EKFAC's diagonal depends on it.
    """

    s_A: list[Array]
    U_A: list[Array]
    s_G: list[Array]
    U_G: list[Array]

    def kronecker_diagonal(self) -> list[Array]:
        """The eigenvalues of Ā_{i−1,i−1} ⊗ G_{i,i} as matrices s_G s_Aᵀ, (d_i, d_{i−1}+1); of a full block (P_i,)
        (§6.3)."""
        pairs = zip(self.s_A, self.s_G, strict=True)
        return [g if a is None else g[:, None] * a[None, :] for a, g in pairs]


def eigenbasis(factors: Factors) -> Eigenbasis:
    """The eigenbasis of the diagonal blocks of the factors (§6.3). ValueError where these have correlations over
    time."""
    factors.require_independent("the Kronecker eigenbasis")
    layers = range(1, factors.layers + 1)
    of_A = [arrays.eigh(factors.A[i - 1, i - 1]) if (i, i) in factors.G else (None, None) for i in layers]
    of_G = [arrays.eigh(factors.G[i, i] if (i, i) in factors.G else factors.full[i, i]) for i in layers]
    (s_A, U_A), (s_G, U_G) = zip(*of_A, strict=True), zip(*of_G, strict=True)
    return Eigenbasis(list(s_A), list(U_A), list(s_G), list(U_G))


def diagonal(forward_pass: ForwardPass, basis: Eigenbasis, targets: Array | None = None) -> list[Array]:
    """EKFAC's diagonal s_i = E[(U_Gᵀ 𝒟W_i U_A)²], (d_i, d_{i−1}+1), mean over cases; of a full block (P_i,).

    The expectation over the model's y is exact; with the data's `targets` (N, d_ℓ) it is that of the empirical Fisher.
    """
    xp, network = namespace(forward_pass.X), forward_pass.network
    layers = range(1, network.layers + 1)
    one_row = [i for i in layers if network.has_one_row(i)]
    sizes = [d * p for i, (d, p) in enumerate(network.shapes, start=1) if i not in one_row]
    # of the other layers, 𝒟W_i of each case is formed
    forward_pass = forward_pass.limited(ENTRIES // max(sizes)) if sizes else forward_pass
    Dz = cotangents.exact(forward_pass) if targets is None else cotangents.empirical(forward_pass, targets)
    total: list[Array] = [0.0] * network.layers
    for rows, activities in forward_pass.chunks():
        a_squared = {i: (activities.rows(i) @ basis.U_A[i - 1]) ** 2 for i in one_row}
        for piece in Dz(rows, activities.z):
            g = forward_pass.backward(activities, piece)
            for i in layers:
                U_A, U_G = basis.U_A[i - 1], basis.U_G[i - 1]
                if i in a_squared:
                    squares = xp.sum((g[i - 1] @ U_G) ** 2, axis=0).T @ a_squared[i]
                else:
                    squares = 0.0
                    for r in range(piece.shape[0]):
                        squares = squares + _squares(activities, g[i - 1][r, ...], i, U_A, U_G)
                total[i - 1] = total[i - 1] + squares / forward_pass.total()
    return total


def _squares(activities: Activities, g: Array, i: int, U_A: Array, U_G: Array) -> Array:
    """Σ (U_Gᵀ 𝒟W_i U_A)² over cases, from the g_i of one cotangent; of a full block Σ (U_Gᵀ vec(𝒟W_i))²."""
    xp, (layer, tape) = namespace(g), activities.weighted()[i - 1]
    D = layer.case_gradients(tape, g)
    if U_A is None:
        return xp.sum((xp.reshape(xp.matrix_transpose(D), (D.shape[0], -1)) @ U_G) ** 2, axis=0)
    return xp.sum((U_G.T @ D @ U_A) ** 2, axis=0)


def product(basis: Eigenbasis, s: Sequence[Array], V: Parameters, lam: float = 0.0) -> Parameters:
    """(U diag(s) Uᵀ + λI) V with U = U_A⊗U_G: of EKFAC's approximation, or of F̆ with `kronecker_diagonal`; s_i is
    (d_i, d_{i−1}+1), or (P_i,) of a full block."""
    return _scale(basis, [s_i + lam for s_i in s], V)


def solve(basis: Eigenbasis, s: Sequence[Array], V: Parameters, lam: float) -> Parameters:
    """(U diag(s) Uᵀ + λI)⁻¹ V: with EKFAC's `diagonal`, or exactly (Ā⊗G + λI)⁻¹ with `kronecker_diagonal` (§6.3); s_i
    is (d_i, d_{i−1}+1), or (P_i,) of a full block."""
    return _scale(basis, [1 / (s_i + lam) for s_i in s], V)


def _scale(basis: Eigenbasis, d: Sequence[Array], V: Parameters) -> Parameters:
    """U diag(d) Uᵀ vec(V) as matrices: U_G [(U_Gᵀ V U_A) ⊙ d] U_Aᵀ; V_i (…, d_i, d_{i−1}+1)."""
    scaled = []
    for U_A, U_G, d_i, v in zip(basis.U_A, basis.U_G, d, V, strict=True):
        if U_A is None:
            xp, turn = namespace(v), namespace(v).matrix_transpose
            rows = xp.reshape(turn(v), (*v.shape[:-2], -1))  # vec(V), stacked as rows
            rows = ((rows @ U_G) * d_i) @ U_G.T
            scaled.append(turn(xp.reshape(rows, (*v.shape[:-2], v.shape[-1], v.shape[-2]))))
        else:
            scaled.append(U_G @ ((U_G.T @ v @ U_A) * d_i) @ U_A.T)
    return scaled
