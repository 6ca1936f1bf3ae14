"""What a posterior says of new cases: its linearised outputs, exactly, and what becomes of them (MacKay 1992).

With the network linearised around the mean, z(θ) ≈ z + J(θ − θ̄), the outputs of a case are Gaussian with mean z and
covariance JΣJᵀ. That is exact here, for all pairs of outputs: the rows of J are 𝒟θ of unit cotangents, and Σ is
diagonal in the eigenbasis of the factors. It takes as many backward passes as there are outputs; of forward-mode
passes, by which the linearised outputs of samples are had, it would take as many as there are parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from autodiff.arrays import Array, device, namespace
from autodiff.names import closest
from autodiff.passes import ENTRIES, Activities, ForwardPass
from kfac_ref.posterior.laplace import Posterior

MEANS = ("probit", "linearised", "network")
"""Ways to average the predicted distribution over the posterior."""
PREDICTIVE_SAMPLES = 6
"""Purpose of a random key; see `optimizer.SAMPLED_TARGETS`."""


class Outputs(NamedTuple):
    """The Gaussian of linearised outputs."""

    z: Array
    """Its mean (m, d_ℓ): the network's outputs at the posterior's mean."""
    covariance: Array
    """JΣJᵀ, (m, d_ℓ, d_ℓ), without the likelihood's noise."""

    @property
    def variance(self) -> Array:
        """The covariance's diagonals (m, d_ℓ)."""
        return namespace(self.z).linalg.diagonal(self.covariance)


def outputs(posterior: Posterior, X: Array) -> Outputs:
    """Linearised outputs for cases X (m, d_0) or (m, *input) (Immer et al. 2021)."""
    xp, network = namespace(X), posterior.network
    forward_pass = _forward_pass(posterior, X)
    widest = max(d * p if not network.has_one_row(i) else d for i, (d, p) in enumerate(network.shapes, start=1))
    forward_pass = forward_pass.limited(ENTRIES // (network.outputs * max(widest, network.entries)))
    parts = [(a.z, _covariance(posterior, forward_pass, a)) for _, a in forward_pass.chunks()]
    return Outputs(*(xp.concat(list(part)) for part in zip(*parts, strict=True)))


def _covariance(posterior: Posterior, forward_pass: ForwardPass, activities: Activities) -> Array:
    """JΣJᵀ of some cases."""
    z, network = activities.z, posterior.network
    xp, (m, d) = namespace(z), z.shape
    identity = xp.eye(d, dtype=z.dtype, device=device(z))
    g = forward_pass.backward(activities, xp.broadcast_to(identity[:, None, :], (d, m, d)))
    layers = range(posterior.first, network.layers + 1)
    total: Array = 0.0
    for i, U_A, U_G, v in zip(layers, posterior.basis.U_A, posterior.basis.U_G, posterior.variances(), strict=True):
        if network.has_one_row(i):
            # 𝒟W = g āᵀ: Σ_ab (U_Gᵀg)_a (U_Gᵀg′)_a v_ab (U_Aᵀā)_b²
            rows, weight = g[i - 1] @ U_G, ((activities.rows(i) @ U_A) ** 2 @ v.T)[None, :, :]
        else:
            layer, tape = activities.weighted()[i - 1]
            if U_A is None:
                rows = forward_pass.case_gradients(activities, g, i) @ U_G
            else:
                rows = xp.reshape(U_G.T @ layer.case_gradients(tape, g[i - 1]) @ U_A, (d, m, -1))
            weight = xp.reshape(v, (1, 1, -1))
        total = total + xp.permute_dims(rows * weight, (1, 0, 2)) @ xp.permute_dims(rows, (1, 2, 0))
    return total


def sampled_outputs(posterior: Posterior, X: Array, samples: int, key: Sequence[int], linearised: bool = True) -> Array:
    """Outputs (samples, m, d_ℓ) for cases X (m, d_0) or (m, *input) of parameters drawn with a random key: linearised z
    + J(θ − θ̄), by forward-mode passes (Immer et al. 2021), or those of the network itself."""
    xp, first = namespace(X), posterior.first
    forward_pass = _forward_pass(posterior, X)
    if not linearised:
        passes = (ForwardPass(posterior.network, W, X) for W in posterior.sample(samples, key))
        return xp.stack([xp.concat([a.z for _, a in drawn.chunks()]) for drawn in passes])
    certain = [xp.zeros_like(W) for W in posterior.mean[: first - 1]]
    directions = [[*certain, *deviation] for deviation in posterior.deviations(samples, key)]
    step, found = forward_pass.together, []
    for _, activities in forward_pass.chunks():
        pieces = [directions[start : start + step] for start in range(0, samples, step)]
        found.append(xp.concat([activities.z + forward_pass.forward_mode(activities, piece) for piece in pieces]))
    return xp.concat(found, axis=1)


def probit(posterior: Posterior, predicted: Outputs) -> Array:
    """E[y] (m, d_ℓ) of linearised outputs: logistic or softmax of z/√(1 + π var(z)/8), which is z for the Gaussian
    likelihood (MacKay 1992; for classes with the variances alone, as is usual)."""
    likelihood = posterior.network.likelihood
    if likelihood.name == "gaussian":
        return predicted.z
    return likelihood.mean(predicted.z / namespace(predicted.z).sqrt(1 + math.pi / 8 * predicted.variance))


def expectation(
    posterior: Posterior,
    X: Array,
    how: str = "probit",
    samples: int = 100,
    key: Sequence[int] = (0, PREDICTIVE_SAMPLES),
) -> Array:
    """E[y] of cases X (m, d_0) or (m, *input) under the posterior, (m, d_ℓ): probabilities, where classes are predicted
    (MacKay 1992).

    `how` is "probit", or a mean over `samples` draws of the "linearised" outputs or of those of the "network" itself;
    ValueError for another.
    """
    closest(how, MEANS, "way to predict")
    if how == "probit":
        return probit(posterior, outputs(posterior, X))
    z = sampled_outputs(posterior, X, samples, key, how == "linearised")
    xp, mean = namespace(z), posterior.network.likelihood.mean
    return xp.mean(xp.reshape(mean(xp.reshape(z, (-1, z.shape[-1]))), z.shape), axis=0)


def _forward_pass(posterior: Posterior, X: Array) -> ForwardPass:
    """ValueError or TypeError where X does not fit."""
    network, like = posterior.network, posterior.mean[0]
    xp = namespace(like)
    network.check_batch(X, xp.zeros((X.shape[0], network.outputs), dtype=like.dtype, device=device(like)), like)
    return ForwardPass(network, posterior.mean, X)
