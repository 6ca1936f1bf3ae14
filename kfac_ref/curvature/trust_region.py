"""Steps of a given length in the distribution: η = min(η_max, √(2δ/(ΔᵀFΔ))) (Wu et al. 2017, ACKTR, §3.1).

To second order a step ηΔ changes the model's distribution by a divergence KL ≈ ½ η² ΔᵀFΔ, mean over cases, which is
held at δ. That is so with F itself, of the cases at hand: see `fisher.quadratic_forms`.
"""

from __future__ import annotations

import math

from autodiff.arrays import Array
from autodiff.likelihoods import Likelihood


def step_size(form: float, delta: float, eta_max: float = math.inf) -> float:
    """η = min(η_max, √(2δ/q)) for q = ΔᵀFΔ; η_max where q is 0 (ACKTR §3.2). ValueError unless δ > 0 and η_max > 0, q ≥
    0."""
    if not (delta > 0 and eta_max > 0 and form >= 0):
        raise ValueError(f"delta {delta:g}, eta_max {eta_max:g}, ΔᵀFΔ {form:g}: expected delta, eta_max > 0, ΔᵀFΔ ≥ 0")
    # before the division, which overflows where the form is next to 0
    return eta_max if form * eta_max**2 <= 2 * delta else math.sqrt(2 * delta / form)


def divergence(likelihood: Likelihood, z: Array, after: Array) -> Array:
    """KL(R_{y|z} ‖ R_{y|after}) per case, (m,), of outputs z and `after`, both (m, d) (ACKTR §3.2).

    It is E[L(y, after) − L(y, z)] over y from R_{y|z}, in which y enters linearly, so that E[y|z] may stand for it.
    """
    mean = likelihood.mean(z)
    return likelihood.loss(after, mean) - likelihood.loss(z, mean)
