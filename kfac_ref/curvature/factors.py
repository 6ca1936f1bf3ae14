"""The Kronecker factors Ā and G of F̃_{i,j} = Ā_{i−1,j−1} ⊗ G_{i,j}: estimates and running averages (§3, §5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autodiff.arrays import Array, combination, namespace
from autodiff.passes import ForwardPass
from kfac_ref.curvature import cotangents
from kfac_ref.curvature.cotangents import Cotangents

Blocks = dict[tuple[int, int], Array]
"""Blocks (i, j) of Ā or of G, by the paper's indices: Ā's count from 0, G's from 1."""


@dataclass(frozen=True)
class Factors:
    """Ā_{i,j} = E[ā_i ā_jᵀ], (d_i+1, d_j+1), and G_{i,j} = E[g_i g_jᵀ], (d_i, d_j): means over cases."""

    A: Blocks
    G: Blocks

    @property
    def explicit(self) -> Factors:
        """Themselves: see `implicit_factors`."""
        return self

    @property
    def layers(self) -> int:
        """ℓ."""
        return max(i for i, _ in self.G)

    def pair(self, i: int, j: int) -> tuple[Array, Array] | None:
        """Ā_{i−1,j−1} and G_{i,j}, also where only their transposes (j, i) are stored; None where neither is."""
        if (i, j) in self.G:
            return self.A[i - 1, j - 1], self.G[i, j]
        if (j, i) in self.G:
            return self.A[j - 1, i - 1].T, self.G[j, i].T
        return None


def estimate(
    forward_pass: ForwardPass, sample: Callable[[slice, Array], Array], cases: int, tridiagonal: bool
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
        Whether Ā_{i,i+1} and G_{i,i+1} are wanted too.
    """
    derivative = forward_pass.network.likelihood.derivative
    return _second_moments(
        forward_pass, lambda rows, z: iter([derivative(z, sample(rows, z))]), cases, 1, reach=2 if tridiagonal else 1
    )


def exact(forward_pass: ForwardPass) -> Factors:
    """All blocks (i, j), G with the expectation over the model's own y taken exactly: the factors of F̃ (§3)."""
    return _all_blocks(forward_pass, cotangents.exact(forward_pass))


def sampled(forward_pass: ForwardPass, samples: int, key: Sequence[int]) -> Factors:
    """All blocks (i, j), G a Monte-Carlo estimate from `samples` targets for each case, drawn from the model (§5)."""
    return _all_blocks(forward_pass, cotangents.sampled(forward_pass, samples, key), samples)


def empirical(forward_pass: ForwardPass, Y: Array) -> Factors:
    """All blocks (i, j), G with the data's targets Y (N, d_ℓ): factors of the *empirical* Fisher's approximation."""
    return _all_blocks(forward_pass, cotangents.empirical(forward_pass, Y))


def _all_blocks(forward_pass: ForwardPass, Dz: Cotangents, samples: int = 1) -> Factors:
    upper = _second_moments(forward_pass, Dz, forward_pass.cases, samples, reach=forward_pass.network.layers)
    return Factors(mirrored(upper.A), mirrored(upper.G))


def mirrored(upper: Blocks) -> Blocks:
    """The blocks (i, j), i ≤ j, and those below the diagonal, their transposes."""
    return upper | {(j, i): block.T for (i, j), block in upper.items() if i != j}


def _second_moments(forward_pass: ForwardPass, Dz: Cotangents, cases: int, samples: int, reach: int) -> Factors:
    """The blocks (i, j), i ≤ j < i + reach, of the first `cases` cases; G's are means over cases and samples."""
    layers = forward_pass.network.layers
    pairs = [(i, j) for i in range(layers) for j in range(i, min(i + reach, layers))]
    A: Blocks = {}
    G: Blocks = {}
    for rows, activities in forward_pass.chunks(cases):
        for i, j in pairs:
            _add(A, (i, j), activities.a[i], activities.a[j], cases)
        for piece in Dz(rows, activities.z):
            g = forward_pass.backward(activities, piece)
            for i, j in pairs:
                _add(G, (i + 1, j + 1), g[i], g[j], cases * samples)
    return Factors(A, G)


def _add(blocks: Blocks, index: tuple[int, int], left: Array, right: Array, count: int) -> None:
    """Add the mean over `count` of the outer products of rows, left (…, p) and right (…, q)."""
    reshape = namespace(left).reshape
    part = (reshape(left, (-1, left.shape[-1])).T @ reshape(right, (-1, right.shape[-1]))) / count
    blocks[index] = blocks[index] + part if index in blocks else part


def running_average(old: Factors | None, new: Factors, epsilon: float) -> Factors:
    """ε·old + (1−ε)·new (§5); `new` itself at ε = 0, as at the first iteration."""
    if old is None or epsilon == 0:
        return new

    def average(a: Blocks, b: Blocks) -> Blocks:
        return {index: combination(epsilon, a[index], 1 - epsilon, b[index]) for index in b}

    return Factors(average(old.A, new.A), average(old.G, new.G))


def averaging_weight(k: int, epsilon_max: float) -> float:
    """ε = min(1 − 1/k, ε_max) at the k-th update, k = 1, 2, … (§5)."""
    return min(1 - 1 / k, epsilon_max)
