"""The Kronecker factors Ā and G of F̃_{i,j} = Ā_{i−1,j−1} ⊗ G_{i,j}: estimates and running averages (§3, §5).

A layer whose weights are applied at T locations of each case (a convolution, say) has factors Ā_{i−1,i−1} and G_{i,i}
of one of two kinds (Eschenhagen et al. 2023), and no others:

* expand: Ā = (1/T) E[Σ_t ā_t ā_tᵀ], G = E[Σ_t g_t g_tᵀ]. The product is KFC's Ω ⊗ Γ (Grosse & Martens 2016), where
  Ω = T Ā and Γ = G/T, see `kfc`;
* reduce: Ā = E[ā āᵀ] with ā = (1/T) Σ_t ā_t, and G = E[g gᵀ] with g = Σ_t g_t.

For the correlations over time of a recurrent layer (Martens, Ba, Johnson 2018) there are besides, on expand's scale,
the same one step apart, Ā_1 = (1/T) E[Σ_t ā_t ā_{t−1}ᵀ] and G_1 = E[Σ_t g_t g_{t−1}ᵀ]: see `Lagged` and `recurrent`.

A layer with weights and no rows, as a normalisation, has a small block of F, E[vec(𝒟W) vec(𝒟W)ᵀ], in their place.
Where the forward pass has weights of cases, all means over cases are weighted. Where it has lengths of sequences, T is
the expected length in expand, and each case's own in reduce. Where it has a share of a batch, they are its summands:
see `summed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from autodiff.arrays import Array, combination, constant, device, namespace
from autodiff.layers import Layer, Tape
from autodiff.names import closest
from autodiff.network import Network
from autodiff.passes import ForwardPass
from autodiff.trees import Symmetric
from kfac_ref.curvature import cotangents
from kfac_ref.curvature.cotangents import Cotangents

Blocks = dict[tuple[int, int], Array]
"""Blocks (i, j) of Ā or of G, by the paper's indices: Ā's count from 0, G's from 1."""

SHARINGS = ("expand", "reduce")
"""Where weights are applied at T locations: see above."""
FULL_BLOCKS = ("full", "diagonal")
"""Of a layer without rows: its block, or the block's diagonal alone."""
TIMES = ("independent", "symmetric", "stationary")
"""What is assumed of the steps of a recurrent layer: see `recurrent`. With the first, expand's factors are all."""


@dataclass(frozen=True)
class Lagged:
    """A recurrent layer's factors one step apart, t from 2 to T (RNN §3); where one is missing, at t = 1, it counts as
    0, so that Ā_1 is never larger than Ā_0, nor G_1 than G_0."""

    A: Array
    """Ā_1 = (1/T) E[Σ_t ā_t ā_{t−1}ᵀ], (d_{i−1}+1, d_{i−1}+1)."""
    G: Array
    """G_1 = E[Σ_t g_t g_{t−1}ᵀ], (d_i, d_i): on the scale of expand's G, T times a mean over steps."""
    pairs: Array
    """E[max(T − k, 0)], k = 0, 1, …: how many pairs of steps k apart a case has; the first is the expected length."""


@dataclass(frozen=True)
class Factors:
    """Ā_{i,j} = E[ā_i ā_jᵀ], (d_i+1, d_j+1), and G_{i,j} = E[g_i g_jᵀ], (d_i, d_j): means over cases."""

    A: Blocks
    G: Blocks
    full: Blocks = field(default_factory=dict, kw_only=True)
    """Of layers without rows the blocks (i, i) of F, (d·p, d·p), in the order of vec(W_i)."""
    lagged: dict[tuple[int, int], Lagged] = field(default_factory=dict, kw_only=True)
    """Of recurrent layers (i, i), where correlations over time are wanted."""

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

        def within(blocks: dict[tuple[int, int], Any], least: int) -> dict[tuple[int, int], Any]:
            inside = range(least, least + number)
            return {(i - shift, j - shift): x for (i, j), x in blocks.items() if i in inside and j in inside}

        A, G = within(self.A, first - 1), within(self.G, first)
        return Factors(A, G, full=within(self.full, first), lagged=within(self.lagged, first))

    def require_independent(self, what: str) -> None:
        """ValueError, saying `what` has no correlations over time, if a layer has factors one step apart (RNN §3)."""
        for i, _ in self.lagged:
            raise ValueError(
                f"layer {i} has factors with correlations over time, and {what} has none; use time independent"
            )

    def pair(self, i: int, j: int) -> tuple[Array, Array] | None:
        """Ā_{i−1,j−1} and G_{i,j}, also where only their transposes (j, i) are stored; None where neither is (§3)."""
        if (i, j) in self.G:
            return self.A[i - 1, j - 1], self.G[i, j]
        if (j, i) in self.G:
            return self.A[j - 1, i - 1].T, self.G[j, i].T
        return None


