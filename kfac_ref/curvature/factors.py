"""The Kronecker factors Ā and G of F̃_{i,j} = Ā_{i−1,j−1} ⊗ G_{i,j}: estimates and running averages (§3, §5).

A layer whose weights are applied at T locations of each case (a convolution, say) has factors Ā_{i−1,i−1} and G_{i,i}
of one of two kinds (Eschenhagen et al. 2023), and no others:

* expand: Ā = (1/T) E[Σ_t ā_t ā_tᵀ], G = E[Σ_t g_t g_tᵀ]. The product is KFC's Ω ⊗ Γ (Grosse & Martens 2016), where
  Ω = T Ā and Γ = G/T, see `kfc`;
* reduce: Ā = E[ā āᵀ] with ā = (1/T) Σ_t ā_t, and G = E[g gᵀ] with g = Σ_t g_t.

A layer with weights and no rows, as a normalisation, has a small block of F, E[vec(𝒟W) vec(𝒟W)ᵀ], in their place.
Where the forward pass has weights of cases, all means over cases are weighted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from autodiff.arrays import Array, combination, device, namespace
from autodiff.layers import Layer, Tape
from autodiff.names import closest
from autodiff.network import Network
from autodiff.passes import ForwardPass
from kfac_ref.curvature import cotangents
from kfac_ref.curvature.cotangents import Cotangents

Blocks = dict[tuple[int, int], Array]
"""Blocks (i, j) of Ā or of G, by the paper's indices: Ā's count from 0, G's from 1."""

SHARINGS = ("expand", "reduce")
"""Where weights are applied at T locations: see above."""
FULL_BLOCKS = ("full", "diagonal")
"""Of a layer without rows: its block, or the block's diagonal alone."""


@dataclass(frozen=True)
class Factors:
    """Ā_{i,j} = E[ā_i ā_jᵀ], (d_i+1, d_j+1), and G_{i,j} = E[g_i g_jᵀ], (d_i, d_j): means over cases."""

    A: Blocks
    G: Blocks
    full: Blocks = field(default_factory=dict, kw_only=True)
    """Of layers without rows the blocks (i, i) of F, (d·p, d·p), in the order of vec(W_i)."""

    @property
    def explicit(self) -> Factors:
        """Themselves: see `implicit_factors`."""
        return self

    @property
    def layers(self) -> int:
        """ℓ."""
        return max(i for i, _ in (*self.G, *self.full))

    @property
    def kronecker(self) -> list[int]:
        """The layers that have factors: all but those with full blocks."""
        return [i for i in range(1, self.layers + 1) if (i, i) in self.G]

    def part(self, first: int, last: int) -> Factors:
        """Those of layers `first` to `last`, numbered from 1 (and Ā's from 0)."""
        shift, number = first - 1, last - first + 1

        def within(blocks: Blocks, least: int) -> Blocks:
            inside = range(least, least + number)
            return {(i - shift, j - shift): x for (i, j), x in blocks.items() if i in inside and j in inside}

        return Factors(within(self.A, first - 1), within(self.G, first), full=within(self.full, first))

    def pair(self, i: int, j: int) -> tuple[Array, Array] | None:
        """Ā_{i−1,j−1} and G_{i,j}, also where only their transposes (j, i) are stored; None where neither is."""
        if (i, j) in self.G:
            return self.A[i - 1, j - 1], self.G[i, j]
        if (j, i) in self.G:
            return self.A[j - 1, i - 1].T, self.G[j, i].T
        return None


@dataclass(frozen=True)
class Kinds:
    """Which factors of layers with shared weights, and which blocks of layers without rows, are wanted."""

    sharing: str = "expand"
    """One of SHARINGS."""
    full: str = "full"
    """One of FULL_BLOCKS."""

    def __post_init__(self) -> None:
        closest(self.sharing, SHARINGS, "way to share weights")
        closest(self.full, FULL_BLOCKS, "kind of full blocks")


USUAL = Kinds()


