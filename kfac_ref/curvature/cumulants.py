"""The error of a block's Kronecker approximation and its split into joint cumulants (§3.1)."""

from __future__ import annotations

from dataclasses import dataclass

from autodiff.arrays import Array, namespace
from autodiff.passes import ForwardPass
from kfac_ref.curvature import cotangents, fisher, kronecker


@dataclass(frozen=True)
class KroneckerError:
    """F_{i,j} − Ā_{i−1,j−1} ⊗ G_{i,j} and the three terms whose sum it is.

    All have the block's shape (d_i (d_{i−1}+1), d_j (d_{j−1}+1)). A row stands for an entry ā¹ of ā_{i−1} and g¹ of
    g_i, a column for ā² of ā_{j−1} and g² of g_j.
    """

    error: Array
    """E[ā¹ā²g¹g²] − E[ā¹ā²] E[g¹g²]."""
    fourth: Array
    """κ(ā¹, ā², g¹, g²)."""
    first: Array
    """E[ā¹] κ(ā², g¹, g²)."""
    second: Array
    """E[ā²] κ(ā¹, g¹, g²)."""


def kronecker_error(forward_pass: ForwardPass, i: int, j: int) -> KroneckerError:
    """The error of block (i, j), i, j = 1 … ℓ, the expectation over the model's y taken exactly (§3.1).

    By Lemma 4, E[u g] = 0 for every u that depends on x alone, which leaves of the cumulants' moments
    κ(ā, g¹, g²) = E[ā g¹ g²] − E[ā] E[g¹ g²] and
    κ(ā¹, ā², g¹, g²) = E[ā¹ā²g¹g²] − E[ā¹] E[ā²g¹g²] − E[ā²] E[ā¹g¹g²] − E[ā¹ā²] E[g¹g²] + 2 E[ā¹] E[ā²] E[g¹g²].
    ValueError for a layer that has several rows for a case, or none.
    """
    fisher.require_layers(forward_pass, i, j)
    for layer in (i, j):
        if not forward_pass.network.has_one_row(layer):
            kind = forward_pass.network.weighted[layer - 1].kind
            raise ValueError(f"layer {layer} ({kind}) has several rows for a case, or none; §3.1 is about one row")
    xp, N = namespace(forward_pass.X), forward_pass.total()
    m_a: Array = 0.0
    m_b = m_ab = m_gg = m_agg = m_bgg = m_a
    for rows, activities, moments in fisher.case_moments(forward_pass, cotangents.exact(forward_pass), [(i, j)]):
        a, b, gg = activities.rows(i), activities.rows(j), moments[i, j]
        flat = xp.reshape(gg, (gg.shape[0], -1))
        w_a, w_b = forward_pass.weighted(rows, a), forward_pass.weighted(rows, b)
        m_a, m_b = m_a + xp.sum(w_a, axis=0) / N, m_b + xp.sum(w_b, axis=0) / N
        m_ab, m_gg = m_ab + w_a.T @ b / N, m_gg + xp.sum(gg, axis=0) / N
        m_agg = m_agg + xp.reshape(a.T @ flat, (-1, *gg.shape[1:])) / N
        m_bgg = m_bgg + xp.reshape(b.T @ flat, (-1, *gg.shape[1:])) / N
    block = fisher.block(forward_pass, i, j)
    # each moment among axes [ā¹, ā², g¹, g²]
    A, B, AB = m_a[:, None, None, None], m_b[None, :, None, None], m_ab[:, :, None, None]
    GG, AGG, BGG = m_gg[None, None, :, :], m_agg[:, None, :, :], m_bgg[None, :, :, :]
    return KroneckerError(
        error=block - kronecker.as_block(AB * GG),
        fourth=block - kronecker.as_block(A * BGG + B * AGG + AB * GG - 2 * A * B * GG),
        first=kronecker.as_block(A * (BGG - B * GG)),
        second=kronecker.as_block(B * (AGG - A * GG)),
    )
