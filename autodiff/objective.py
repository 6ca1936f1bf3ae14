"""The objective h(θ) = mean over cases of L(y, f(x, θ)) + (η/2)‖θ‖², its gradient, and the reconstruction error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from autodiff.arrays import Array, inner, namespace, read_scalars, to_numpy
from autodiff.likelihoods import TOLERANCE, Likelihood
from autodiff.network import Network, Parameters
from autodiff.passes import CHUNK_SIZE, Activities, ForwardPass


@dataclass(frozen=True)
class Loss:
    """Values on a batch; 0-d float64 arrays on the device, so that no transfer is forced."""

    h: Array
    """h(θ), without the likelihood's constant (`Likelihood.constant`)."""
    error: Array
    """‖y − E[y|z]‖², mean over cases."""
    excess: Array
    """How far targets are from the likelihood's range (`Likelihood.excess`)."""


def loss(forward_pass: ForwardPass, Y: Array, eta: float) -> Loss:
    """h and the error on the batch of `forward_pass` with targets Y (m, d_ℓ)."""
    return _loss(forward_pass, Y, eta, visit=lambda rows, activities, Dz: None)


def loss_and_gradient(forward_pass: ForwardPass, Y: Array, eta: float) -> tuple[Loss, Parameters]:
    """The same, and ∇h = mean over cases of 𝒟θ + ηθ, by one backward pass (Algorithm 1)."""
    parameters, m = forward_pass.parameters, forward_pass.cases
    gradient = [eta * W for W in parameters]

    def accumulate(rows: slice, activities: Activities, Dz: Array) -> None:
        for total, part in zip(gradient, forward_pass.pull_back(activities, Dz / m), strict=True):
            total += part

    return _loss(forward_pass, Y, eta, visit=accumulate), gradient


def _loss(forward_pass: ForwardPass, Y: Array, eta: float, visit: Callable[[slice, Activities, Array], None]) -> Loss:
    xp = namespace(Y)
    likelihood, m = forward_pass.network.likelihood, forward_pass.cases
    parameters = forward_pass.parameters
    h, error, excess = 0.5 * eta * inner(parameters, parameters), 0.0, likelihood.excess(Y)
    for rows, activities in forward_pass.chunks():
        y = Y[rows, :]
        Dz = likelihood.derivative(activities.z, y)
        h = h + xp.sum(likelihood.loss(activities.z, y), dtype=xp.float64) / m
        error = error + xp.sum(xp.vecdot(Dz, Dz), dtype=xp.float64) / m
        visit(rows, activities, Dz)
    return Loss(h, error, excess)


def require_finite(X: Array, Y: Array) -> None:
    """ValueError naming the first entry of X or Y that is not finite. It brings both to the host."""
    for name, x in (("X", X), ("Y", Y)):
        host = to_numpy(x)
        for i, j in np.argwhere(~np.isfinite(host))[:1]:
            raise ValueError(f"{name}[{i}, {j}] is {host[i, j]}, expected finite numbers")


def require_sound(likelihood: Likelihood, X: Array, Y: Array, h: float, excess: float) -> None:
    """ValueError naming the entry of X or Y to blame, if h is not finite because of it or Y is out of range.

    It is for the values of `Loss` once they have been read; X and Y are brought to the host only if these are bad.
    """
    if not np.isfinite(h):
        require_finite(X, Y)
    if not excess <= TOLERANCE:
        likelihood.check_targets(to_numpy(Y))


EVALUATED = 1000
"""Cases evaluated at once: as nothing is kept of them, more would only take more memory."""


@dataclass(frozen=True)
class Evaluation:
    """Values on all cases, on the host."""

    h: float
    """h(θ), the likelihood's constant included."""
    error: float
    """‖y − E[y|z]‖², mean over cases."""
    misclassified: float | None
    """Where classes are predicted: the fraction of cases whose likeliest class is not theirs."""


def evaluate(
    network: Network, parameters: Parameters, X: Array, Y: Array, eta: float = 0.0, chunk_size: int = CHUNK_SIZE
) -> Evaluation:
    """Evaluate a network on X (N, d_0) with targets Y (N, d_ℓ), at most EVALUATED cases at once.

    ValueError or TypeError where these do not fit.
    """
    network.check_parameters(parameters)
    network.check_batch(X, Y, parameters[0])
    xp, mistakes = namespace(X), network.likelihood.mistakes
    wrong = []

    def count(rows: slice, activities: Activities, Dz: Array) -> None:
        if mistakes is not None:
            wrong.append(xp.sum(xp.astype(mistakes(activities.z, Y[rows, :]), xp.float64)))

    value = _loss(ForwardPass(network, parameters, X, min(chunk_size, EVALUATED)), Y, eta, visit=count)
    h, error, excess, *counts = (float(x) for x in read_scalars(value.h, value.error, value.excess, *wrong))
    require_sound(network.likelihood, X, Y, h, excess)
    constant = network.likelihood.constant(network.outputs)
    return Evaluation(h + constant, error, sum(counts) / X.shape[0] if mistakes else None)
