"""An optimisation pickles whole: what goes on from a copy is what goes on without."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from kfac_ref import KFAC, Batch, Network, glorot_initialisation, preset
from kfac_ref.settings import INVERSES


@pytest.mark.parametrize("inverse", INVERSES)
def test_an_optimizer_and_its_state_go_on_as_if_never_pickled(rng, inverse):
    network = Network([3, 6, 6, 2], "tanh", "categorical")
    kfac = KFAC(network, preset("authors", inverse=inverse, lambda0=1.0, average_from=2))
    batch = Batch(rng.standard_normal((40, 3)), np.eye(2)[rng.integers(2, size=40)])
    state = kfac.init(glorot_initialisation(network, 0), seed=3)
    for _ in range(5):
        state, _ = kfac.step(state, batch)
    other, others = pickle.loads(pickle.dumps((kfac, state)))
    assert other.network == network and other.settings == kfac.settings
    for _ in range(20):
        state, record = kfac.step(state, batch)
        others, its = other.step(others, batch)
    assert record.h == its.h
    for W, V in zip(state.averaged, others.averaged, strict=True):
        np.testing.assert_array_equal(W, V)
