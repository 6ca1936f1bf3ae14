"""The cases of a fit: standardised, dense or sparse, in parts and mini-batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.sparsefuncs import mean_variance_axis

from autodiff.arrays import Array, device, namespace
from autodiff.network import Network, Parameters
from autodiff.objective import EVALUATED
from autodiff.passes import forward
from kfac_ref.data.scaling import Scaling, moments
from kfac_ref.estimators.architectures import scaling_by_channel
from kfac_ref.optimizer import Batch
from kfac_ref.training import loop


def scaling_of(X: Any, weights: Array | None, shape: tuple[int, ...]) -> Scaling:
    """That which standardises X (N, d_0), an array or a sparse matrix of cases of `shape`, by columns or channels;
    cases weighted with `weights` (N,)."""
    mean, variance = mean_variance_axis(X, axis=0, weights=weights) if sparse.issparse(X) else moments(X, weights)
    return scaling_by_channel(mean, variance, shape)


def taken(x: Any, rows: np.ndarray) -> Any:
    """These `rows` (n,) of an array or a sparse matrix x (N, …)."""
    if sparse.issparse(x):
        return x[rows, :]
    return namespace(x).take(x, namespace(x).asarray(rows, device=device(x)), axis=0)


def standardised(X: Any, scaling: Scaling) -> Array:
    """X (m, d), standardised and dense."""
    return scaling.apply(X.toarray() if sparse.issparse(X) else X)


def outputs(network: Network, parameters: Parameters, X: Any, scaling: Scaling) -> Array:
    """z (N, d_ℓ) for inputs X (N, d_0) as the user gives them, some cases at a time."""
    xp = namespace(parameters[0])
    parts = [forward(network, parameters, standardised(X[rows, :], scaling)).z for rows in rows_at_once(X.shape[0])]
    return xp.concat(parts)


def rows_at_once(cases: int) -> Iterator[slice]:
    """Some of so many cases after the other."""
    for start in range(0, cases, EVALUATED):
        yield slice(start, min(start + EVALUATED, cases))


@dataclass(frozen=True)
class Cases:
    """Inputs and targets. Sparse inputs are made dense a mini-batch at a time, so that they are never all in memory."""

    X: Any
    """(N, d_0): standardised if dense; as they came if sparse."""
    Y: Array
    """(N, d_ℓ)."""
    scaling: Scaling | None
    """Of sparse inputs, for which it is still to be done."""
    weights: Array | None = None
    """(N,), positive."""

    @classmethod
    def of(cls, X: Any, Y: Array, scaling: Scaling, weights: Array | None = None) -> Cases:
        """From inputs X (N, d_0) as the user gives them, targets Y (N, d_ℓ), or None for X itself, and `weights`
        (N,)."""
        if sparse.issparse(X):
            return cls(X.tocsr(), Y, scaling, weights)
        X = scaling.apply(X)
        return cls(X, X if Y is None else Y, None, weights)

    @property
    def number(self) -> int:
        """N."""
        return self.X.shape[0]

    @property
    def total(self) -> float:
        """The sum of the weights, or N: for how many cases they count."""
        return self.number if self.weights is None else float(namespace(self.weights).sum(self.weights))

    def taken(self, rows: np.ndarray) -> Cases:
        """Those of these `rows` (n,)."""
        weights = None if self.weights is None else taken(self.weights, rows)
        return Cases(taken(self.X, rows), taken(self.Y, rows), self.scaling, weights)

    def batch(self, seed: int, k: int, m: int) -> Batch:
        """The mini-batch of iteration k, as `training.loop` draws them; all cases where m is their number."""
        if self.scaling is None and m == self.number:
            return Batch(self.X, self.Y, self.weights)
        rows = loop.minibatch_rows(self.number, seed, k, m) if m < self.number else np.arange(self.number)
        weights = None if self.weights is None else taken(self.weights, rows)
        if self.scaling is None:
            return loop.minibatch(loop.Data(self.X, self.Y), seed, k, m)._replace(weights=weights)
        return Batch(standardised(self.X[rows, :], self.scaling), self.Y[rows, :], weights)
