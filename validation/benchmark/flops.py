"""Floating-point operations of an iteration, counted from shapes: what Algorithm 2 needs, by stage.

A multiply-add counts as 2. A symmetric product, or one with a triangular matrix, counts half. The inverse of a
symmetric positive definite matrix by its Cholesky factor counts n³, and of these the inverse square root R = L⁻¹ two
thirds; a symmetric eigenproblem counts 9n³. Triple products are in the cheaper order. Work for each entry alone is not
counted, nor are products of two vectors; forward activities are computed once and shared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from kfac_ref.curvature.block_tridiagonal import REDUCED
from kfac_ref.settings import Settings

ROOT = 2 / 3
"""Of n³: Cholesky factor and its inverse, a third each; their product RᵀR is the last third."""
EIGENPROBLEM = 9

Sizes = Sequence[int]
"""d_0, …, d_ℓ."""


def forward(sizes: Sizes, cases: int) -> float:
    """s_i = W_i ā_{i−1} for all layers."""
    return 2 * cases * sum(d * n for d, n in _shapes(sizes))


def backward(sizes: Sizes, cases: int) -> float:
    """W_iᵀ g_i for all layers but the first."""
    return 2 * cases * sum(a * b for a, b in pairwise(sizes[1:]))


def gradient(sizes: Sizes, cases: int) -> float:
    """h and ∇h: a forward and a backward pass, and g_i ā_{i−1}ᵀ summed over cases (Algorithm 1)."""
    return 2 * forward(sizes, cases) + backward(sizes, cases)


def factors(sizes: Sizes, cases: int, tridiagonal: bool) -> float:
    """Ā and G of `cases` cases, by a backward pass of sampled targets (§5)."""
    inputs, outputs = [n for _, n in _shapes(sizes)], list(sizes[1:])
    diagonal = sum(n * n for n in inputs + outputs)
    beside = sum(a * b for side in (inputs, outputs) for a, b in pairwise(side))
    return backward(sizes, cases) + cases * (diagonal + 2 * beside * tridiagonal)


def inverse(sizes: Sizes, tridiagonal: bool) -> float:
    """F̆⁻¹ or F̂⁻¹ of one γ (§4.2, §4.3)."""
    inputs, outputs = [n for _, n in _shapes(sizes)], list(sizes[1:])
    if not tridiagonal:
        return float(sum(n**3 for n in inputs + outputs))
    total = 0.0
    for side in (inputs, outputs):
        total += ROOT * sum(n**3 for n in side) + (1 - ROOT) * side[-1] ** 3
        for n, q, low_rank in zip(side, side[1:], _low_rank(sizes), strict=False):
            # H = X Rᵀ and Ψ = H R by the triangular R of the next layer, and R H by that of this one
            total += 2 * n * q * q + n * n * q
            # App. B: an eigenproblem of R H HᵀRᵀ or HᵀRᵀR H, and its vectors once more by R
            if low_rank and q < n:
                total += q * q * n + EIGENPROBLEM * q**3 + 2 * n * q * q + n * n * q
            else:
                total += n * n * q + EIGENPROBLEM * n**3 + n**3
            total += (1 - ROOT) * n**3 * low_rank
    return total


def direction(sizes: Sizes, tridiagonal: bool) -> float:
    """F̆⁻¹∇h or F̂⁻¹∇h with an inverse that is there."""
    shapes = _shapes(sizes)
    layers = [_triple(d, d, n, n) for d, n in shapes]
    if not tridiagonal:
        return sum(layers)
    total = layers[-1]
    for (d, n), (d_next, n_next), layer, low_rank in zip(shapes, shapes[1:], layers, _low_rank(sizes), strict=False):
        # Ξ and Ξᵀ: Ψᴳ V_{i+1} Ψᴬᵀ and Ψᴳᵀ U_i Ψᴬ
        total += _triple(d, d_next, n_next, n) + _triple(d_next, d, n, n_next)
        # Λ: Kᵀ X K and back, or with the J of low rank, and then B⁻¹ X A⁻¹ too
        s, t = (min(d, d_next), min(n, n_next)) if low_rank else (d, n)
        total += _triple(s, d, n, t) + _triple(d, s, t, n) + layer * low_rank
    return total


def quadratic_model(sizes: Sizes, cases: int, directions: int) -> float:
    """Jv of `cases` cases for each direction: V_i ā_{i−1}, and W_i ȧ_{i−1} but for the first layer (App. C)."""
    return directions * (forward(sizes, cases) + backward(sizes, cases))


def iteration(sizes: Sizes, cases: int, settings: Settings, k: int) -> dict[str, float]:
    """Operations of iteration k > 3 on a mini-batch of `cases` cases, by stage (Algorithm 2)."""
    s = settings
    refresh = k % s.T3 == 0
    candidates = 3 if k % s.T2 == 0 and (refresh or s.candidates_inverted) else 1
    inversions = candidates if refresh else candidates - 1
    return {
        "gradient": gradient(sizes, cases),
        "factors": factors(sizes, math.ceil(s.tau1 * cases), s.tridiagonal),
        "inverse": inversions * inverse(sizes, s.tridiagonal),
        "direction": candidates * direction(sizes, s.tridiagonal),
        "quadratic model": quadratic_model(sizes, math.ceil(s.tau2 * cases), candidates + s.momentum),
        "ρ": forward(sizes, cases) if k % s.T1 == 0 else 0.0,
    }


def cycle(settings: Settings) -> int:
    """Iterations until λ, γ and the inverse are due together again."""
    return math.lcm(settings.T1, settings.T2, settings.T3)


def mean_over_cycle(sizes: Sizes, cases: int, settings: Settings) -> dict[str, float]:
    """Operations an iteration by stage, the mean over a whole cycle that begins after iteration 3."""
    length = cycle(settings)
    counts = [iteration(sizes, cases, settings, k) for k in range(4, 4 + length)]
    return {stage: sum(count[stage] for count in counts) / length for stage in counts[0]}


def _shapes(sizes: Sizes) -> list[tuple[int, int]]:
    """(d_i, d_{i−1}+1) of W_1 … W_ℓ."""
    return [(d, before + 1) for before, d in pairwise(sizes)]


def _low_rank(sizes: Sizes) -> list[bool]:
    """For each layer but the last, whether Σ⁻¹ is had from pencils of low rank (see `kronecker.pencil`)."""
    return [min(n, n_next) * min(d, d_next) <= REDUCED * n * d for (d, n), (d_next, n_next) in pairwise(_shapes(sizes))]


def _triple(p: int, q: int, r: int, s: int) -> float:
    """B X A with B (p, q), X (q, r), A (r, s), in the cheaper order."""
    return 2.0 * min(p * q * r + p * r * s, q * r * s + p * q * s)
