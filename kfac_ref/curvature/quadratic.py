"""The quadratic model M(δ) = ½ δᵀ(F + (λ+η)I)δ + ∇hᵀδ + h(θ), and its minimiser over span{Δ, δ₀} (§6.4, §7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from autodiff.arrays import Array, gram
from autodiff.network import Parameters
from autodiff.passes import ForwardPass
from kfac_ref.curvature import fisher


@dataclass(frozen=True)
class Minimiser:
    """δ* = αΔ + μδ₀."""

    alpha: float
    mu: float
    change: float
    """M(δ*) − M(0)."""
    norm: float
    """‖δ*‖."""


class InnerProducts(NamedTuple):
    """What M needs of r directions u, v; float64."""

    forms: Array
    """uᵀFv, (r, r)."""
    dots: Array
    """uᵀv, (r, r)."""
    slopes: Array
    """∇hᵀv, (r,)."""


def inner_products(
    forward_pass: ForwardPass, gradient: Parameters, directions: Sequence[Parameters], cases: int
) -> InnerProducts:
    """The inner products of `directions` on the device, F being the mean over the first `cases` cases (⌈τ₂m⌉) (§6.4,
    §8)."""
    products = gram([gradient, *directions])
    return InnerProducts(
        forms=fisher.quadratic_forms(forward_pass, directions, cases), dots=products[1:, 1:], slopes=products[0, 1:]
    )


def minimise(products: InnerProducts, damping: float, pick: Sequence[int]) -> Minimiser:
    """The minimiser of M over the span of one direction Δ, or of two, Δ and δ₀ (§6.4, §7).

    [α; μ] = −B⁻¹ [∇hᵀΔ; ∇hᵀδ₀], B = uᵀFv + (λ+η) uᵀv, by a pseudo-inverse, so that parallel or zero directions do no
    harm; M(δ*) − M(0) = ½ [α μ]·[∇hᵀΔ; ∇hᵀδ₀].

    Parameters
    ----------
    products : what `inner_products` returns, on the host.
    damping : λ+η.
    pick : the indices of Δ, or of Δ and δ₀, among the directions.
    """
    pair = np.ix_(pick, pick)
    dots = products.dots[pair]
    B, b = products.forms[pair] + damping * dots, products.slopes[list(pick)]
    # Δ and δ₀ may be of very different lengths: in units in which B has ones on its diagonal
    diagonal = np.diag(B)
    unit = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    inverse = np.linalg.pinv(unit[:, None] * B * unit, rcond=len(b) * np.finfo(np.float64).eps)
    coefficients = -unit * (inverse @ (unit * b))
    alpha, mu = (*coefficients, 0.0)[:2]
    change = 0.5 * coefficients @ b
    norm = np.sqrt(max(coefficients @ dots @ coefficients, 0.0))
    return Minimiser(float(alpha), float(mu), float(change), float(norm))