def estimate(
    forward_pass: ForwardPass,
    sample: Callable[[slice, Array], Array],
    cases: int,
    tridiagonal: bool,
    kinds: Kinds = USUAL,
) -> Factors:
    """Factors of the first `cases` cases of a batch, by one backward pass with sampled targets (§5).

    Parameters
    ----------
    forward_pass : ForwardPass
        The batch.
    sample : function of (rows, z)
        Targets (m, d_ℓ) for these rows, given the outputs z: drawn from the model for the Fisher.
    cases : int
        ceil(τ₁m).
    tridiagonal : bool
        Whether Ā_{i,i+1} and G_{i,i+1} are wanted too, of neighbours that both have one row for each case.
    kinds : Kinds
        Of layers with shared weights or without rows.
    """
    derivative = forward_pass.network.likelihood.derivative

    def Dz(rows: slice, z: Array) -> Iterator[Array]:
        yield forward_pass.root_weighted(rows, derivative(z, sample(rows, z)))

    return _second_moments(forward_pass, Dz, cases, 1, 2 if tridiagonal else 1, kinds)


def exact(forward_pass: ForwardPass, kinds: Kinds = USUAL, reach: int | None = None) -> Factors:
    """All blocks (i, j), G with the expectation over the model's own y taken exactly: the factors of F̃ (§3).

    Blocks off the diagonal are of layers that both have one row for each case; with a `reach` only those with |i − j| <
    reach, so that 1 gives the diagonal alone.
    """
    return _all_blocks(forward_pass, cotangents.exact(forward_pass), 1, kinds, reach)


def sampled(forward_pass: ForwardPass, samples: int, key: Sequence[int], kinds: Kinds = USUAL) -> Factors:
    """All blocks (i, j), G a Monte-Carlo estimate from `samples` targets for each case, drawn from the model (§5)."""
    return _all_blocks(forward_pass, cotangents.sampled(forward_pass, samples, key), samples, kinds)


def empirical(forward_pass: ForwardPass, Y: Array, kinds: Kinds = USUAL, reach: int | None = None) -> Factors:
    """All blocks (i, j), or those within `reach`, G with the data's targets Y (N, d_ℓ): factors of the *empirical*
    Fisher's approximation."""
    return _all_blocks(forward_pass, cotangents.empirical(forward_pass, Y), 1, kinds, reach)


def kfc(factors: Factors, network: Network) -> Factors:
    """KFC's Ω_i = T Ā_{i−1,i−1} and Γ_i = G_{i,i}/T from the factors of the kind "expand", T the layer's locations."""
    T = {i: layer.locations for i, layer in enumerate(network.weighted, start=1)}
    A = {(i, j): block * T[i + 1] if i == j else block for (i, j), block in factors.A.items()}
    G = {(i, j): block / T[i] if i == j else block for (i, j), block in factors.G.items()}
    return Factors(A, G, full=factors.full)


def _all_blocks(
    forward_pass: ForwardPass, Dz: Cotangents, samples: int, kinds: Kinds, reach: int | None = None
) -> Factors:
    reach = forward_pass.network.layers if reach is None else reach
    upper = _second_moments(forward_pass, Dz, forward_pass.cases, samples, reach, kinds)
    return Factors(mirrored(upper.A), mirrored(upper.G), full=upper.full)


def mirrored(upper: Blocks) -> Blocks:
    """The blocks (i, j), i ≤ j, and those below the diagonal, their transposes."""
    return upper | {(j, i): block.T for (i, j), block in upper.items() if i != j}


