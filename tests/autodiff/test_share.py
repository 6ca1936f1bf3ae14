"""Shares of a batch: what a process has of it, and that summands add up."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from autodiff.arrays import to_numpy
from autodiff.objective import loss_and_gradient
from autodiff.passes import ForwardPass
from autodiff.share import Share
from kfac_ref.curvature import factors, fisher, targets
from tests.autodiff.layers.networks import made, parameters
from tests.conftest import assert_close, random_targets, to

N, ETA = 9, 0.1
SHARES = ([0, 3, 4], [], [1, 2, 5, 6, 7, 8])
"""Places in the batch; one process has none, and another none of the first."""


def test_here_and_part(like):
    share = Share(np.array([1, 4, 5]), N, {})
    assert [share.here(n) for n in (0, 1, 2, 5, 6, 9)] == [0, 0, 1, 2, 3, 3]
    x = to(like, np.arange(10.0).reshape(5, 2))
    assert_close(share.part(x), [[2.0, 3.0], [8.0, 9.0]], like)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["vector", "two convolutions", "layer norm"])
def test_summands_of_shares_add_up(name, weighted, like64):
    """h, the error, ∇h, forms and factors of the whole batch, with the targets that are drawn for it."""
    rng = np.random.default_rng(2)
    network = made(name, "categorical")
    W, X = to(like64, parameters(network)), rng.standard_normal((N, *network.input))
    Y, w = random_targets(rng, "categorical", N, 3), rng.random(N)
    V, cases = [W, [2 * x for x in W]], 4

    def results(rows, share):
        weights = to(like64, w[rows]) if weighted else None
        forward_pass = ForwardPass(network, W, to(like64, X[rows]), 2, weights, share=share)
        value, gradient = loss_and_gradient(forward_pass, to(like64, Y[rows]), ETA if share is None or 0 in rows else 0)
        drawn = targets.drawn(forward_pass, cases, (1, 2))
        found = factors.estimate(forward_pass, drawn, cases, True)
        half = factors.scaled(found, 0.5)
        blocks = [*found.A.values(), *found.G.values(), *found.full.values(), *half.G.values()]
        return [value.h, value.error, *gradient, fisher.quadratic_forms(forward_pass, V, cases), *blocks]

    expected = results(np.arange(N), None)
    totals = {n: float(w[:n].sum()) for n in (cases, N)} if weighted else {}
    parts = [results(np.asarray(rows, dtype=int), Share(np.asarray(rows, dtype=int), N, totals)) for rows in SHARES]
    for x, *summands in zip(expected, *parts, strict=True):
        added = functools.reduce(np.add, [to_numpy(s) for s in summands])
        np.testing.assert_allclose(added, to_numpy(x), rtol=0, atol=1e-12 * max(1.0, np.abs(to_numpy(x)).max()))
