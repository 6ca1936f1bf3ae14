"""The objective h(θ) = mean over cases of L(y, f(x, θ)) + (η/2)‖θ‖², its gradient, and the reconstruction error.

Where the forward pass has weights w, all means over cases are Σ w_n(·) / Σ w_n. Where it has lengths of sequences, and
the network outputs at each step, L is the sum over the steps that a case has. Where it has a share of a batch, values
are its summands, and (η/2)‖θ‖² is to be had from one process alone: the others pass η = 0.
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
    """h(θ), a mean over cases and (η/2)‖θ‖², without the likelihood's constant (`Likelihood.constant`)."""
    error: Array
    """‖y − E[y|z]‖², mean over cases."""
    excess: Array
    """How far targets are from the likelihood's range (`Likelihood.excess`)."""


def loss(forward_pass: ForwardPass, Y: Array, eta: float) -> Loss:
    """h, a mean over cases, and the error on the batch of `forward_pass` with targets Y (m, d_ℓ) (§2.1)."""
    return _loss(forward_pass, Y, eta, visit=lambda rows, activities, y, Dz: None)


def loss_and_gradient(forward_pass: ForwardPass, Y: Array, eta: float) -> tuple[Loss, Parameters]:
    """The same with Y (m, d_ℓ), and ∇h = mean over cases of 𝒟θ + ηθ, of the shapes of W_1 … W_ℓ, by one backward pass
    (Algorithm 1)."""
    parameters, m = forward_pass.parameters, forward_pass.total()
    gradient = [eta * W for W in parameters]

    def accumulate(rows: slice, activities: Activities, y: Array, Dz: Array) -> None:
        pulled = forward_pass.pull_back(activities, forward_pass.weighted(rows, Dz / m))
        for total, part in zip(gradient, pulled, strict=True):
            total += part

    return _loss(forward_pass, Y, eta, visit=accumulate), gradient


def _loss(
    forward_pass: ForwardPass, Y: Array, eta: float, visit: Callable[[slice, Activities, Array, Array], None]
) -> Loss:
    xp = namespace(Y)
    likelihood, m = forward_pass.network.likelihood, forward_pass.total(dtype=xp.float64)
    w = forward_pass.weights
    parameters = forward_pass.parameters
    Y, excess, padding = _without_padding(forward_pass, Y)
    h, error = 0.5 * eta * inner(parameters, parameters), xp.zeros((), dtype=xp.float64, device=device(Y))
    for rows, activities in forward_pass.chunks():
        y = Y[rows, :]
        Dz = likelihood.derivative(activities.z, y)
        losses, errors = likelihood.loss(activities.z, y), xp.vecdot(Dz, Dz)
        if padding is not None:
            zero, T = xp.zeros_like(y[:1, :]), forward_pass.network.output[0]
            off = likelihood.mean(zero)
            losses = losses - padding[rows] * likelihood.loss(zero, zero) / T
            errors = errors - padding[rows] * xp.vecdot(off, off) / T
        if w is not None:
            losses, errors = w[rows] * losses, w[rows] * errors
        h = h + xp.sum(losses, dtype=xp.float64) / m
        error = error + xp.sum(errors, dtype=xp.float64) / m
        visit(rows, activities, y, Dz)
    return Loss(h, error, excess)


def _without_padding(forward_pass: ForwardPass, Y: Array) -> tuple[Array, Array, Array | None]:
    """Targets with 0 at padding, where the outputs are 0 too, so that each padded step adds the same to L; how far they
    are from the likelihood's range elsewhere; and how many such steps each case has, (m,), or None."""
    likelihood = forward_pass.network.likelihood
    mask = forward_pass.mask(slice(None)) if len(forward_pass.network.output) == 2 else None
    if mask is None or Y.shape[0] == 0:
        return Y, likelihood.excess(Y), None
    xp = namespace(Y)
    steps, mask = xp.reshape(Y, (*mask.shape, -1)), mask[:, :, None]
    kept = steps * mask
    # a case's first step is never padding
    filled = xp.reshape(kept + steps[:, :1, :] * (1 - mask), Y.shape)
    return xp.reshape(kept, Y.shape), likelihood.excess(filled), xp.sum(1 - mask, axis=(1, 2))