def _second_moments(
    forward_pass: ForwardPass, Dz: Cotangents, cases: int, samples: int, reach: int, kinds: Kinds
) -> Factors:
    """The blocks (i, j), i ≤ j < i + reach, of the first `cases` cases; G's are means over cases and samples."""
    network, total = forward_pass.network, forward_pass.total(cases)
    layers = range(1, network.layers + 1)
    one_row = {i for i in layers if network.has_one_row(i)}
    within = [(i, j) for i in layers for j in layers if i <= j < i + reach]
    pairs = [(i, j) for i, j in within if i == j or {i, j} <= one_row]
    A: Blocks = {}
    G: Blocks = {}
    full: Blocks = {}
    for rows, activities in forward_pass.chunks(cases):
        weighted = activities.weighted()
        for i, j in pairs:
            if i != j:
                a = forward_pass.weighted(rows, activities.rows(i))
                _add(A, (i - 1, j - 1), a.T @ activities.rows(j), total)
            elif network.weighted[i - 1].kronecker:
                root = None if forward_pass.weights is None else forward_pass.weights[rows] ** 0.5
                _add(A, (i - 1, i - 1), _activities_moment(*weighted[i - 1], kinds, root), total)
        for piece in Dz(rows, activities.z):
            g = forward_pass.backward(activities, piece)
            for i, j in pairs:
                layer = network.weighted[i - 1]
                if not layer.kronecker:
                    D = forward_pass.case_gradients(activities, g, i)
                    _add(full, (i, i), _outer(D, D), total * samples)
                elif kinds.sharing == "reduce" and i == j:
                    summed = _locations_summed(layer, g[i - 1])
                    _add(G, (i, i), _outer(summed, summed), total * samples)
                else:
                    _add(G, (i, j), _outer(g[i - 1], g[j - 1]), total * samples)
    if kinds.full == "diagonal":
        full = {index: _diagonal_alone(block) for index, block in full.items()}
    return Factors(A, G, full=full)


def _activities_moment(layer: Layer, tape: Tape, kinds: Kinds, root: Array | None) -> Array:
    """Σ over cases of (1/T) Σ_t ā_t ā_tᵀ, or of the outer product of the mean over t; cases times √w squared."""
    if kinds.sharing == "reduce" and layer.locations > 1:
        a = _locations_summed(layer, layer.rows(tape)) / layer.locations
        a = a if root is None else a * root[:, None]
        return a.T @ a
    moment = layer.moment(tape) if root is None else _weighted_moment(layer, layer.rows(tape), root)
    return moment if layer.locations == 1 else moment / layer.locations


def _weighted_moment(layer: Layer, rows: Array, root: Array) -> Array:
    """Σ w ā āᵀ over cases and locations, from the rows (m·T, p) and √w (m,)."""
    reshape = namespace(rows).reshape
    a = reshape(rows, (-1, layer.locations, rows.shape[-1])) * root[:, None, None]
    return _outer(a, a)


def _locations_summed(layer: Layer, rows: Array) -> Array:
    """(…, m·T, n) → (…, m, n)."""
    if layer.locations == 1:
        return rows
    xp = namespace(rows)
    return xp.sum(xp.reshape(rows, (*rows.shape[:-2], -1, layer.locations, rows.shape[-1])), axis=-2)


def _outer(left: Array, right: Array) -> Array:
    """Σ of the outer products of rows, left (…, p) and right (…, q)."""
    reshape = namespace(left).reshape
    return reshape(left, (-1, left.shape[-1])).T @ reshape(right, (-1, right.shape[-1]))


def _add(blocks: Blocks, index: tuple[int, int], summed: Array, total: Any) -> None:
    """Add summed/total to the block."""
    part = summed / total
    blocks[index] = blocks[index] + part if index in blocks else part


def _diagonal_alone(block: Array) -> Array:
    return block * namespace(block).eye(block.shape[0], dtype=block.dtype, device=device(block))


def running_average(old: Factors | None, new: Factors, epsilon: float) -> Factors:
    """ε·old + (1−ε)·new (§5); `new` itself at ε = 0, as at the first iteration."""
    if old is None or epsilon == 0:
        return new

    def average(a: Blocks, b: Blocks) -> Blocks:
        return {index: combination(epsilon, a[index], 1 - epsilon, b[index]) for index in b}

    return Factors(average(old.A, new.A), average(old.G, new.G), full=average(old.full, new.full))


def averaging_weight(k: int, epsilon_max: float) -> float:
    """ε = min(1 − 1/k, ε_max) at the k-th update, k = 1, 2, … (§5)."""
    return min(1 - 1 / k, epsilon_max)
