"""validation.figures.adam against a straight line of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import Network
from autodiff.objective import loss_and_gradient
from autodiff.passes import ForwardPass
from kfac_ref import Batch
from kfac_ref.optimizer import Diverged
from tests.conftest import assert_all_close, random_targets, to
from tests.dense import flatten, unflatten
from validation.figures.adam import Adam, AdamSettings

NETWORK = Network([3, 4, 2], "tanh", "categorical")


def test_against_a_straight_line_loop(like, rng):
    W = [rng.standard_normal(shape) for shape in NETWORK.shapes]
    batches = [(rng.standard_normal((6, 3)), random_targets(rng, "categorical", 6, 2)) for _ in range(4)]
    theta, m, v = flatten(W), 0.0, 0.0
    for k, (X, Y) in enumerate(batches, start=1):
        g = flatten(loss_and_gradient(ForwardPass(NETWORK, unflatten(theta, NETWORK), X), Y, 0.01)[1])
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        theta = theta - 0.05 * (m / (1 - 0.8**k)) / (np.sqrt(v / (1 - 0.9**k)) + 1e-8)
    adam = Adam(NETWORK, AdamSettings(learning_rate=0.05, beta1=0.8, beta2=0.9, eta=0.01))
    state = adam.init(to(like, W), seed=3)
    for X, Y in batches:
        state, record = adam.step(state, Batch(to(like, X), to(like, Y)))
        assert record is None
    assert_all_close(state.parameters, unflatten(theta, NETWORK), like)
    assert (state.k, state.seed) == (4, 3) and state.averaged is state.parameters


def test_what_is_wrong_is_said(rng):
    with pytest.raises(ValueError, match=r"beta2 must be in \[0, 1\); got 1.0"):
        AdamSettings(beta2=1.0)
    with pytest.raises(ValueError, match="learning_rate must be finite and > 0"):
        AdamSettings(learning_rate=0.0)
    adam = Adam(NETWORK)
    state = adam.init([np.full(shape, np.nan) for shape in NETWORK.shapes])
    with pytest.raises(Diverged, match="iteration 1: the objective h is nan"), np.errstate(invalid="ignore"):
        adam.step(state, Batch(rng.standard_normal((2, 3)), np.eye(2)))