def constant(forward_pass: ForwardPass) -> float:
    """What is to be added to `Loss.h` to make it a mean of −log r(y|z): `Likelihood.constant`, of the outputs at the
    steps that cases have (RNN §3)."""
    network = forward_pass.network
    value = network.likelihood.constant(network.outputs)
    if forward_pass.lengths is None or len(network.output) == 1 or not value:
        return value
    return value * float(forward_pass.mean_length()) / network.output[0]


def require_finite(X: Array, Y: Array) -> None:
    """ValueError naming the first entry of X or Y, of any shapes, that is not finite. It brings both to the host."""
    for name, x in (("X", X), ("Y", Y)):
        host = to_numpy(x)
        for place in np.argwhere(~np.isfinite(host))[:1]:
            raise ValueError(f"{name}{place.tolist()} is {host[tuple(place)]}, expected finite numbers")


def check_weights(weights: Array | None, cases: int, like: Array, *parts: int, share: bool = False) -> None:
    """TypeError unless `weights` of cases are None or an array like `like`; ValueError unless `weights` are (cases,),
    finite, ≥ 0, and, but for a share's, not all 0, nor those of the first n cases for any n in `parts`. It brings their
    sums to the host."""
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
    """ValueError unless the sums of the weights of the first n of so many cases, by n, are > 0 (§14)."""
    for n, total in totals.items():
        if not total > 0:
            which = "all" if n == cases else f"those of the first {n} cases, of which curvature is the mean,"
            raise ValueError(f"weights: {which} are 0, expected a positive one among them")


def check_lengths(lengths: Any, network: Network, cases: int) -> None:
    """ValueError or TypeError unless lengths of sequences are None, or whole numbers (cases,) from 1 to T on the host,
    and the network takes sequences (T, d) (RNN §3)."""
    if lengths is None:
        return
    if not (isinstance(lengths, np.ndarray) and np.issubdtype(lengths.dtype, np.integer)):
        raise TypeError(f"lengths is {lengths!r}, expected a NumPy array of whole numbers, one for each case")
    if len(network.input) != 2:
        raise ValueError(f"lengths are of sequences (T, d), and the network {network} takes {network.input}")
    if lengths.shape != (cases,):
        raise ValueError(f"lengths has shape {lengths.shape}, expected {(cases,)}: one for each case")
    T = network.input[0]
    for (n,) in np.argwhere((lengths < 1) | (lengths > T))[:1]:
        raise ValueError(f"lengths[{n}] is {lengths[n]}, expected from 1 to {T}, the steps that there is room for")


def require_sound(likelihood: Likelihood, X: Array, Y: Array, h: float, excess: float) -> None:
    """ValueError naming the entry of X (m, …) or Y (m, d_ℓ) to blame, if h is not finite because of it or Y is out of
    range.

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
    """h(θ), a mean over cases and (η/2)‖θ‖², the likelihood's constant included."""
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
    lengths: np.ndarray | None = None,
) -> Evaluation:
    """Evaluate a network on X (N, d_0) with targets Y (N, d_ℓ), at most EVALUATED cases at once: h (§2.1) and the
    errors (§13), means over cases.

    With `weights` (N,) the means are weighted, with `lengths` (N,) sequences have so many steps (see `ForwardPass`).
    ValueError or TypeError where these do not fit.
    """
    network.check_parameters(parameters)
    network.check_batch(X, Y, parameters[0])
    check_weights(weights, X.shape[0], parameters[0])
    check_lengths(lengths, network, X.shape[0])
    xp, mistakes = namespace(X), network.likelihood.mistakes
    wrong = []

    def count(rows: slice, activities: Activities, y: Array, Dz: Array) -> None:
        if mistakes is not None:
            found = xp.astype(mistakes(activities.z, y), xp.float64)
            if activities.mask is not None and len(network.output) == 2:
                # none at padding, where all is 0: the mean over the steps there are
                found = found / xp.astype(xp.mean(activities.mask, axis=1), xp.float64)
            wrong.append(xp.sum(found if weights is None else found * weights[rows]))

    forward_pass = ForwardPass(network, parameters, X, min(chunk_size, EVALUATED), weights, lengths)
    value = _loss(forward_pass, Y, eta, visit=count)
    h, error, excess, *counts = (float(x) for x in read_scalars(value.h, value.error, value.excess, *wrong))
    require_sound(network.likelihood, X, Y, h, excess)
    return Evaluation(
        h + constant(forward_pass), error, sum(counts) / float(forward_pass.total()) if mistakes else None
    )
