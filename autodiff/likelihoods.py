"""Likelihoods R_{y|z}: a table of the loss, its derivative, its Fisher F_R and samples (Notation, App. C).

z (m, d) are the network's outputs, natural parameters of the distribution of y (m, d); rows are cases.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from autodiff import arrays
from autodiff.arrays import Array, logistic, namespace, softplus
from autodiff.names import closest

TOLERANCE = 1e-4
"""How far from 1 the sum of a row of probabilities may be."""


@dataclass(frozen=True)
class Likelihood:
    """One row of the table. Every function works on all cases at once and never forms F_R densely."""

    name: str
    loss: Callable[[Array, Array], Array]
    """L(y, z) per case, (m,), without the constant."""
    constant: Callable[[int], float]
    """What is to be added to the loss of a case with d outputs to make it −log r(y|z)."""
    mean: Callable[[Array], Array]
    """E[y|z], (m, d). 𝒟z = dL/dz = E[y|z] − y for all three."""
    fisher_product: Callable[[Array, Array], Array]
    """F_R(z) v for v (…, m, d)."""
    fisher_root_product: Callable[[Array, Array], Array]
    """B(z) v with F_R = B Bᵀ, for v (…, m, d)."""
    noise: Callable[[Sequence[int], tuple[int, ...], Array], Array]
    """What is random in samples of y for z of shape (m, d), rows being cases: a function of a random key (see
    autodiff.arrays), that shape, and an array whose library, device and dtype are taken."""
    sample_with: Callable[[Array, Array], Array]
    """y (m, d) drawn from R_{y|z}: a function of z and the noise."""
    mistakes: Callable[[Array, Array], Array] | None = None
    """Where classes are predicted: per case, (m,), whether the likeliest is not that of y; at several positions, the
    part of them at which it is not."""
    positions: int = 1
    """How many independent parts z and y consist of, one behind the other (see `at_positions`)."""

    def __reduce__(self) -> tuple[Callable[..., Likelihood], tuple[Any, ...]]:
        # a row of the table, at one position or many, is pickled by name: its functions may be lambdas, which cannot
        row = LIKELIHOODS.get(self.name)
        if row is not None and (row is self or (self.positions > 1 and row.constant is self.constant)):
            return _named, (self.name, self.positions)
        return Likelihood, tuple(getattr(self, f.name) for f in fields(self))

    def nll(self, z: Array, y: Array) -> Array:
        """−log r(y|z) of each case, (m,), constants included, for z and y (m, d) (§2.1)."""
        return self.loss(z, y) + self.constant(z.shape[1])

    def derivative(self, z: Array, y: Array) -> Array:
        """𝒟z = dL/dz = E[y|z] − y of each case, (m, d), for z and y (m, d); not divided by the number of cases
        (Algorithm 1). Its squared norm is the case's squared reconstruction error (§13)."""
        return self.mean(z) - y

    def sample(self, z: Array, key: Sequence[int]) -> Array:
        """y (m, d) drawn from R_{y|z}, for z (m, d), with a random key (see autodiff.arrays) (§2.1)."""
        return self.sample_with(z, self.noise(key, tuple(z.shape), z))

    def excess(self, y: Array) -> Array:
        """How far targets y (m, d) are from the likelihood's range at most, 0-d float64 on the device: at most rounding
        where all is well, and then `check_targets` need not be asked."""
        xp = namespace(y)
        if self.name == "gaussian" or y.shape[0] == 0:
            return xp.zeros((), dtype=xp.float64, device=arrays.device(y))
        off = xp.max(xp.abs(y - 0.5)) - 0.5
        if self.name == "categorical":
            sums = xp.sum(xp.reshape(y, (*y.shape[:-1], self.positions, -1)), axis=-1)
            off = xp.maximum(off, xp.max(xp.abs(sums - 1)))
        return xp.astype(off, xp.float64)

    def check_targets(self, Y: np.ndarray, name: str = "Y") -> None:
        """ValueError if the targets Y (m, d), on the host, are outside the likelihood's range."""
        good, what = (Y >= 0) & (Y <= 1), "targets between 0 and 1"
        if self.name == "gaussian":
            good, what = np.isfinite(Y), "finite targets"
        if self.name == "categorical" and Y.shape[1] == self.positions:
            raise ValueError(
                f"{name} has one column, but the categorical likelihood takes one-hot rows or probabilities; class "
                "labels in a file are integers in one dimension"
            )
        if not good.all():
            i, j = np.argwhere(~good)[0]
            raise ValueError(f"{name}[{i}, {j}] = {Y[i, j]:g}, but the {self.name} likelihood takes {what}")
        if self.name == "categorical":
            sums = Y.reshape(len(Y), self.positions, -1).sum(2)
            for row, position in np.argwhere(np.abs(sums - 1) > TOLERANCE)[:1]:
                place = f", position {position}," if self.positions > 1 else ""
                raise ValueError(
                    f"row {row} of {name}{place} sums to {sums[row, position]:g}, but the categorical likelihood takes "
                    "one-hot rows or probabilities that sum to 1"
                )


# --- categorical: r = softmax(z), L = −Σ y log p ---------------------------------------------------------------------


def _log_softmax(z: Array) -> Array:
    xp = namespace(z)
    z = z - xp.max(z, axis=-1, keepdims=True)
    return z - xp.log(xp.sum(xp.exp(z), axis=-1, keepdims=True))


def _softmax(z: Array) -> Array:
    return namespace(z).exp(_log_softmax(z))


def _categorical_fisher(z: Array, v: Array) -> Array:
    # F_R = diag(p) − p pᵀ
    xp = namespace(z)
    p = _softmax(z)
    return p * (v - xp.sum(p * v, axis=-1, keepdims=True))


