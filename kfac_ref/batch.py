"""What an optimizer is given at each iteration, and what may be wrong with it."""

from __future__ import annotations

from typing import NamedTuple

from autodiff.arrays import Array
from autodiff.network import Network, Parameters


class Batch(NamedTuple):
    """A mini-batch; its cases are in random order, so that its first ⌈τm⌉ are a random part of it."""

    X: Array
    """(m, d_0)."""
    Y: Array
    """(m, d_ℓ)."""


def check_input(network: Network, parameters: Parameters, batch: Batch) -> None:
    """TypeError unless `batch` has X and Y, arrays like the parameters; ValueError unless all shapes fit."""
    if not (hasattr(batch, "X") and hasattr(batch, "Y")):
        raise TypeError(f"batch is a {type(batch).__name__}, expected a kfac_ref.Batch(X, Y)")
    network.check_parameters(parameters)
    network.check_batch(batch.X, batch.Y, parameters[0])
