"""What an optimizer is given at each iteration, and what may be wrong with it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from autodiff.arrays import Array
from autodiff.network import Network, Parameters
from autodiff.objective import check_lengths, check_totals, check_weights
from autodiff.passes import CHUNK_SIZE, ForwardPass
from autodiff.share import Share
from kfac_ref.machine.processes import ALONE, Processes


class Batch(NamedTuple):
    """A mini-batch; its cases are in random order, so that its first ⌈τm⌉ are a random part of it."""

    X: Array
    """(m, d_0)."""
    Y: Array
    """(m, d_ℓ)."""
    weights: Array | None = None
    """(m,), ≥ 0: the cases' shares of all means, which are Σ w_n(·) / Σ w_n over the cases used; None: equal ones."""
    lengths: np.ndarray | None = None
    """(m,), whole numbers on the host from 1 to T: how many steps each sequence of X (m, T, d) has, the others being
    padding, which is never seen; None: T."""
    rows: np.ndarray | None = None
    """With several processes, each of which has a part of a mini-batch: (m,), the places in the mini-batch of the cases
    that are here, ascending; None: p, p + P, … in process p of P."""

    def forward_pass(
        self, network: Network, parameters: Parameters, chunk_size: int = CHUNK_SIZE, share: Share | None = None
    ) -> ForwardPass:
        """Of the batch, with its weights and lengths, or of the share of a batch that it is (§2.1, RNN §3)."""
        return ForwardPass(network, parameters, self.X, chunk_size, self.weights, self.lengths, share)


def check_input(
    network: Network, parameters: Parameters, batch: Batch, *parts: float, processes: Processes = ALONE
) -> Share | None:
    """TypeError unless `batch` has X and Y, arrays like the parameters; ValueError unless all shapes fit, and weights
    are ≥ 0 and not all 0, lengths from 1 to T, nor those of the first ⌈τm⌉ cases for any τ in `parts`.

    Of several processes each has its part of the mini-batch; all raise if any has to. The share that it is is returned.
    """
    if processes.alone:
        _check(network, parameters, batch)
        m = batch.X.shape[0]
        check_weights(batch.weights, m, parameters[0], *(math.ceil(tau * m) for tau in parts))
        return None

    def check_share() -> None:
        _check(network, parameters, batch, share=True)
        check_weights(batch.weights, batch.X.shape[0], parameters[0], share=True)

    processes.agree(check_share)
    share = processes.share(batch.rows, batch.X.shape[0], batch.weights, batch.lengths, parts)
    check_totals(share.totals, share.cases)
    return share


def _check(network: Network, parameters: Parameters, batch: Batch, share: bool = False) -> None:
    if not all(hasattr(batch, name) for name in Batch._fields):
        raise TypeError(f"batch is a {type(batch).__name__}, expected a kfac_ref.Batch(X, Y)")
    network.check_parameters(parameters)
    if not (share and batch.X.shape[0] == batch.Y.shape[0] == 0):
        network.check_batch(batch.X, batch.Y, parameters[0])
    check_lengths(batch.lengths, network, batch.X.shape[0])
