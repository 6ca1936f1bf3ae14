"""What an optimizer is given at each iteration, and what may be wrong with it."""

from __future__ import annotations

import math
from typing import NamedTuple

from autodiff.arrays import Array
from autodiff.network import Network, Parameters
from autodiff.objective import check_weights


class Batch(NamedTuple):
    """A mini-batch; its cases are in random order, so that its first ⌈τm⌉ are a random part of it."""

    X: Array
    """(m, d_0)."""
    Y: Array
    """(m, d_ℓ)."""
    weights: Array | None = None
    """(m,), ≥ 0: the cases' shares of all means, which are Σ w_n(·) / Σ w_n over the cases used; None: equal ones."""


def check_input(network: Network, parameters: Parameters, batch: Batch, *parts: float) -> None:
    """TypeError unless `batch` has X and Y, arrays like the parameters; ValueError unless all shapes fit, and weights
    are ≥ 0 and not all 0, nor those of the first ⌈τm⌉ cases for any τ in `parts`."""
    if not all(hasattr(batch, name) for name in Batch._fields):
        raise TypeError(f"batch is a {type(batch).__name__}, expected a kfac_ref.Batch(X, Y)")
    network.check_parameters(parameters)
    network.check_batch(batch.X, batch.Y, parameters[0])
    m = batch.X.shape[0]
    check_weights(batch.weights, m, parameters[0], *(math.ceil(tau * m) for tau in parts))
