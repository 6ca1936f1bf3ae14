"""The marginal likelihood of the data under Laplace's approximation, and the λ₀ and σ² at which it is largest.

    log p(Y) ≈ −Σ_n L_n/σ² − constants + ½ P log λ₀ − ½ λ₀‖θ‖² − ½ log det(posterior precision)

θ and P being those of the uncertain layers (MacKay 1992; Immer et al. 2021). It holds at a maximum of the posterior; λ₀
is chosen with θ and the curvature left where they are.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import minimize

from autodiff.arrays import Array, inner, to_numpy
from kfac_ref.curvature.ekfac import Eigenbasis
from kfac_ref.posterior.laplace import Posterior, precisions

BOUND = 12 * math.log(10)
"""How far log λ₀ and log σ² may go from where they begin."""


def log_evidence(posterior: Posterior) -> float:
    """log p(Y), constants included, a sum over cases (MacKay 1992)."""
    p = _on_host(posterior)
    size = sum(W.size for W in p.mean)
    norm = float(inner(p.mean, p.mean))
    log_det = sum(float(np.sum(np.log(h))) for h in precisions(p))
    log_prior = 0.5 * size * math.log(p.prior_precision) - 0.5 * p.prior_precision * norm
    return log_likelihood(p) + log_prior - 0.5 * log_det


def log_likelihood(posterior: Posterior) -> float:
    """Σ_n log p(y_n) at the posterior's mean, constants included (MacKay 1992)."""
    p, d = posterior, posterior.network.outputs
    noise = 0.5 * d * math.log(p.noise_variance)
    return -p.loss / p.noise_variance - p.cases * (p.network.likelihood.constant(d) + noise)


def most_evident(posterior: Posterior, noise: bool = False) -> Posterior:
    """The posterior with the λ₀, and with `noise` also the σ², at which the evidence is largest; same mean (MacKay
    1992).

    ValueError if σ² is to be chosen of a likelihood that has none.
    """
    if noise and posterior.network.likelihood.name != "gaussian":
        raise ValueError(f"the {posterior.network.likelihood.name} likelihood has no noise variance to choose")
    on_host = _on_host(posterior)
    start = [math.log(posterior.prior_precision), *([math.log(posterior.noise_variance)] if noise else [])]

    found = minimize(
        lambda logs: -log_evidence(on_host.with_prior(*map(math.exp, logs))),
        start,
        method="L-BFGS-B",
        bounds=[(x - BOUND, x + BOUND) for x in start],
        options={"ftol": 1e-14, "gtol": 1e-8},
    )
    return posterior.with_prior(*map(math.exp, found.x))


def _on_host(posterior: Posterior) -> Posterior:
    """With what the evidence is made of in NumPy and float64: the uncertain layers alone, without eigenvectors."""

    def moved(x: Array) -> Any:
        return None if x is None else np.asarray(to_numpy(x), dtype=np.float64)

    uncertain = posterior.mean[posterior.first - 1 :]
    values = [[moved(s) for s in side] for side in (posterior.basis.s_A, posterior.basis.s_G)]
    basis = Eigenbasis(values[0], [], values[1], [])
    return replace(posterior, mean=[moved(W) for W in uncertain], basis=basis, first=1)
