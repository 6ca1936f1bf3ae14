"""Recurrent layers."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff.layers.dense import Dense
from autodiff.layers.recurrent import Recurrent
from tests.autodiff.layers.checks import check, layer_of

CASES = {
    "last": ({"out": 3}, (4, 2)),
    "all": ({"out": 2, "returns": "all"}, (4, 3)),
    "relu without bias": ({"out": 3, "bias": False, "activation": "relu"}, (3, 2)),
    "all, logistic without bias": (
        {"out": 2, "bias": False, "activation": "logistic", "returns": "all"},
        (5, 1),
    ),
    "linear": ({"out": 2, "activation": "identity", "returns": "all"}, (3, 2)),
    "one step": ({"out": 2, "activation": "softplus"}, (1, 3)),
    "one step, all": ({"out": 1, "returns": "all"}, (1, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_against_one_step_at_a_time(case, like, rng):
    keys, shape = CASES[case]
    check({"kind": "recurrent"} | keys, shape, like, rng)


def test_without_recurrent_weights_it_is_a_dense_layer_on_each_step(rng):
    layer = Recurrent(input=(5, 3), out=2, returns="all")
    dense = Dense(input=(5, 3), out=2, activation="tanh")
    W, x = rng.standard_normal(layer.shape), rng.standard_normal((4, 5, 3))
    W[:, 3:5] = 0
    alone = np.concatenate([W[:, :3], W[:, 5:]], axis=1)
    np.testing.assert_allclose(layer.forward(W, x)[0], dense.forward(alone, x)[0], rtol=1e-14, atol=1e-15)


def test_the_last_step_is_the_last_of_all(rng):
    last, all_ = (Recurrent(input=(5, 3), out=2, returns=returns) for returns in ("last", "all"))
    W, x = rng.standard_normal(last.shape), rng.standard_normal((4, 5, 3))
    np.testing.assert_array_equal(last.forward(W, x)[0], all_.forward(W, x)[0][:, -1])


def test_tanh_unless_it_is_said_otherwise():
    assert layer_of({"kind": "recurrent", "out": 2}, (3, 2)).activation.name == "tanh"
