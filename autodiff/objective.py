"""The objective h(θ) = mean over cases of L(y, f(x, θ)) + (η/2)‖θ‖², its gradient, and the reconstruction error.

Where the forward pass has weights w, all means over cases are Σ w_n(·) / Σ w_n. Where it has a share of a batch, values
are its summands, and those of (η/2)‖θ‖² are to be had from one process alone: the others pass η = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.arrays import Array, device, inner, namespace, read_scalars, require_alike, to_numpy
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
    parameters, m = forward_pass.parameters, forward_pass.total()
    gradient = [eta * W for W in parameters]

    def accumulate(rows: slice, activities: Activities, Dz: Array) -> None:
        pulled = forward_pass.pull_back(activities, forward_pass.weighted(rows, Dz / m))
        for total, part in zip(gradient, pulled, strict=True):
            total += part

    return _loss(forward_pass, Y, eta, visit=accumulate), gradient


def _loss(forward_pass: ForwardPass, Y: Array, eta: float, visit: Callable[[slice, Activities, Array], None]) -> Loss:
    xp = namespace(Y)
    likelihood, m = forward_pass.network.likelihood, forward_pass.total(dtype=xp.float64)
    w = forward_pass.weights
    parameters = forward_pass.parameters
    h, excess = 0.5 * eta * inner(parameters, parameters), likelihood.excess(Y)
    error = xp.zeros((), dtype=xp.float64, device=device(Y))
    for rows, activities in forward_pass.chunks():
        y = Y[rows, :]
        Dz = likelihood.derivative(activities.z, y)
        losses, errors = likelihood.loss(activities.z, y), xp.vecdot(Dz, Dz)
        if w is not None:
            losses, errors = w[rows] * losses, w[rows] * errors
        h = h + xp.sum(losses, dtype=xp.float64) / m
        error = error + xp.sum(errors, dtype=xp.float64) / m
        visit(rows, activities, Dz)
    return Loss(h, error, excess)


def require_finite(X: Array, Y: Array) -> None:
    """ValueError naming the first entry of X or Y that is not finite. It brings both to the host."""
    for name, x in (("X", X), ("Y", Y)):
        host = to_numpy(x)
        for place in np.argwhere(~np.isfinite(host))[:1]:
            raise ValueError(f"{name}{place.tolist()} is {host[tuple(place)]}, expected finite numbers")


def check_weights(weights: Array | None, cases: int, like: Array, *parts: int, share: bool = False) -> None:
    """TypeError unless weights of cases are None or an array like `like`; ValueError unless they are (cases,), finite,
    ≥ 0, and, but for a share's, not all 0, nor those of the first n cases for any n in `parts`. It brings their sums to
    the host."""
    if weights is None:
        return
    require_alike(weights, like, "weights")
    if tuple(weights.shape) != (cases,):
        raise ValueError(f"weights has shape {tuple(weights.shape)}, expected {(cases,)}: one for each case")
    if cases == 0:
        return
    xp, counts = namespace(weights), (cases, *parts)
    least, *sums = read_scalars(xp.min(weights), *(xp.sum(weights[:n]) for n in counts))
    if not (least >= 0 and np.isfinite(sums[0])):
        host = to_numpy(weights)
        n = int(np.argmin(np.isfinite(host) & (host >= 0)))
        raise ValueError(f"weights[{n}] is {host[n]}, expected finite numbers ≥ 0, with a finite sum")
    if not share:
        check_totals(dict(zip(counts, sums, strict=True)), cases)


def check_totals(totals: Mapping[int, Any], cases: int) -> None:
    """ValueError unless the sums of the weights of the first n of so many cases, by n, are > 0."""
    for n, total in totals.items():
        if not total > 0:
            which = "all" if n == cases else f"those of the first {n} cases, of which curvature is the mean,"
            raise ValueError(f"weights: {which} are 0, expected a positive one among them")


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
    network: Network,
    parameters: Parameters,
    X: Array,
    Y: Array,
    eta: float = 0.0,
    chunk_size: int = CHUNK_SIZE,
    weights: Array | None = None,
) -> Evaluation:
    """Evaluate a network on X (N, d_0) with targets Y (N, d_ℓ), at most EVALUATED cases at once.

    With `weights` (N,) the means are weighted. ValueError or TypeError where these do not fit.
    """
    network.check_parameters(parameters)
    network.check_batch(X, Y, parameters[0])
    check_weights(weights, X.shape[0], parameters[0])
    xp, mistakes = namespace(X), network.likelihood.mistakes
    wrong = []

    def count(rows: slice, activities: Activities, Dz: Array) -> None:
        if mistakes is not None:
            found = xp.astype(mistakes(activities.z, Y[rows, :]), xp.float64)
            wrong.append(xp.sum(found if weights is None else found * weights[rows]))

    forward_pass = ForwardPass(network, parameters, X, min(chunk_size, EVALUATED), weights)
    value = _loss(forward_pass, Y, eta, visit=count)
    h, error, excess, *counts = (float(x) for x in read_scalars(value.h, value.error, value.excess, *wrong))
    require_sound(network.likelihood, X, Y, h, excess)
    constant = network.likelihood.constant(network.outputs)
    return Evaluation(h + constant, error, sum(counts) / float(forward_pass.total()) if mistakes else None)