@dataclass(frozen=True)
class Kinds:
    """Which factors of layers with shared weights, and which blocks of layers without rows, are wanted (ER §3).

    ValueError for a name that is none of these, and for another time with another sharing than expand.
    """

    sharing: str = "expand"
    """One of SHARINGS."""
    full: str = "full"
    """One of FULL_BLOCKS."""
    time: str = "independent"
    """One of TIMES."""

    def __post_init__(self) -> None:
        closest(self.sharing, SHARINGS, "way to share weights")
        closest(self.full, FULL_BLOCKS, "kind of full blocks")
        closest(self.time, TIMES, "way to treat time")
        if self.time != "independent" and self.sharing != "expand":
            raise ValueError(f"time {self.time} goes with expand's factors; got sharing {self.sharing}")

    def lagged(self, layer: Layer) -> bool:
        """Whether that layer's factors one step apart are wanted: those of recurrent layers of several steps (RNN
        §3)."""
        return self.time != "independent" and layer.recurrent and layer.locations > 1


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
    """All blocks (i, j), or those within `reach`, means over cases, G with the data's targets Y (N, d_ℓ): factors of
    the *empirical* Fisher's approximation (§5, footnote)."""
    return _all_blocks(forward_pass, cotangents.empirical(forward_pass, Y), 1, kinds, reach)


def kfc(factors: Factors, network: Network) -> Factors:
    """KFC's Ω_i = T Ā_{i−1,i−1} and Γ_i = G_{i,i}/T (KFC §3) from the factors of the kind "expand", T the layer's
    locations, of cases of one length."""
    T = {i: layer.locations for i, layer in enumerate(network.weighted, start=1)}
    A = {(i, j): block * T[i + 1] if i == j else block for (i, j), block in factors.A.items()}
    G = {(i, j): block / T[i] if i == j else block for (i, j), block in factors.G.items()}
    lagged = {(i, j): Lagged(x.A * T[i], x.G / T[i], x.pairs) for (i, j), x in factors.lagged.items()}
    return Factors(A, G, full=factors.full, lagged=lagged)


def _all_blocks(
    forward_pass: ForwardPass, Dz: Cotangents, samples: int, kinds: Kinds, reach: int | None = None
) -> Factors:
    reach = forward_pass.network.layers if reach is None else reach
    upper = _second_moments(forward_pass, Dz, forward_pass.cases, samples, reach, kinds)
    return replace(upper, A=mirrored(upper.A), G=mirrored(upper.G))


def mirrored(upper: Blocks) -> Blocks:
    """The blocks (i, j), i ≤ j, and those below the diagonal, their transposes (§3)."""
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
    A_1: Blocks = {}
    G_1: Blocks = {}
    if forward_pass.here(cases) == 0:
        return _nothing(forward_pass, pairs, kinds)
    for rows, activities in forward_pass.chunks(cases):
        weighted = activities.weighted()
        for i, j in pairs:
            if i != j:
                a = forward_pass.weighted(rows, activities.rows(i))
                _add(A, (i - 1, j - 1), a.T @ activities.rows(j), total)
            elif network.weighted[i - 1].kronecker:
                root = None if forward_pass.weights is None else forward_pass.weights[rows] ** 0.5
                moment = _activities_moment(*weighted[i - 1], kinds, root, activities.mask)
                _add(A, (i - 1, i - 1), moment, total)
                if kinds.lagged(network.weighted[i - 1]):
                    layer, a = network.weighted[i - 1], activities.rows(i)
                    _add(A_1, (i, i), _one_step_apart(layer, a, root) / layer.locations, total)
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
                    if i == j and kinds.lagged(layer):
                        _add(G_1, (i, i), _one_step_apart(layer, g[i - 1]), total * samples)
    if kinds.full == "diagonal":
        full = {index: _diagonal_alone(block) for index, block in full.items()}
    if forward_pass.lengths is not None and kinds.sharing == "expand":
        _expect_length(A, A_1, forward_pass, cases)
    lagged = {(i, j): Lagged(A_1[i, j], G_1[i, j], _pairs(forward_pass, cases)) for i, j in G_1}
    return Factors(A, G, full=full, lagged=lagged)


