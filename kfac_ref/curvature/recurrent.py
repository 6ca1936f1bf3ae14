"""The block of F of a recurrent layer, its steps correlated over time (Martens, Ba, Johnson 2018, "RNN" §3).

With Ā_k = E[ā_t ā_{t−k}ᵀ], G_k = E[g_t g_{t−k}ᵀ] (means over cases and steps) and V_k = Ā_k ⊗ G_k, V_{−k} = V_kᵀ, the
block of a layer with T steps is F = Σ_{|k|<T} (T − |k|) V_k. The three approximations, by the names of the setting:

* independent: F = T V_0, which is expand's Ā ⊗ G, see `factors`; nothing here is needed;
* symmetric (option 1): a chain V_k = Ψ^k V_0 with Ψ = V_1 V_0⁻¹, Ā_1 and G_1 made symmetric, so that the eigenvalues ψ
  of V_0^{−½} V_1 V_0^{−½} are real, and F = V_0^{½} η(V_0^{−½} V_1 V_0^{−½}) V_0^{½} with
  η(ψ) = Σ_{|k|<T} (T − |k|) ψ^{|k|};
* stationary (option 2): the same chain without symmetry, T → ∞:
  F/T = (I − Ψ)⁻¹ (V_0 − Ψ V_0 Ψᵀ) (I − Ψ)⁻ᵀ, whose middle is App. B's of Martens & Grosse (2015).

Here V_0 is on expand's scale, T V_0 = Ā ⊗ G: see `factors.Lagged`. Where cases differ in length, T − |k| is the
expectation of max(T − |k|, 0), and T V_0 has the expected length.

Damping: factored Tikhonov (§6.3) of Ā_0 and G_0, as for any other layer, before Ψ is computed; Ā_1 and G_1 stay as they
are. It is as if white noise, independent from step to step, were added to ā_t and g_t: ψ shrinks, and with a large γ
all three are the same γ² I.
"""

from __future__ import annotations

from dataclasses import dataclass

from autodiff import arrays
from autodiff.arrays import Array, namespace
from autodiff.network import Parameters
from kfac_ref.curvature import kronecker
from kfac_ref.curvature.block_tridiagonal import eliminate
from kfac_ref.curvature.factors import Lagged
from kfac_ref.curvature.kronecker import PairInverse


@dataclass(frozen=True)
class SymmetricInverse:
    """F⁻¹ of one layer by option 1 for one γ: factorised once, applied to many V (RNN §3).

    (V_0^{−½}E) diag(1/η(ψ)) (V_0^{−½}E)ᵀ, E and ψ being eigenvectors and eigenvalues, of each factor, E_A ⊗ E_G.
    """

    pair: PairInverse
    """K₁ = Ā_0^{−½}E_A, K₂ = G_0^{−½}E_G, and 1/η(ψ_G ψ_Aᵀ) between them."""

    def apply(self, V: Parameters) -> Parameters:
        """U = F⁻¹V for the layer's V, alone in its list."""
        return [self.pair.solve(v) for v in V]


@dataclass(frozen=True)
class StationaryInverse:
    """F⁻¹ of one layer by option 2 for one γ: (1/T) (I − Ψ)ᵀ (V_0 − ΨV_0Ψᵀ)⁻¹ (I − Ψ) (RNN §3)."""

    Psi_A: Array
    """Ā_1 Ā_0⁻¹, (d_{i−1}+1, d_{i−1}+1)."""
    Psi_G: Array
    """G_1 G_0⁻¹, (d_i, d_i)."""
    middle: PairInverse
    """(Ā_0⊗G_0 − Ψ_AĀ_0Ψ_Aᵀ ⊗ Ψ_GG_0Ψ_Gᵀ)⁻¹, by App. B, T included."""

    def apply(self, V: Parameters) -> Parameters:
        """U = F⁻¹V for the layer's V, alone in its list."""
        (v,) = V
        u = self.middle.solve(v - kronecker.product(self.Psi_A, self.Psi_G, v))
        return [u - kronecker.product(self.Psi_A.T, self.Psi_G.T, u)]


