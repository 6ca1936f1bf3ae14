"""The Kronecker factors Ā and G of F̃_{i,j} = Ā_{i−1,j−1} ⊗ G_{i,j}: estimates and running averages (§3, §5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autodiff.arrays import Array
from autodiff.passes import ForwardPass

Blocks = dict[tuple[int, int], Array]
"""Blocks (i, j) of Ā or of G, by the paper's indices: Ā's count from 0, G's from 1."""


@dataclass(frozen=True)
class Factors:
    """Ā_{i,j} = E[ā_i ā_jᵀ], (d_i+1, d_j+1), and G_{i,j} = E[g_i g_jᵀ], (d_i, d_j): means over cases."""

    A: Blocks
    G: Blocks

    @property
    def layers(self) -> int:
        """ℓ."""
        return max(i for i, _ in self.G)


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
    layers = forward_pass.network.layers
    reach = 2 if tridiagonal else 1
    A: Blocks = {}
    G: Blocks = {}
    for rows, activities in forward_pass.chunks(cases):
        targets = sample(rows, activities.z)
        g = forward_pass.backward(activities, forward_pass.network.likelihood.derivative(activities.z, targets))
        for i in range(layers):
            for j in range(i, min(i + reach, layers)):
                _add(A, (i, j), activities.a[i], activities.a[j], cases)
                _add(G, (i + 1, j + 1), g[i], g[j], cases)
    return Factors(A, G)


def _add(blocks: Blocks, index: tuple[int, int], left: Array, right: Array, cases: int) -> None:
    part = (left.T @ right) / cases
    blocks[index] = blocks[index] + part if index in blocks else part


def running_average(old: Factors | None, new: Factors, epsilon: float) -> Factors:
    """ε·old + (1−ε)·new (§5); `new` itself at ε = 0, as at the first iteration."""
    if old is None or epsilon == 0:
        return new

    def average(a: Blocks, b: Blocks) -> Blocks:
        return {index: epsilon * a[index] + (1 - epsilon) * b[index] for index in b}

    return Factors(average(old.A, new.A), average(old.G, new.G))


def averaging_weight(k: int, epsilon_max: float) -> float:
    """ε = min(1 − 1/k, ε_max) at the k-th update, k = 1, 2, … (§5)."""
    return min(1 - 1 / k, epsilon_max)