def _nothing(forward_pass: ForwardPass, pairs: list[tuple[int, int]], kinds: Kinds) -> Factors:
    """Blocks of 0: the summand of a process that has none of the cases."""
    network, like, found = forward_pass.network, forward_pass.X, Factors({}, {})

    def zeros(*shape: int) -> Array:
        return namespace(like).zeros(shape, dtype=like.dtype, device=device(like))

    for i, j in pairs:
        (d, p), (d_, p_), layer = network.shapes[i - 1], network.shapes[j - 1], network.weighted[i - 1]
        if not layer.kronecker:
            found.full[i, i] = zeros(d * p, d * p)
            continue
        found.A[i - 1, j - 1], found.G[i, j] = zeros(p, p_), zeros(d, d_)
        if i == j and kinds.lagged(layer):
            found.lagged[i, i] = Lagged(zeros(p, p), zeros(d, d), zeros(network.input[0]))
    return found


def _expect_length(A: Blocks, A_1: Blocks, forward_pass: ForwardPass, cases: int) -> None:
    """Divide by the expected length where T is divided by, in Ā_0 and Ā_1 of layers on sequences."""
    for i, layer in enumerate(forward_pass.network.weighted, start=1):
        if layer.locations > 1 and layer.kronecker:
            ratio = layer.locations / forward_pass.mean_length(cases)
            for blocks, index in ((A, (i - 1, i - 1)), (A_1, (i, i))):
                if index in blocks:
                    blocks[index] = blocks[index] * ratio


def _pairs(forward_pass: ForwardPass, cases: int) -> Array:
    """E[max(T − k, 0)], k = 0 … T − 1, T a case's length."""
    k, lengths = np.arange(forward_pass.network.input[0]), forward_pass.lengths
    if lengths is None:
        if forward_pass.share is None:
            return constant(tuple(map(float, len(k) - k)), forward_pass.X)
        lengths = np.full(forward_pass.here(cases), len(k))
    return forward_pass.mean_of_cases(np.maximum(lengths[:, None] - k, 0), cases)


def _one_step_apart(layer: Layer, rows: Array, root: Array | None = None) -> Array:
    """Σ x_t x_{t−1}ᵀ over cases and steps, of rows x (…, m·T, n); cases times √w squared."""
    x = namespace(rows).reshape(rows, (-1, layer.locations, rows.shape[-1]))
    x = x if root is None else x * root[:, None, None]
    return _outer(x[:, 1:, :], x[:, :-1, :])


def _activities_moment(layer: Layer, tape: Tape, kinds: Kinds, root: Array | None, mask: Array | None) -> Array:
    """Σ over cases of (1/T) Σ_t ā_t ā_tᵀ, or of the outer product of the mean over t; cases times √w squared."""
    if kinds.sharing == "reduce" and layer.locations > 1:
        T = layer.locations if mask is None else namespace(mask).sum(mask, axis=1, keepdims=True)
        a = _locations_summed(layer, layer.rows(tape)) / T
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

    averaged = average(old.A, new.A), average(old.G, new.G)
    return Factors(*averaged, full=average(old.full, new.full), lagged=_lagged_average(old, new, epsilon))


def _lagged_average(old: Factors, new: Factors, epsilon: float) -> dict[tuple[int, int], Lagged]:
    def average(a: Array, b: Array) -> Array:
        return combination(epsilon, a, 1 - epsilon, b)

    def both(a: Lagged, b: Lagged) -> Lagged:
        return Lagged(average(a.A, b.A), average(a.G, b.G), average(a.pairs, b.pairs))

    return {index: both(old.lagged[index], x) for index, x in new.lagged.items()}


def summed(factors: Factors, add: Callable[[Any], Any]) -> Factors:
    """The factors of which each process has a summand; `add` sums trees of arrays over processes (§8). What is linear
    in them, as their running average, may be done before."""
    parts = (factors.A, factors.G, factors.full)
    blocks = [{(i, j): Symmetric(x) if i == j else x for (i, j), x in part.items()} for part in parts]
    *added, lagged = add([*blocks, factors.lagged])
    A, G, full = ({(i, j): x.matrix if i == j else x for (i, j), x in part.items()} for part in added)
    return Factors(A, G, full=full, lagged=lagged)


def scaled(factors: Factors, scale: float) -> Factors:
    """scale · factors (§8)."""
    parts = (factors.A, factors.G, factors.full)
    A, G, full = ({index: scale * x for index, x in part.items()} for part in parts)
    lagged = {index: Lagged(scale * x.A, scale * x.G, scale * x.pairs) for index, x in factors.lagged.items()}
    return Factors(A, G, full=full, lagged=lagged)


def averaging_weight(k: int, epsilon_max: float) -> float:
    """ε = min(1 − 1/k, ε_max) at the k-th update, k = 1, 2, … (§5)."""
    return min(1 - 1 / k, epsilon_max)