def invert(R_A: Array, R_G: Array, lagged: Lagged, time: str) -> SymmetricInverse | StationaryInverse:
    """F⁻¹ of a recurrent layer (RNN §3).

    Parameters
    ----------
    R_A, R_G : inverse square roots of the damped Ā_0 (p, p) and G_0 (d, d), as of `damping.factorise`.
    lagged : Ā_1 and G_1, and the pairs of steps.
    time : "symmetric" or "stationary".
    """
    if time == "symmetric":
        A = kronecker.symmetric_pencil(R_A, symmetric_part(lagged.A))
        G = kronecker.symmetric_pencil(R_G, symmetric_part(lagged.G))
        s_A, s_G = (_within_one(pencil.s) for pencil in (A, G))
        return SymmetricInverse(PairInverse(A.K, G.K, _reciprocal(eta(s_G[:, None] * s_A[None, :], lagged.pairs))))
    (Psi_A, A), (Psi_G, G) = eliminate(lagged.A, R_A, R_A, False), eliminate(lagged.G, R_G, R_G, False)
    return StationaryInverse(Psi_A, Psi_G, kronecker.pair_inverse(A, G, sign=-1, clip=True))


def eta(psi: Array, pairs: Array) -> Array:
    """η(ψ)/T = Σ_{|k|<T} (pairs_k/pairs_0) ψ^{|k|}, by Horner's rule, for ψ, `psi`, of any shape, and `pairs` (T,) (RNN
    §3).

    With pairs_k = T − k it is (T(1 − ψ²) − 2ψ(1 − ψ^T))/(T(1 − ψ)²), which loses its digits near ψ = 1. It is ≥ 0 for
    |ψ| ≤ 1, and 0 at ψ = −1 where T is even.
    """
    xp = namespace(psi)
    total = xp.zeros_like(psi)
    for k in reversed(range(1, pairs.shape[0])):
        total = (total + pairs[k]) * psi
    return 1 + 2 * total / pairs[0]


def symmetric_part(M: Array) -> Array:
    """(M + Mᵀ)/2 of M (n, n), of its shape (RNN §3)."""
    return (M + M.T) / 2


def _within_one(s: Array) -> Array:
    """Eigenvalues that rounding put outside [−1, 1] are put on its ends, as in App. B."""
    return -arrays.at_most_one(-arrays.at_most_one(s))


def _reciprocal(values: Array) -> Array:
    """1/η; an η that is not positive, as at ψ = −1 or by rounding, is replaced by 1, as in App. B."""
    xp = namespace(values)
    return 1 / xp.where(values > 0, values, xp.ones_like(values))


def dense(A: Array, G: Array, lagged: Lagged, time: str) -> Array:
    """The block itself, (p·d, p·d), for small layers: Σ_k (T − |k|) V_k of the symmetric chain, summed term by term, or
    T (I − Ψ)⁻¹ (V_0 − ΨV_0Ψᵀ) (I − Ψ)⁻ᵀ of the stationary one (RNN §3).

    Parameters
    ----------
    A, G : Ā_0 (p, p) and G_0 (d, d) on expand's scale, damped or not, positive definite.
    lagged, time : as of `invert`; with "independent" it is Ā ⊗ G.
    """
    V_0 = kronecker.dense(A, G)
    if time == "independent":
        return V_0
    solve = namespace(A).linalg.solve
    symmetric = time == "symmetric"
    A_1, G_1 = (symmetric_part(lagged.A), symmetric_part(lagged.G)) if symmetric else (lagged.A, lagged.G)
    Psi = kronecker.dense(solve(A, A_1.T).T, solve(G, G_1.T).T)
    if symmetric:
        F, V_k = V_0, V_0
        for k in range(1, lagged.pairs.shape[0]):
            V_k = Psi @ V_k
            F = F + lagged.pairs[k] / lagged.pairs[0] * (V_k + V_k.T)
        return F
    I = arrays.add_to_diagonal(namespace(A).zeros_like(V_0), 1.0)
    return solve(I - Psi, solve(I - Psi, V_0 - Psi @ V_0 @ Psi.T).T)
