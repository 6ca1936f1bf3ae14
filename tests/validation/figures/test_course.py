"""validation.figures.course: what a run has reached, and when."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import Network
from autodiff.objective import evaluate
from kfac_ref import Batch
from kfac_ref.baselines import SGD, SGDSettings
from kfac_ref.training.loop import Data
from tests.conftest import random_parameters
from tests.dense import dense_h
from validation.figures.course import course, first_below, spread


def make(rng):
    network = Network([3, 2, 3], "tanh", "bernoulli")
    X = rng.random((10, 3))
    return network, Data(X, X), random_parameters(rng, network)


def test_a_course_says_what_was_reached(rng):
    network, data, W = make(rng)
    sgd = SGD(network, SGDSettings(learning_rate=0.1, eta=0.01, m1=10))
    found = course(sgd, sgd.init(W), data, [1, 4], "SGD")
    state = sgd.init(W)
    for k in range(1, 5):
        state, _ = sgd.step(state, Batch(data.X, data.Y))
        if k in (1, 4):
            i, expected = [1, 4].index(k), evaluate(network, state.parameters, data.X, data.Y)
            assert found["k"][i] == k
            assert found["h"][i] == pytest.approx(dense_h(network, state.parameters, data.X, data.Y, 0.01), rel=1e-10)
            assert found["error"][i] == pytest.approx(expected.error, rel=1e-10)
    assert 0 < found["seconds"][0] < found["seconds"][1]
    assert np.all(np.isnan(found["alpha"]))


def test_a_course_that_diverges_is_as_long_as_it_got(rng):
    network, data, W = make(rng)
    sgd = SGD(network, SGDSettings(learning_rate=1e200, m1=10))
    found = course(sgd, sgd.init(W), data, range(1, 9), "SGD")
    assert len(found["k"]) < 8
    assert all(len(values) == len(found["k"]) for values in found.values())


def test_spread():
    assert spread(3) == [1, 2, 3]
    found = spread(2000, 20)
    assert found[0] == 1 and found[-1] == 2000 and len(found) <= 20
    ratios = np.diff(np.log(found[10:]))
    assert ratios.max() < 1.1 * ratios.min()


def test_first_below():
    run = {"k": np.array([1, 2, 3]), "h": np.array([3.0, 1.0, 2.0])}
    assert first_below(run, "k", "h", 2.5) == 2
    assert first_below(run, "k", "h", 0.5) is None
