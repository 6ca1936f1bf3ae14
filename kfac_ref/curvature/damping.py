"""Damping: factored Tikhonov with π, candidates for γ, and the rule for λ (§6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff import arrays
from autodiff.arrays import Array, namespace
from autodiff.names import closest
from autodiff.threads import Work, side_by_side
from kfac_ref.curvature.factors import Factors

PI_NORMS = ("trace", "frobenius")


def pi(A: Array, G: Array, norm: str = "trace") -> Array:
    """π_i of a layer's A = Ā_{i−1,i−1} (n, n) and G = G_{i,i} (p, p), 0-d (§6.3).

    "trace" gives sqrt((tr Ā/n) / (tr G/p)), "frobenius" sqrt((‖Ā‖_F/√n) / (‖G‖_F/√p)), as in the paper's own runs.
    Where G is 0, as for a layer of dead units, π is 1. ValueError for another `norm`.
    """
    closest(norm, PI_NORMS, "norm for π")
    xp = namespace(A, G)
    if norm == "trace":
        a, g = xp.linalg.trace(A) / A.shape[0], xp.linalg.trace(G) / G.shape[0]
    else:
        a = xp.linalg.matrix_norm(A) / math.sqrt(A.shape[0])
        g = xp.linalg.matrix_norm(G) / math.sqrt(G.shape[0])
    one = xp.ones_like(g)
    return xp.where(g > 0, xp.sqrt(a) / xp.sqrt(xp.where(g > 0, g, one)), one)


def shifts(factors: Factors, gamma: float, norm: str = "trace") -> dict[int, tuple[Array, Array]]:
    """π_i γ and γ/π_i of each layer i that has factors, 0-d: what factored Tikhonov damping adds to the diagonals
    (§6.3). ValueError unless γ ≥ 0."""
    if not gamma >= 0:
        raise ValueError(f"gamma must be a number ≥ 0; got {gamma}")
    ratios = {i: pi(factors.A[i - 1, i - 1], factors.G[i, i], norm) for i in factors.kronecker}
    return {i: (p * gamma, gamma / p) for i, p in ratios.items()}


def damp(factors: Factors, gamma: float, norm: str = "trace") -> Factors:
    """Factored Tikhonov: Ā_{i−1,i−1} + π_i γ I and G_{i,i} + (γ/π_i) I, the other blocks as they are (§6.3).

    Full blocks of layers without rows get γ² I, which stands for (λ+η) I. Factors one step apart stay as they are.
    """
    A, G = dict(factors.A), dict(factors.G)
    for i, (a, g) in shifts(factors, gamma, norm).items():
        A[i - 1, i - 1] = arrays.add_to_diagonal(A[i - 1, i - 1], a)
        G[i, i] = arrays.add_to_diagonal(G[i, i], g)
    full = {index: arrays.add_to_diagonal(block, gamma**2) for index, block in factors.full.items()}
    return Factors(A, G, full=full, lagged=factors.lagged)


@dataclass(frozen=True)
class DampedFactors:
    """Ā_{i−1,i−1} + π_i γ I and G_{i,i} + (γ/π_i) I, i = 1 … ℓ, or full block + γ² I, factorised (§6.3)."""

    A: list[Array]
    """Inverse square roots: RᵀR is the inverse of the damped Ā_{i−1,i−1}, (d_{i−1}+1, d_{i−1}+1); None where the layer
    has a full block."""
    G: list[Array]
    """The same for G_{i,i}, (d_i, d_i); for the full block (P_i, P_i), where the layer has one."""
    pivots: Array
    """The smallest pivot of each factor, (ℓ, 2), on the device; all positive iff all are positive definite."""

    def part(self, first: int, last: int) -> DampedFactors:
        """Those of layers `first` to `last`."""
        layers = slice(first - 1, last)
        return DampedFactors(self.A[layers], self.G[layers], self.pivots[layers, :])


def factorise(factors: Factors, gamma: float, norm: str = "trace") -> DampedFactors:
    """Damp every diagonal factor by factored Tikhonov with π and γ, and factorise it (§6.3).

    A factor that is not positive definite raises nothing here: see `DampedFactors.pivots`, and
    `require_positive_definite` for them once they have been read from the device.
    """
    (damped,) = on_damped(arrays.inverse_square_root, factors, [gamma], norm)
    return damped


def on_damped(
    function: Callable[[Array], tuple[Any, Array]],
    factors: Factors,
    gammas: Sequence[float],
    norm: str = "trace",
    work: Work = side_by_side,
) -> list[DampedFactors]:
    """For each γ what `function` makes of every damped diagonal factor, in the place of the inverse square roots, and
    the pivots that it finds; it is done by `work` (§8)."""
    parts: list[tuple[tuple[int, int, str], Array, Array]] = []
    for c, gamma in enumerate(gammas):
        added = shifts(factors, gamma, norm)
        parts += [((c, i, "A"), factors.A[i - 1, i - 1], added[i][0]) for i in added]
        parts += [((c, i, "G"), factors.G[i, i], added[i][1]) for i in added]
        parts += [((c, i, "G"), block, gamma**2) for (i, _), block in factors.full.items()]
    names, blocks, values = zip(*parts, strict=True)

    def of_damped(block: Array, value: Array) -> tuple[Any, Array]:
        return function(arrays.add_to_diagonal(block, value))

    sizes = [block.shape[0] for block in blocks]
    found = dict(zip(names, work(of_damped, blocks[0], blocks, values, costs=sizes), strict=True))
    xp, layers, damped = namespace(*blocks), range(1, factors.layers + 1), []
    for c in range(len(gammas)):
        pairs = [(found.get((c, i, "A"), (None, found[c, i, "G"][1])), found[c, i, "G"]) for i in layers]
        pivots = xp.stack([xp.stack([a[1], g[1]]) for a, g in pairs])
        damped.append(DampedFactors(A=[a[0] for a, _ in pairs], G=[g[0] for _, g in pairs], pivots=pivots))
    return damped


def require_positive_definite(pivots: np.ndarray, gamma: float) -> None:
    """ValueError naming layer, factor and γ if one of the `pivots` (ℓ, 2), read from the device, is not positive
    (§6.3)."""
    for i, pair in enumerate(pivots, start=1):
        for name, pivot in ((f"A[{i - 1},{i - 1}]", pair[0]), (f"G[{i},{i}]", pair[1])):
            if not pivot > 0:
                raise ValueError(
                    f"layer {i}: the factor {name} is not positive definite after damping with gamma = {gamma:g} "
                    "(or it is not finite); a larger gamma_min helps, or at the start a larger lambda0"
                )


def gamma_candidates(gamma: float, omega2: float, gamma_min: float, gamma_max: float) -> list[float]:
    """ω₂γ, γ, γ/ω₂ within bounds, in this order (§6.6); γ itself is left where it is, even outside the bounds."""
    return [max(omega2 * gamma, gamma_min), gamma, min(gamma / omega2, gamma_max)]


def adjust_lambda(
    lam: float, rho: float, omega1: float, lambda_min: float = 0.0, lambda_max: float = math.inf
) -> float:
    """The Levenberg–Marquardt rule: ω₁λ if ρ > ¾, λ/ω₁ if ρ < ¼ or NaN, within bounds (§6.5)."""
    if rho > 0.75:
        return max(omega1 * lam, lambda_min)
    if rho < 0.25 or math.isnan(rho):
        return min(lam / omega1, lambda_max)
    return lam
