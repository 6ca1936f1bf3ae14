"""The posterior around a fitted network's parameters, and what it says of new cases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autodiff.arrays import namespace
from autodiff.network import Network, Parameters
from kfac_ref import posterior
from kfac_ref.data.scaling import Scaling
from kfac_ref.estimators.cases import Cases, rows_at_once, standardised
from kfac_ref.posterior import Outputs, Posterior

MOST = 5000
"""Cases, drawn at random, of which the factors are made at most."""


def around(network: Network, parameters: Parameters, cases: Cases, seed: int, alpha: float) -> Posterior:
    """Laplace's approximation at the parameters, with the λ₀, and σ² of numbers, at which the evidence is largest.

    The search begins with λ₀ = alpha, the penalty's, and is that of exact damping. The variances then are those of
    factored damping, which are smaller and nearer to the errors of held-out cases.
    """
    batch = cases.batch(seed, 0, min(cases.number, MOST))
    start = alpha if alpha > 0 else 1.0
    made = posterior.fit(network, parameters, batch.X, batch.Y, start, weights=batch.weights)
    share = cases.total / made.cases
    made = replace(made, cases=cases.total, loss=share * made.loss)
    return replace(posterior.most_evident(made, noise=network.likelihood.name == "gaussian"), damping="factored")


def outputs(made: Posterior, X: Any, scaling: Scaling) -> Outputs:
    """Linearised outputs for inputs X (N, d_0) as the user gives them, some cases at a time."""
    xp = namespace(made.mean[0])
    parts = [posterior.outputs(made, standardised(X[rows, :], scaling)) for rows in rows_at_once(X.shape[0])]
    return Outputs(*(xp.concat(list(part)) for part in zip(*parts, strict=True)))