def _categorical_root(z: Array, v: Array) -> Array:
    # B = diag(√p) − p √pᵀ; B Bᵀ = diag(p) − p pᵀ because √p has norm 1
    xp = namespace(z)
    p = _softmax(z)
    q = xp.sqrt(p)
    return q * v - p * xp.sum(q * v, axis=-1, keepdims=True)


def _categorical_sample(z: Array, u: Array) -> Array:
    # the first class whose cumulative probability exceeds a uniform number, as a one-hot row
    xp = namespace(z)
    cumulative = xp.cumulative_sum(_softmax(z), axis=1)
    # rounding may leave the last sum below 1, so u is scaled to it
    passed = xp.astype(cumulative <= u * cumulative[:, -1:], z.dtype)
    chosen = xp.sum(passed, axis=1, keepdims=True)
    classes = xp.arange(z.shape[1], dtype=z.dtype, device=arrays.device(z))
    return xp.astype(chosen == classes, z.dtype)


def _categorical_mistakes(z: Array, y: Array) -> Array:
    xp = namespace(z)
    return xp.argmax(z, axis=-1) != xp.argmax(y, axis=-1)


# --- Bernoulli: r = logistic(z) for each output, L = Σ softplus(z) − y z ----------------------------------------------


def _bernoulli_loss(z: Array, y: Array) -> Array:
    return namespace(z).sum(softplus(z) - y * z, axis=-1)


def _bernoulli_variance(z: Array) -> Array:
    # logistic(−z) rather than 1 − logistic(z), which loses all digits at large z
    return logistic(z) * logistic(-z)


def _bernoulli_sample(z: Array, u: Array) -> Array:
    return namespace(z).astype(u < logistic(z), z.dtype)


# --- Gaussian: mean z, variance 1, L = ½‖y − z‖² ---------------------------------------------------------------------


def _gaussian_loss(z: Array, y: Array) -> Array:
    return 0.5 * namespace(z).vecdot(y - z, y - z)


LIKELIHOODS: dict[str, Likelihood] = {
    row.name: row
    for row in (
        Likelihood(
            "categorical",
            loss=lambda z, y: -namespace(z).sum(y * _log_softmax(z), axis=-1),
            constant=lambda d: 0.0,
            mean=_softmax,
            fisher_product=_categorical_fisher,
            fisher_root_product=_categorical_root,
            noise=lambda key, shape, like: arrays.uniform(key, (shape[0], 1), like),
            sample_with=_categorical_sample,
            mistakes=_categorical_mistakes,
        ),
        Likelihood(
            "bernoulli",
            loss=_bernoulli_loss,
            constant=lambda d: 0.0,
            mean=logistic,
            fisher_product=lambda z, v: _bernoulli_variance(z) * v,
            fisher_root_product=lambda z, v: namespace(z).sqrt(_bernoulli_variance(z)) * v,
            noise=arrays.uniform,
            sample_with=_bernoulli_sample,
        ),
        Likelihood(
            "gaussian",
            loss=_gaussian_loss,
            constant=lambda d: 0.5 * d * math.log(2 * math.pi),
            mean=lambda z: z,
            fisher_product=lambda z, v: v,
            fisher_root_product=lambda z, v: v,
            noise=arrays.normal,
            sample_with=lambda z, noise: z + noise,
        ),
    )
}


@functools.cache
def at_positions(row: Likelihood, positions: int) -> Likelihood:
    """The likelihood of outputs that are `positions` times those of `row`, independent of each other.

    z and y are (…, positions·d), position after position; L is the sum over positions (ER). The same arguments give the
    same object, so that equal networks have equal likelihoods. ValueError for a `row` that has other positions already.
    """
    if positions == row.positions:
        return row
    if row.positions > 1:
        raise ValueError(f"the likelihood is one at {row.positions} positions, and the outputs have {positions}")

    def split(x: Array) -> Array:
        return namespace(x).reshape(x, (*x.shape[:-1], positions, -1))

    def joined(x: Array) -> Array:
        return namespace(x).reshape(x, (*x.shape[:-2], -1))

    def noise(key: Sequence[int], shape: tuple[int, ...], like: Array) -> Array:
        x = row.noise(key, (shape[0] * positions, shape[1] // positions), like)
        return namespace(x).reshape(x, (shape[0], positions, -1))

    def sample_with(z: Array, x: Array) -> Array:
        reshape = namespace(z).reshape
        y = row.sample_with(reshape(split(z), (-1, z.shape[1] // positions)), reshape(x, (-1, x.shape[-1])))
        return reshape(y, z.shape)

    def mistakes(z: Array, y: Array) -> Array:
        assert row.mistakes is not None
        xp = namespace(z)
        return xp.mean(xp.astype(row.mistakes(split(z), split(y)), z.dtype), axis=-1)

    return replace(
        row,
        loss=lambda z, y: namespace(z).sum(row.loss(split(z), split(y)), axis=-1),
        mean=lambda z: joined(row.mean(split(z))),
        fisher_product=lambda z, v: joined(row.fisher_product(split(z), split(v))),
        fisher_root_product=lambda z, v: joined(row.fisher_root_product(split(z), split(v))),
        noise=noise,
        sample_with=sample_with,
        mistakes=mistakes if row.mistakes else None,
        positions=positions,
    )


def _named(name: str, positions: int) -> Likelihood:
    return at_positions(LIKELIHOODS[name], positions)


def likelihood(name_or_likelihood: str | Likelihood) -> Likelihood:
    """The likelihood R_{y|z} called so, or the likelihood itself; ValueError for an unknown name (§2.1)."""
    if isinstance(name_or_likelihood, Likelihood):
        return name_or_likelihood
    return LIKELIHOODS[closest(name_or_likelihood, LIKELIHOODS, "likelihood")]
